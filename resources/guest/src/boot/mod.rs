//! The entries of the program, and the command line that the loader passes.

use core::arch::global_asm;
use core::cell::UnsafeCell;

global_asm!(include_str!("entry.s"), options(att_syntax));
global_asm!(include_str!("vectors.s"), options(att_syntax));

/// Linux's "zero page", at the entry in long mode.
const BOOT_PARAMS: u64 = 0;
const BOOT_PARAMS_CMD_LINE_PTR: u64 = 0x228;

/// PVH's start information; `cmdline_paddr` is a 64-bit field.
const START_INFO_MAGIC: u32 = 0x336e_c578;
const START_INFO_CMDLINE: u64 = 24;

const CMDLINE_MAX: usize = 1024;

struct CmdlineBuffer(UnsafeCell<[u8; CMDLINE_MAX]>);

// SAFETY: written once, by the boot processor before any other runs; read-only afterwards.
unsafe impl Sync for CmdlineBuffer {}

static CMDLINE: CmdlineBuffer = CmdlineBuffer(UnsafeCell::new([0; CMDLINE_MAX]));

/// Copies the command line out of the loader's memory, which the program uses for other things
/// later. A command line that is not UTF-8 counts as empty. To be called once.
pub fn command_line(protocol: u64, info: u64) -> &'static str {
    let address = if protocol == BOOT_PARAMS {
        u64::from(loader_u32(info + BOOT_PARAMS_CMD_LINE_PTR))
    } else if loader_u32(info) == START_INFO_MAGIC {
        u64::from(loader_u32(info + START_INFO_CMDLINE))
    } else {
        0
    };
    if address == 0 {
        return "";
    }
    // SAFETY: no other reference exists yet: this runs once, on the only running processor.
    let buffer = unsafe { &mut *CMDLINE.0.get() };
    let mut length = 0;
    while length < CMDLINE_MAX {
        let byte = loader_u8(address + length as u64);
        if byte == 0 {
            break;
        }
        buffer[length] = byte;
        length += 1;
    }
    core::str::from_utf8(&buffer[..length]).unwrap_or("")
}

fn loader_u32(address: u64) -> u32 {
    // SAFETY: the boot protocol says that the loader's structure is there; it lies below 4 GiB, which
    // is mapped, and no Rust object shares that memory.
    unsafe { (address as *const u32).read_unaligned() }
}

fn loader_u8(address: u64) -> u8 {
    // SAFETY: as for `loader_u32`.
    unsafe { (address as *const u8).read() }
}
