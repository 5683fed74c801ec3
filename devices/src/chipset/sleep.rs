//! Suspend to RAM (S3) of a machine with `pc-testdev`: PM1a's event registers, and the clock that wakes
//! the machine up.
//!
//! ```text
//!   PM1a control: SLP_EN, SLP_TYP 1 --> Output::Exit(Sleep): the CPUs and all but RAM lose power
//!   RTC alarm, if PM1a enable has RTC_EN --> the caller builds a new chipset, and resumes
//! ```
//!
//! Without the alarm nothing wakes the machine up. PM1a's status has no interrupt (SCI).

use std::time::Duration;

use iommu::time::Instant;

use super::Chipset;
use super::wires::Source;
use crate::root_complex::Line;
use crate::rtc::Rtc;

/// `RTC_STS` and `RTC_EN` of PM1a's event registers (`ACPI 4.8.3.1`).
const RTC: u16 = 1 << 10;
/// `WAK_STS`.
const WAKE: u16 = 1 << 15;
/// The interrupt of the clock.
const RTC_PIN: u8 = 8;

/// PM1a's event registers, and the clock.
#[derive(Debug, Default)]
pub(super) struct Sleep {
    pub(super) rtc: Rtc,
    status: u16,
    enable: u16,
}

/// What keeps its power while the machine sleeps, but for RAM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspended {
    rtc: Rtc,
    enable: u16,
    wake_after: Option<Duration>,
}

impl Suspended {
    /// The time that the machine sleeps; `None` if nothing wakes it up.
    pub fn wake_after(&self) -> Option<Duration> {
        self.wake_after
    }
}

impl Sleep {
    /// A read of the event registers: status at offset 0, enable at 2.
    pub(super) fn read_events(&self, offset: u16, data: &mut [u8]) {
        let [[a, b], [c, d]] = [self.status, self.enable].map(u16::to_le_bytes);
        let bytes = [a, b, c, d];
        let from = usize::from(offset);
        match bytes.get(from..from + data.len()) {
            Some(bytes) => data.copy_from_slice(bytes),
            None => data.fill(0xff),
        }
    }

    /// A write of the event registers, of two bytes at a time. Ones clear the status.
    pub(super) fn write_events(&mut self, offset: u16, data: &[u8]) {
        let Ok(value) = data.try_into().map(u16::from_le_bytes) else { return };
        match offset {
            0 => self.status &= !value,
            2 => self.enable = value & RTC,
            _ => {}
        }
    }
}

impl Chipset {
    /// The state of a machine that has gone to sleep, for [`Self::resume`] of the next chipset; `None` if
    /// the machine cannot sleep.
    pub fn suspend(&self, now: Instant) -> Option<Suspended> {
        let Sleep { rtc, enable, .. } = self.sleep.as_ref()?;
        let alarm = rtc.poll_timeout().filter(|_| enable & RTC != 0);
        let wake_after = alarm.map(|alarm| alarm - now);
        let elapsed = (now - Instant::START).saturating_add(wake_after.unwrap_or_default());
        Some(Suspended { rtc: rtc.continued(elapsed), enable: *enable, wake_after })
    }

    /// The machine wakes up by its alarm.
    pub fn resume(&mut self, suspended: Suspended) {
        let Suspended { rtc, enable, .. } = suspended;
        self.sleep = Some(Sleep { rtc, status: WAKE | RTC, enable });
    }

    /// The alarm may have gone off.
    pub(super) fn handle_alarm(&mut self, now: Instant) {
        let Some(sleep) = &mut self.sleep else { return };
        if sleep.rtc.handle_timeout(now) {
            sleep.status |= RTC;
            self.settle_rtc(now);
        }
    }

    /// A read of the clock's ports.
    pub(super) fn read_clock(&mut self, offset: u16, data: &mut [u8], now: Instant) {
        data.fill(0xff);
        if let (1, [value], Some(sleep)) = (offset, &mut *data, &mut self.sleep) {
            *value = sleep.rtc.read(now);
            self.settle_rtc(now);
        }
    }

    /// A write of the clock's ports.
    pub(super) fn write_clock(&mut self, offset: u16, data: &[u8], now: Instant) {
        match (offset, data, &mut self.sleep) {
            (0, [index], Some(sleep)) => sleep.rtc.select(*index),
            (1, [value], Some(sleep)) => sleep.rtc.write(*value, now),
            _ => {}
        }
    }

    fn settle_rtc(&mut self, now: Instant) {
        let level = self.sleep.as_ref().is_some_and(|sleep| sleep.rtc.is_asserted());
        self.set_line(Source::Clock, Line { pin: RTC_PIN, level });
        self.settle(now);
    }
}
