//! Guests that ghostlink boots, built from source and embedded.
//!
//! One so far: [`GUEST`], a driver in miniature that runs on the bare (virtual) machine. What it does
//! and which command-line words it takes: `resources/README.md`.

/// The test guest: an ELF64 executable for x86-64, linked at 1 MiB, entered in long mode (Linux's
/// 64-bit boot protocol) or by its PVH note.
pub static GUEST: &[u8] = include_bytes!(env!("GHOSTLINK_GUEST"));

#[cfg(test)]
mod tests {
    use super::GUEST;

    #[test]
    fn guest_is_a_64_bit_executable_for_x86() {
        const CLASS_64: u8 = 2;
        const LITTLE_ENDIAN: u8 = 1;
        const EXECUTABLE: [u8; 2] = 2u16.to_le_bytes();
        const X86_64: [u8; 2] = 62u16.to_le_bytes();

        assert_eq!(&GUEST[..4], b"\x7fELF");
        assert_eq!(GUEST[4..6], [CLASS_64, LITTLE_ENDIAN]);
        assert_eq!(GUEST[16..18], EXECUTABLE);
        assert_eq!(GUEST[18..20], X86_64);
    }
}
