//! What can go wrong while a machine's devices are put together. Nothing here is raised by what a
//! guest does later: a guest's mistakes get the answers that hardware gives.

/// Why a hierarchy of devices cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A function declares more capabilities than its configuration space holds.
    #[error(
        "capability {id:#06x} of {length} bytes does not fit into what is left of the \
         configuration space ({left} bytes); declare fewer capabilities"
    )]
    CapabilitySpace {
        /// Its id.
        id: u16,
        /// Bytes that it takes.
        length: u16,
        /// Bytes that are left.
        left: u16,
    },
    /// Whoever builds the hierarchy has not opened a file that a namespace is in.
    #[error("namespace file '{}' has not been opened", path.display())]
    NoMedium {
        /// The file.
        path: std::path::PathBuf,
    },
    /// A fault of the schedule cannot be.
    #[error(transparent)]
    Schedule(#[from] crate::fault::ScheduleError),
    /// A simulated machine cannot be.
    #[error("{what} cannot be simulated: {reason}")]
    Simulation {
        /// Which workload or fault.
        what: String,
        /// Why not.
        reason: String,
    },
    /// The host side below the guest-visible unit cannot be built.
    #[error(transparent)]
    Host(#[from] iommu::submit::HostError),
}
