//! A High Precision Event Timer (IA-PC HPET Specification 1.0a): a counter of 100 MHz and three timers.
//!
//! ```text
//!   counter --+--> timer 0: comparator --> pin 2  (legacy replacement), a routed pin, or a message
//!             +--> timer 1: comparator --> pin 8, a routed pin, or a message
//!             `--> timer 2: comparator --> a routed pin, or a message
//! ```
//!
//! It has the features of QEMU's. A timer matches when the counter reaches its comparator: one that is
//! set to the past waits until the counter has wrapped, as in hardware. A timer in 32-bit mode
//! compares the low half, and so matches every 43 s.

mod regs;

use std::collections::VecDeque;
use std::time::Duration;

use iommu::ats::Msi;
use iommu::time::Instant;

pub use regs::*;

/// The pins of timers 0 and 1 in legacy replacement mode (2.3.5).
const LEGACY_PINS: [u8; 2] = [2, 8];
/// The shortest time between two interrupts of a periodic timer, as in QEMU. A guest could
/// otherwise keep the host busy with a period of one tick.
const SHORTEST_PERIOD: Duration = Duration::from_micros(100);

/// An effect outside of the HPET.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// The level of a wire to this pin of the I/O APIC.
    Line {
        /// The pin.
        pin: u8,
        /// Asserted.
        level: bool,
    },
    /// A message.
    Msi(Msi),
}

#[derive(Debug, Clone, Copy)]
struct Timer {
    configuration: TimerConfiguration,
    comparator: u64,
    /// Ticks between matches of a periodic timer.
    period: u64,
    /// The address of a message in the upper half, its data in the lower one.
    fsb_route: u64,
    /// The next match.
    due: Option<Instant>,
}

impl Timer {
    const RESET: Self = Self {
        configuration: TimerConfiguration::RESET,
        comparator: u64::MAX,
        period: 0,
        fsb_route: 0,
        due: None,
    };

    /// The bits that it compares.
    fn mask(&self) -> u64 {
        if self.configuration.force_32_bit() { u32::MAX.into() } else { u64::MAX }
    }

    /// When the counter, which is `counter` at `now`, reaches the comparator. `None` if that is
    /// more than 584 years away.
    fn next_match(&self, counter: u64, now: Instant) -> Option<Instant> {
        let ticks = self.comparator.wrapping_sub(counter) & self.mask();
        // It matches when the counter comes to the value, and not while the counter stays there.
        let ticks = if ticks == 0 { self.mask().checked_add(1)? } else { ticks };
        // A part of the current tick may have passed: the match is at most one tick late.
        let nanos = ticks.checked_mul(TICK_NANOS)?;
        now.as_nanos().checked_add(nanos).map(Instant::from_nanos)
    }

    /// Moves the comparator of a periodic timer behind `counter`.
    fn advance(&mut self, counter: u64) {
        let (period, mask) = (self.period & self.mask(), self.mask());
        if !self.configuration.periodic() || period == 0 {
            return;
        }
        let behind = counter.wrapping_sub(self.comparator) & mask;
        let steps = (behind / period).wrapping_add(1);
        self.comparator = self.comparator.wrapping_add(steps.wrapping_mul(period)) & mask;
    }

    fn write_comparator(&mut self, value: u64) {
        let value = value & self.mask();
        if !self.configuration.periodic() || self.configuration.set_value() {
            self.comparator = value;
        }
        if self.configuration.periodic() {
            // Half the range at the most, so that a match and the next one can be told apart.
            self.period = value & (self.mask() >> 1);
        }
        self.configuration.set_set_value(false);
    }
}

/// The HPET.
#[derive(Debug)]
pub struct Hpet {
    configuration: Configuration,
    /// The timers with a level-triggered interrupt that is not cleared, a bit for each.
    status: u64,
    /// The counter's value when it was started or stopped last.
    counter: u64,
    /// When the counter was started.
    started: Instant,
    timers: [Timer; TIMERS],
    outputs: VecDeque<Output>,
}

impl Default for Hpet {
    fn default() -> Self {
        Self {
            configuration: Configuration::new(),
            status: 0,
            counter: 0,
            started: Instant::START,
            timers: [Timer::RESET; TIMERS],
            outputs: VecDeque::new(),
        }
    }
}

