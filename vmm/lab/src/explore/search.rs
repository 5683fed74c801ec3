//! The search: the orders of actions that are tried.

use std::collections::{BTreeMap, HashSet, VecDeque};

use iommu::submit::HostError;

use super::world::World;
use super::{Action, ExploreConfig, Invariant, Report, Violation, narrate};

/// States that are looked at, at most: a bound on memory and time, whatever the depth.
const MAX_STATES: usize = 50_000;
/// The length of random traces, as a multiple of the depth.
const LONGER: usize = 3;

/// The states that were reached, and the violations that were found.
pub(super) struct Search<'a> {
    config: &'a ExploreConfig,
    states: HashSet<u64>,
    is_complete: bool,
    found: BTreeMap<Invariant, Vec<Action>>,
}

impl<'a> Search<'a> {
    pub(super) fn new(config: &'a ExploreConfig) -> Self {
        Self { config, states: HashSet::new(), is_complete: true, found: BTreeMap::new() }
    }

    /// Tries every order up to the depth. Shorter traces come first, so that the first violation
    /// found is a shortest one.
    pub(super) fn all_orders(&mut self) -> Result<(), HostError> {
        let mut queue = VecDeque::from([Vec::new()]);
        while let Some(trace) = queue.pop_front() {
            let mut world = World::new(self.config, false)?;
            for action in &trace {
                world.act(*action);
            }
            self.note(&world, &trace);
            if world.broken.is_some() || self.states.contains(&world.fingerprint()) {
                continue;
            }
            if self.states.len() >= MAX_STATES {
                self.is_complete = false;
                break;
            }
            self.states.insert(world.fingerprint());
            if trace.len() < self.config.depth {
                for action in world.enabled() {
                    let mut longer = trace.clone();
                    longer.push(action);
                    queue.push_back(longer);
                }
            }
            world.settle();
            self.note(&world, &trace);
        }
        Ok(())
    }

    /// Keeps `trace` for each invariant that it breaks first.
    fn note(&mut self, world: &World, trace: &[Action]) {
        for invariant in world.noted.iter().copied().chain(world.broken) {
            self.found.entry(invariant).or_insert_with(|| trace.to_vec());
        }
    }

    /// Tries longer orders at random, and shortens those that break an invariant.
    pub(super) fn random_orders(&mut self) -> Result<(), HostError> {
        let mut random = fastrand::Rng::with_seed(self.config.seed);
        for _ in 0..self.config.random {
            let mut world = World::new(self.config, false)?;
            let mut trace = Vec::new();
            while trace.len() < self.config.depth * LONGER && world.broken.is_none() {
                let Some(action) = random.choice(world.enabled()) else { break };
                world.act(action);
                trace.push(action);
            }
            world.settle();
            let Some(invariant) = world.broken else { continue };
            if self.found.contains_key(&invariant) {
                continue;
            }
            let trace = self.shrink(trace, invariant)?;
            self.found.insert(invariant, trace);
        }
        Ok(())
    }

    /// Leaves out actions as long as the trace breaks the same invariant.
    fn shrink(
        &self,
        mut trace: Vec<Action>,
        invariant: Invariant,
    ) -> Result<Vec<Action>, HostError> {
        let mut at = 0;
        while at < trace.len() {
            let mut shorter = trace.clone();
            shorter.remove(at);
            match self.taken(&shorter, invariant)? {
                Some(taken) => (trace, at) = (taken, 0),
                None => at += 1,
            }
        }
        Ok(trace)
    }

    /// The actions of `trace` that are possible, if they break `invariant`.
    fn taken(
        &self,
        trace: &[Action],
        invariant: Invariant,
    ) -> Result<Option<Vec<Action>>, HostError> {
        let mut world = World::new(self.config, false)?;
        let mut taken = Vec::with_capacity(trace.len());
        for action in trace {
            if world.broken.is_none() && world.act(*action) {
                taken.push(*action);
            }
        }
        world.settle();
        Ok((world.broken == Some(invariant)).then_some(taken))
    }

    /// The result, with a narration of each violation.
    pub(super) fn report(self) -> Result<Report, HostError> {
        let mut violations = BTreeMap::new();
        for (invariant, trace) in self.found {
            let narration = narrate::narrate(self.config, &trace, invariant)?;
            violations.insert(invariant, Violation { trace, narration });
        }
        Ok(Report { states: self.states.len(), complete: self.is_complete, violations })
    }
}
