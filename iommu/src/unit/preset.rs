//! Units of real servers, by name.

use std::fmt;
use std::str::FromStr;

use super::config::UnitConfig;
use super::values::{AddressWidths, Version};
use crate::event::UnitRole;

/// A unit with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnitPreset {
    /// Legacy mode only, as in Skylake-SP and Cascade Lake-SP. It has the features of CAP
    /// 8d2078c106f0466 and ECAP f020df except posted interrupts and protected memory.
    ServerLegacy,
    /// Scalable mode, version 6.0, as in Sapphire Rapids, with PASIDs and page requests enabled. It has the
    /// features of CAP 9ed008c40780466 and ECAP 3ee9e86f050df except posted interrupts, protected
    /// memory and memory types.
    ServerScalable,
    /// All features of this model.
    Full,
}

impl UnitPreset {
    /// All units with a name.
    pub const ALL: [Self; 3] = [Self::ServerLegacy, Self::ServerScalable, Self::Full];

    /// The name in files and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ServerLegacy => "server-legacy",
            Self::ServerScalable => "server-scalable",
            Self::Full => "full",
        }
    }

    /// The settings of the unit in this role.
    pub const fn config(self, role: UnitRole) -> UnitConfig {
        match self {
            Self::ServerLegacy => legacy(role),
            Self::ServerScalable => UnitConfig {
                version: Version { major: 6, minor: 0 },
                fault_records: 1,
                max_address_mask: 45,
                scalable_mode: true,
                second_stage: true,
                first_stage: true,
                first_stage_1g: true,
                nested: true,
                second_stage_dirty: true,
                extended_accessed: true,
                pasid_bits: Some(20),
                supervisor_requests: true,
                no_write_flag: true,
                page_requests: true,
                ..legacy(role)
            },
            Self::Full => UnitConfig::full(role),
        }
    }
}

const fn legacy(role: UnitRole) -> UnitConfig {
    UnitConfig {
        address_widths: AddressWidths::ONLY_48,
        snoop_control: true,
        interrupt_remapping: true,
        extended_interrupt_mode: true,
        ..UnitConfig::new(role)
    }
}

impl fmt::Display for UnitPreset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The error of [`UnitPreset::from_str`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no unit '{0}'; there are server-legacy, server-scalable and full")]
pub struct ParseUnitPresetError(String);

impl FromStr for UnitPreset {
    type Err = ParseUnitPresetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|preset| preset.name() == text);
        found.ok_or_else(|| ParseUnitPresetError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::capability::{Cap, Ecap};

    #[test]
    fn every_preset_passes_the_check_and_is_found_by_name() {
        for preset in UnitPreset::ALL {
            assert_eq!(preset.config(UnitRole::Host).check(), Ok(()), "{preset}");
            assert_eq!(preset.to_string().parse(), Ok(preset));
        }
        assert!("server".parse::<UnitPreset>().unwrap_err().to_string().contains("server-legacy"));
    }

    /// The registers of a server without the features and offsets that this model does not share.
    fn comparable(cap: Cap, ecap: Ecap, ours: &UnitConfig) -> (Cap, Ecap) {
        let cap = cap
            .with_protected_low_memory(false)
            .with_protected_high_memory(false)
            .with_posted_interrupts(false)
            .with_guest_address_width(ours.cap().guest_address_width())
            .with_fault_record_offset(ours.cap().fault_record_offset());
        let ecap = ecap.with_memory_type(false).with_iotlb_offset(ours.ecap().iotlb_offset());
        (cap, ecap)
    }

    #[test]
    fn the_legacy_server_has_the_registers_of_a_skylake() {
        let ours = UnitPreset::ServerLegacy.config(UnitRole::Host);
        let (cap, ecap) = (Cap::from_bits(0x8d2_078c_106f_0466), Ecap::from_bits(0xf0_20df));
        assert_eq!((ours.cap(), ours.ecap()), comparable(cap, ecap, &ours));
    }

    #[test]
    fn the_scalable_server_has_the_registers_of_a_sapphire_rapids() {
        let ours = UnitPreset::ServerScalable.config(UnitRole::Host);
        let (cap, ecap) =
            (Cap::from_bits(0x9ed_008c_4078_0466), Ecap::from_bits(0x3_ee9e_86f0_50df));
        let (cap, ecap) = comparable(cap, ecap, &ours);
        let ecap = ecap.with_pasid(true).with_page_requests(true).with_device_tlb_throttle(false);
        assert_eq!((ours.cap(), ours.ecap()), (cap, ecap));
        assert_eq!(ours.version.into_bits(), 0x60);
    }
}
