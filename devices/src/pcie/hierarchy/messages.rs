//! Messages of functions and ports to the root complex, some of which a fault delays.

use std::collections::{BTreeMap, VecDeque};

use iommu::ats::InvalidateCompletion;
use iommu::event::{DropReason, Event, Lost};
use iommu::ids::Bdf;
use iommu::time::Instant;

use super::{Hierarchy, PortNode, readiness, uplink};
use crate::pcie::UpstreamMessage;
use crate::pcie::link::{CompletionOutcome, InvalidateBehavior, Link};

/// Invalidate Completions that can be delayed at once. If there are more, the one that is due first
/// is lost. A unit has 32 ITags for each function, and uses an ITag again after its time-out.
const MAX_DELAYED: usize = 4096;

/// An Invalidate Completion that a fault delays.
#[derive(Debug)]
pub(super) struct Delayed {
    /// The port above the function that sends it.
    pub(super) above: Option<usize>,
    completion: InvalidateCompletion,
}

impl Hierarchy {
    /// Collects the messages of all functions and ports that pass the links above them.
    pub fn collect_messages(&mut self, now: Instant) {
        for index in 0..self.functions.len() {
            self.collect_messages_of(index, now);
        }
        for index in 0..self.ports.len() {
            self.collect_messages_of_port(index, now);
        }
    }

    /// Collects messages after a change of a port: of all nodes below it, of the port itself, and
    /// of the ports above it, which receive its error messages.
    pub(super) fn collect_messages_around(&mut self, port: usize, now: Instant) {
        self.collect_messages_below(port, now);
        let mut next = Some(port);
        while let Some(port) = next {
            self.collect_messages_of_port(port, now);
            next = self.ports[port].above;
        }
    }

    fn collect_messages_below(&mut self, port: usize, now: Instant) {
        let mut at = 0;
        while let Some(index) = self.index.below(Some(port)).functions.get(at).copied() {
            self.collect_messages_of(index, now);
            at += 1;
        }
        at = 0;
        while let Some(index) = self.index.below(Some(port)).ports.get(at).copied() {
            self.collect_messages_below(index, now);
            self.collect_messages_of_port(index, now);
            at += 1;
        }
    }

    fn collect_messages_of_port(&mut self, index: usize, now: Instant) {
        let Self { ports, messages, .. } = self;
        while let Some(message) = ports[index].port.poll_message() {
            let above = ports[index].above;
            if uplink::passes_message(ports, above, &message, now) {
                messages.push_back(message);
            }
        }
    }

    /// Collects the messages of the function with index `index` that pass the links above it.
    pub fn collect_messages_of(&mut self, index: usize, now: Instant) {
        let Self { ports, functions, messages, delayed, late, pending, recoveries, .. } = self;
        let Some(node) = functions.get_mut(index) else { return };
        while let Some(reset) = node.function.poll_reset() {
            delayed.retain(|_, held| held.completion.requester != reset);
            pending.forget(reset);
            let time = node.slow_reset.unwrap_or(node.readiness.reset);
            if !time.is_zero() {
                readiness::begin(recoveries, node, index, reset, now + time);
            }
        }
        while let Some(message) = node.function.poll_message() {
            if !uplink::passes_message(ports, node.above, &message, now) {
                continue;
            }
            let completion = match message {
                UpstreamMessage::InvalidateCompletion(completion) => completion,
                UpstreamMessage::Error { source, fatal } => {
                    receive_error(ports, node.above, source, fatal, messages);
                    continue;
                }
                _ => {
                    messages.push_back(message);
                    continue;
                }
            };
            match completion_outcome(ports, node.above, now) {
                CompletionOutcome::Arrives => messages.push_back(message),
                CompletionOutcome::ArrivesTwice => messages.extend([message; 2]),
                CompletionOutcome::ArrivesInParts(parts) => {
                    let part = InvalidateCompletion { completion_count: parts, ..completion };
                    let part = UpstreamMessage::InvalidateCompletion(part);
                    messages.extend(std::iter::repeat_n(part, parts.into()));
                }
                CompletionOutcome::ArrivesMerged(_) if merge(delayed, completion) => {}
                CompletionOutcome::ArrivesAfter(delay)
                | CompletionOutcome::ArrivesMerged(delay) => {
                    if delayed.len() == MAX_DELAYED {
                        delayed.pop_first();
                    }
                    let held = Delayed { above: node.above, completion };
                    delayed.insert((now + delay, *late), held);
                    *late += 1;
                }
                CompletionOutcome::IsLost => {}
            }
        }
    }

