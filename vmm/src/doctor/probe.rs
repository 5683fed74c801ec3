//! Guests of a few bytes, each of which tries one thing that Linux does.
//!
//! ```text
//!   0x100000  CPL 0: own GDT, IDT, page tables, MSRs for SYSCALL; then the probe, or IRETQ to CPL 3
//!   0x101000  GDT, TSS (0x80), the operands of LGDT and LIDT (0x100)
//!   0x102000  IDT: vector 0x80 leads to "works", each other to a handler that reports its vector
//!   0x103000  page tables: the first 2 MiB, for CPL 3 too
//!   0x106000  operand, stacks
//! ```
//!
//! A probe ends by a write to the debug-exit port.

use super::assembler::{Assembler, Leaf, Register};

const BASE: u32 = 0x10_0000;
const TABLES: u32 = BASE + 0x1000;
const TSS: u32 = TABLES + 0x80;
const GDTR: u32 = TABLES + 0x100;
const IDTR: u32 = TABLES + 0x110;
const IDT: u32 = BASE + 0x2000;
const PAGE_TABLES: u32 = BASE + 0x3000;
/// The memory operand of instructions that have one.
const OPERAND: u32 = BASE + 0x6000;
/// Stacks grow down from these.
const STACK: u32 = BASE + 0x8000;
const USER_STACK: u32 = BASE + 0x9000;

const KERNEL_CODE: u16 = 0x10;
const USER_DATA: u16 = 0x20 | 3;
const USER_CODE: u16 = 0x28 | 3;
const TASK: u16 = 0x30;
/// The vector that a program asks for.
const GATE: usize = 0x80;
/// Bytes of each handler.
const HANDLER: u32 = 16;

/// A probe that works writes this.
pub(super) const WORKS: u32 = 0x1000;
/// A probe writes this if the processor says that it lacks the instruction.
pub(super) const ABSENT: u32 = 0x1001;

/// Something to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trial {
    /// A system call from CPL 3 by SYSCALL.
    Syscall,
    /// One by INT 0x80.
    SoftwareInterrupt,
    /// An instruction at CPL 0, if the processor says that it has it.
    Instruction { needs: Option<(Leaf, Register, u8)>, code: &'static [u8] },
    /// So many rounds of a loop of two instructions at CPL 0.
    Loop { rounds: u32 },
}

/// XSAVE of x87 state at [`OPERAND`], after CR4.OSXSAVE has been set.
pub(super) const XSAVE: &[u8] = &[
    0x0f, 0x20, 0xe0, // mov %cr4, %rax
    0x0f, 0xba, 0xe8, 18, // bts $18, %eax
    0x0f, 0x22, 0xe0, // mov %rax, %cr4
    0x31, 0xd2, // xor %edx, %edx
    0xb8, 1, 0, 0, 0, // mov $1, %eax
    0x0f, 0xae, 0x24, 0x25, 0x00, 0x60, 0x10, 0x00, // xsave 0x106000
];
pub(super) const POPCNT: &[u8] = &[0xf3, 0x48, 0x0f, 0xb8, 0xc0];
/// At [`OPERAND`].
pub(super) const CMPXCHG16B: &[u8] = &[0x48, 0x0f, 0xc7, 0x0c, 0x25, 0x00, 0x60, 0x10, 0x00];
/// MOVD, after CR4.OSFXSR has been set.
pub(super) const SSE_MOVE: &[u8] = &[
    0x0f, 0x20, 0xe0, // mov %cr4, %rax
    0x0f, 0xba, 0xe8, 9, // bts $9, %eax
    0x0f, 0x22, 0xe0, // mov %rax, %cr4
    0x66, 0x0f, 0x6e, 0xc0, // movd %eax, %xmm0
];
/// STAC, CLAC.
pub(super) const STAC: &[u8] = &[0x0f, 0x01, 0xcb, 0x0f, 0x01, 0xca];

const _: () = assert!(OPERAND == 0x10_6000, "the operand's address is in the code above");

/// A kernel for `trial`.
pub(super) fn image(trial: Trial) -> Vec<u8> {
    let mut code = Assembler::default();
    code.mov_eax_to_cr3(PAGE_TABLES);
    code.lgdt(GDTR);
    code.lidt(IDTR);
    code.mov_esp(STACK);
    code.ltr(TASK);
    match trial {
        Trial::Syscall => from_user(&mut code, &[0x0f, 0x05]),
        Trial::SoftwareInterrupt => from_user(&mut code, &[0xcd, GATE as u8]),
        Trial::Instruction { needs, code: bytes } => {
            if let Some((leaf, register, bit)) = needs {
                code.unless_feature(leaf, register, bit, |code| code.exit(ABSENT));
            }
            code.raw(bytes);
            code.exit(WORKS);
        }
        Trial::Loop { rounds } => {
            code.count_down(rounds);
            code.exit(WORKS);
        }
    }
    let handlers = BASE + code.len();
    // One for "works", then one for each vector.
    code.exit_padded(WORKS, HANDLER);
    (0..32).for_each(|vector| code.exit_padded(vector, HANDLER));
    let mut image = code.into_bytes();
    // The MSR and the gates that lead to the handlers can only be written now.
    patch_handler(&mut image, handlers);
    image.resize((TABLES - BASE) as usize, 0);
    image.extend(descriptor_tables());
    image.resize((IDT - BASE) as usize, 0);
    image.extend(interrupt_table(handlers));
    image.extend(page_tables());
    image.resize((USER_STACK - BASE) as usize, 0);
    elf(&image)
}