impl Hpet {
    /// An HPET after reset: its counter is stopped at 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// A read at `offset` of the block: four or eight bytes, aligned. Others read as all ones.
    pub fn read(&self, offset: u64, data: &mut [u8], now: Instant) {
        if !is_valid(offset, data.len()) {
            return data.fill(0xff);
        }
        let shift = 8 * (offset % 8);
        let bytes = (self.register(offset - offset % 8, now) >> shift).to_le_bytes();
        data.copy_from_slice(&bytes[..data.len()]);
    }

    /// A write at `offset` of the block: four or eight bytes, aligned. Others are lost.
    pub fn write(&mut self, offset: u64, data: &[u8], now: Instant) {
        if !is_valid(offset, data.len()) {
            return;
        }
        let register = offset - offset % 8;
        let mut bytes = match register {
            // A half that is not written clears nothing.
            INTERRUPT_STATUS => [0; 8],
            _ => self.write_base(register, now).to_le_bytes(),
        };
        let at = (offset % 8) as usize;
        bytes[at..at + data.len()].copy_from_slice(data);
        self.write_register(register, u64::from_le_bytes(bytes), now);
    }

    /// The next match of a timer that interrupts.
    pub fn poll_timeout(&self) -> Option<Instant> {
        Instant::earliest(self.timers.map(|timer| timer.due))
    }

    /// Interrupts for the timers that match at `now` or have before.
    pub fn handle_timeout(&mut self, now: Instant) {
        let counter = self.counter_at(now);
        for index in 0..TIMERS {
            let timer = &mut self.timers[index];
            if timer.due.is_none_or(|due| due > now) {
                continue;
            }
            timer.advance(counter);
            timer.due = timer.next_match(counter, now);
            if timer.configuration.periodic() {
                timer.due = timer.due.map(|due| due.max(now + SHORTEST_PERIOD));
            }
            self.interrupt(index);
        }
    }

