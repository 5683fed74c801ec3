//! Memory accesses and port accesses of a guest.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use iommu::event::{Event, LinkState};
use vmm::{DebugConsole, Exit};

use crate::code::{HALT, mov_eax, out8, out32, report_port};
use crate::guest::{Guest, kvm_wanted};

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

/// `rep outsb` of `text` to the debug console.
fn debug_line(text: &[u8]) -> Vec<u8> {
    let length = text.len() as u8;
    // lea rsi, [rip + 15]: the text behind the code
    let mut code = vec![0x48, 0x8d, 0x35, 15, 0, 0, 0];
    // mov ecx, length; mov edx, 0xe9; cld; rep outsb; jmp over the text
    code.extend([0xb9, length, 0, 0, 0, 0xba, 0xe9, 0, 0, 0, 0xfc, 0xf3, 0x6e, 0xeb, length]);
    code.extend(text);
    code
}

#[test]
fn the_debug_console_takes_lines_and_reads_as_its_port() {
    if !kvm_wanted() {
        return;
    }
    // mov edx, 0xe9; in al, dx; then the byte to the debug-exit port.
    let mut read = mov_eax(0);
    read.extend([0xba, 0xe9, 0, 0, 0, 0xec, 0xba, 0xf4, 0, 0, 0, 0xef]);
    let code = [debug_line(b"one\ntwo"), out8(0xe9, b'\n'), out8(0xe9, 0xff), read].concat();
    let guest = Guest::new(&code);
    assert_eq!(guest.run().unwrap(), Exit::DebugExit(0xe9));
    // The last line has no end.
    assert_eq!(*guest.debugcon.lock().unwrap(), b"one\ntwo\n\xff");
    assert_eq!(guest.printed(), "");
}

#[test]
fn a_fault_waits_for_a_whole_line_of_the_debug_console() {
    if !kvm_wanted() {
        return;
    }
    let doorbell = |value| out32(0x5e4, value);
    for debugcon in [DebugConsole::Discard, DebugConsole::Capture(Arc::default())] {
        let code = [
            debug_line(b"mark drop"),
            doorbell(1),
            debug_line(b"s\nmark drop\n"),
            doorbell(2),
            debug_line(b"mark drop\n"),
            out32(0xf4, 0),
        ];
        let mut guest = Guest::new(&code.concat());
        guest.config.debugcon = debugcon;
        guest.config.root_complex.faults =
            vec!["on=debugcon:/^mark drop$/,mode=silent".parse().unwrap()];
        guest.run().unwrap();
        let events: Vec<_> = guest.events.events().into_iter().map(|event| event.event).collect();
        assert!(
            matches!(
                events[..],
                [
                    Event::Doorbell { value: 1 },
                    Event::FaultInjected { .. },
                    Event::Link { state: LinkState::Down, .. },
                    Event::Doorbell { value: 2 },
                    Event::GuestExit { value: 0 },
                ]
            ),
            "{events:?}"
        );
    }
}

#[test]
fn a_line_of_the_debug_console_without_end_is_cut() {
    if !kvm_wanted() {
        return;
    }
    // mov ecx, 10000; mov edx, 0xe9; lea rsi, [rip]; cld; rep outsb: the code, and what is behind it
    let mut code = vec![0xb9, 0x10, 0x27, 0, 0, 0xba, 0xe9, 0, 0, 0, 0x48, 0x8d, 0x35];
    code.extend([0, 0, 0, 0, 0xfc, 0xf3, 0x6e]);
    code.extend(out32(0xf4, 0));
    let mut guest = Guest::new(&code);
    let (sender, receiver) = sync_channel(16);
    guest.config.debugcon = DebugConsole::Channel(sender);
    guest.run().unwrap();
    drop(guest);
    let lines: Vec<usize> = receiver.iter().map(|line| line.len()).collect();
    assert_eq!(lines, [4096, 4096, 10_000 - 2 * 4096]);
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
    guest.config.root_complex.faults = vec!["on=doorbell,port=rp1,mode=silent".parse().unwrap()];
    guest.run().unwrap();
    let events: Vec<_> = guest.events.events().into_iter().map(|event| event.event).collect();
    assert!(
        matches!(
            events[..],
            [
                Event::Doorbell { value: 7 },
                Event::FaultInjected { .. },
                Event::Link { state: LinkState::Down, .. },
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
    guest.config.root_complex.faults = vec!["at=1ms,mode=silent".parse().unwrap()];
    guest.config.time_limit = Some(Duration::from_millis(200));
    assert_eq!(guest.run().unwrap(), Exit::TimeLimit);
    let events = guest.events.events();
    let down = |event: &Event| matches!(event, Event::Link { state: LinkState::Down, .. });
    assert_eq!(events.iter().filter(|event| down(&event.event)).count(), 1, "{events:?}");
}
