//! Messages of functions and ports to the root complex, some of which a fault delays.

use std::collections::{BTreeMap, VecDeque};

use iommu::ats::{InvalidateCompletion, InvalidateRequest};
use iommu::event::{DropReason, Event, Lost};
use iommu::ids::Bdf;
use iommu::time::Instant;

use super::{FunctionNode, Hierarchy, PortNode, readiness, uplink};
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
    /// The requests that the ATC obeys when the completion is sent.
    owed: Vec<Owed>,
}

/// An Invalidate Request that an ATC is yet to obey.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owed {
    pub(super) request: InvalidateRequest,
    /// The request whose range the ATC drops.
    pub(super) dropped: Option<InvalidateRequest>,
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
        let Self { ports, functions, messages, delayed, late, pending, recoveries, owed, .. } =
            self;
        let Some(node) = functions.get_mut(index) else { return };
        while let Some(reset) = node.function.poll_reset() {
            delayed.retain(|_, held| held.completion.requester != reset);
            pending.forget(reset);
            owed.retain(|it| it.request.destination != reset);
            let time = node.slow_reset.unwrap_or(node.readiness.reset);
            if !time.is_zero() {
                readiness::begin(recoveries, node, index, reset, now + time);
            }
        }
        while let Some(message) = node.function.poll_message() {
            let due = take_owed(owed, &message);
            if !uplink::passes_message(ports, node.above, &message, now) {
                node.obey(due, now);
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
            let outcome = completion_outcome(ports, node.above, now);
            let is_sent_later = matches!(
                outcome,
                CompletionOutcome::ArrivesAfter(_)
                    | CompletionOutcome::ArrivesMerged(_)
                    | CompletionOutcome::IsNotSent
            );
            if !is_sent_later {
                node.obey(due, now);
            }
            match outcome {
                CompletionOutcome::Arrives => messages.push_back(message),
                CompletionOutcome::ArrivesTwice => messages.extend([message; 2]),
                CompletionOutcome::ArrivesInParts(parts) => {
                    let part = InvalidateCompletion { completion_count: parts, ..completion };
                    let part = UpstreamMessage::InvalidateCompletion(part);
                    messages.extend(std::iter::repeat_n(part, parts.into()));
                }
                CompletionOutcome::ArrivesMerged(_) if merge(delayed, completion, due) => {}
                CompletionOutcome::ArrivesAfter(delay)
                | CompletionOutcome::ArrivesMerged(delay) => {
                    if delayed.len() == MAX_DELAYED {
                        delayed.pop_first();
                    }
                    let owed = due.into_iter().collect();
                    let held = Delayed { above: node.above, completion, owed };
                    delayed.insert((now + delay, *late), held);
                    *late += 1;
                }
                CompletionOutcome::IsLost | CompletionOutcome::IsNotSent => {}
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
            let Delayed { above, completion, owed } = next.remove();
            let id = completion.requester;
            let function = self.function_or_physical(above, id);
            let sends = |index| self.is_awake(index, id, Lost::InvalidateCompletion, now);
            if !function.is_none_or(sends) {
                continue;
            }
            if let Some(index) = function {
                owed.into_iter().for_each(|due| self.functions[index].obey(Some(due), now));
            }
            let message = UpstreamMessage::InvalidateCompletion(completion);
            if uplink::passes_message(&mut self.ports, above, &message, now) {
                self.messages.push_back(message);
            }
        }
    }
}

impl FunctionNode {
    /// The ATC obeys a request that it owed, if there is one.
    fn obey(&mut self, due: Option<Owed>, now: Instant) {
        if let Some(Owed { request, dropped }) = due {
            self.function.obey(request, dropped, now);
        }
    }
}

/// Takes the request that `message` completes, if the ATC is yet to obey it.
fn take_owed(owed: &mut VecDeque<Owed>, message: &UpstreamMessage) -> Option<Owed> {
    let UpstreamMessage::InvalidateCompletion(completion) = message else { return None };
    let is_it = |it: &Owed| {
        it.request.destination == completion.requester
            && it.request.itag.bit() == completion.itag_vector
    };
    let at = owed.iter().position(is_it)?;
    owed.remove(at)
}

/// Adds the ITags of `completion` to one of the same function that waits, with the request that the
/// ATC owes for it. Returns whether there is one.
fn merge(
    delayed: &mut BTreeMap<(Instant, u64), Delayed>,
    completion: InvalidateCompletion,
    due: Option<Owed>,
) -> bool {
    let is_mate = |held: &&mut Delayed| {
        let mate = &held.completion;
        mate.requester == completion.requester && mate.itag_vector & completion.itag_vector == 0
    };
    let mate = delayed.values_mut().find(is_mate);
    if let Some(mate) = mate {
        mate.completion.itag_vector |= completion.itag_vector;
        mate.owed.extend(due);
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
