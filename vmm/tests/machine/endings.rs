//! Every way in which a run can end.

use std::sync::Arc;
use std::time::Duration;

use devices::fault::FaultMode;
use iommu::event::{Event, EventSink, TimedEvent, Tracer};
use vmm::{Error, Exit, FailureKind, GuestFailure, LastExit, MachineThread, StuckThread, Vm};

use crate::code::{HALT, SPIN, mov_eax, out8, out16, out32, store};
use crate::elf::ENTRY;
use crate::guest::{Guest, kvm_wanted};

fn failure(error: Error) -> GuestFailure {
    match error {
        Error::Guest(failure) => *failure,
        other => panic!("expected a guest that cannot go on: {other}"),
    }
}

#[test]
fn debug_exit_ends_the_run_with_its_value() {
    if !kvm_wanted() {
        return;
    }
    let guest = Guest::new(&out32(0xf4, 0x1234_5678));
    assert_eq!(guest.run().unwrap(), Exit::DebugExit(0x1234_5678));
    let last = guest.events.events().pop().unwrap();
    assert_eq!(last.event, Event::GuestExit { value: 0x1234_5678 });
    assert_eq!(Guest::new(&out8(0xf4, 0x10)).run().unwrap().status(), 0x21);
}

#[test]
fn power_and_reset_ports_end_the_run() {
    if !kvm_wanted() {
        return;
    }
    for (code, exit) in [
        (out16(0x604, 0x2000), Exit::PowerOff),
        (out16(0x604, 0x3c00), Exit::PowerOff),
        (out8(0x600, 5 << 2 | 1 << 5), Exit::PowerOff),
        (out8(0xcf9, 0x06), Exit::Reset),
        (out8(0x64, 0xfe), Exit::Reset),
    ] {
        assert_eq!(Guest::new(&code).run().unwrap(), exit);
    }
}

#[test]
fn the_code_at_the_reset_vector_resets() {
    if !kvm_wanted() {
        return;
    }
    const TRAMPOLINE: u32 = 0x7_0000;
    const LOCAL_APIC: u32 = 0xfee0_0000;
    let code = [
        // ljmp $0xf000, $0xfff0
        store(TRAMPOLINE, 0x00ff_f0ea),
        store(TRAMPOLINE + 4, 0xf0),
        // The local APIC on; INIT and SIPI to CPU 1, which begins in real mode.
        store(LOCAL_APIC + 0xf0, 0x1ff),
        store(LOCAL_APIC + 0x310, 1 << 24),
        store(LOCAL_APIC + 0x300, 0x4500),
        store(LOCAL_APIC + 0x300, 0x4600 | TRAMPOLINE >> 12),
        HALT.to_vec(),
    ];
    let mut guest = Guest::new(&code.concat());
    guest.config.cpus = 2;
    guest.config.time_limit = Some(Duration::from_secs(20));
    assert_eq!(guest.run().unwrap(), Exit::Reset);
}

#[test]
fn harmless_writes_to_those_ports_do_not_end_the_run() {
    if !kvm_wanted() {
        return;
    }
    let code = [
        out16(0x604, 0x1c00),
        out8(0x604, 0xff),
        out8(0x600, 5 << 2),
        out8(0x600, 1 << 5),
        out8(0x601, 0x80),
        out8(0xcf9, 0x02),
        out8(0x64, 0xd1),
        out32(0xf4, 1),
    ];
    assert_eq!(Guest::new(&code.concat()).run().unwrap(), Exit::DebugExit(1));
}

#[test]
fn a_run_can_be_stopped_from_outside_whatever_its_cpus_do() {
    if !kvm_wanted() {
        return;
    }
    for code in [&HALT[..], &SPIN] {
        let mut guest = Guest::new(code);
        guest.config.cpus = 4;
        let vm = Vm::new(guest.config.clone()).unwrap();
        let handle = vm.handle();
        let run = std::thread::spawn(|| vm.run());
        handle.stop();
        assert_eq!(run.join().unwrap().unwrap(), Exit::Stopped);
        // It does no harm afterwards.
        handle.stop();
        handle.inject(0, FaultMode::Silent);
    }
}

