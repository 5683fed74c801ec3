//! Traffic generators: they send requests at a rate and in a pattern, until software stops them.
//!
//! ```text
//!   CONTROL.run, or EndpointConfig ---> Running: due --> a burst of requests --> due + period
//!                                                           |
//!                                    address: fixed, sequential, or random in the span
//! ```
//!
//! | offset | register | |
//! |---|---|---|
//! | 0x00 | CONTROL | RW, see [`Control`]; reads as running until the limit is reached |
//! | 0x04 | PERIOD | RW microseconds between bursts, 10 and up |
//! | 0x08 | ADDRESS | RW, 64 bits |
//! | 0x10 | SPAN | RW bytes from there on, 64 bits |
//! | 0x18 | LENGTH | RW bytes in a request, 1 to [`BUFFER_SIZE`] |
//! | 0x1c | BURST | RW requests in a burst, 1 to [`MAX_BURST`] |
//! | 0x20 | LIMIT | RW requests after which it stops; 0 for never |
//! | 0x24 | DONE | RO requests done, wraps |
//! | 0x28 | FAILED | RO requests failed, wraps |
//!
//! A value out of range is replaced by the nearest one in range. A write while the generator runs
//! has an effect when it is started again. A request that is not answered fails when the Completion
//! Timeout has passed; the generator goes on meanwhile, as long as the function has tags. While bus
//! mastering is disabled the generator pauses, and does not send the bursts that it has missed later.

mod text;

use std::time::Duration;

use bitfield_struct::bitfield;
use iommu::ats::Access;
use iommu::ids::{Iova, Pasid};
use iommu::time::Instant;

use super::regs::{BUFFER_SIZE, MIN_PERIOD, half, with_half};
use crate::dma::{Bus, Dma, DmaPath, Transfer};
pub use text::ParseTrafficError;

/// Generators that a function has.
pub const GENERATORS: usize = 4;
/// Requests in a burst at most.
pub const MAX_BURST: u32 = 64;
/// Bytes from one generator's registers to the next one's.
pub const STEP: u64 = 0x40;

pub(super) const CONTROL: u64 = 0x00;
const PERIOD: u64 = 0x04;
const ADDRESS: u64 = 0x08;
const ADDRESS_HIGH: u64 = 0x0c;
const SPAN: u64 = 0x10;
const SPAN_HIGH: u64 = 0x14;
const LENGTH: u64 = 0x18;
const BURST: u64 = 0x1c;
const LIMIT: u64 = 0x20;
const DONE: u64 = 0x24;
const FAILED: u64 = 0x28;

/// The order of the addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    /// Always the first.
    Fixed,
    /// Ascending, and again from the first at the end of the span.
    Sequential,
    /// Random in the span. The sequence is the same in each run.
    Random,
}

/// The traffic of a generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Reads or writes.
    pub access: Access,
    /// The order of the addresses.
    pub order: Order,
    /// Use the ATC.
    pub use_atc: bool,
    /// The first address.
    pub address: Iova,
    /// Bytes from the first address on in which requests lie.
    pub span: u64,
    /// Bytes in a request, 1 to [`BUFFER_SIZE`].
    pub length: u32,
    /// Requests in a burst, 1 to [`MAX_BURST`].
    pub burst: u32,
    /// Time from one burst to the next, 10 microseconds and up.
    pub period: Duration,
}

/// CONTROL.
#[bitfield(u32)]
pub struct Control {
    /// 1 starts the generator, anew if it runs; 0 stops it.
    pub run: bool,
    /// Writes, of words of eight bytes: PATTERN and above it a rising count. 0: reads.
    pub write: bool,
    /// Use the ATC.
    pub use_atc: bool,
    /// Requests have the PASID in the endpoint's PASID register.
    pub pasid: bool,
    /// 0 fixed, 1 sequential, 2 random; 3 as 0.
    #[bits(2)]
    pub order: u8,
    #[bits(26)]
    __: u32,
}

/// A generator that runs.
#[derive(Debug)]
pub(super) struct Running {
    traffic: Traffic,
    pasid: Option<Pasid>,
    pattern: u32,
    /// Requests so far, wraps.
    count: u32,
    due: Instant,
    random: fastrand::Rng,
}

/// Counts of requests, by outcome.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    done: u32,
    failed: u32,
    /// Without a completion. They fail later, by the Completion Timeout.
    unanswered: u32,
}

