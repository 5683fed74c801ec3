//! The wires to the I/O APIC. Sources that share a pin are joined as with open drains: the pin is
//! asserted while one of them asserts it.

use crate::root_complex::Line;

/// A source of level changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// INTA of the functions on bus 0.
    RootComplex,
    /// COM1.
    Com1,
    /// The timers of the HPET.
    Hpet,
    /// `pc-testdev`.
    TestDevice,
    /// The real-time clock.
    Clock,
}

/// The pins that each source asserts, a bit for each.
#[derive(Debug, Default)]
pub(super) struct Wires([u32; 5]);

impl Wires {
    /// `source` asserts a pin or lets go of it. Returns the change of the pin, if it changes.
    pub(super) fn set(&mut self, source: Source, line: Line) -> Option<Line> {
        let Line { pin, level } = line;
        let bit = 1_u32.checked_shl(pin.into())?;
        let before = self.is_asserted(bit);
        let asserted = &mut self.0[source as usize];
        *asserted = if level { *asserted | bit } else { *asserted & !bit };
        (before != self.is_asserted(bit)).then_some(line)
    }

    fn is_asserted(&self, bit: u32) -> bool {
        self.0.iter().any(|asserted| asserted & bit != 0)
    }
}
