//! How the built-in guest's small tests end a run.

use iommu::event::Event;
use tests::{Rig, count};
use vmm::{Error, Exit, FailureKind, GuestFailure};

#[test]
fn a_guest_ends_its_run_as_it_says() {
    for (cmdline, exit) in [
        ("exit=5", Exit::DebugExit(5)),
        ("test=panic", Exit::DebugExit(2)),
        ("test=nonsense", Exit::DebugExit(4)),
        ("test=drop scenario=nonsense", Exit::DebugExit(4)),
        ("test=poweroff", Exit::PowerOff),
        ("test=reset", Exit::Reset),
    ] {
        let Some(rig) = Rig::new(cmdline) else { return };
        let run = rig.run();
        assert!(matches!(run.exit, Ok(ended) if ended == exit), "{cmdline}: {run}");
        let by_debug_exit = matches!(exit, Exit::DebugExit(_));
        let exits = count(&run.events, |event| matches!(event, Event::GuestExit { .. }));
        assert_eq!(exits, usize::from(by_debug_exit), "{cmdline}");
    }
}

#[test]
fn an_idle_guest_is_ended_from_outside() {
    for cmdline in ["test=idle", "test=spin"] {
        let Some(rig) = Rig::new(cmdline) else { return };
        let machine = rig.cpus(4).start();
        machine.stop();
        let run = machine.join();
        assert!(matches!(run.exit, Ok(Exit::Stopped)), "{cmdline}: {run}");
    }
}

/// Runs a guest that KVM cannot run to its end.
fn failure(cmdline: &str) -> Option<GuestFailure> {
    let run = Rig::new(cmdline)?.run();
    match run.exit {
        Err(Error::Guest(failure)) => Some(*failure),
        _ => panic!("the guest was to fail: {run}"),
    }
}

#[test]
fn an_instruction_that_kvm_does_not_know_is_shown() {
    let Some(failure) = failure("test=badinsn") else { return };
    assert_eq!((failure.cpu, &failure.kind), (0, &FailureKind::Emulation), "{failure}");
    // movd xmm0, [rax], with the address of the unit in RAX.
    assert!(failure.instruction.starts_with(&[0x66, 0x0f, 0x6e, 0x00]), "{failure}");
    assert_eq!(failure.state.registers.rax, 0xfed9_0000, "{failure}");
}

#[test]
fn a_triple_fault_is_a_failure() {
    let Some(failure) = failure("test=triple") else { return };
    assert_eq!((failure.cpu, failure.kind), (0, FailureKind::TripleFault));
}
