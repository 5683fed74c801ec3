//! The ids of functions and ports.

use super::DeviceSpec;
use crate::pcie::header::Ids;
use crate::{edu, endpoint, iommu_testdev};

impl DeviceSpec {
    /// The ids that it gives its functions or ports.
    pub(super) fn ids(&self) -> Ids {
        let of = |vendor, device, revision| Ids { vendor, device, revision, ..Ids::default() };
        let with = |ids, subsystem_vendor, subsystem| Ids { subsystem_vendor, subsystem, ..ids };
        match self {
            Self::RootPort(port) => of(port.vendor, port.device, port.revision),
            Self::Switch(switch) => of(switch.vendor, switch.device, switch.revision),
            Self::AtsEndpoint(spec) => {
                let ids = of(spec.vendor, spec.device, spec.revision);
                with(ids, spec.subvendor, spec.subsystem)
            }
            Self::Nvme(spec) => {
                let ids = of(spec.vendor, spec.device, spec.revision);
                with(ids, spec.subvendor, spec.subsystem)
            }
            Self::Edu(spec) | Self::IommuTestdev(spec) => {
                let ids = of(spec.vendor, spec.device, spec.revision);
                with(ids, spec.subvendor, spec.subsystem)
            }
            Self::NvmeNs(_)
            | Self::Drhd(_)
            | Self::Rmrr(_)
            | Self::Andd(_)
            | Self::Hpet(_)
            | Self::PcTestdev(_) => Ids::default(),
        }
    }

    /// What is worth a warning: with the ids of another device, drivers of that device meet registers
    /// that are not its.
    pub fn warning(&self) -> Option<String> {
        let ids = self.ids();
        let (vendor, device) = match self {
            Self::AtsEndpoint(_) => (endpoint::VENDOR_ID, endpoint::DEVICE_ID),
            Self::Edu(_) => (edu::VENDOR_ID, edu::DEVICE_ID),
            Self::IommuTestdev(_) => (iommu_testdev::VENDOR_ID, iommu_testdev::DEVICE_ID),
            // Drivers find these by their class code.
            _ => return None,
        };
        let (new_vendor, new_device) = (ids.vendor.unwrap_or(vendor), ids.device.unwrap_or(device));
        ((vendor, device) != (new_vendor, new_device)).then(|| {
            format!(
                "its ids are {new_vendor:04x}:{new_device:04x} now: the built-in guest, which looks for \
                 {vendor:04x}:{device:04x}, does not find it, and Linux binds no driver but one for \
                 the new ids, which does not work with its registers"
            )
        })
    }
}
