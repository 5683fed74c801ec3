//! The configuration of a virtual machine.

mod memory_size;

use std::fmt;
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use devices::root_complex::RootComplexConfig;
use iommu::event::Tracer;

pub use memory_size::{MemorySize, ParseMemorySizeError};

use crate::Error;

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
pub struct Module {
    /// The file.
    pub path: PathBuf,
    /// The string that comes with a module: its name and arguments. An initramfs has the path here, too.
    pub string: String,
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
        Ok(())
    }
}
