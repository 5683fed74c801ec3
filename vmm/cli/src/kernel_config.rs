//! The configuration of a kernel, from one of two places: built into an uncompressed image
//! (`CONFIG_IKCONFIG`), or in a file beside the kernel, as distributions install it.

use std::fs;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use memchr::memmem;

use vmm::VmConfig;

/// The markers before and after a built-in configuration.
const BEGIN: &[u8] = b"IKCFG_ST";
const END: &[u8] = b"IKCFG_ED";
/// The most that is read of a configuration. Debian's have a quarter of a MiB.
const LONGEST: u64 = 16 << 20;

/// Options that a guest needs here, and the consequence of each missing one.
const OPTIONS: [(&str, &str); 8] = [
    ("64BIT", "it does not run on this machine"),
    ("PCI", "it finds no devices"),
    ("PCI_MMCONFIG", "it finds neither ATS nor AER and DPC"),
    ("ACPI", "it finds neither remapping unit nor host bridge, and does not switch off"),
    ("SERIAL_8250_CONSOLE", "its console says nothing"),
    ("INTEL_IOMMU", "it does not use the remapping unit"),
    ("IRQ_REMAP", "it does not remap interrupts"),
    ("HOTPLUG_PCI_PCIE", "it does not see devices come and go"),
];

/// A kernel's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KernelConfig {
    origin: String,
    text: String,
}

impl KernelConfig {
    /// Looks for the configuration of the kernel in the file `kernel`.
    pub(crate) fn find(kernel: &Path) -> Option<Self> {
        Self::beside(kernel).or_else(|| Self::built_in(kernel))
    }

    /// `config-X` beside `vmlinuz-X`, or whatever else stands in front of the first hyphen.
    fn beside(kernel: &Path) -> Option<Self> {
        let (_, version) = kernel.file_name()?.to_str()?.split_once('-')?;
        let path = kernel.with_file_name(format!("config-{version}"));
        let mut text = String::new();
        fs::File::open(&path).ok()?.take(LONGEST).read_to_string(&mut text).ok()?;
        Some(Self { origin: path.display().to_string(), text })
    }

    fn built_in(kernel: &Path) -> Option<Self> {
        // A pipe or a device may have no end.
        let image = fs::metadata(kernel).ok()?.is_file().then(|| fs::read(kernel).ok())??;
        // In a bzImage the configuration is compressed a second time.
        if !image.starts_with(b"\x7fELF") {
            return None;
        }
        let begin = memmem::find(&image, BEGIN)? + BEGIN.len();
        let length = memmem::find(&image[begin..], END)?;
        let mut text = String::new();
        let archive = GzDecoder::new(&image[begin..begin + length]);
        archive.take(LONGEST).read_to_string(&mut text).ok()?;
        Some(Self { origin: "its built-in configuration".to_owned(), text })
    }

    /// Whether the option is built in; a module is not.
    pub(crate) fn is_built_in(&self, option: &str) -> bool {
        let wanted = format!("CONFIG_{option}=y");
        self.text.lines().any(|line| line == wanted)
    }

    /// The options that the kernel lacks for this machine, on one line.
    pub(crate) fn missing_options(&self, config: &VmConfig) -> Option<String> {
        let missing = self.missing(config.cpus > 1, !config.modules.is_empty());
        let (kernel, origin) = (&config.kernel, &self.origin);
        (!missing.is_empty()).then(|| format!("'{kernel}' has no {missing}, says {origin}"))
    }

    fn missing(&self, needs_smp: bool, needs_initrd: bool) -> String {
        let special = [
            (needs_smp, "SMP", "it uses one CPU"),
            (needs_initrd, "BLK_DEV_INITRD", "it does not unpack the initramfs"),
        ];
        let special = special.into_iter().filter(|(applies, ..)| *applies);
        let wanted = OPTIONS.into_iter().chain(special.map(|(_, option, text)| (option, text)));
        let missing = wanted.filter(|(option, _)| !self.is_built_in(option));
        let missing: Vec<String> =
            missing.map(|(option, text)| format!("CONFIG_{option} ({text})")).collect();
        missing.join(", no ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;
    use vmm_sys_util::tempdir::TempDir;

    const TEXT: &str = "# Linux\nCONFIG_64BIT=y\n# CONFIG_PCI is not set\nCONFIG_ACPI=m\n";

    fn archive(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_configuration_is_found_inside_and_beside() {
        let directory = TempDir::new().unwrap();
        let kernel = directory.as_path().join("vmlinux-6.12-x");
        let image = [&b"\x7fELF..."[..], BEGIN, &archive(TEXT), END, b"..."].concat();
        fs::write(&kernel, image).unwrap();
        let inside = KernelConfig::find(&kernel).unwrap();
        assert_eq!(inside.text, TEXT);
        assert!(inside.is_built_in("64BIT"));
        assert!(!inside.is_built_in("PCI") && !inside.is_built_in("ACPI"));
        fs::write(directory.as_path().join("config-6.12-x"), "CONFIG_PCI=y\n").unwrap();
        assert!(KernelConfig::find(&kernel).unwrap().is_built_in("PCI"));
    }

    #[test]
    fn what_has_none_or_a_broken_one_has_none() {
        let directory = TempDir::new().unwrap();
        let broken = [&b"\x7fELF"[..], BEGIN, b"no archive", END].concat();
        let endless = [&b"\x7fELF"[..], BEGIN, &archive(TEXT)].concat();
        for (name, image) in
            [("a", b"".to_vec()), ("b-1", b"MZ".to_vec()), ("c", broken), ("d", endless)]
        {
            let path = directory.as_path().join(name);
            fs::write(&path, image).unwrap();
            assert_eq!(KernelConfig::find(&path), None, "{name}");
        }
        assert_eq!(KernelConfig::find(Path::new("/no/such-kernel")), None);
    }

    #[test]
    fn what_is_missing_is_named() {
        let all: String = OPTIONS.iter().map(|(name, _)| format!("CONFIG_{name}=y\n")).collect();
        let complete = KernelConfig { origin: "config-x".into(), text: all + "CONFIG_SMP=y\n" };
        assert_eq!(complete.missing(true, false), "");
        let wanting = KernelConfig { text: complete.text.replace("PCI=y", "PCI=m"), ..complete };
        assert_eq!(
            wanting.missing(true, true),
            "CONFIG_PCI (it finds no devices), no CONFIG_BLK_DEV_INITRD (it does not unpack the \
             initramfs)"
        );
    }
}
