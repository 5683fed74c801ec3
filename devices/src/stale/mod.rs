//! The stale-DMA oracle: it watches what the software of a machine was told about its invalidations,
//! and finds the DMA that reaches memory by a translation that should be gone.
//!
//! ```text
//!   unit: accepted, wait completed, ITE  --> Oracle::observe ----.
//!   Translation Completions              --> Oracle::translated -+--> Ledger
//!   DMA that has reached memory          --> Oracle::judge ------'      |
//!                                                 ^  walk of the tables | at that moment
//!                                                 '---------------------'
//! ```
//!
//! An access is *stale* if its translation was cached before software asked for an invalidation of
//! it, and software has been told that this invalidation is complete, or that it has failed (ITE).
//! After a failure software may ask again; until the next answer the access is not stale.
//!
//! - ATC: the request was translated by the function. If the tables still have the translation, the
//!   access does no harm, and is counted apart.
//! - IOTLB: the unit has translated the request, and not as its tables do at that moment.
//!
//! The machine does not know of the oracle, which sets no bit and fills no cache.

mod ledger;

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use iommu::Memory;
use iommu::ats::{AddressType, DmaRequest, Translation, TranslationRequest};
use iommu::event::{Event, TranslationCache};
use iommu::ids::{Gpa, Iova, Pasid};
use iommu::time::Instant;
use iommu::unit::{Observation, Ordering, Unit};
use serde::Serialize;

pub use ledger::{Concluded, Generation, Invalidation, Ledger, Space};

/// The result of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct StaleCounts {
    /// DMA that has reached memory by a translation that is not in the tables any more, although
    /// software was told that its invalidation is complete, or that it has failed.
    pub stale_accesses: u64,
    /// Those of them after software was told of success.
    pub told_success: u64,
    /// The longest time between that answer and such an access.
    pub longest_age: Duration,
    /// DMA by a translation that the tables still have, although the ATC should have dropped it.
    pub harmless: u64,
    /// DMA for which the ledger had no record: see [`Ledger::CAPACITY`].
    pub not_judged: u64,
    /// Invalidations that were not followed to their end: see [`Oracle::PENDING`].
    pub not_followed: u64,
}

impl StaleCounts {
    /// Adds those of another part of the run.
    pub fn merge(&mut self, other: &Self) {
        self.stale_accesses += other.stale_accesses;
        self.told_success += other.told_success;
        self.longest_age = self.longest_age.max(other.longest_age);
        self.harmless += other.harmless;
        self.not_judged += other.not_judged;
        self.not_followed += other.not_followed;
    }
}

impl fmt::Display for StaleCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |count: u64, one: &str, many: &str| {
            format!("{count} {}", if count == 1 { one } else { many })
        };
        f.write_str(&of(self.stale_accesses, "stale access", "stale accesses"))?;
        if self.stale_accesses > 0 {
            let (told, age) = (self.told_success, self.longest_age);
            write!(f, ", {told} of them after the caller was told of success, up to {age:?} old")?;
        }
        if self.harmless > 0 {
            let uses = of(self.harmless, "access", "accesses");
            write!(f, "; {uses} by an invalidated translation that the tables still have")?;
        }
        if self.not_judged > 0 {
            let accesses = of(self.not_judged, "access", "accesses");
            write!(f, "; {accesses} not judged: the oracle had no record of the translation")?;
        }
        if self.not_followed > 0 {
            let lost = of(self.not_followed, "invalidation", "invalidations");
            write!(f, "; {lost} not followed: too many were pending")?;
        }
        Ok(())
    }
}

/// An invalidation that software waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pending {
    /// The number of the wait descriptor behind it.
    wait: u64,
    invalidation: Invalidation,
    asked: Generation,
}

/// The oracle of one unit.
#[derive(Debug)]
pub struct Oracle {
    ordering: Ordering,
    ledger: Ledger,
    /// By their wait descriptors.
    pending: VecDeque<Pending>,
    counts: StaleCounts,
}

impl Oracle {
    /// The most invalidations that are followed at the same time. Equal ones in a row are one.
    pub const PENDING: usize = 4096;

    /// An oracle of `unit`, which from now on records what it tells software.
    pub fn new(unit: &mut Unit, ordering: Ordering) -> Self {
        unit.observe();
        let (ledger, pending) = (Ledger::default(), VecDeque::new());
        Self { ordering, ledger, pending, counts: StaleCounts::default() }
    }

    /// The result so far.
    pub fn counts(&self) -> StaleCounts {
        self.counts
    }

    /// Takes what the unit has accepted, and what it has told software.
    pub fn observe(&mut self, unit: &mut Unit, now: Instant) {
        while let Some(observation) = unit.poll_observation() {
            self.note(observation, now);
        }
        self.counts.not_followed += unit.take_lost_observations();
    }

