//! Errors of all commands, each a message on one line and an exit status.

use crate::validate::{UnknownFault, ValidateError};
use crate::{FAILURE, USAGE};

/// An error of a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The machine could not be built, or could not go on.
    #[error(transparent)]
    Vmm(#[from] vmm::Error),
    /// The file for events cannot be made.
    #[error(
        "cannot write events to '{}': {source}; name a file in a directory that exists",
        path.display()
    )]
    Events {
        /// The file.
        path: std::path::PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The file for the debug console cannot be made.
    #[error(
        "cannot write the debug console to '{}': {source}; name a file in a directory that exists, or \
         stdio",
        path.display()
    )]
    DebugConsole {
        /// The file.
        path: std::path::PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The file for the lines of the qtest protocol cannot be made.
    #[error(
        "cannot write the log to '{}': {source}; name a file in a directory that exists",
        path.display()
    )]
    Log {
        /// The file.
        path: std::path::PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A socket cannot be made or reached, or the traffic on it has failed.
    #[error(
        "cannot serve at {0}; name a socket that does not exist yet, in a directory that does, or \
         with --connect one at which a client listens"
    )]
    Socket(#[from] vmm::qtest::SocketError),
    /// The remapping units cannot be built as asked for.
    #[error(transparent)]
    Unit(#[from] crate::unit::UnitError),
    /// The faults cannot be used.
    #[error(transparent)]
    Faults(#[from] crate::faults::FaultsError),
    /// Unknown policy.
    #[error(transparent)]
    Policies(#[from] crate::policies::PoliciesError),
    /// Invalid hierarchy.
    #[error(transparent)]
    Topology(#[from] crate::topology::TopologyArgsError),
    /// Invalid comparison.
    #[error(transparent)]
    Matrix(#[from] lab::matrix::MatrixError),
    /// A file with the user's own rows is invalid.
    #[error(transparent)]
    File(#[from] lab::toml_file::FileError),
    /// Unusable experiment.
    #[error(transparent)]
    Experiment(#[from] crate::experiment::ExperimentError),
    /// Signals cannot be taken.
    #[error("cannot take signals: {0}; see that the process may open files")]
    Signals(std::io::Error),
    /// There is no such kernel, or it has no configuration.
    #[error(transparent)]
    Kernel(#[from] linux::KernelError),
    /// The comparison has failed.
    #[error(transparent)]
    Lab(#[from] lab::LabError),
    /// KVM or the simulation failed.
    #[error(transparent)]
    Validate(#[from] ValidateError),
    /// Unknown fault to compare.
    #[error("--faults: {0}")]
    UnknownFault(#[from] UnknownFault),
    /// A name or pattern of a scenario is of no use.
    #[error(transparent)]
    Select(#[from] crate::test::SelectError),
    /// A kernel is of no use.
    #[error(transparent)]
    Kernels(#[from] crate::test::KernelsError),
    /// A file of results is of no use.
    #[error(transparent)]
    Results(#[from] crate::test::ResultsError),
    /// A file of results cannot be written.
    #[error(
        "cannot write results to '{}': {source}; name a file in a directory that exists",
        path.display()
    )]
    TestFile {
        /// The file.
        path: std::path::PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The initramfs cannot be made.
    #[error(transparent)]
    Boot(#[from] scenario::BootError),
    /// This machine's KVM cannot run Linux.
    #[error(
        "this machine's KVM cannot run Linux ({0}), and a shell runs here; 'ghostlink doctor' says more"
    )]
    NoLinux(String),
    /// This program cannot start itself.
    #[error("cannot find this program, which runs each scenario in a process of its own: {0}")]
    Program(std::io::Error),
    /// There is no place for the files of runs.
    #[error("cannot make a temporary directory: {0}; TMPDIR names another place")]
    Temporary(vmm_sys_util::errno::Error),
    /// The test host, or the command on it.
    #[error(transparent)]
    TestHost(#[from] testhost::HostError),
    /// Standard output is closed or full.
    #[error("cannot write to standard output: {0}")]
    Output(std::io::Error),
    /// The built-in guest did not finish.
    #[error(
        "the guest ended with {exit:?} on host '{host}', {scenario}; the end of its console:\n{console}"
    )]
    Guest {
        /// The host, with its policy.
        host: String,
        /// The scenario.
        scenario: &'static str,
        /// The way in which the guest ended.
        exit: vmm::Exit,
        /// The end of its console.
        console: String,
    },
}

impl CliError {
    /// The exit status.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Vmm(error) => error.status(),
            Self::Validate(ValidateError::Vmm(error)) => error.status(),
            Self::Validate(ValidateError::Interrupted(status)) => *status,
            Self::TestHost(error) => crate::testhost::status(error),
            Self::Events { .. }
            | Self::DebugConsole { .. }
            | Self::UnknownFault(_)
            | Self::Log { .. }
            | Self::Socket(_)
            | Self::Unit(_)
            | Self::Faults(_)
            | Self::Policies(_)
            | Self::Topology(_)
            | Self::Matrix(_)
            | Self::File(_)
            | Self::Experiment(_)
            | Self::Select(_)
            | Self::Kernels(_)
            | Self::Results(_)
            | Self::TestFile { .. }
            | Self::Boot(_)
            | Self::Kernel(_) => USAGE,
            Self::NoLinux(_) | Self::Program(_) | Self::Temporary(_) => crate::test::NOT_JUDGED,
            Self::Validate(_)
            | Self::Lab(_)
            | Self::Signals(_)
            | Self::Output(_)
            | Self::Guest { .. } => FAILURE,
        }
    }
}
