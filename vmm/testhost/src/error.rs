//! Errors of the test host.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a command did not run to its end on the test host. Each message is one line.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// QEMU or the kernel cannot be had. The script has said why on standard error.
    #[error("there is no {what} for the test host: see above")]
    Tool {
        /// What is missing.
        what: &'static str,
    },
    /// The directory in which kernels and saved states are kept cannot be used.
    #[error("cannot use '{}': {source}; see that it can be written, or set XDG_CACHE_HOME", path.display())]
    Cache {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Neither `XDG_CACHE_HOME` nor `HOME` is set.
    #[error("the test host is kept in a cache: set XDG_CACHE_HOME or HOME")]
    NoCache,
    /// There is no current directory.
    #[error("the command would run in the current directory, which is gone: {0}")]
    Directory(io::Error),
    /// The kernel of the host is unusable.
    #[error("the kernel of the test host: {0}; remove its directory, and run this again")]
    Kernel(#[from] linux::KernelError),
    /// The kernel of the host lacks a module.
    #[error("the kernel of the test host: {0}; remove its directory, and run this again")]
    Module(#[from] linux::ModuleError),
    /// A log cannot be made.
    #[error("cannot write the log to '{}': {source}; name a file in a directory that exists", path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// QEMU cannot be started.
    #[error("cannot start '{}': {source}; GHOSTLINK_QEMU names another QEMU", path.display())]
    Qemu {
        /// The program.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The host did not boot, or could not be saved.
    #[error("the test host could not be booted and saved: {reason}")]
    NotSaved {
        /// What has failed.
        reason: String,
        /// The last lines of QEMU and of the host's kernel.
        log: Vec<String>,
    },
    /// The host could not start the command.
    #[error("the test host could not start the command: {0}")]
    NotStarted(String),
    /// The host ended before the command did. QEMU's emulation of SVM has errors.
    #[error("the test host crashed before the command ended; run it again")]
    Crashed {
        /// The last lines of QEMU and of the host's kernel.
        log: Vec<String>,
    },
    /// The host gives no sign of life.
    #[error(
        "the test host hangs: its Linux has been silent for {} s; run the command again",
        silence.as_secs()
    )]
    Hung {
        /// How long it has been silent.
        silence: Duration,
        /// The last lines of QEMU and of the host's kernel.
        log: Vec<String>,
    },
    /// The command took too long.
    #[error("the command has run for {} s, its time limit: the test host has been ended", .0.as_secs())]
    TimeLimit(Duration),
    /// The output of the command cannot be passed on.
    #[error("cannot write the output of the command: {0}")]
    Output(io::Error),
}

impl HostError {
    /// The last lines of QEMU and of the host's kernel, for errors that they explain.
    pub fn log(&self) -> &[String] {
        match self {
            Self::NotSaved { log, .. } | Self::Crashed { log } | Self::Hung { log, .. } => log,
            _ => &[],
        }
    }

    /// Whether the host is to blame, so that the command may succeed if it is run again.
    pub fn is_of_host(&self) -> bool {
        matches!(self, Self::Crashed { .. } | Self::Hung { .. })
    }
}