#[test]
fn a_time_limit_ends_a_guest_that_spins() {
    if !kvm_wanted() {
        return;
    }
    let mut guest = Guest::new(&SPIN);
    guest.config.time_limit = Some(Duration::from_millis(50));
    assert_eq!(guest.run().unwrap().status(), 124);
}

/// A sink of events that takes the first doorbell and never returns, with the machine locked.
struct Blocked;

impl EventSink for Blocked {
    fn record(&self, event: TimedEvent) {
        if let Event::Doorbell { .. } = event.event {
            loop {
                std::thread::park();
            }
        }
    }
}

#[test]
fn a_thread_that_is_stuck_in_the_monitor_is_named_and_left_behind() {
    if !kvm_wanted() {
        return;
    }
    let mut guest = Guest::new(&out32(0x5e4, 7));
    guest.config.tracer = Tracer::to(Arc::new(Blocked));
    guest.config.time_limit = Some(Duration::from_millis(50));
    let Err(Error::Stuck { outcome, threads }) = guest.run_within(Duration::from_secs(60)) else {
        panic!("the thread has come back");
    };
    assert!(matches!(*outcome, Ok(Exit::TimeLimit)), "{outcome:?}");
    let last_exit = Some(LastExit::PortWrite(0x5e4));
    assert_eq!(threads, [StuckThread { thread: MachineThread::Cpu(0), last_exit }]);
    let error = Error::Stuck { outcome, threads };
    assert_eq!(error.status(), Error::FAILED);
    let text = error.to_string();
    assert!(text.contains("time limit") && text.contains("CPU 0 (last exit: write to port 0x5e4)"));
}

#[test]
fn a_triple_fault_ends_the_run() {
    if !kvm_wanted() {
        return;
    }
    // No interrupt table is loaded, so that an exception has nowhere to go: ud2.
    let failure = failure(Guest::new(&[0x0f, 0x0b]).run().unwrap_err());
    // Its registers say nothing: AMD's processors lose them in a shutdown.
    assert_eq!((failure.cpu, failure.kind), (0, FailureKind::TripleFault));
}

#[test]
fn what_kvm_cannot_emulate_ends_the_run_with_bytes_and_registers() {
    if !kvm_wanted() {
        return;
    }
    // Access to memory that is not RAM is emulated on all processors, and KVM's emulator knows
    // next to nothing of the floating-point unit: fsts (%rax).
    let mut code = mov_eax(0xfed0_0000);
    code.extend([0xd9, 0x10]);
    let failure = failure(Guest::new(&code).run().unwrap_err());
    assert_eq!(failure.kind, FailureKind::Emulation, "{failure}");
    assert_eq!(failure.state.registers.rip, ENTRY + 5, "{failure}");
    assert_eq!(failure.instruction[..2], [0xd9, 0x10], "{failure}");
    assert!(failure.to_string().contains("rax 00000000fed00000"), "{failure}");
}

#[test]
fn a_machine_that_cannot_be_is_refused_before_it_runs() {
    if !kvm_wanted() {
        return;
    }
    let refused = |change: fn(&mut Guest)| {
        let mut guest = Guest::new(&HALT);
        change(&mut guest);
        let error = guest.run().unwrap_err();
        assert_eq!(error.status(), Error::USER);
        let text = error.to_string();
        assert!(!text.contains('\n'), "{text}");
        text
    };
    assert!(refused(|guest| guest.config.cpus = 0).contains("1 to 8"));
    assert!(refused(|guest| guest.config.cpus = 9).starts_with("9 CPUs"));
    let nowhere = refused(|guest| {
        guest.config.root_complex.faults =
            vec!["at=1s,mode=no-completion,port=rp2".parse().unwrap()];
    });
    assert!(nowhere.ends_with("there is no port 'rp2'; there are rp0, rp1"), "{nowhere}");
    let expression = refused(|guest| {
        guest.config.root_complex.faults =
            vec!["on=serial:/a(/,mode=no-completion".parse().unwrap()];
    });
    assert!(expression.starts_with("'a(' is not a regular expression: found open"), "{expression}");
}
