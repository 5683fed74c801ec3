//! The units that the guest sees, and which of them is responsible for a function's requests.
//!
//! A unit has root ports, with all that is below them, and functions on bus 0; the first unit has the
//! rest. Software gives buses their numbers, so that the units of buses change when it writes to a
//! root port.

use iommu::event::Tracer;
use iommu::ids::Bdf;
use iommu::time::Instant;
use iommu::unit::{Output, Unit};

use super::RootComplexConfig;
use crate::pcie::Hierarchy;
use crate::stale::{Oracle, StaleCounts};

/// A unit, and its oracle if the machine has them.
#[derive(Debug)]
pub(super) struct GuestUnit {
    pub(super) unit: Unit,
    pub(super) oracle: Option<Oracle>,
}

impl GuestUnit {
    /// Tells the oracle what the unit has told software.
    pub(super) fn observe(&mut self, now: Instant) {
        if let Some(oracle) = &mut self.oracle {
            oracle.observe(&mut self.unit, now);
        }
    }
}

/// All units. The first is the one with `INCLUDE_PCI_ALL`.
#[derive(Debug)]
pub(super) struct Units {
    all: Vec<GuestUnit>,
    /// The unit of each function on bus 0, by its device and function number.
    functions: [u8; 256],
    /// The unit of each bus from bus 1 up.
    buses: [u8; 256],
}

impl Units {
    /// The units after power-on.
    pub(super) fn new(config: &RootComplexConfig, tracer: &Tracer) -> Self {
        let unit = |config_of_unit| {
            let mut unit = Unit::new(config_of_unit, tracer.clone());
            let ordering = config_of_unit.ordering;
            let oracle = config.oracle.then(|| Oracle::new(&mut unit, ordering));
            GuestUnit { unit, oracle }
        };
        let mut all: Vec<GuestUnit> = config.units().into_iter().map(unit).collect();
        for (GuestUnit { unit, .. }, sticky) in all.iter_mut().zip(&config.sticky) {
            unit.restore_sticky_registers(sticky);
        }
        let mut units = Self { all, functions: [0; 256], buses: [0; 256] };
        for (index, scoped) in (1..).zip(config.topology.units()) {
            scoped.devfns().for_each(|devfn| units.functions[usize::from(devfn)] = index);
        }
        units
    }

    /// The index of the unit for requests of `function`, and for messages to it.
    #[inline]
    pub(super) fn index(&self, function: Bdf) -> usize {
        let index = match function.bus() {
            0 => self.functions[usize::from(function.devfn())],
            bus => self.buses[usize::from(bus)],
        };
        index.into()
    }

    /// The unit for requests of `function`.
    #[inline]
    pub(super) fn of(&mut self, function: Bdf) -> &mut GuestUnit {
        let index = self.index(function);
        &mut self.all[index]
    }

    /// The unit with `INCLUDE_PCI_ALL`.
    pub(super) fn first(&self) -> &Unit {
        &self.all[0].unit
    }

    /// When one of them wants to be called next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let timeouts = self.all.iter().map(|GuestUnit { unit, .. }| unit.poll_timeout());
        timeouts.fold(None, |first, next| Instant::earliest([first, next]))
    }

    /// Takes the oldest output of the unit with that index.
    pub(super) fn poll_output(&mut self, index: usize) -> Option<Output> {
        self.get_mut(index)?.unit.poll_output()
    }

    /// The unit with that index, if there is one.
    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<&GuestUnit> {
        self.all.get(index)
    }

    /// As [`Self::get`].
    #[inline]
    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut GuestUnit> {
        self.all.get_mut(index)
    }

    /// All of them, with the first in front.
    pub(super) fn iter(&self) -> impl Iterator<Item = &GuestUnit> {
        self.all.iter()
    }

    /// As [`Self::iter`].
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut GuestUnit> {
        self.all.iter_mut()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Software has written to configuration space: buses may have other numbers.
    pub(super) fn update(&mut self, hierarchy: &Hierarchy) {
        if self.all.len() == 1 {
            return;
        }
        for (bus, unit) in (0..=u8::MAX).zip(&mut self.buses) {
            let port = hierarchy.root_port(bus);
            *unit = port.map_or(0, |devfn| self.functions[usize::from(devfn)]);
        }
    }

    /// What the oracles have found, if there are any.
    pub(super) fn stale_counts(&self) -> Option<StaleCounts> {
        let counts = self.all.iter().filter_map(|unit| unit.oracle.as_ref()).map(Oracle::counts);
        counts.reduce(|mut sum, counts| {
            sum.merge(&counts);
            sum
        })
    }
}
