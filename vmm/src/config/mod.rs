//! The configuration of a virtual machine.

mod memory_size;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, SyncSender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use devices::fault::{GuestConsole, Trigger};
use devices::root_complex::RootComplexConfig;
use iommu::event::Tracer;

pub use memory_size::{MemorySize, ParseMemorySizeError};

use crate::layout::{Range, segment_ecam};
use crate::{Error, memory};

/// The most virtual CPUs that a machine can have.
pub const MAX_CPUS: u8 = 8;

/// The image that a machine boots: a bzImage, a 64-bit ELF file, or a multiboot image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kernel {
    /// A file.
    File(PathBuf),
    /// An image in memory.
    Image {
        /// Its name in errors.
        name: &'static str,
        /// The ELF file's bytes.
        bytes: &'static [u8],
    },
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Image { name, .. } => f.write_str(name),
        }
    }
}

/// A file that a kernel is given beside itself: the initramfs, or a multiboot image's module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Module {
    /// A file.
    File {
        /// The file.
        path: PathBuf,
        /// The string that comes with a module: its name and arguments. An initramfs has the path here,
        /// too.
        string: String,
    },
    /// Bytes in memory.
    Bytes {
        /// The name in errors; the string that comes with a module.
        name: String,
        /// The content.
        bytes: Arc<[u8]>,
    },
}

impl Module {
    /// The string that comes with a module.
    pub(crate) fn string(&self) -> &str {
        match self {
            Self::File { string, .. } => string,
            Self::Bytes { name, .. } => name,
        }
    }

    /// The content, of `limit` bytes at most; or the length of a larger one.
    pub(crate) fn read(&self, limit: u64) -> Result<Result<Arc<[u8]>, u64>, Error> {
        let path = match self {
            Self::File { path, .. } => path,
            Self::Bytes { bytes, .. } => {
                let length = bytes.len() as u64;
                return Ok(if length > limit { Err(length) } else { Ok(Arc::clone(bytes)) });
            }
        };
        let error = |source| Error::ModuleFile { path: path.clone(), source };
        let length = std::fs::metadata(path).map_err(error)?.len();
        if length > limit {
            return Ok(Err(length));
        }
        // The file may have grown, and a pipe has no length.
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(error)?;
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(error)?;
        let length = bytes.len() as u64;
        Ok(if length > limit { Err(length) } else { Ok(bytes.into()) })
    }
}

impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, .. } => path.display().fmt(f),
            Self::Bytes { name, .. } => f.write_str(name),
        }
    }
}

/// The other end of COM1.
#[derive(Debug, Clone, Default)]
pub enum Console {
    /// To standard output and from standard input; a terminal is in raw mode while the machine
    /// runs.
    #[default]
    Stdio,
    /// To this buffer, which the embedder reads; no input.
    Capture(Arc<Mutex<Vec<u8>>>),
    /// Piece by piece to this channel, which closes when the machine is gone; no
    /// input.
    Channel(Sender<Vec<u8>>),
}

/// Where the lines go that the guest sends to the debug console, port 0xe9. A line is passed on when
/// it ends, or when it has [`DebugConsole::LONGEST_LINE`] bytes; the last one also when the run ends.
#[derive(Debug, Clone, Default)]
pub enum DebugConsole {
    /// Nowhere. Faults can wait for them all the same.
    #[default]
    Discard,
    /// To standard output.
    Stdout,
    /// To this file. The run ends with an error if it cannot be written.
    File(Arc<File>),
    /// To this buffer, which the embedder reads. It takes at most 16 MiB.
    Capture(Arc<Mutex<Vec<u8>>>),
    /// One by one to this channel, which closes when the machine is gone. A full channel holds the
    /// guest's CPU up.
    Channel(SyncSender<Vec<u8>>),
}

impl DebugConsole {
    /// The longest line, in bytes. What follows is the next line.
    pub const LONGEST_LINE: usize = 4096;
}

/// The configuration of a virtual machine.
#[derive(Debug, Clone)]
pub struct VmConfig {
    /// The image that it boots.
    pub kernel: Kernel,
    /// The kernel's command line, up to 2047 bytes.
    pub cmdline: String,
    /// Files for the kernel: a multiboot image takes several, others one initramfs.
    pub modules: Vec<Module>,
    /// Its RAM.
    pub memory: MemorySize,
    /// Its virtual CPUs, 1 to [`MAX_CPUS`].
    pub cpus: u8,
    /// Its PCIe hierarchy, both remapping units, the host's policy, and the faults.
    pub root_complex: RootComplexConfig,
    /// The other end of COM1.
    pub console: Console,
    /// The other end of the debug console.
    pub debugcon: DebugConsole,
    /// The sink of events.
    pub tracer: Tracer,
    /// The longest duration of the run.
    pub time_limit: Option<Duration>,
}

