//! A table entry, checked and understood: what it delivers, and for whom.

use crate::ats::Msi;
use crate::ids::Bdf;
use crate::spec::fault::FaultReason;
use crate::spec::interrupt::{DeliveryAddress, DeliveryData, Irte, is_delivery_mode};

/// The bits of DST that count without EIME: an 8-bit APIC id (`VT-d 9.9`).
const XAPIC_DESTINATION: u32 = 0xff00;

/// Whose interrupts an entry takes (`VT-d 9.9`, SVT).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sources {
    /// Everybody's.
    Any,
    /// Those of requesters whose id equals `id` but for the bits in `ignored`.
    Requesters { id: u16, ignored: u16 },
    /// Those of everybody on these buses, and all in between.
    Buses { first: u8, last: u8 },
}

/// A present entry that is as it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// What reaches the local APICs.
    pub(super) message: Msi,
    /// FPD: qualified faults are not recorded.
    pub(super) fault_disable: bool,
    sources: Sources,
}

impl Entry {
    /// Checks and reads an entry that is present; `extended` is EIME.
    ///
    /// Fails with 0x24 for reserved bits and values, and for the posted form, which needs CAP.PI.
    pub(super) fn decode(irte: Irte, extended: bool) -> Result<Self, FaultReason> {
        let reserved = irte.posted()
            || irte.reserved_low() != 0
            || irte.reserved_middle() != 0
            || irte.reserved_high() != 0
            || !is_delivery_mode(irte.delivery_mode())
            || (!extended && irte.destination() & !XAPIC_DESTINATION != 0);
        let sources = Sources::decode(irte).filter(|_| !reserved);
        let sources = sources.ok_or(FaultReason::IR_ENTRY_RESERVED)?;
        let destination =
            if extended { irte.destination() } else { irte.destination() >> 8 & 0xff };
        let address = DeliveryAddress::to(destination)
            .with_logical(irte.logical())
            .with_redirection_hint(irte.redirection_hint());
        let data = DeliveryData::new()
            .with_vector(irte.vector())
            .with_delivery_mode(irte.delivery_mode())
            .with_level(irte.level());
        let message = Msi { address: address.into_bits(), data: data.into_bits() };
        Ok(Self { message, fault_disable: irte.fault_disable(), sources })
    }

    /// Whether the entry takes interrupts of `requester`. There is nothing to validate in one that
    /// has no requester id.
    pub(super) fn takes(&self, requester: Option<Bdf>) -> bool {
        let Some(requester) = requester else { return true };
        match self.sources {
            Sources::Any => true,
            Sources::Requesters { id, ignored } => (requester.into_bits() ^ id) & !ignored == 0,
            Sources::Buses { first, last } => (first..=last).contains(&requester.bus()),
        }
    }
}

impl Sources {
    /// `None` for the reserved type of validation.
    fn decode(irte: Irte) -> Option<Self> {
        let id = irte.source_id();
        match irte.source_validation() {
            0 => Some(Self::Any),
            1 => {
                let ignored = match irte.source_qualifier() {
                    0 => 0,
                    1 => 0b100,
                    2 => 0b110,
                    _ => 0b111,
                };
                Some(Self::Requesters { id, ignored })
            }
            2 => {
                let [first, last] = id.to_be_bytes();
                Some(Self::Buses { first, last })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(irte: Irte) -> Entry {
        Entry::decode(irte.with_present(true), false).unwrap()
    }

    #[test]
    fn the_qualifier_says_which_function_bits_do_not_count() {
        let id = Bdf::new(3, 4, 0b101);
        for (qualifier, ignored) in [(0, 0), (1, 0b100), (2, 0b110), (3, 0b111)] {
            let irte = Irte::new().with_source_id(id.into_bits()).with_source_validation(1);
            let entry = sources(irte.with_source_qualifier(qualifier));
            for function in 0..8 {
                let same = (function ^ 0b101) & !ignored == 0;
                assert_eq!(entry.takes(Some(Bdf::new(3, 4, function))), same);
            }
            assert!(!entry.takes(Some(Bdf::new(3, 5, 0b101))));
        }
    }

    #[test]
    fn a_range_of_buses_runs_from_the_high_byte_to_the_low_one() {
        let entry = sources(Irte::new().with_source_id(0x0205).with_source_validation(2));
        for bus in 0..=u8::MAX {
            assert_eq!(entry.takes(Some(Bdf::new(bus, 31, 7))), (2..=5).contains(&bus));
        }
        let reversed = sources(Irte::new().with_source_id(0x0502).with_source_validation(2));
        assert!((0..=u8::MAX).all(|bus| !reversed.takes(Some(Bdf::new(bus, 0, 0)))));
    }

    #[test]
    fn who_has_no_requester_id_is_not_validated() {
        let entry = sources(Irte::new().with_source_id(0x0100).with_source_validation(1));
        assert!(entry.takes(None) && !entry.takes(Some(Bdf::new(2, 0, 0))));
    }
}
