//! The guest that ghostlink boots by default, built from source, and the experiments of
//! `docs/results.md`. Both are embedded.
//!
//! [`GUEST`] is a small driver for the bare (virtual) machine. `resources/README.md` describes it
//! and the words of its command line.

/// The test guest: an ELF64 executable for x86-64, linked at 1 MiB, entered in long mode (Linux's
/// 64-bit boot protocol) or by its PVH note.
pub static GUEST: &[u8] = include_bytes!(env!("GHOSTLINK_GUEST"));

mod experiments;

pub use experiments::EXPERIMENTS;

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
