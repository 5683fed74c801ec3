//! Errors outside of the guest, and the guest failures that no machine survives.

use std::io;
use std::path::PathBuf;

use crate::config::{MAX_CPUS, MemorySize};
use crate::exit::Exit;
use crate::kvm::GuestFailure;
use crate::layout::{CMDLINE_MAX, RAM_GAP, Range};
use crate::vm::{GRACE, MachineThread, StuckThread};

/// Why a machine could not be built, or could not go on.
///
/// Each message is for the person at the terminal: what failed, with which value, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `/dev/kvm` is missing.
    #[error(
        "there is no /dev/kvm: load the module kvm_intel or kvm_amd, and see that the firmware has \
         virtualization turned on"
    )]
    NoKvm,
    /// `/dev/kvm` must not be opened by this user.
    #[error("no permission to open /dev/kvm: join its group (often 'kvm') and log in again")]
    KvmPermission,
    /// This host's KVM lacks a capability that is needed.
    #[error("this host's KVM lacks {0}; use a Linux kernel of version 5.4 or later")]
    KvmLacks(&'static str),
    /// The kernel file cannot be read.
    #[error(
        "cannot read kernel file '{}': {source}; give the path of a kernel, such as a vmlinuz",
        path.display()
    )]
    KernelFile {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// The kernel file is no kernel that can be booted here.
    #[error(
        "'{name}' is not a kernel that can be booted: {reason}; give a Linux bzImage (vmlinuz), a \
         64-bit x86 ELF file that loads at 1 MiB or above (vmlinux), or a multiboot image"
    )]
    NotAKernel {
        /// The file.
        name: String,
        /// The error in it.
        reason: String,
    },
    /// The debug console is wanted in a machine with `pc-testdev`.
    #[error(
        "the debug console is port 0xe9, which belongs to pc-testdev in this machine; leave one of \
         them out"
    )]
    DebugConsole,
    /// The kernel does not fit.
    #[error(
        "memory of {memory} is too small for '{name}', which ends at {end:#x}{}",
        suggest_memory(*end)
    )]
    MemoryTooSmall {
        /// The memory that there is.
        memory: MemorySize,
        /// The kernel.
        name: String,
        /// The first address behind the kernel.
        end: u64,
    },
    /// The kernel would be in memory that an RMRR reserves.
    #[error(
        "'{name}' needs memory up to {end:#x}, and an rmrr reserves {:#x} to {:#x}; give the rmrr a \
         higher base=",
        range.start, range.end() - 1
    )]
    Reserved {
        /// The kernel.
        name: String,
        /// The first address behind the kernel.
        end: u64,
        /// The reserved memory.
        range: Range,
    },
    /// The file of an initramfs or of a module cannot be read.
    #[error("cannot read the initramfs or module '{}': {source}", path.display())]
    ModuleFile {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// Too many modules.
    #[error("{modules} modules are too many; at most {max} fit into the list")]
    TooManyModules {
        /// The number of modules that were given.
        modules: usize,
        /// The highest number of modules.
        max: usize,
    },
    /// Several modules for a kernel that is no multiboot image.
    #[error(
        "'{name}' is one file too many: only multiboot images take several; join initramfs archives \
         with cat"
    )]
    NoModules {
        /// The second of them.
        name: String,
    },
    /// The initramfs does not fit.
    #[error(
        "the initramfs '{name}' has {}, and of {memory} of memory {} are left beside the kernel{}",
        mib(*length), mib(*room), suggest_initrd(*memory, *length, *room)
    )]
    InitrdTooLarge {
        /// Its file, or what it is.
        name: String,
        /// Its bytes.
        length: u64,
        /// Bytes that there are for it.
        room: u64,
        /// The memory that there is.
        memory: MemorySize,
    },
    /// The host does not give that much memory.
    #[error("the host has no {size} of address space for the guest's memory; ask for less")]
    NoMemory {
        /// The size that was asked for.
        size: MemorySize,
    },
    /// The command line is too long.
    #[error("the kernel command line has {length} bytes; at most {CMDLINE_MAX} fit")]
    CmdlineTooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The command line has a zero byte in it.
    #[error(
        "the kernel command line has a zero byte in it, which would end it early; leave it out"
    )]
    CmdlineZero,
    /// Too many CPUs, or none.
    #[error("{cpus} CPUs are not possible; give 1 to {MAX_CPUS}")]
    Cpus {
        /// The number of CPUs that the configuration asks for.
        cpus: u8,
    },
    /// A fault has a text that is no regular expression.
    #[error("'{text}' is not a regular expression: {source}")]
    Expression {
        /// The text that is no expression.
        text: String,
        /// The error in it.
        source: regex_lite::Error,
    },
    /// The PCIe hierarchy cannot be built as configured.
    #[error(transparent)]
    Devices(#[from] devices::Error),
    /// A file cannot hold an NVMe namespace.
    #[error(transparent)]
    Storage(#[from] crate::storage::FileStorageError),
    /// KVM has refused something.
    #[error("KVM cannot {action}: {source}")]
    Kvm {
        /// The action that failed, as a verb with its object.
        action: &'static str,
        /// The error that the operating system returned.
        source: io::Error,
    },
    /// The host's operating system has refused something.
    #[error("cannot {action}: {source}")]
    Host {
        /// The action that failed, as a verb with its object.
        action: &'static str,
        /// The error that the operating system returned.
        source: io::Error,
    },
    /// A virtual CPU cannot go on.
    #[error("{0}")]
    Guest(Box<GuestFailure>),
    /// A thread of the monitor has panicked.
    #[error("the thread of {thread} panicked; this is a bug in ghostlink, please report it")]
    Panicked {
        /// The thread.
        thread: MachineThread,
    },
    /// The run is over, but threads of the monitor have not come back. They are left behind.
    #[error(
        "{}, but these have not come back from the monitor in {} s: {}; see that everything it writes \
         to is read, such as the file of --events",
        how_it_ended(outcome), GRACE.as_secs(), list(threads)
    )]
    Stuck {
        /// The end of the run apart from these threads.
        outcome: Box<Result<Exit, Error>>,
        /// The threads, at least one.
        threads: Vec<StuckThread>,
    },
}