/// A value that is replaced by the address of the handlers.
const HANDLERS: u32 = 0x5eed_5eed;

fn patch_handler(image: &mut [u8], handlers: u32) {
    let wanted = HANDLERS.to_le_bytes();
    if let Some(at) = image.windows(4).position(|window| window == wanted) {
        image[at..at + 4].copy_from_slice(&handlers.to_le_bytes());
    }
}

/// Goes to CPL 3 and does `call` there.
fn from_user(code: &mut Assembler, call: &[u8]) {
    const EFER: (u32, u32) = (0xc000_0080, 0x501); // SCE, LME, LMA
    const STAR: u32 = 0xc000_0081;
    const LSTAR: u32 = 0xc000_0082;
    const FMASK: u32 = 0xc000_0084;
    code.wrmsr(EFER.0, 0, EFER.1);
    code.wrmsr(STAR, u32::from(USER_DATA - 8) << 16 | u32::from(KERNEL_CODE), 0);
    code.wrmsr(LSTAR, 0, HANDLERS);
    code.wrmsr(FMASK, 0, 0x200);
    for value in [USER_DATA.into(), USER_STACK, 2, USER_CODE.into()] {
        code.push(value);
    }
    // RIP: behind this push and IRETQ.
    let next = BASE + code.len() + 5 + 2;
    code.push(next);
    code.raw(&[0x48, 0xcf]);
    code.raw(call);
    // It must not come back: a port is not for CPL 3, and so this is an exception.
    code.exit(0xff);
}

fn descriptor_tables() -> Vec<u8> {
    let task = 0x0000_8900_0000_0067 | u64::from(TSS & 0xff_ffff) << 16;
    let table = [
        0,
        0,
        0x00af_9b00_0000_ffff,
        0x00cf_9300_0000_ffff,
        0x00cf_f300_0000_ffff,
        0x00af_fb00_0000_ffff,
        task,
        0,
    ];
    let mut bytes = table.map(u64::to_le_bytes).concat();
    bytes.resize((TSS - TABLES) as usize, 0);
    // RSP0 at 4; the I/O map begins behind the end, so that no port is for CPL 3.
    let mut tss = [0; 0x68];
    tss[4..8].copy_from_slice(&STACK.to_le_bytes());
    tss[0x66] = 0x68;
    bytes.extend(tss);
    bytes.resize((GDTR - TABLES) as usize, 0);
    bytes.extend(pseudo_descriptor(TABLES, 8 * 8));
    bytes.resize((IDTR - TABLES) as usize, 0);
    bytes.extend(pseudo_descriptor(IDT, 256 * 16));
    bytes
}

fn pseudo_descriptor(base: u32, size: u16) -> Vec<u8> {
    [&(size - 1).to_le_bytes()[..], &u64::from(base).to_le_bytes()].concat()
}

fn interrupt_table(handlers: u32) -> Vec<u8> {
    let gate = |vector: usize| {
        // A breakpoint works if it comes where it should, and INT 0x80 too.
        let number = if vector == 3 || vector == GATE { 0 } else { 1 + (vector as u32 & 31) };
        let handler = handlers + number * HANDLER;
        // Present, interrupt gate, CPL 3 may ask for it.
        let low = (handler & 0xffff) | u32::from(KERNEL_CODE) << 16;
        let high = (handler & 0xffff_0000) | 0xee00;
        [low, high, 0, 0].map(u32::to_le_bytes).concat()
    };
    (0..256).flat_map(gate).collect()
}

/// Three tables: PML4, pointers, one directory with a page of 2 MiB.
fn page_tables() -> Vec<u8> {
    const USER: u64 = 0b111;
    const LARGE: u64 = 1 << 7;
    let tables = u64::from(PAGE_TABLES);
    let table = |entry: u64| {
        let mut bytes = entry.to_le_bytes().to_vec();
        bytes.resize(4096, 0);
        bytes
    };
    let at = |offset: u64| table((tables + offset) | USER);
    [at(0x1000), at(0x2000), table(USER | LARGE)].concat()
}

/// An ELF file of one segment at [`BASE`], which is also where it is entered.
fn elf(segment: &[u8]) -> Vec<u8> {
    const HEADERS: u64 = 64 + 56;
    let (base, size) = (u64::from(BASE), segment.len() as u64);
    let mut image = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // An executable for x86-64, version 1; its headers' sizes, one program header.
    image.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    image.extend([base, 64, 0].map(u64::to_le_bytes).concat());
    image.extend([0; 4]);
    image.extend([64_u16, 56, 1, 0, 0, 0].map(u16::to_le_bytes).concat());
    // PT_LOAD, readable, writable, executable.
    image.extend([1, 0, 0, 0, 7, 0, 0, 0]);
    image.extend([HEADERS, base, base, size, size, 0x1000].map(u64::to_le_bytes).concat());
    image.extend(segment);
    image
}