    /// The behavior of the functions below `above` on Invalidate Requests: that of the lowest link
    /// with a fault.
    pub(super) fn invalidate_behavior(&self, above: Option<usize>) -> InvalidateBehavior {
        let behaviors = self.links_above(above).map(Link::invalidate_behavior);
        let is_fault = |behavior: &InvalidateBehavior| *behavior != InvalidateBehavior::Complete;
        behaviors.into_iter().find(is_fault).unwrap_or_default()
    }

    /// The links between the bus below `above` and the root complex, the lowest first.
    fn links_above(&self, above: Option<usize>) -> impl Iterator<Item = &Link> {
        let ports = std::iter::successors(above, |port| self.ports[*port].above);
        ports.filter_map(|port| self.ports[port].link.as_ref())
    }

    /// Whether the function `id` takes one more Invalidate Request: the completions that it owes are
    /// fewer than its Invalidate Queue Depth, and than the limit of a fault. `index` is that of the
    /// function, or of its physical one: virtual functions share its queue (`PCIe 9.3.7`).
    pub(super) fn is_below_limit(&self, index: usize, id: Bdf, now: Instant) -> bool {
        if self.delayed.is_empty() {
            return true;
        }
        let node = &self.functions[index];
        let limits = self.links_above(node.above).filter_map(Link::invalidate_limit);
        let depth = limits.fold(node.function.invalidate_queue_depth(), u8::min);
        let function = node.function.as_ref();
        let shares = |id| function.core().id == id || function.virtual_function(id).is_some();
        let mine = self.delayed.values().filter(|held| shares(held.completion.requester));
        let owed: u32 = mine.map(|held| held.completion.itag_vector.count_ones()).sum();
        if owed < u32::from(depth) {
            return true;
        }
        let (what, reason) = (Lost::InvalidateRequest, DropReason::QueueFull);
        self.tracer.emit(now, || Event::Dropped { function: id, what, reason });
        false
    }

    /// Sends delayed completions that are due, if the function is awake and the links above are up.
    pub(super) fn release_delayed(&mut self, now: Instant) {
        while let Some(next) = self.delayed.first_entry().filter(|next| next.key().0 <= now) {
            let Delayed { above, completion } = next.remove();
            let id = completion.requester;
            let function = self.function_or_physical(above, id);
            let sends = |index| self.is_awake(index, id, Lost::InvalidateCompletion, now);
            if !function.is_none_or(sends) {
                continue;
            }
            let message = UpstreamMessage::InvalidateCompletion(completion);
            if uplink::passes_message(&mut self.ports, above, &message, now) {
                self.messages.push_back(message);
            }
        }
    }
}

/// Adds the ITags of `completion` to one of the same function that waits. Returns whether there is
/// one.
fn merge(
    delayed: &mut BTreeMap<(Instant, u64), Delayed>,
    completion: InvalidateCompletion,
) -> bool {
    let is_mate = |held: &&mut Delayed| {
        let mate = &held.completion;
        mate.requester == completion.requester && mate.itag_vector & completion.itag_vector == 0
    };
    let mate = delayed.values_mut().find(is_mate);
    if let Some(mate) = mate {
        mate.completion.itag_vector |= completion.itag_vector;
        return true;
    }
    false
}

/// The root port above the bus below `above` receives an error message, and may interrupt.
fn receive_error(
    ports: &mut [PortNode],
    above: Option<usize>,
    source: Bdf,
    fatal: bool,
    messages: &mut VecDeque<UpstreamMessage>,
) {
    let Some(mut root) = above else { return };
    while let Some(port) = ports[root].above {
        root = port;
    }
    let port = &mut ports[root].port;
    port.receive_error(source, fatal);
    messages.extend(std::iter::from_fn(|| port.poll_message()));
}

/// The outcome of an Invalidate Completion. The lowest link with another outcome than arrival decides.
fn completion_outcome(
    ports: &mut [PortNode],
    above: Option<usize>,
    now: Instant,
) -> CompletionOutcome {
    let mut above = above;
    while let Some(port) = above {
        if let Some(link) = &mut ports[port].link {
            let outcome = link.completion_outcome(now);
            if outcome != CompletionOutcome::Arrives {
                return outcome;
            }
        }
        above = ports[port].above;
    }
    CompletionOutcome::Arrives
}
