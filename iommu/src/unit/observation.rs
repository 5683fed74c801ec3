//! The record of accepted invalidations and of their ends, for an observer outside of the machine.
//!
//! It says what software has asked for and what the unit has told it, and not what caches have
//! done. Without an observer nothing is recorded.

use std::collections::VecDeque;

use super::Unit;
use crate::ats::PageRange;
use crate::ids::{Bdf, Pasid};
use crate::spec::descriptor::{Descriptor, IotlbScope};

/// An entry of the record. Wait descriptors are numbered from 0 in the order of fetching, and an
/// invalidation has the number of the next one behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation {
    /// The unit has accepted an invalidation of its IOTLB.
    Iotlb {
        /// Its scope.
        scope: IotlbScope,
        /// The next wait descriptor; `None` for an invalidation by register, which is complete.
        wait: Option<u64>,
    },
    /// The unit has accepted an invalidation of a function's ATC.
    DeviceTlb {
        /// The function with the ATC.
        function: Bdf,
        /// The address space, if the descriptor has a PASID.
        pasid: Option<Pasid>,
        /// All address spaces of the function.
        global: bool,
        /// The range to invalidate.
        range: PageRange,
        /// The next wait descriptor.
        wait: u64,
    },
    /// The unit has completed this wait descriptor.
    Completed {
        /// Its number.
        wait: u64,
    },
    /// The unit has set ITE. The fetched wait descriptors that have not completed never will.
    TimedOut {
        /// The function that has not answered.
        function: Bdf,
        /// The next wait descriptor behind the request that has timed out.
        wait: u64,
        /// The number of wait descriptors fetched so far.
        fetched: u64,
    },
}

/// The record, oldest first.
#[derive(Debug, Default)]
pub(super) struct Record {
    entries: VecDeque<Observation>,
    lost: u64,
}

impl Record {
    /// The most entries. A doorbell adds one for each of 32,768 descriptors at most, and one for
    /// each of the pending waits.
    const LIMIT: usize = 1 << 16;

    fn push(&mut self, observation: Observation) {
        if self.entries.len() < Self::LIMIT {
            self.entries.push_back(observation);
        } else {
            self.lost += 1;
        }
    }
}

impl Unit {
    /// Starts the record. The caller drains it by [`Self::poll_observation`] after each call.
    pub fn observe(&mut self) {
        self.record.get_or_insert_default();
        self.is_watched = true;
    }

    /// Takes the oldest entry of the record.
    pub fn poll_observation(&mut self) -> Option<Observation> {
        self.record.as_mut()?.entries.pop_front()
    }

    /// The number of entries that the record had no room for since the last call.
    pub fn take_lost_observations(&mut self) -> u64 {
        self.record.as_mut().map_or(0, |record| std::mem::take(&mut record.lost))
    }

    /// Adds an entry, if there is an observer.
    pub(super) fn note(&mut self, observation: Observation) {
        if let Some(record) = &mut self.record {
            record.push(observation);
        }
    }

    /// Records an accepted descriptor, in front of wait descriptor number `wait`.
    pub(super) fn note_descriptor(&mut self, descriptor: &Descriptor, wait: u64) {
        match *descriptor {
            Descriptor::Iotlb(scope) | Descriptor::IotlbLeaves(scope) => {
                self.note(Observation::Iotlb { scope, wait: Some(wait) });
            }
            Descriptor::DeviceTlb(invalidate) => self.note(Observation::DeviceTlb {
                function: invalidate.function,
                pasid: invalidate.pasid,
                global: invalidate.global,
                range: invalidate.range,
                wait,
            }),
            _ => {}
        }
    }
}