impl Error {
    /// Exit status for what the user can mend by other options or on the host.
    pub const USER: u8 = 2;
    /// Exit status for a guest or a monitor that could not go on. Even, so that no value of the
    /// debug-exit port gives the same.
    pub const FAILED: u8 = 4;

    /// The exit status that a program should end with.
    pub fn status(&self) -> u8 {
        match self {
            Self::Kvm { .. }
            | Self::Host { .. }
            | Self::Guest(_)
            | Self::Panicked { .. }
            | Self::Stuck { .. } => Self::FAILED,
            _ => Self::USER,
        }
    }

    /// Makes an error of what KVM said when it was to do `action`.
    pub(crate) fn kvm(action: &'static str) -> impl Fn(kvm_ioctls::Error) -> Self {
        move |error| Self::Kvm { action, source: error.into() }
    }

    /// Makes an error of what the operating system said when it was to do `action`.
    pub(crate) fn host<E: Into<io::Error>>(action: &'static str) -> impl Fn(E) -> Self {
        move |error| Self::Host { action, source: error.into() }
    }
}

fn how_it_ended(outcome: &Result<Exit, Error>) -> String {
    match outcome {
        Ok(exit) => format!("the run has ended by {exit}"),
        Err(error) => error.to_string(),
    }
}

fn list(threads: &[StuckThread]) -> String {
    threads.iter().map(StuckThread::to_string).collect::<Vec<_>>().join(", ")
}

fn suggest_memory(end: u64) -> String {
    MemorySize::covering(end).map(|size| format!("; try {size} or more")).unwrap_or_default()
}

/// Bytes as people read them, rounded up.
fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

fn suggest_initrd(memory: MemorySize, length: u64, room: u64) -> String {
    // The kernel needs as much memory again for the contents of the archive.
    let wanted = memory.bytes() - room + length.saturating_mul(2);
    match MemorySize::covering(wanted) {
        Some(size) if wanted <= RAM_GAP => format!("; try --memory {size} or more"),
        _ => "; make it smaller, as it must lie below 2.75 GiB".to_owned(),
    }
}