impl Running {
    /// The first burst is due at `due`.
    pub(super) fn new(traffic: Traffic, pasid: Option<Pasid>, pattern: u32, due: Instant) -> Self {
        Self { traffic, pasid, pattern, count: 0, due, random: fastrand::Rng::with_seed(0) }
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Sends one burst if it is due, `most` requests at most.
    fn send(&mut self, most: u32, dma: &mut Dma, bus: &mut Bus<'_>) -> Counts {
        let mut counts = Counts::default();
        if self.due > bus.now {
            return counts;
        }
        let Traffic { use_atc, burst, period, .. } = self.traffic;
        // A late call does not send the bursts that it has missed.
        let next = self.due + period;
        self.due = if next > bus.now { next } else { bus.now + period };
        for _ in 0..burst.min(most) {
            let address = self.next_address();
            let mut data = [0; BUFFER_SIZE];
            let data = &mut data[..self.traffic.length as usize];
            let transfer = match self.traffic.access {
                Access::Read => Transfer::Read(data),
                Access::Write => {
                    let word = u64::from(self.count) << 32 | u64::from(self.pattern);
                    let bytes = word.to_le_bytes().into_iter().cycle();
                    data.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
                    Transfer::Write(data)
                }
            };
            let path = DmaPath { use_atc, pasid: self.pasid, privileged: false };
            match dma.run(address, transfer, path, bus) {
                Ok(()) => counts.done += 1,
                Err(error) if error.is_unanswered() => counts.unanswered += 1,
                Err(_) => counts.failed += 1,
            }
            self.count = self.count.wrapping_add(1);
        }
        counts
    }

    /// As [`Self::send`], without a limit. `dma` counts the requests. Returns how many are not
    /// answered.
    pub(super) fn send_all(&mut self, dma: &mut Dma, bus: &mut Bus<'_>) -> u32 {
        self.send(u32::MAX, dma, bus).unanswered
    }

    fn next_address(&mut self) -> Iova {
        let Traffic { order, address, span, length, .. } = self.traffic;
        let places = (span / u64::from(length)).max(1);
        let place = match order {
            Order::Fixed => 0,
            Order::Sequential => u64::from(self.count) % places,
            Order::Random => self.random.u64(0..places),
        };
        Iova(address.0.wrapping_add(place * u64::from(length)))
    }
}

/// A generator: its registers, and its state while it runs.
#[derive(Debug)]
pub(super) struct Generator {
    control: Control,
    period: u32,
    address: u64,
    span: u64,
    length: u32,
    burst: u32,
    limit: u32,
    sent: Counts,
    running: Option<Running>,
}

impl Default for Generator {
    fn default() -> Self {
        Self {
            control: Control::new(),
            period: 1000,
            address: 0,
            span: 0,
            length: 8,
            burst: 1,
            limit: 0,
            sent: Counts::default(),
            running: None,
        }
    }
}

impl Generator {
    /// A generator that sends `traffic` as soon as bus mastering is enabled.
    pub(super) fn running(traffic: Traffic) -> Self {
        let Traffic { access, order, use_atc, address, span, length, burst, period } = traffic;
        let control = Control::new()
            .with_write(access == Access::Write)
            .with_use_atc(use_atc)
            .with_order(order as u8);
        Self {
            control,
            period: u32::try_from(period.as_micros()).unwrap_or(u32::MAX),
            address: address.0,
            span,
            length,
            burst,
            running: Some(Running::new(traffic, None, 0, Instant::START)),
            ..Self::default()
        }
    }

    fn traffic(&self) -> Traffic {
        Traffic {
            access: if self.control.write() { Access::Write } else { Access::Read },
            order: match self.control.order() {
                1 => Order::Sequential,
                2 => Order::Random,
                _ => Order::Fixed,
            },
            use_atc: self.control.use_atc(),
            address: Iova(self.address),
            span: self.span,
            length: self.length,
            burst: self.burst,
            period: Duration::from_micros(self.period.into()),
        }
    }

    /// Reads the register of four bytes at `offset`.
    pub(super) fn read(&self, offset: u64) -> u32 {
        match offset {
            CONTROL => self.control.with_run(self.running.is_some()).into_bits(),
            PERIOD => self.period,
            ADDRESS => half(self.address, 0),
            ADDRESS_HIGH => half(self.address, 32),
            SPAN => half(self.span, 0),
            SPAN_HIGH => half(self.span, 32),
            LENGTH => self.length,
            BURST => self.burst,
            LIMIT => self.limit,
            DONE => self.sent.done,
            FAILED => self.sent.failed,
            _ => 0,
        }
    }

    /// Writes the register of four bytes at `offset`. `pasid` and `pattern` are those of the
    /// endpoint.
    pub(super) fn write(
        &mut self,
        offset: u64,
        value: u32,
        (pasid, pattern): (Pasid, u32),
        now: Instant,
    ) {
        match offset {
            CONTROL => {
                self.control = Control::from_bits(value);
                let pasid = self.control.pasid().then_some(pasid);
                let start = || Running::new(self.traffic(), pasid, pattern, now);
                self.running = self.control.run().then(start);
                if self.control.run() {
                    self.sent = Counts::default();
                }
            }
            PERIOD => self.period = value.max(MIN_PERIOD),
            ADDRESS => self.address = with_half(self.address, value, 0),
            ADDRESS_HIGH => self.address = with_half(self.address, value, 32),
            SPAN => self.span = with_half(self.span, value, 0),
            SPAN_HIGH => self.span = with_half(self.span, value, 32),
            LENGTH => self.length = value.clamp(1, BUFFER_SIZE as u32),
            BURST => self.burst = value.clamp(1, MAX_BURST),
            LIMIT => self.limit = value,
            _ => {}
        }
    }

    /// When its next burst is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.running.as_ref().map(Running::due)
    }

    /// The Completion Timeout of a request has passed.
    pub(super) fn note_time_out(&mut self) {
        self.sent.failed = self.sent.failed.wrapping_add(1);
    }

    /// Sends a burst if it is due. Returns how many requests are not answered.
    pub(super) fn handle_timeout(&mut self, dma: &mut Dma, bus: &mut Bus<'_>) -> u32 {
        let Some(running) = &mut self.running else { return 0 };
        let left = match self.limit {
            0 => u32::MAX,
            limit => limit.saturating_sub(running.count),
        };
        let Counts { done, failed, unanswered } = running.send(left, dma, bus);
        self.sent.done = self.sent.done.wrapping_add(done);
        self.sent.failed = self.sent.failed.wrapping_add(failed);
        if self.limit != 0 && running.count >= self.limit {
            self.running = None;
        }
        unanswered
    }
}

#[cfg(test)]
mod tests;
