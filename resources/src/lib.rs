//! The guest that ghostlink boots by default, built from source, the experiments of `docs/results.md`,
//! the scenarios of `docs/linux.md`, the init of the test host, and the scripts that it needs. All are
//! embedded.
//!
//! [`GUEST`] is a small driver for the bare (virtual) machine. `resources/README.md` describes it
//! and the words of its command line.

/// The test guest: an ELF64 executable for x86-64, linked at 1 MiB, entered in long mode (Linux's
/// 64-bit boot protocol) or by its PVH note.
pub static GUEST: &[u8] = include_bytes!(env!("GHOSTLINK_GUEST"));

/// The runner of scenarios, the first process of a Linux guest (`resources/runner`): a static executable
/// for Linux on x86-64.
pub static RUNNER: &[u8] = include_bytes!(env!("GHOSTLINK_RUNNER"));

/// The first process of the test host (`vmm/testhost`): a static executable for Linux on x86-64.
pub static TEST_HOST_INIT: &[u8] = include_bytes!(env!("GHOSTLINK_TEST_HOST_INIT"));

/// The scripts that unpack Debian's packages into the cache, by name: `packages`, and what it reads
/// in its directory.
pub const SCRIPTS: [(&str, &str); 3] = [
    ("packages", include_str!("../packages")),
    ("common.sh", include_str!("../common.sh")),
    ("run-unpacked", include_str!("../run-unpacked")),
];

mod experiments;
mod scenarios;

pub use experiments::EXPERIMENTS;
pub use scenarios::SCENARIOS;

#[cfg(test)]
mod tests {
    use super::{GUEST, RUNNER, SCENARIOS, TEST_HOST_INIT};

    #[test]
    fn programs_are_64_bit_executables_for_x86() {
        const CLASS_64: u8 = 2;
        const LITTLE_ENDIAN: u8 = 1;
        const EXECUTABLE: [u8; 2] = 2u16.to_le_bytes();
        const RELOCATABLE: [u8; 2] = 3u16.to_le_bytes();
        const X86_64: [u8; 2] = 62u16.to_le_bytes();

        for program in [GUEST, RUNNER, TEST_HOST_INIT] {
            assert_eq!(&program[..4], b"\x7fELF");
            assert_eq!(program[4..6], [CLASS_64, LITTLE_ENDIAN]);
            assert!([EXECUTABLE, RELOCATABLE].contains(&[program[16], program[17]]));
            assert_eq!(program[18..20], X86_64);
        }
    }
    #[test]
    fn all_files_of_scenarios_are_embedded() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
        let files = std::fs::read_dir(directory).expect("there are scenarios");
        let files = files.map(|entry| entry.expect("an entry").path());
        let mut names: Vec<String> = files
            .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
            .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
            .collect();
        names.sort_unstable();
        let embedded: Vec<&str> = SCENARIOS.iter().map(|(name, _)| *name).collect();
        assert_eq!(embedded, names, "resources/src/scenarios.rs lists them, in this order");
    }
}
