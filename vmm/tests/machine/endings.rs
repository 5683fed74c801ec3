//! Guests of a few bytes under a real KVM: every way in which a run can end.

mod common;

use std::time::Duration;

use common::{ENTRY, Guest, kvm_wanted};
use iommu::event::{Event, LinkState};
use vmm::{DropLink, DropWhen, Error, Exit, FailureKind, GuestFailure, Vm};

/// `mov eax, value; mov edx, port; out dx, eax`.
fn out32(port: u16, value: u32) -> Vec<u8> {
    let mut code = mov_eax(value);
    code.push(0xba);
    code.extend(u32::from(port).to_le_bytes());
    code.push(0xef);
    code
}

/// The same with 16 bits.
fn out16(port: u16, value: u16) -> Vec<u8> {
    let mut code = out32(port, value.into());
    code.insert(code.len() - 1, 0x66);
    code
}

/// The same with 8 bits.
fn out8(port: u16, value: u8) -> Vec<u8> {
    let mut code = out32(port, value.into());
    code.pop();
    code.push(0xee);
    code
}

fn mov_eax(value: u32) -> Vec<u8> {
    let mut code = vec![0xb8];
    code.extend(value.to_le_bytes());
    code
}

/// `in eax, dx` from `port`, then `out 0xf4, eax`: the run ends with what was read.
fn report_port(port: u16) -> Vec<u8> {
    let mut code = vec![0xba];
    code.extend(u32::from(port).to_le_bytes());
    code.extend([0xed, 0xba, 0xf4, 0, 0, 0, 0xef]);
    code
}

/// `cli; hlt; jmp` back: never ends.
const HALT: [u8; 4] = [0xfa, 0xf4, 0xeb, 0xfd];
/// `jmp` to itself: never ends, and never leaves the guest.
const SPIN: [u8; 2] = [0xeb, 0xfe];

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
        (out8(0xcf9, 0x06), Exit::Reset),
        (out8(0x64, 0xfe), Exit::Reset),
    ] {
        assert_eq!(Guest::new(&code).run().unwrap(), exit);
    }
}

#[test]
fn harmless_writes_to_those_ports_do_not_end_the_run() {
    if !kvm_wanted() {
        return;
    }
    let code = [
        out16(0x604, 0x1c00),
        out8(0x604, 0xff),
        out8(0xcf9, 0x02),
        out8(0x64, 0xd1),
        out32(0xf4, 1),
    ];
    assert_eq!(Guest::new(&code.concat()).run().unwrap(), Exit::DebugExit(1));
}

#[test]
fn the_kernel_finds_boot_parameters_at_rsi_and_its_command_line_there() {
    if !kvm_wanted() {
        return;
    }
    // mov eax, [rsi + 0x228]; mov eax, [rax]; then the four bytes to the debug-exit port.
    let mut code = vec![0x8b, 0x86, 0x28, 0x02, 0, 0, 0x8b, 0x00];
    code.extend([0xba, 0xf4, 0, 0, 0, 0xef]);
    let mut guest = Guest::new(&code);
    guest.config.cmdline = "ping=1".to_owned();
    assert_eq!(guest.run().unwrap(), Exit::DebugExit(u32::from_le_bytes(*b"ping")));
}

#[test]
fn com1_prints_single_bytes_and_strings() {
    if !kvm_wanted() {
        return;
    }
    let mut code = [out8(0x3f8, b'o'), out8(0x3f8, b'k')].concat();
    // lea rsi, [rip + 24]: the text behind the code
    code.extend([0x48, 0x8d, 0x35, 24, 0, 0, 0]);
    // mov ecx, 5; mov edx, 0x3f8; cld; rep outsb
    code.extend([0xb9, 5, 0, 0, 0, 0xba, 0xf8, 3, 0, 0, 0xfc, 0xf3, 0x6e]);
    code.extend(out32(0xf4, 0));
    code.extend(b" then");
    let guest = Guest::new(&code);
    guest.run().unwrap();
    assert_eq!(guest.printed(), "ok then");
}

#[test]
fn string_reads_of_a_port_are_single_accesses() {
    if !kvm_wanted() {
        return;
    }
    let mut code = out32(0xcf8, 0x8000_0000);
    // mov edi, 0x180000; mov ecx, 4; mov edx, 0xcfc; cld; rep insb; mov eax, [0x180000]
    code.extend([0xbf, 0, 0, 0x18, 0, 0xb9, 4, 0, 0, 0, 0xba, 0xfc, 0x0c, 0, 0, 0xfc, 0xf3, 0x6c]);
    code.extend([0x8b, 0x04, 0x25, 0, 0, 0x18, 0]);
    code.extend([0xba, 0xf4, 0, 0, 0, 0xef]);
    let vendor_low = 0x8686_8686;
    assert_eq!(Guest::new(&code).run().unwrap(), Exit::DebugExit(vendor_low));
}

#[test]
fn configuration_space_is_behind_ports_and_in_memory() {
    if !kvm_wanted() {
        return;
    }
    let host_bridge = Exit::DebugExit(0x29c0_8086);
    let ports = [out32(0xcf8, 0x8000_0000), report_port(0xcfc)].concat();
    assert_eq!(Guest::new(&ports).run().unwrap(), host_bridge);
    // mov eax, 0xb0000000; mov eax, [rax]; then to the debug-exit port.
    let mut ecam = mov_eax(0xb000_0000);
    ecam.extend([0x8b, 0x00, 0xba, 0xf4, 0, 0, 0, 0xef]);
    assert_eq!(Guest::new(&ecam).run().unwrap(), host_bridge);
}

