//! Single Root I/O Virtualization of a physical function (`PCIe 9.3.3`): how many virtual functions
//! are enabled, their ids, and the addresses of their registers.

use crate::Error;
use crate::pcie::config::{ConfigSpace, Register};
use crate::pcie::header::ConfigBuilder;
use crate::pcie::spec::sriov::*;

/// VF Stride: from one virtual function's id to the next.
const IDS_APART: u16 = 1;
/// The page sizes that each physical function must support: bit n stands for 2^(12+n) bytes.
const PAGE_SIZES: u32 = 0x553;
/// From an id to the same one on the next bus.
const BUS: u16 = 0x100;

/// The virtual functions that a physical function can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VirtualFunctions {
    /// TotalVFs, at least one.
    pub total: u16,
    /// From the physical function's number to that of the first virtual function.
    pub offset: u16,
    /// Some have numbers from 8 up. If the port above does not forward ARI, all are on the next bus
    /// instead.
    pub needs_ari: bool,
}

/// The SR-IOV capability of a physical function.
#[derive(Debug, Clone, Copy)]
pub struct Sriov {
    at: u16,
    functions: VirtualFunctions,
    /// Bytes in the BAR of a virtual function, a power of two from 4096 up.
    size: u32,
}

impl Sriov {
    /// Declares the capability. Each virtual function has `size` bytes of registers.
    ///
    /// # Errors
    /// [`Error::CapabilitySpace`] if it does not fit.
    pub fn add(
        builder: &mut ConfigBuilder,
        functions: VirtualFunctions,
        vf_device_id: u16,
        size: u32,
    ) -> Result<Self, Error> {
        let at = builder.extended_capability(ID, VERSION, LENGTH)?;
        let control = Control::new()
            .with_vf_enable(true)
            .with_vf_memory_space(true)
            .with_ari_capable_hierarchy(true);
        let sriov = Self { at, functions, size };
        let offset = sriov.first_offset(Control::new());
        builder.declare(at + CONTROL, Register::new(Control::new()).writable(control));
        builder.declare(at + INITIAL_VFS, Register::new(functions.total));
        builder.declare(at + TOTAL_VFS, Register::new(functions.total));
        builder.declare(at + NUM_VFS, Register::new(0_u16).writable(u16::MAX));
        builder.declare(at + FIRST_OFFSET, Register::new(offset));
        builder.declare(at + STRIDE, Register::new(IDS_APART));
        builder.declare(at + VF_DEVICE_ID, Register::new(vf_device_id));
        builder.declare(at + SUPPORTED_PAGE_SIZES, Register::new(PAGE_SIZES));
        builder.declare(at + SYSTEM_PAGE_SIZE, Register::new(1_u32).writable(PAGE_SIZES));
        builder.declare(at + VF_BAR0, Register::new(0_u32).writable(size.wrapping_neg()));
        Ok(sriov)
    }

    /// Software has written to configuration space: updates First VF Offset, the Function
    /// Dependency Link and the lower bits of the BAR. NumVFs keeps its value while `now` virtual
    /// functions are enabled. Returns how many are enabled after the write.
    pub fn written(self, config: &mut ConfigSpace, own_number: u8, now: u16) -> u16 {
        let control = config.get::<Control>(self.at + CONTROL);
        config.set(self.at + FIRST_OFFSET, self.first_offset(control));
        config.set(self.at + DEPENDENCY_LINK, own_number);
        let base = config.get::<u32>(self.at + VF_BAR0);
        config.set(self.at + VF_BAR0, base & self.distance(config).wrapping_neg());
        if !control.vf_enable() {
            return 0;
        }
        if now > 0 {
            config.set(self.at + NUM_VFS, now);
        }
        config.get::<u16>(self.at + NUM_VFS).min(self.functions.total)
    }

    /// Whether software has enabled virtual functions.
    pub fn is_enabled(self, config: &ConfigSpace) -> bool {
        config.get::<Control>(self.at + CONTROL).vf_enable()
    }

    /// From the physical function's id to that of virtual function `index`.
    pub fn id_offset(self, config: &ConfigSpace, index: u16) -> u16 {
        config.get::<u16>(self.at + FIRST_OFFSET).saturating_add(index * IDS_APART)
    }

    /// The address of the registers of virtual function `index`, if VF Memory Space is enabled.
    pub fn registers(self, config: &ConfigSpace, index: u16) -> Option<u64> {
        let base = u64::from(config.get::<u32>(self.at + VF_BAR0));
        let on = config.get::<Control>(self.at + CONTROL).vf_memory_space();
        on.then(|| base + u64::from(index) * u64::from(self.distance(config)))
    }

    fn first_offset(self, control: Control) -> u16 {
        let VirtualFunctions { offset, needs_ari, .. } = self.functions;
        if needs_ari && !control.ari_capable_hierarchy() { offset + BUS } else { offset }
    }

    /// From one virtual function's registers to the next one's: a multiple of System Page Size.
    fn distance(self, config: &ConfigSpace) -> u32 {
        let pages = config.get::<u32>(self.at + SYSTEM_PAGE_SIZE);
        let is_one_size = pages.is_power_of_two() && pages & PAGE_SIZES != 0;
        self.size.max(if is_one_size { pages << 12 } else { 0 })
    }
}
