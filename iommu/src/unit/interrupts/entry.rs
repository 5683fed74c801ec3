//! A checked table entry: the message that it delivers, and the requesters that may use it.

use crate::ats::Msi;
use crate::ids::Bdf;
use crate::spec::fault::FaultReason;
use crate::spec::interrupt::{DeliveryAddress, DeliveryData, Irte, is_delivery_mode};

/// The bits of DST without EIME: an 8-bit APIC id (`VT-d 9.9`).
const XAPIC_DESTINATION: u32 = 0xff00;

/// The requesters that may use an entry (`VT-d 9.9`, SVT).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sources {
    /// All requesters.
    Any,
    /// Requesters whose id equals `id`, except in the bits of `ignored`.
    Requesters { id: u16, ignored: u16 },
    /// Requesters on these buses and on all buses between.
    Buses { first: u8, last: u8 },
}

/// A present and valid entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// The message to the local APICs.
    pub(super) message: Msi,
    /// FPD: qualified faults are not recorded.
    pub(super) fault_disable: bool,
    sources: Sources,
}

impl Entry {
    /// Checks and decodes a present entry; `extended` is EIME.
    ///
    /// # Errors
    /// Fault reason 0x24 for reserved bits and values, and for the posted form, which needs CAP.PI.
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

    /// Whether the entry accepts an interrupt of `requester`. A sender without requester id is not
    /// validated.
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
    /// Returns `None` for the reserved validation type.
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
    fn the_qualifier_selects_the_ignored_function_bits() {
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
    fn a_sender_without_requester_id_is_not_validated() {
        let entry = sources(Irte::new().with_source_id(0x0100).with_source_validation(1));
        assert!(entry.takes(None) && !entry.takes(Some(Bdf::new(2, 0, 0))));
    }
}