#[test]
fn the_remapping_unit_has_a_version() {
    if !kvm_wanted() {
        return;
    }
    let mut code = mov_eax(0xfed9_0000);
    code.extend([0x8b, 0x00, 0xba, 0xf4, 0, 0, 0, 0xef]);
    let Exit::DebugExit(version) = Guest::new(&code).run().unwrap() else { panic!() };
    assert_ne!((version, version >> 8), (0, 0));
}

#[test]
fn what_is_not_there_reads_as_all_ones() {
    if !kvm_wanted() {
        return;
    }
    assert_eq!(Guest::new(&report_port(0x2f8)).run().unwrap(), Exit::DebugExit(u32::MAX));
    let mut code = mov_eax(0xfed0_0000);
    code.extend([0x8b, 0x00, 0xba, 0xf4, 0, 0, 0, 0xef]);
    assert_eq!(Guest::new(&code).run().unwrap(), Exit::DebugExit(u32::MAX));
}

#[test]
fn the_bench_answers_and_its_doorbell_drops_the_link_first() {
    if !kvm_wanted() {
        return;
    }
    let signature = Exit::DebugExit(0x4b4e_4c47);
    assert_eq!(Guest::new(&report_port(0x5e0)).run().unwrap(), signature);

    let code = [out32(0x5e4, 7), out32(0x5e8, 3), out32(0x5ec, 1), out32(0x5f0, 2), out32(0xf4, 0)];
    let mut guest = Guest::new(&code.concat());
    guest.config.drop_links = vec![DropLink { port: 1, when: DropWhen::Doorbell }];
    guest.run().unwrap();
    let events: Vec<_> = guest.events.events().into_iter().map(|event| event.event).collect();
    assert!(
        matches!(
            events[..],
            [
                Event::Doorbell { value: 7 },
                Event::Link { state: LinkState::SilentlyDown, .. },
                Event::GuestReport { metric: 3, value: 0x2_0000_0001 },
                Event::GuestExit { value: 0 },
            ]
        ),
        "{events:?}"
    );
}

#[test]
fn a_link_can_drop_at_a_time() {
    if !kvm_wanted() {
        return;
    }
    let mut guest = Guest::new(&HALT);
    let when = DropWhen::At(Duration::from_millis(1));
    guest.config.drop_links = vec![DropLink { port: 0, when }];
    guest.config.time_limit = Some(Duration::from_millis(200));
    assert_eq!(guest.run().unwrap(), Exit::TimeLimit);
    let events = guest.events.events();
    let down = |event: &Event| matches!(event, Event::Link { state: LinkState::SilentlyDown, .. });
    assert_eq!(events.iter().filter(|event| down(&event.event)).count(), 1, "{events:?}");
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
        handle.set_link(0, LinkState::SilentlyDown);
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

#[test]
fn a_triple_fault_ends_the_run_with_bytes_and_registers() {
    if !kvm_wanted() {
        return;
    }
    // No interrupt table is loaded, so that an exception has nowhere to go: mov eax, 1; ud2
    let mut code = mov_eax(0xfeed_beef);
    code.extend([0x0f, 0x0b]);
    let failure = failure(Guest::new(&code).run().unwrap_err());
    assert_eq!(failure.kind, FailureKind::TripleFault);
    assert_eq!(failure.cpu, 0);
    assert_eq!(failure.state.registers.rip, ENTRY + 5, "{failure}");
    assert_eq!(failure.instruction[..2], [0x0f, 0x0b], "{failure}");
    assert!(failure.to_string().contains("rax 00000000feedbeef"), "{failure}");
}

#[test]
fn what_kvm_cannot_emulate_ends_the_run_with_bytes_and_registers() {
    if !kvm_wanted() {
        return;
    }
    // A vector store to memory that is not RAM has to be emulated by every KVM, and AVX-512 is in
    // no emulator: vmovdqu64 [rax], zmm0. Where it faults instead, the guest triple-faults.
    let mut code = mov_eax(0xfed0_0000);
    code.extend([0x62, 0xf1, 0xfe, 0x48, 0x7f, 0x00]);
    let failure = failure(Guest::new(&code).run().unwrap_err());
    assert_eq!(failure.state.registers.rip, ENTRY + 5, "{failure}");
    assert_eq!(failure.instruction[..6], [0x62, 0xf1, 0xfe, 0x48, 0x7f, 0x00], "{failure}");
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
    let twice = refused(|guest| {
        guest.config.drop_links = vec!["doorbell".parse().unwrap(), "at=1s".parse().unwrap()];
    });
    assert!(twice.starts_with("'doorbell,port=rp0' and 'at=1s,port=rp0' contradict"), "{twice}");
    let nowhere = refused(|guest| {
        guest.config.drop_links = vec!["doorbell,port=rp2".parse().unwrap()];
    });
    assert!(nowhere.ends_with("this machine has rp0 to rp1"), "{nowhere}");
}