impl VmConfig {
    /// Checks what can be wrong without anything having been opened.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if !(1..=MAX_CPUS).contains(&self.cpus) {
            return Err(Error::Cpus { cpus: self.cpus });
        }
        let debug_console_is_used = !matches!(self.debugcon, DebugConsole::Discard)
            || self
                .root_complex
                .faults
                .iter()
                .any(|fault| matches!(fault.trigger, Trigger::Line(GuestConsole::Debug, _)));
        if self.root_complex.topology.pc_testdev && debug_console_is_used {
            return Err(Error::DebugConsole);
        }
        Ok(self.root_complex.check(&memory::ranges(self.memory))?)
    }

    /// The reserved memory regions of functions, and behind them ECAM of further PCI segments, in
    /// ascending order.
    pub(crate) fn reserved_memory(&self) -> Vec<Range> {
        let regions = self.root_complex.topology.reserved_memory();
        let mut ranges: Vec<Range> = regions.iter().map(|region| region.range).collect();
        let segments = self.root_complex.topology.segments().len();
        ranges.extend((0..segments).map(segment_ecam));
        ranges.sort_by_key(|range| range.start);
        ranges
    }
}

#[cfg(test)]
mod tests {
    use devices::topology::{DeviceSpec, Topology};
    use iommu::event::UnitRole;
    use iommu::unit::{UnitConfig, UnitPreset};

    use super::*;
    use crate::qtest::{Machine, MachineConfig};

    fn config(memory: &str, unit: UnitConfig, devices: &[&str]) -> VmConfig {
        let devices: Vec<DeviceSpec> = devices.iter().map(|text| text.parse().unwrap()).collect();
        let root_complex = RootComplexConfig::direct(unit);
        VmConfig {
            kernel: Kernel::Image { name: "none", bytes: &[] },
            cmdline: String::new(),
            modules: Vec::new(),
            memory: memory.parse().unwrap(),
            cpus: 1,
            root_complex: RootComplexConfig {
                topology: Topology::new(&devices).unwrap(),
                ..root_complex
            },
            console: Console::default(),
            debugcon: DebugConsole::default(),
            tracer: Tracer::none(),
            time_limit: None,
        }
    }

    fn refusal(config: VmConfig) -> String {
        let error = config.check().unwrap_err().to_string();
        let VmConfig { memory, root_complex, tracer, .. } = config;
        let machine = Machine::new(MachineConfig { memory, root_complex, tracer });
        assert_eq!(machine.unwrap_err().to_string(), error, "qtest refuses it, too");
        error
    }

    /// Memory of 65 GiB ends behind the hole below 4 GiB.
    #[test]
    fn memory_above_the_host_address_width_is_refused_with_both_values() {
        let unit = UnitConfig { host_address_width: 36, ..UnitConfig::new(UnitRole::Host) };
        assert!(config("62G", unit, &[]).check().is_ok());
        for memory in ["63G", "65G", "1024G"] {
            let error = refusal(config(memory, unit, &[]));
            let end = memory::ranges(memory.parse().unwrap()).last().unwrap().end();
            assert!(error.contains(&format!("{end:#x}")), "{error}");
            assert!(error.contains("host_address_width=36"), "{error}");
            let enough = 64 - (end - 1).leading_zeros() as u8;
            assert!(error.ends_with(&format!("set host_address_width={enough}")), "{error}");
            let wider = UnitConfig { host_address_width: enough, ..unit };
            assert!(config(memory, wider, &[]).check().is_ok(), "the advice helps");
        }
        for preset in UnitPreset::ALL {
            let largest = MemorySize::MAX.to_string();
            let unit = preset.config(UnitRole::Host);
            assert!(config(&largest, unit, &[]).check().is_ok(), "{preset}");
        }
    }

    #[test]
    fn with_pc_testdev_there_is_no_debug_console() {
        let unit = UnitConfig::new(UnitRole::Guest);
        let mut sink = config("64M", unit, &["pc-testdev"]);
        let mut fault = sink.clone();
        assert!(sink.check().is_ok());
        sink.debugcon = DebugConsole::Stdout;
        fault.root_complex.faults.push("on=debugcon:/x/,mode=silent".parse().unwrap());
        for config in [sink, fault] {
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains("0xe9") && error.contains("leave one of them out"), "{error}");
        }
    }

    #[test]
    fn ecam_of_further_segments_is_reserved_and_their_units_are_checked() {
        let unit = UnitConfig { host_address_width: 39, ..UnitConfig::new(UnitRole::Host) };
        let devices = ["root-port,id=far,segment=1", "drhd,id=u,segment=1"];
        let mut config = config("64M", unit, &devices);
        assert!(config.check().is_ok());
        assert_eq!(config.reserved_memory(), [Range { start: 0xe000_0000, size: 0x400_0000 }]);
        let narrow = UnitConfig { host_address_width: 25, ..unit };
        config.root_complex.unit_settings.push(("u".to_owned(), narrow));
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains("host_address_width=25"), "{error}");
        config.root_complex.unit_settings[0] = ("v".to_owned(), unit);
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains("there are settings for the unit 'v'"), "{error}");
    }

    #[test]
    fn reserved_memory_outside_of_memory_is_refused() {
        let unit = UnitConfig::new(UnitRole::Host);
        let with = |base: &str| {
            let rmrr = format!("rmrr,id=r,scope=e,base={base},size=0x2000");
            config("64M", unit, &["edu,id=e", &rmrr])
        };
        assert!(with("0x3ffe000").check().is_ok());
        for base in ["0x3fff000", "0x4000000", "0xfee00000"] {
            let error = refusal(with(base));
            assert!(error.contains(base) && error.contains("is not in memory"), "{error}");
        }
    }
}
