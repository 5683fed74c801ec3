//! The few instructions that probes are made of.

/// A leaf of CPUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leaf(pub(super) u32);

/// A register in which CPUID returns a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Register {
    /// EBX.
    Ebx = 3,
    /// ECX.
    Ecx = 1,
}

/// Machine code for long mode, one instruction behind the other.
#[derive(Debug, Default)]
pub(super) struct Assembler(Vec<u8>);

impl Assembler {
    pub(super) fn len(&self) -> u32 {
        self.0.len() as u32
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }

    fn with_u32(&mut self, opcode: &[u8], value: u32) {
        self.raw(opcode);
        self.raw(&value.to_le_bytes());
    }

    /// `mov $value, %eax`.
    fn mov_eax(&mut self, value: u32) {
        self.with_u32(&[0xb8], value);
    }

    /// `mov $value, %esp`.
    pub(super) fn mov_esp(&mut self, value: u32) {
        self.with_u32(&[0xbc], value);
    }

    /// `mov $table, %eax; mov %rax, %cr3`.
    pub(super) fn mov_eax_to_cr3(&mut self, table: u32) {
        self.mov_eax(table);
        self.raw(&[0x0f, 0x22, 0xd8]);
    }

    /// `lgdt address`.
    pub(super) fn lgdt(&mut self, address: u32) {
        self.with_u32(&[0x0f, 0x01, 0x14, 0x25], address);
    }

    /// `lidt address`.
    pub(super) fn lidt(&mut self, address: u32) {
        self.with_u32(&[0x0f, 0x01, 0x1c, 0x25], address);
    }

    /// `mov $selector, %eax; ltr %ax`.
    pub(super) fn ltr(&mut self, selector: u16) {
        self.mov_eax(selector.into());
        self.raw(&[0x0f, 0x00, 0xd8]);
    }

    /// `mov $register, %ecx; mov $high, %edx; mov $low, %eax; wrmsr`.
    pub(super) fn wrmsr(&mut self, register: u32, high: u32, low: u32) {
        self.with_u32(&[0xb9], register);
        self.with_u32(&[0xba], high);
        self.mov_eax(low);
        self.raw(&[0x0f, 0x30]);
    }

    /// `pushq $value`; the value must be below 2 GiB.
    pub(super) fn push(&mut self, value: u32) {
        self.with_u32(&[0x68], value);
    }

    /// `mov $value, %eax; mov $0xf4, %edx; out %eax, %dx; hlt; jmp` back to the halt.
    pub(super) fn exit(&mut self, value: u32) {
        self.mov_eax(value);
        self.with_u32(&[0xba], 0xf4);
        self.raw(&[0xef]);
        self.raw(&[0xf4, 0xeb, 0xfd]);
    }

    /// The code, filled up to `size` bytes.
    pub(super) fn exit_padded(&mut self, value: u32, size: u32) {
        let end = self.0.len() + size as usize;
        self.exit(value);
        self.0.resize(end, 0x90);
    }

    /// Does `otherwise` unless CPUID shows `bit` in `register` of `leaf`.
    pub(super) fn unless_feature(
        &mut self,
        Leaf(leaf): Leaf,
        register: Register,
        bit: u8,
        otherwise: impl FnOnce(&mut Self),
    ) {
        self.mov_eax(leaf);
        self.raw(&[0x31, 0xc9, 0x0f, 0xa2]); // xor %ecx, %ecx; cpuid
        self.raw(&[0x0f, 0xba, 0xe0 | register as u8, bit]); // bt $bit, register
        let mut body = Self::default();
        otherwise(&mut body);
        self.raw(&[0x72, body.0.len() as u8]); // jc over it
        self.raw(&body.0);
    }

    /// `mov $rounds, %ecx; 1: dec %ecx; jnz 1b`.
    pub(super) fn count_down(&mut self, rounds: u32) {
        self.with_u32(&[0xb9], rounds);
        self.raw(&[0xff, 0xc9, 0x75, 0xfc]);
    }
}