    fn note(&mut self, observation: Observation, now: Instant) {
        match observation {
            Observation::Iotlb { scope, wait: Some(wait) } => {
                self.ask(Invalidation::Iotlb(scope), wait);
            }
            Observation::Iotlb { scope, wait: None } => {
                let invalidation = Invalidation::Iotlb(scope);
                let asked = self.ledger.ask(invalidation);
                let end = Concluded { at: now, success: true };
                self.ledger.conclude(invalidation, asked, end);
            }
            Observation::DeviceTlb { function, pasid, global, range, wait } => {
                self.ask(Invalidation::Atc { function, pasid, global, range }, wait);
            }
            Observation::Completed { wait } => {
                let first = match self.ordering {
                    // It says that all before it are complete.
                    Ordering::Serial | Ordering::Blocking => 0,
                    Ordering::Parallel => self.pending.partition_point(|it| it.wait < wait),
                };
                let end = self.pending.partition_point(|it| it.wait <= wait);
                let told = Concluded { at: now, success: true };
                for Pending { invalidation, asked, .. } in self.pending.drain(first..end) {
                    self.ledger.conclude(invalidation, asked, told);
                }
            }
            Observation::TimedOut { function, wait, fetched } => {
                let told = Concluded { at: now, success: false };
                let aborted = self.pending.partition_point(|it| it.wait < fetched);
                for Pending { invalidation, asked, .. } in self.pending.drain(..aborted) {
                    self.ledger.conclude(invalidation, asked, told);
                }
                // The wait behind this request is yet to be fetched, and may still complete.
                for Pending { invalidation, asked, .. } in &self.pending {
                    let is_of = matches!(*invalidation,
                        Invalidation::Atc { function: of, .. } if of == function);
                    if is_of && wait == fetched {
                        self.ledger.conclude(*invalidation, *asked, told);
                    }
                }
            }
        }
    }

    fn ask(&mut self, invalidation: Invalidation, wait: u64) {
        let asked = self.ledger.ask(invalidation);
        let pending = Pending { wait, invalidation, asked };
        let is_equal = |last: &&mut Pending| (last.wait, last.invalidation) == (wait, invalidation);
        if let Some(last) = self.pending.back_mut().filter(is_equal) {
            // The later one covers all that the earlier one covers.
            *last = pending;
        } else if self.pending.len() < Self::PENDING {
            self.pending.push_back(pending);
        } else {
            self.counts.not_followed += 1;
        }
    }

    /// A function has been given a translation. One that was stale in the IOTLB already is stale in
    /// the ATC as well.
    pub fn translated(
        &mut self,
        request: &TranslationRequest,
        translation: &Translation,
        (unit, memory): (&Unit, &Memory),
    ) {
        let (function, pasid) = (request.requester, request.pasid);
        let Translation { range, read, write, untranslated_only, .. } = *translation;
        if (read || write) && !untranslated_only {
            let tables = unit.translator().peek(function, pasid, range.start(), memory);
            self.ledger.translated((function, pasid), translation, tables);
        }
    }

    /// `request` has reached memory at `target`. `origin` is the address that the function's ATC has
    /// translated, if it has. Returns the event, if there is something to tell.
    pub fn judge(
        &mut self,
        request: &DmaRequest,
        origin: Option<(Option<Pasid>, Iova)>,
        target: Gpa,
        (unit, memory): (&Unit, &Memory),
        now: Instant,
    ) -> Option<Event> {
        let function = request.requester;
        let (pasid, address) = match (request.address_type, origin) {
            (AddressType::Untranslated, _) => (request.pasid, request.address),
            (AddressType::Translated, Some(origin)) => origin,
            (AddressType::Translated, None) => return self.not_judged(request, request.address),
        };
        let tables = unit.translator().peek(function, pasid, address, memory);
        let mapped = tables.is_some_and(|entry| entry.permits(request.access, target));
        let (cache, space) = match request.address_type {
            AddressType::Translated => (TranslationCache::Atc, Space::Atc(function, pasid)),
            AddressType::Untranslated => {
                // Without a domain the unit does not translate.
                let entry = tables?;
                let space = Space::Iotlb(entry.domain, entry.pasid);
                if mapped {
                    let offset = address.0 - entry.range.start().0;
                    let output = Gpa(target.0.wrapping_sub(offset));
                    self.ledger.cached(space, entry.range, output);
                    return None;
                }
                (TranslationCache::Iotlb, space)
            }
        };
        let Some((_, concluded)) =
            self.ledger.find(space, address).filter(|(output, _)| *output == target)
        else {
            return self.not_judged(request, address);
        };
        let Concluded { success: told_success, .. } = concluded?;
        let age = concluded?.age(now);
        if mapped {
            self.counts.harmless += 1;
        } else {
            self.counts.stale_accesses += 1;
            self.counts.told_success += u64::from(told_success);
            self.counts.longest_age = self.counts.longest_age.max(age);
        }
        let foreign = None;
        Some(Event::StaleAccess {
            function,
            pasid,
            address,
            target,
            cache,
            age,
            told_success,
            mapped,
            foreign,
        })
    }

    fn not_judged(&mut self, request: &DmaRequest, address: Iova) -> Option<Event> {
        self.counts.not_judged += 1;
        Some(Event::AccessNotJudged { function: request.requester, address })
    }
}

#[cfg(test)]
mod tests;
