//! A multiboot image of a few instructions, which looks at what it finds.

use devices::topology::Topology;
use vmm::{Exit, Kernel};

use crate::guest::{Guest, kvm_wanted};

/// Where it is loaded.
const LOAD: u32 = 0x10_0000;
const MAGIC: u32 = 0x1bad_b002;
/// The header has addresses.
const FLAGS: u32 = 1 << 16;

/// `EAX`, the information's flags, `fw_cfg`'s number of CPUs, and the edu's id at the address that it
/// has been given: ends with 0 if all are right, else with the number of what is wrong.
#[rustfmt::skip]
const CODE: [u8; 75] = [
    0xbe, 0x01, 0x00, 0x00, 0x00,             //     mov $1, %esi
    0x3d, 0x02, 0xb0, 0xad, 0x2b,             //     cmp $0x2badb002, %eax
    0x75, 0x36,                               //     jne out
    0x46,                                     //     inc %esi
    0x8b, 0x03,                               //     mov (%ebx), %eax
    0x83, 0xf8, 0x4d,                         //     cmp $0x4d, %eax
    0x75, 0x2e,                               //     jne out
    0x46,                                     //     inc %esi
    0xba, 0x10, 0x05, 0x00, 0x00,             //     mov $0x510, %edx
    0xb8, 0x05, 0x00, 0x00, 0x00,             //     mov $5, %eax
    0x66, 0xef,                               //     out %ax, %dx
    0x42,                                     //     inc %edx
    0xec,                                     //     in %dx, %al
    0x3c, 0x01,                               //     cmp $1, %al
    0x75, 0x1b,                               //     jne out
    0x46,                                     //     inc %esi
    0xb8, 0x00, 0x00, 0x00, 0xfd,             //     mov $0xfd000000, %eax
    0x8b, 0x00,                               //     mov (%eax), %eax
    0x3d, 0xed, 0x00, 0x00, 0x01,             //     cmp $0x010000ed, %eax
    0x75, 0x0c,                               //     jne out
    0x46,                                     //     inc %esi
    0x8b, 0x43, 0x10,                         //     mov 16(%ebx), %eax
    0x80, 0x78, 0x0a, 0x78,                   //     cmpb $'x', 10(%eax)
    0x75, 0x02,                               //     jne out
    0x31, 0xf6,                               //     xor %esi, %esi
    0xba, 0xf4, 0x00, 0x00, 0x00,             // out: mov $0xf4, %edx
    0x89, 0xf0,                               //     mov %esi, %eax
    0xef,                                     //     out %eax, %dx
    0xf4,                                     //     hlt
];

fn image() -> Vec<u8> {
    let checksum = 0_u32.wrapping_sub(MAGIC.wrapping_add(FLAGS));
    let header = [MAGIC, FLAGS, checksum, LOAD, LOAD, 0, 0, LOAD + 32];
    [header.map(u32::to_le_bytes).concat(), CODE.to_vec()].concat()
}

#[test]
fn an_image_finds_what_its_loader_promises() {
    if !kvm_wanted() {
        return;
    }
    let directory = vmm_sys_util::tempdir::TempDir::new().unwrap();
    // The command line begins with the name: `image.flat`, a blank, and what the user says.
    let path = directory.as_path().join("image.fla");
    std::fs::write(&path, image()).unwrap();
    let mut guest = Guest::new(&[]);
    guest.config.kernel = Kernel::File(path);
    guest.config.cmdline = "x".to_owned();
    guest.config.memory = "64M".parse().unwrap();
    guest.config.root_complex.topology = Topology::simple(2, 1);
    assert_eq!(guest.run().unwrap(), Exit::DebugExit(0));
}
