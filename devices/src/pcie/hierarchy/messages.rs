//! Messages on their way up: of functions and of ports, at once or late.

use iommu::ats::InvalidateCompletion;
use iommu::time::Instant;

use super::{Hierarchy, PortNode, uplink};
use crate::link::Fate;
use crate::pcie::UpstreamMessage;

/// How many late Invalidate Completions there can be at once; the oldest is lost then. A unit has
/// 32 ITags for each function, and uses one again when it has timed out.
const MAX_DELAYED: usize = 4096;

/// An Invalidate Completion that is held back.
#[derive(Debug)]
pub(super) struct Delayed {
    pub(super) due: Instant,
    /// The port above the function that sends it.
    pub(super) above: Option<usize>,
    completion: InvalidateCompletion,
}

impl Hierarchy {
    /// Takes what functions and ports have sent, as far as it comes up.
    pub fn collect_messages(&mut self, now: Instant) {
        for index in 0..self.functions.len() {
            self.collect_messages_of(index, now);
        }
        let Self { ports, messages, .. } = self;
        for index in 0..ports.len() {
            while let Some(message) = ports[index].port.poll_message() {
                let above = ports[index].above;
                if uplink::passes_message(ports, above, &message, now) {
                    messages.push_back(message);
                }
            }
        }
    }

    /// Takes what the function with index `index` has sent, as far as it comes up.
    pub fn collect_messages_of(&mut self, index: usize, now: Instant) {
        let Self { ports, functions, messages, delayed, .. } = self;
        let Some(node) = functions.get_mut(index) else { return };
        while let Some(reset) = node.function.poll_reset() {
            delayed.retain(|held| held.completion.requester != reset);
        }
        while let Some(message) = node.function.poll_message() {
            if !uplink::passes_message(ports, node.above, &message, now) {
                continue;
            }
            let UpstreamMessage::InvalidateCompletion(completion) = message else {
                messages.push_back(message);
                continue;
            };
            match judge(ports, node.above, now) {
                Fate::Arrives => messages.push_back(message),
                Fate::ArrivesTwice => messages.extend([message; 2]),
                Fate::ArrivesAfter(delay) => {
                    if delayed.len() == MAX_DELAYED {
                        delayed.remove(0);
                    }
                    delayed.push(Delayed { due: now + delay, above: node.above, completion });
                }
                Fate::IsLost => {}
            }
        }
    }

    /// Sends late completions whose time has come, if there still is a way.
    pub(super) fn release_delayed(&mut self, now: Instant) {
        let Self { ports, messages, delayed, .. } = self;
        // In the order of their times, and of their sending where those are the same.
        let mut due: Vec<Delayed> = delayed.extract_if(.., |held| held.due <= now).collect();
        due.sort_by_key(|held| held.due);
        for Delayed { above, completion, .. } in due {
            let message = UpstreamMessage::InvalidateCompletion(completion);
            if uplink::passes_message(ports, above, &message, now) {
                messages.push_back(message);
            }
        }
    }
}

/// What becomes of an Invalidate Completion: the lowest link that does anything to it decides.
fn judge(ports: &mut [PortNode], above: Option<usize>, now: Instant) -> Fate {
    let mut above = above;
    while let Some(port) = above {
        if let Some(link) = &mut ports[port].link {
            let fate = link.judge(now);
            if fate != Fate::Arrives {
                return fate;
            }
        }
        above = ports[port].above;
    }
    Fate::Arrives
}
