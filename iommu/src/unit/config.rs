//! The settings of a unit. CAP and ECAP follow from them.

use serde::{Deserialize, Serialize};

use super::values::{AddressWidths, IteLoses, LargePages, Ordering, Version};
use crate::event::UnitRole;
use crate::ids::Bdf;
use crate::spec::capability::{Cap, Ecap};
use crate::spec::offset;
use crate::time::Timeout;

/// The settings of a unit. CAP and ECAP follow from them, and the unit does nothing that they lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UnitConfig {
    /// The unit's name in events.
    #[serde(skip, default = "guest")]
    pub role: UnitRole,
    /// Invalidation Completion Time-out (ICT): how long the unit waits for Invalidate Completions
    /// before it sets ITE. PCIe recommends that a function answers within a minute, plus half a
    /// minute (`PCIe 10.3.1`).
    pub ict: Timeout,
    /// When a wait descriptor may complete, and whether the unit fetches on before it does.
    pub ordering: Ordering,
    /// A fixed ITESID for all time-outs, such as `00:00.0` for units older than the field. `None`
    /// for the function whose request timed out (`VT-d 11.4.9.9`).
    pub itesid: Option<Bdf>,
    /// VER: the architecture version.
    pub version: Version,
    /// The invalidations that are lost with ITE.
    pub ite_loses: IteLoses,
    /// HAW: bits of a physical address, 36 to 52.
    pub host_address_width: u8,
    /// SAGAW: widths of second-stage tables.
    pub address_widths: AddressWidths,
    /// SSLPS: the largest second-stage page.
    pub large_pages: LargePages,
    /// ND: bits of a domain id, an even number from 4 to 16.
    pub domain_bits: u8,
    /// NFR: fault records, 1 to 128.
    pub fault_records: u8,
    /// PSI: page-selective invalidation.
    pub page_selective: bool,
    /// MAMV: the largest address mask of a page-selective invalidation.
    pub max_address_mask: u8,
    /// DWD: invalidations can drain writes.
    pub write_drain: bool,
    /// DRD: invalidations can drain reads.
    pub read_drain: bool,
    /// CM: the unit caches entries that are not present or not valid, except first-stage ones.
    pub caching_mode: bool,
    /// A page-selective invalidation with IH=1 keeps paging-structure entries, so that a driver
    /// that sets IH wrongly is caught. Otherwise the unit ignores IH.
    pub honor_hint: bool,
    /// A page-selective invalidation keeps a cached large page unless it names all of it, so that a
    /// driver with a wrong address mask is caught. Otherwise it drops the page.
    pub exact_pages: bool,
    /// ESRTPS: Set Root Table Pointer drops all cached translations.
    pub srtp_flushes: bool,
    /// ESIRTPS: Set Interrupt Remap Table Pointer drops all cached interrupt entries.
    pub sirtp_flushes: bool,
    /// C and SMPWCS: the unit's reads of tables are coherent with the CPUs' caches. This model
    /// always reads what a CPU has written. Without coherence it reports both bits as 0, and
    /// accessed and dirty bits cannot be set.
    pub coherent: bool,
    /// SC: the snoop bit of second-stage entries.
    pub snoop_control: bool,
    /// PT: pass-through.
    pub pass_through: bool,
    /// DT: Device-TLBs.
    pub device_tlb: bool,
    /// DIT: descriptors name the physical function (PFSID) whose pending invalidations MIP limits.
    pub device_tlb_throttle: bool,
    /// SMTS: scalable-mode tables and 256-bit descriptors.
    pub scalable_mode: bool,
    /// Descriptors of 128 bits are legal in scalable mode, as in QEMU. The architecture demands 256
    /// bits there (`VT-d 6.5.2`).
    pub narrow_descriptors: bool,
    /// SSTS: second-stage translation in scalable mode.
    pub second_stage: bool,
    /// FSTS: first-stage translation.
    pub first_stage: bool,
    /// FS1GP: 1-GiB first-stage pages.
    pub first_stage_1g: bool,
    /// FS5LP: five-level first-stage tables.
    pub first_stage_5_level: bool,
    /// NEST: nested translation.
    pub nested: bool,
    /// SSADS: accessed and dirty bits in second-stage tables.
    pub second_stage_dirty: bool,
    /// EAFS: extended accessed flag in first-stage tables.
    pub extended_accessed: bool,
    /// PSS: bits of a PASID, 1 to 20; `None` if the unit has no PASIDs.
    pub pasid_bits: Option<u8>,
    /// SRS: privileged requests.
    pub supervisor_requests: bool,
    /// NWFS: the unit honors the No Write flag of translation requests.
    pub no_write_flag: bool,
    /// PRS: page requests, and PDS: wait descriptors can drain them.
    pub page_requests: bool,
    /// IR: interrupt remapping.
    pub interrupt_remapping: bool,
    /// EIM: 32-bit APIC ids in interrupt remapping.
    pub extended_interrupt_mode: bool,
    /// `X2APIC_OPT_OUT` in DMAR: firmware asks software not to use x2APIC (`VT-d 8.1`).
    pub x2apic_opt_out: bool,
    /// `DMA_CTRL_PLATFORM_OPT_IN_FLAG` in DMAR: firmware has kept devices from DMA until the
    /// operating system starts, and asks it to go on with that (`VT-d 8.1`).
    pub dma_opt_in: bool,
    /// The proximity domain of the unit, in an RHSA structure of DMAR (`VT-d 8.6`); `None` for no
    /// such structure.
    pub proximity: Option<u32>,
}

