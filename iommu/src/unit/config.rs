//! What a unit can do and how it behaves; CAP and ECAP follow from it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::event::UnitRole;
use crate::spec::capability::{Cap, Ecap};
use crate::spec::offset;
use crate::time::Timeout;

/// How far the unit runs ahead of a Device-TLB invalidation that has not completed
/// (`VT-d 6.5.2.11` leaves it open).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ordering {
    /// A wait completes after everything in front of it: one stuck invalidation holds up every
    /// later waiter on the unit.
    #[default]
    Serial,
    /// A wait is bound only to what stands between it and the previous wait: all that the
    /// specification promises.
    Parallel,
}

/// What [`Ordering::from_str`] says of a text that names none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an ordering; it is serial or parallel")]
pub struct ParseOrderingError(String);

impl FromStr for Ordering {
    type Err = ParseOrderingError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "serial" => Ok(Self::Serial),
            "parallel" => Ok(Self::Parallel),
            _ => Err(ParseOrderingError(text.to_owned())),
        }
    }
}

impl fmt::Display for Ordering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Serial => "serial",
            Self::Parallel => "parallel",
        })
    }
}

/// How a unit is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitConfig {
    /// Its name in events.
    pub role: UnitRole,
    /// ECAP.SMTS: scalable-mode tables (second stage and pass-through) and 256-bit descriptors.
    pub scalable_mode: bool,
    /// Invalidation Completion Time-out: how long the unit waits for Invalidate Completions before
    /// it raises ITE. PCIe recommends that a function answers within a minute, plus half of that
    /// (`PCIe 10.3.1`).
    pub ict: Timeout,
    /// How far it runs ahead.
    pub ordering: Ordering,
}

impl UnitConfig {
    /// Physical addresses have this many bits.
    pub const HOST_ADDRESS_WIDTH: u8 = 46;
    /// Fault records.
    pub const FAULT_RECORDS: u8 = 8;

    /// A unit in legacy mode only that waits for ever for Invalidate Completions.
    pub const fn new(role: UnitRole) -> Self {
        Self { role, scalable_mode: false, ict: Timeout::Never, ordering: Ordering::Serial }
    }

    /// CAP.
    pub const fn cap(&self) -> Cap {
        Cap::new()
            .with_domains(6)
            .with_second_stage_widths(0b1110)
            .with_guest_address_width(56)
            .with_zero_length_read(true)
            .with_fault_record_offset(offset::FRCD / 16)
            .with_second_stage_large_pages(0b11)
            .with_page_selective(true)
            .with_fault_records(Self::FAULT_RECORDS - 1)
            .with_max_address_mask(18)
            .with_write_drain(true)
            .with_read_drain(true)
    }

    /// ECAP.
    pub const fn ecap(&self) -> Ecap {
        Ecap::new()
            .with_coherent(true)
            .with_queued_invalidation(true)
            .with_device_tlb(true)
            .with_pass_through(true)
            .with_iotlb_offset(offset::IVA / 16)
            .with_scalable_mode(self.scalable_mode)
            .with_second_stage(self.scalable_mode)
            .with_scalable_coherent(self.scalable_mode)
            .with_rid_pasid(self.scalable_mode)
            .with_pasid(self.scalable_mode)
            .with_pasid_width(if self.scalable_mode { 19 } else { 0 })
    }
}
