//! Requests whose completion does not come. Each has a tag until the Completion Timeout ends it
//! (`PCIe 2.8`).
//!
//! ```text
//!   read, Translation Request --> lost --> a tag in use --> Completion Timeout: failed, AER
//!                                              |
//!                                              +----------> reset: forgotten
//! ```

use std::time::Duration;

use iommu::time::Instant;

/// Tags of a function without Extended Tag Enable (`PCIe 2.2.6.2`).
const TAGS: u8 = 32;

/// The part of a function that has sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    /// A command. RESULT shows its outcome until another one starts.
    Command {
        /// No command has started since.
        is_last: bool,
        /// The function sends its MSI when the command ends.
        interrupt: bool,
    },
    /// The repeating write.
    Repeating,
    /// The traffic generator with this index.
    Generator(usize),
    /// A generator that has been started again since.
    Earlier,
}

#[derive(Debug, Clone, Copy)]
struct Request {
    sender: Sender,
    /// When the function gives it up; `None` with Completion Timeout Disable.
    due: Option<Instant>,
}

/// The requests of a function that wait for a completion, oldest first. There are few, so that a
/// search is cheap.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    requests: Vec<Request>,
}

impl Outstanding {
    /// Tags that are not in use.
    pub(super) fn free_tags(&self) -> u8 {
        let used = u8::try_from(self.requests.len()).unwrap_or(u8::MAX);
        TAGS.saturating_sub(used)
    }

    /// Whether no request waits.
    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// `sender` has sent `count` requests at `now` that are not answered. The caller holds a tag
    /// for each.
    pub(super) fn add(
        &mut self,
        sender: Sender,
        count: u32,
        timeout: Option<Duration>,
        now: Instant,
    ) {
        let due = timeout.map(|timeout| now + timeout);
        let count = count.min(self.free_tags().into()) as usize;
        self.requests.extend(std::iter::repeat_n(Request { sender, due }, count));
    }

    /// A command starts. Those before it have no effect on RESULT any more.
    pub(super) fn start_command(&mut self) {
        for request in &mut self.requests {
            if let Sender::Command { is_last, .. } = &mut request.sender {
                *is_last = false;
            }
        }
    }

    /// A generator starts anew, or stops.
    pub(super) fn start_generator(&mut self, index: usize) {
        let of_it = |request: &&mut Request| request.sender == Sender::Generator(index);
        self.requests.iter_mut().filter(of_it).for_each(|it| it.sender = Sender::Earlier);
    }

    /// The function has this Completion Timeout now. Without Completion Timeout Disable it also
    /// holds for requests that were sent with it, from `now` on (`PCIe 7.5.3.16`).
    pub(super) fn set_timeout(&mut self, timeout: Option<Duration>, now: Instant) {
        if let Some(timeout) = timeout {
            for request in self.requests.iter_mut().filter(|request| request.due.is_none()) {
                request.due = Some(now + timeout);
            }
        }
    }

    /// When the next request is given up.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.requests.iter().filter_map(|request| request.due).min()
    }

    /// Ends a request whose Completion Timeout has passed; `None` if there is no more.
    pub(super) fn time_out(&mut self, now: Instant) -> Option<Sender> {
        let is_over = |request: &Request| request.due.is_some_and(|due| due <= now);
        let index = self.requests.iter().position(is_over)?;
        Some(self.requests.remove(index).sender)
    }
}