    /// Takes the oldest output. Drain it after every other call.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn counter_at(&self, now: Instant) -> u64 {
        match self.configuration.enable() {
            true => {
                let elapsed = (now - self.started).as_nanos() as u64;
                self.counter.wrapping_add(elapsed / TICK_NANOS)
            }
            false => self.counter,
        }
    }

    fn register(&self, register: u64, now: Instant) -> u64 {
        match register {
            CAPABILITIES => CAPABILITIES_VALUE.into_bits(),
            CONFIGURATION => self.configuration.into_bits(),
            INTERRUPT_STATUS => self.status,
            COUNTER => self.counter_at(now),
            _ => match timer_at(register) {
                Some((index, TIMER_CONFIGURATION)) => self.timers[index].configuration.into_bits(),
                Some((index, TIMER_COMPARATOR)) => self.timers[index].comparator,
                Some((index, TIMER_FSB_ROUTE)) => self.timers[index].fsb_route,
                _ => 0,
            },
        }
    }

    /// The value that a write of half a register is merged with.
    fn write_base(&self, register: u64, now: Instant) -> u64 {
        match timer_at(register) {
            // Without "set value", a write to a periodic timer's comparator sets the period.
            Some((index, TIMER_COMPARATOR))
                if self.timers[index].configuration.periodic()
                    && !self.timers[index].configuration.set_value() =>
            {
                self.timers[index].period
            }
            _ => self.register(register, now),
        }
    }

    fn write_register(&mut self, register: u64, value: u64, now: Instant) {
        match register {
            CONFIGURATION => self.configure(Configuration::from_bits(value & 0b11), now),
            INTERRUPT_STATUS => {
                (0..TIMERS).filter(|index| value & 1 << index != 0).for_each(|i| self.release(i));
            }
            // It cannot be set while it runs (2.3.7).
            COUNTER if !self.configuration.enable() => self.counter = value,
            _ => {
                if let Some((index, register)) = timer_at(register) {
                    self.write_timer(index, register, value, now);
                }
            }
        }
    }

    fn configure(&mut self, new: Configuration, now: Instant) {
        let counter = self.counter_at(now);
        let old = std::mem::replace(&mut self.configuration, new);
        if old.legacy_replacement() != new.legacy_replacement() {
            // The wires of the other mode would stay asserted.
            self.configuration = old;
            (0..LEGACY_PINS.len()).for_each(|index| self.release(index));
            self.configuration = new;
        }
        if old.enable() != new.enable() {
            (self.counter, self.started) = (counter, now);
            if !new.enable() {
                (0..TIMERS).for_each(|index| self.release(index));
            }
            (0..TIMERS).for_each(|index| self.set_due(index, now));
        }
    }

    fn write_timer(&mut self, index: usize, register: u64, value: u64, now: Instant) {
        match register {
            TIMER_CONFIGURATION => {
                self.release_if_changed(index, value);
                let timer = &mut self.timers[index];
                let writable = TimerConfiguration::WRITABLE.into_bits();
                let old = timer.configuration.into_bits();
                let new = TimerConfiguration::from_bits(old & !writable | value & writable);
                timer.configuration = new;
                // A route that the timer does not have cannot be chosen (2.3.8).
                if ROUTES & 1 << new.route() == 0 {
                    timer.configuration.set_route(0);
                }
                timer.comparator &= timer.mask();
                timer.period &= timer.mask();
            }
            TIMER_COMPARATOR => self.timers[index].write_comparator(value),
            TIMER_FSB_ROUTE => return self.timers[index].fsb_route = value,
            _ => return,
        }
        self.set_due(index, now);
    }

    fn set_due(&mut self, index: usize, now: Instant) {
        let counter = self.counter_at(now);
        let is_running = self.configuration.enable();
        let timer = &mut self.timers[index];
        let is_on = is_running && timer.configuration.enable();
        timer.due = if is_on { timer.next_match(counter, now) } else { None };
    }

    /// The pin of a timer; 0 if it has none.
    fn pin(&self, index: usize) -> u8 {
        match LEGACY_PINS.get(index) {
            Some(pin) if self.configuration.legacy_replacement() => *pin,
            _ => self.timers[index].configuration.route(),
        }
    }

    fn interrupt(&mut self, index: usize) {
        let (timer, pin) = (self.timers[index], self.pin(index));
        if timer.configuration.fsb_enable() {
            let (address, data) = (timer.fsb_route >> 32, timer.fsb_route as u32);
            self.outputs.push_back(Output::Msi(Msi { address, data }));
            return;
        }
        if timer.configuration.level() {
            self.status |= 1 << index;
        }
        if pin == 0 {
            return;
        }
        self.outputs.push_back(Output::Line { pin, level: true });
        if !timer.configuration.level() {
            self.outputs.push_back(Output::Line { pin, level: false });
        }
    }

    /// Ends the level-triggered interrupt of a timer.
    fn release(&mut self, index: usize) {
        if self.status & 1 << index == 0 {
            return;
        }
        self.status &= !(1 << index);
        let pin = self.pin(index);
        let is_shared =
            (0..TIMERS).any(|other| self.status & 1 << other != 0 && self.pin(other) == pin);
        if pin != 0 && !is_shared {
            self.outputs.push_back(Output::Line { pin, level: false });
        }
    }

    /// Ends the interrupt of a timer whose new configuration leads elsewhere or nowhere.
    fn release_if_changed(&mut self, index: usize, value: u64) {
        let (old, new) = (self.timers[index].configuration, TimerConfiguration::from_bits(value));
        let same = new.enable() && new.level() && !new.fsb_enable() && new.route() == old.route();
        if !same {
            self.release(index);
        }
    }
}

fn is_valid(offset: u64, length: usize) -> bool {
    matches!(length, 4 | 8) && offset.is_multiple_of(length as u64)
}

/// The timer whose register this is, and the register's offset in its block.
fn timer_at(register: u64) -> Option<(usize, u64)> {
    let offset = register.checked_sub(TIMER)?;
    let index = usize::try_from(offset / TIMER_STRIDE).ok()?;
    (index < TIMERS).then_some((index, offset % TIMER_STRIDE))
}

#[cfg(test)]
mod tests;
