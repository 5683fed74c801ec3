//! Pieces of machine code that the guests of the tests are made of.

/// `mov eax, value; mov edx, port; out dx, eax`.
pub(crate) fn out32(port: u16, value: u32) -> Vec<u8> {
    let mut code = mov_eax(value);
    code.push(0xba);
    code.extend(u32::from(port).to_le_bytes());
    code.push(0xef);
    code
}

/// As [`out32`], with 16 bits.
pub(crate) fn out16(port: u16, value: u16) -> Vec<u8> {
    let mut code = out32(port, value.into());
    code.insert(code.len() - 1, 0x66);
    code
}

/// As [`out32`], with 8 bits.
pub(crate) fn out8(port: u16, value: u8) -> Vec<u8> {
    let mut code = out32(port, value.into());
    code.pop();
    code.push(0xee);
    code
}

/// `mov edi, address; mov dword ptr [rdi], value`.
pub(crate) fn store(address: u32, value: u32) -> Vec<u8> {
    let mut code = vec![0xbf];
    code.extend(address.to_le_bytes());
    code.extend([0xc7, 0x07]);
    code.extend(value.to_le_bytes());
    code
}

pub(crate) fn mov_eax(value: u32) -> Vec<u8> {
    let mut code = vec![0xb8];
    code.extend(value.to_le_bytes());
    code
}

/// `in eax, dx` from `port`, then `out 0xf4, eax`: the run ends with what was read.
pub(crate) fn report_port(port: u16) -> Vec<u8> {
    let mut code = vec![0xba];
    code.extend(u32::from(port).to_le_bytes());
    code.extend([0xed, 0xba, 0xf4, 0, 0, 0, 0xef]);
    code
}

/// `cli; hlt; jmp` back: never ends.
pub(crate) const HALT: [u8; 4] = [0xfa, 0xf4, 0xeb, 0xfd];
/// `jmp` to itself: never ends, and never leaves the guest.
pub(crate) const SPIN: [u8; 2] = [0xeb, 0xfe];
