//! Errors while a machine's devices are built. A guest that runs raises none of them: its errors
//! get the answers that hardware gives.

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
        /// Capability id.
        id: u16,
        /// Bytes that the capability takes.
        length: u16,
        /// Bytes that are left in the configuration space.
        left: u16,
    },
    /// The file of a namespace was not opened before the hierarchy was built.
    #[error("namespace file '{}' has not been opened", path.display())]
    NoMedium {
        /// The file.
        path: std::path::PathBuf,
    },
    /// A fault of the schedule is not possible in this machine.
    #[error(transparent)]
    Schedule(#[from] crate::fault::ScheduleError),
    /// The host side below the guest-visible unit cannot be built.
    #[error(transparent)]
    Host(#[from] iommu::submit::HostError),
}
