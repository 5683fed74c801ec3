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
    /// Memory ends above the unit's host address width.
    #[error(
        "memory ends at {end:#x}, and the remapping unit has host_address_width={width}, which ends \
         at {:#x}; give the machine less memory, or set host_address_width={}",
        1_u64 << width, 64 - end.saturating_sub(1).leading_zeros()
    )]
    AddressWidth {
        /// The first address behind memory.
        end: u64,
        /// The unit's host address width in bits.
        width: u8,
    },
    /// Settings of a remapping unit that does not exist.
    #[error(
        "there are settings for the unit '{name}', and no such unit; add --device drhd,id={name},.."
    )]
    NoUnit {
        /// Its name.
        name: String,
    },
    /// A reserved memory region cannot be where it is described.
    #[error("rmrr '{id}' at {start:#x} to {end:#x} {reason}")]
    ReservedMemory {
        /// Its name.
        id: String,
        /// Its first address.
        start: u64,
        /// Its last address.
        end: u64,
        /// The rule that it breaks, and what to do.
        reason: String,
    },
    /// A fault of the schedule is not possible in this machine.
    #[error(transparent)]
    Schedule(#[from] crate::fault::ScheduleError),
    /// The host side below the guest-visible unit cannot be built.
    #[error(transparent)]
    Host(#[from] iommu::submit::HostError),
}
