//! Asynchronous events (`NVMe 5.2`). An Asynchronous Event Request is outstanding until there is an
//! event to report.
//!
//! ```text
//!   event --> pending --> request outstanding, type not masked --> completion, type masked
//!                                                                              |
//!   the host reads the event's log page: type no longer masked <---------------+
//! ```

use std::collections::VecDeque;

use super::model::MAX_EVENT_REQUESTS;
use super::spec::log;

/// An event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A doorbell of a queue that does not exist was written.
    InvalidDoorbell,
    /// A doorbell was written with a value that is out of range for its queue.
    InvalidDoorbellValue,
    /// The temperature is beyond a threshold.
    Temperature,
}

impl Event {
    /// Type, information, log page.
    const fn parts(self) -> (u8, u8, u8) {
        match self {
            Self::InvalidDoorbell => (0, 0, log::ERROR),
            Self::InvalidDoorbellValue => (0, 1, log::ERROR),
            Self::Temperature => (1, 1, log::SMART),
        }
    }

    /// Dword 0 of the completion.
    pub(super) fn dword0(self) -> u32 {
        let (kind, information, log_page) = self.parts();
        u32::from(log_page) << 16 | u32::from(information) << 8 | u32::from(kind)
    }
}

/// Outstanding requests, and pending events.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// The command identifiers of outstanding requests, oldest first.
    requests: VecDeque<u16>,
    /// Pending events, each at most once.
    pending: Vec<Event>,
    /// The masked types, a bit for each.
    masked: u8,
}

impl Events {
    /// Adds a request. Returns `false` if as many as the limit are outstanding.
    pub(super) fn add_request(&mut self, identifier: u16) -> bool {
        let fits = self.requests.len() < MAX_EVENT_REQUESTS;
        if fits {
            self.requests.push_back(identifier);
        }
        fits
    }

    /// Whether the request `identifier` is outstanding.
    pub(super) fn has_request(&self, identifier: u16) -> bool {
        self.requests.contains(&identifier)
    }

    /// Removes the request `identifier`. Returns whether it was outstanding.
    pub(super) fn abort(&mut self, identifier: u16) -> bool {
        let position = self.requests.iter().position(|request| *request == identifier);
        position.and_then(|position| self.requests.remove(position)).is_some()
    }

    /// Makes `event` pending.
    pub(super) fn raise(&mut self, event: Event) {
        if !self.pending.contains(&event) {
            self.pending.push(event);
        }
    }

    /// Whether a request can be completed now.
    pub(super) fn is_ready(&self) -> bool {
        !self.requests.is_empty() && self.next().is_some()
    }

    /// The request to complete now, and its event.
    pub(super) fn take(&mut self) -> Option<(u16, Event)> {
        let position = self.next()?;
        let identifier = self.requests.pop_front()?;
        let event = self.pending.remove(position);
        self.masked |= 1 << event.parts().0;
        Some((identifier, event))
    }

    /// The host has read a log page.
    pub(super) fn log_page_read(&mut self, log_page: u8) {
        match log_page {
            log::ERROR => self.masked &= !0b01,
            log::SMART => self.masked &= !0b10,
            _ => {}
        }
    }

    fn next(&self) -> Option<usize> {
        self.pending.iter().position(|event| self.masked & 1 << event.parts().0 == 0)
    }
}