/// The default of the role, which is not in files.
fn guest() -> UnitRole {
    UnitRole::Guest
}

impl Default for UnitConfig {
    fn default() -> Self {
        Self::new(UnitRole::Guest)
    }
}

/// Settings that contradict each other, or one that is out of range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("impossible remapping unit: {0}")]
pub struct UnitConfigError(&'static str);

impl UnitConfig {
    /// A unit in legacy mode with second-stage translation and ATS. It waits for Invalidate
    /// Completions for ever.
    pub const fn new(role: UnitRole) -> Self {
        Self {
            role,
            ict: Timeout::Never,
            ordering: Ordering::Serial,
            itesid: None,
            version: Version { major: 1, minor: 0 },
            ite_loses: IteLoses::Nothing,
            host_address_width: 46,
            address_widths: AddressWidths::ALL,
            large_pages: LargePages::OneGiB,
            domain_bits: 16,
            fault_records: 8,
            page_selective: true,
            max_address_mask: 18,
            write_drain: true,
            read_drain: true,
            caching_mode: false,
            honor_hint: false,
            exact_pages: false,
            srtp_flushes: false,
            sirtp_flushes: false,
            coherent: true,
            snoop_control: false,
            pass_through: true,
            device_tlb: true,
            device_tlb_throttle: false,
            scalable_mode: false,
            narrow_descriptors: false,
            second_stage: false,
            first_stage: false,
            first_stage_1g: false,
            first_stage_5_level: false,
            nested: false,
            second_stage_dirty: false,
            extended_accessed: false,
            pasid_bits: None,
            supervisor_requests: false,
            no_write_flag: false,
            page_requests: false,
            interrupt_remapping: false,
            extended_interrupt_mode: false,
            x2apic_opt_out: false,
            dma_opt_in: false,
            proximity: None,
        }
    }

    /// A unit with everything that this model has: both modes, both stages, PASIDs, page requests,
    /// interrupt remapping.
    pub const fn full(role: UnitRole) -> Self {
        Self {
            scalable_mode: true,
            second_stage: true,
            first_stage: true,
            first_stage_1g: true,
            first_stage_5_level: true,
            nested: true,
            second_stage_dirty: true,
            extended_accessed: true,
            pasid_bits: Some(20),
            supervisor_requests: true,
            no_write_flag: true,
            page_requests: true,
            interrupt_remapping: true,
            extended_interrupt_mode: true,
            snoop_control: true,
            ..Self::new(role)
        }
    }

    /// Checks the settings (`VT-d 11.4.2`, `VT-d 11.4.3`).
    ///
    /// # Errors
    /// If a setting is out of range, or contradicts another one.
    pub fn check(&self) -> Result<(), UnitConfigError> {
        let scalable_only = self.second_stage
            || self.first_stage
            || self.pasid_bits.is_some()
            || self.page_requests
            || self.supervisor_requests;
        let first_stage_only =
            self.first_stage_1g || self.first_stage_5_level || self.extended_accessed;
        let needs_no_legacy = self.scalable_mode && !self.second_stage;
        let smallest_mask = match self.large_pages {
            LargePages::None => 0,
            LargePages::TwoMiB => 9,
            LargePages::OneGiB => 18,
        };
        let rules = [
            ((36..=52).contains(&self.host_address_width), "host_address_width is 36 to 52"),
            (
                self.address_widths.0 != 0 || needs_no_legacy,
                "address_widths is empty, which leaves no second stage; name 39, 48 or 57",
            ),
            (
                matches!(self.domain_bits, 4 | 6 | 8 | 10 | 12 | 14 | 16),
                "domain_bits is an even number from 4 to 16",
            ),
            ((1..=128).contains(&self.fault_records), "fault_records is 1 to 128"),
            (
                !self.page_selective || (smallest_mask..=52).contains(&self.max_address_mask),
                "max_address_mask must reach the largest page (9 for 2M, 18 for 1G) and is at most 52",
            ),
            (
                self.scalable_mode || !scalable_only,
                "second_stage, first_stage, pasid_bits, page_requests and supervisor_requests need \
                 scalable_mode",
            ),
            (
                !self.scalable_mode || self.second_stage || self.first_stage,
                "scalable_mode needs second_stage or first_stage",
            ),
            (
                !self.nested || (self.first_stage && self.second_stage),
                "nested needs first_stage and second_stage",
            ),
            (
                self.first_stage || !first_stage_only,
                "first_stage_1g, first_stage_5_level and extended_accessed need first_stage",
            ),
            (
                !self.second_stage_dirty || self.second_stage,
                "second_stage_dirty needs second_stage",
            ),
            (self.pasid_bits.is_none_or(|bits| (1..=20).contains(&bits)), "pasid_bits is 1 to 20"),
            (!self.page_requests || self.device_tlb, "page_requests needs device_tlb"),
            (!self.no_write_flag || self.device_tlb, "no_write_flag needs device_tlb"),
            (
                !self.extended_interrupt_mode || self.interrupt_remapping,
                "extended_interrupt_mode needs interrupt_remapping",
            ),
            (
                !self.x2apic_opt_out || self.interrupt_remapping,
                "x2apic_opt_out needs interrupt_remapping",
            ),
        ];
        match rules.into_iter().chain(self.strict_rules()).find(|(holds, _)| !holds) {
            Some((_, reason)) => Err(UnitConfigError(reason)),
            None => Ok(()),
        }
    }

    /// Rules of the settings that make a unit strict.
    fn strict_rules(&self) -> [(bool, &'static str); 6] {
        [
            (
                self.coherent || !(self.second_stage_dirty || self.extended_accessed),
                "second_stage_dirty and extended_accessed need coherent",
            ),
            (
                self.version.major < 2 || (self.write_drain && self.read_drain),
                "version 2.0 and later need write_drain and read_drain",
            ),
            (
                !self.narrow_descriptors || self.scalable_mode,
                "narrow_descriptors needs scalable_mode",
            ),
            (
                matches!(
                    (self.ite_loses, self.ordering),
                    (IteLoses::Nothing, _) | (_, Ordering::Serial | Ordering::Blocking)
                ),
                "ite_loses=all needs ordering=serial or blocking, as a parallel unit does not wait for the request",
            ),
            (
                !self.sirtp_flushes || self.interrupt_remapping,
                "sirtp_flushes needs interrupt_remapping",
            ),
            (!self.device_tlb_throttle || self.device_tlb, "device_tlb_throttle needs device_tlb"),
        ]
    }

    /// The bits above the host address width.
    pub(crate) const fn beyond_host(&self) -> u64 {
        !((1 << self.host_address_width) - 1)
    }

    /// The bits of a second-stage entry that may be reserved. A usual entry has none of them set.
    pub(crate) const fn second_stage_suspects(&self) -> u64 {
        const LARGE_SNOOP_TRANSIENT: u64 = 1 << 7 | 1 << 11 | 1 << 62;
        LARGE_SNOOP_TRANSIENT | (self.beyond_host() & ((1 << 52) - 1))
    }

    /// SAGAW. From version 6 on a unit without second stage has no widths.
    pub(crate) const fn second_stage_widths(&self) -> u8 {
        match self.version.major >= 6 && self.scalable_mode && !self.second_stage {
            true => 0,
            false => self.address_widths.into_bits(),
        }
    }

    /// SMPWCS: walks in scalable mode are snooped if PWSNP is set.
    pub(crate) const fn scalable_coherent(&self) -> bool {
        self.scalable_mode && self.coherent
    }

    /// The capability register.
    pub const fn cap(&self) -> Cap {
        let width = match self.address_widths.max_bits() {
            0 => 48,
            width => width,
        };
        let mask = if self.page_selective { self.max_address_mask } else { 0 };
        Cap::new()
            .with_domains((self.domain_bits - 4) / 2)
            .with_caching_mode(self.caching_mode)
            .with_second_stage_widths(self.second_stage_widths())
            .with_guest_address_width(width - 1)
            .with_zero_length_read(true)
            .with_fault_record_offset(offset::FRCD / 16)
            .with_second_stage_large_pages(match self.large_pages {
                LargePages::None => 0,
                LargePages::TwoMiB => 1,
                LargePages::OneGiB => 3,
            })
            .with_page_selective(self.page_selective)
            .with_fault_records(self.fault_records - 1)
            .with_max_address_mask(mask)
            .with_write_drain(self.write_drain)
            .with_read_drain(self.read_drain)
            .with_first_stage_1g(self.first_stage_1g)
            .with_first_stage_5_level(self.first_stage_5_level)
            .with_sirtp_flushes(self.sirtp_flushes)
            .with_srtp_flushes(self.srtp_flushes)
    }

    /// The extended capability register.
    pub const fn ecap(&self) -> Ecap {
        let pasid_width = match self.pasid_bits {
            Some(bits) => bits - 1,
            None => 0,
        };
        Ecap::new()
            .with_coherent(self.coherent)
            .with_queued_invalidation(true)
            .with_device_tlb(self.device_tlb)
            .with_device_tlb_throttle(self.device_tlb_throttle)
            .with_interrupt_remapping(self.interrupt_remapping)
            .with_extended_interrupt_mode(self.extended_interrupt_mode)
            .with_pass_through(self.pass_through)
            .with_snoop_control(self.snoop_control)
            .with_iotlb_offset(offset::IVA / 16)
            .with_max_handle_mask(if self.interrupt_remapping { 15 } else { 0 })
            .with_nested(self.nested)
            .with_page_requests(self.page_requests)
            .with_supervisor_requests(self.supervisor_requests)
            .with_no_write_flag(self.no_write_flag)
            .with_extended_accessed(self.extended_accessed)
            .with_pasid_width(pasid_width)
            .with_pasid(self.pasid_bits.is_some())
            .with_page_request_drain(self.page_requests)
            .with_scalable_mode(self.scalable_mode)
            .with_second_stage_dirty(self.second_stage_dirty)
            .with_second_stage(self.second_stage)
            .with_first_stage(self.first_stage)
            .with_scalable_coherent(self.scalable_coherent())
            .with_rid_pasid(self.scalable_mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIX: Version = Version { major: 6, minor: 0 };

    #[test]
    fn settings_of_strict_units_are_in_the_capabilities() {
        let full = UnitConfig::full(UnitRole::Guest);
        let flushes = UnitConfig { srtp_flushes: true, sirtp_flushes: true, ..full };
        assert_eq!(flushes.cap().into_bits() ^ full.cap().into_bits(), 3 << 62);
        let incoherent = UnitConfig { coherent: false, ..full };
        assert_eq!(incoherent.ecap().into_bits() ^ full.ecap().into_bits(), 1 << 48 | 1);
        let first = UnitConfig {
            second_stage: false,
            nested: false,
            second_stage_dirty: false,
            version: SIX,
            ..full
        };
        assert_eq!(first.cap().second_stage_widths(), 0);
        assert_eq!(UnitConfig { version: SIX, ..full }.cap(), full.cap());
    }

    #[test]
    fn versions_are_texts_or_numbers() {
        use serde::de::IntoDeserializer;
        use serde::de::value::{Error, F64Deserializer, StrDeserializer};

        let text = |text: &'static str| {
            let source: StrDeserializer<'_, Error> = text.into_deserializer();
            Version::deserialize(source)
        };
        let number = |number: f64| {
            let source: F64Deserializer<Error> = number.into_deserializer();
            Version::deserialize(source)
        };
        assert_eq!((text("6.0"), number(6.0)), (Ok(SIX), Ok(SIX)));
        assert_eq!(text("1.15"), Ok(Version { major: 1, minor: 15 }));
        let wrong = ["6", "16.0", "1.16", "", "a.b"].map(text);
        for error in wrong.into_iter().chain([-1.0, f64::NAN, 16.0].map(number)) {
            assert!(error.unwrap_err().to_string().contains("MAJOR.MINOR"));
        }
    }

    #[test]
    fn both_constructors_pass_the_check() {
        assert_eq!(UnitConfig::new(UnitRole::Guest).check(), Ok(()));
        assert_eq!(UnitConfig::full(UnitRole::Guest).check(), Ok(()));
    }

    #[test]
    fn capabilities_follow_from_the_settings() {
        let legacy = UnitConfig::new(UnitRole::Guest);
        assert_eq!(legacy.cap().into_bits(), 0x00d2_078c_2278_0e06);
        assert_eq!(legacy.ecap().into_bits(), 0x0f47);
        let remapping = UnitConfig {
            address_widths: AddressWidths(0b0110),
            fault_records: 1,
            interrupt_remapping: true,
            extended_interrupt_mode: true,
            ..legacy
        };
        assert_eq!(remapping.cap().into_bits(), 0x00d2_008c_226f_0606);
        assert_eq!(remapping.ecap().into_bits(), 0x00f0_0f5f);
    }

    #[test]
    fn contradictions_are_named_in_the_error() {
        let legacy = UnitConfig::new(UnitRole::Guest);
        let full = UnitConfig::full(UnitRole::Guest);
        for (config, word) in [
            (UnitConfig { host_address_width: 53, ..legacy }, "host_address_width"),
            (UnitConfig { address_widths: AddressWidths(0), ..legacy }, "address_widths"),
            (UnitConfig { domain_bits: 5, ..legacy }, "domain_bits"),
            (UnitConfig { fault_records: 0, ..legacy }, "fault_records"),
            (UnitConfig { max_address_mask: 9, ..legacy }, "max_address_mask"),
            (UnitConfig { pasid_bits: Some(20), ..legacy }, "scalable_mode"),
            (UnitConfig { scalable_mode: true, ..legacy }, "first_stage"),
            (UnitConfig { second_stage: false, second_stage_dirty: false, ..full }, "nested"),
            (UnitConfig { first_stage_1g: true, ..legacy }, "first_stage_1g"),
            (UnitConfig { second_stage_dirty: true, ..legacy }, "second_stage_dirty"),
            (UnitConfig { pasid_bits: Some(21), ..full }, "pasid_bits"),
            (UnitConfig { device_tlb: false, ..full }, "page_requests"),
            (UnitConfig { extended_interrupt_mode: true, ..legacy }, "interrupt_remapping"),
            (UnitConfig { x2apic_opt_out: true, ..legacy }, "interrupt_remapping"),
            (UnitConfig { sirtp_flushes: true, ..legacy }, "interrupt_remapping"),
            (
                UnitConfig { ite_loses: IteLoses::All, ordering: Ordering::Parallel, ..legacy },
                "ordering=serial",
            ),
            (UnitConfig { coherent: false, ..full }, "second_stage_dirty"),
            (UnitConfig { narrow_descriptors: true, ..legacy }, "scalable_mode"),
            (UnitConfig { version: SIX, read_drain: false, ..legacy }, "read_drain"),
        ] {
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
