//! The state in which a kernel is entered, for each boot protocol.

use std::sync::mpsc;
use std::time::Duration;

use vmm::{Activity, Exit, Kernel, LastExit, Module, Vm};

use crate::code::{HALT, out8};
use crate::elf::{ENTRY, bzimage, pvh};
use crate::guest::{Guest, kvm_wanted};

/// `out %eax, 0xf4`.
const REPORT: [u8; 6] = [0xba, 0xf4, 0, 0, 0, 0xef];

fn runs(bytes: &'static [u8], initrd: bool) -> Exit {
    let mut guest = Guest::new(&[]);
    guest.config.kernel = Kernel::Image { name: "test", bytes };
    guest.config.memory = "4M".parse().unwrap();
    if initrd {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        guest.config.modules = vec![Module::File { path: path.into(), string: path.to_owned() }];
    }
    guest.run().unwrap()
}

#[test]
fn a_pvh_kernel_finds_the_start_information_by_ebx() {
    if !kvm_wanted() {
        return;
    }
    // mov (%ebx), %eax: the magic number.
    let code = [&[0x8b, 0x03][..], &REPORT].concat();
    assert_eq!(runs(pvh(&code), false), Exit::DebugExit(0x336e_c578));
    // mov 32(%ebx), %eax: where the RSDP is.
    let code = [&[0x8b, 0x43, 0x20][..], &REPORT].concat();
    assert_eq!(runs(pvh(&code), false), Exit::DebugExit(0xe_0000));
}

#[test]
fn a_bzimage_finds_initramfs_and_tables_by_its_boot_parameters() {
    if !kvm_wanted() {
        return;
    }
    let field = |offset: u32| {
        // mov offset(%rsi), %eax.
        let code = [&[0x8b, 0x86][..], &offset.to_le_bytes(), &REPORT].concat();
        runs(bzimage(&code).leak(), true)
    };
    assert_eq!(field(0x218), Exit::DebugExit(0x3f_f000), "the last page of memory");
    assert_eq!(field(0x070), Exit::DebugExit(0xe_0000));
    assert_eq!(field(0x202), Exit::DebugExit(u32::from_le_bytes(*b"HdrS")));
}

#[test]
fn a_guest_that_says_nothing_is_looked_at() {
    if !kvm_wanted() {
        return;
    }
    let mut guest = Guest::new(&[out8(0x80, 1), HALT.to_vec()].concat());
    guest.config.cpus = 2;
    let mut vm = Vm::new(guest.config.clone()).unwrap();
    let handle = vm.handle();
    assert_eq!(handle.snapshot(), [], "nothing runs yet");
    let (told, is_told) = mpsc::channel();
    vm.on_silence(Duration::from_millis(1), move |cpus| told.send(cpus.len()).unwrap());
    let looker = std::thread::spawn(move || {
        let told = is_told.recv();
        // The first CPU may not have come to its first instruction yet.
        let seen = loop {
            let seen = handle.snapshot();
            if seen.first().is_some_and(|cpu| cpu.last_exit.is_some()) {
                break seen;
            }
        };
        handle.stop();
        (told, seen)
    });
    assert_eq!(vm.run().unwrap(), Exit::Stopped);
    let (told, seen) = looker.join().unwrap();
    assert_eq!(told, Ok(2));
    let [first, second] = seen[..] else { panic!("{seen:?}") };
    assert_eq!((first.cpu, first.last_exit), (0, Some(LastExit::PortWrite(0x80))));
    assert!((ENTRY..ENTRY + 64).contains(&first.instruction_pointer), "{first}");
    assert_eq!((second.cpu, second.activity), (1, Activity::AwaitsStart));
}
