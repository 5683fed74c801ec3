//! The real-time clock of a PC, as far as it wakes a machine up: Motorola's MC146818 with its time of
//! day and its alarm, behind ports 0x70 (index) and 0x71 (data).
//!
//! | register | |
//! |---|---|
//! | 0, 2, 4 | RO seconds, minutes, hours (24) |
//! | 1, 3, 5 | RW alarm; 0xc0 and up match any value |
//! | 6, 7, 8, 9 | RO day of the week (1 is Sunday), day, month, year |
//! | 0x0a | RO bit 7: the time changes within 2.2 ms (UIP) |
//! | 0x0b | RW bit 5: alarm interrupt (AIE); bit 2: binary instead of BCD; bit 1 reads 1: 24 hours |
//! | 0x0c | RO bit 7: interrupt request, bit 5: alarm; a read clears both |
//! | 0x0d | RO bit 7: the time is valid |
//! | from 0x0e | RW memory, up to 0x7f |
//!
//! The clock begins at 2000-01-01, and software cannot set it. There are no periodic interrupts and
//! none for each update.

use std::time::Duration;

use iommu::time::Instant;

const ALARM: [u8; 3] = [1, 3, 5];
const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;
const STATUS_C: u8 = 0x0c;
const STATUS_D: u8 = 0x0d;

const UPDATE_IN_PROGRESS: u8 = 1 << 7;
/// A divider for 32.768 kHz, and a rate of 1024 Hz.
const RATE: u8 = 0x26;
const ALARM_ENABLE: u8 = 1 << 5;
const BINARY: u8 = 1 << 2;
const HOURS_24: u8 = 1 << 1;
const ALARM_FLAG: u8 = 1 << 5;
const REQUEST: u8 = 1 << 7;
const VALID: u8 = 1 << 7;
/// The values of an alarm register from here on match any time.
const ANY: u8 = 0xc0;
/// From the start of UIP to the end of an update: 244 us before it, and 1984 us for it.
const UPDATE: Duration = Duration::from_micros(244 + 1984);
const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 24 * 60 * 60;
/// 2000-01-01 was a Saturday.
const FIRST_WEEKDAY: u64 = 6;

/// The clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rtc {
    /// The time at [`Instant::START`], since 2000-01-01.
    base: Duration,
    index: u8,
    alarm: [u8; 3],
    control: u8,
    flags: u8,
    memory: [u8; 0x80],
    /// When the alarm goes off, if its interrupt is enabled.
    due: Option<Instant>,
}

impl Default for Rtc {
    fn default() -> Self {
        Self::new()
    }
}

impl Rtc {
    /// A clock that begins now.
    pub fn new() -> Self {
        Self {
            base: Duration::ZERO,
            index: 0,
            alarm: [0; 3],
            control: HOURS_24,
            flags: 0,
            memory: [0; 0x80],
            due: None,
        }
    }

    /// The same clock for a machine whose time begins anew, `elapsed` after [`Instant::START`].
    #[must_use]
    pub fn continued(&self, elapsed: Duration) -> Self {
        let mut rtc = Self { base: self.base.saturating_add(elapsed), ..self.clone() };
        rtc.set_due(Instant::START);
        rtc
    }

    /// A write of the index port.
    pub fn select(&mut self, index: u8) {
        self.index = index & 0x7f;
    }

    /// A read of the data port.
    pub fn read(&mut self, now: Instant) -> u8 {
        let seconds = self.seconds(now);
        let (of_day, days) = (seconds % DAY, seconds / DAY);
        let time = [of_day % 60, of_day / 60 % 60, of_day / 3600];
        match self.index {
            index @ (0 | 2 | 4) => self.encode(time[usize::from(index / 2)]),
            index @ (1 | 3 | 5) => self.alarm[usize::from(index / 2)],
            6 => self.encode((days + FIRST_WEEKDAY) % 7 + 1),
            7 => self.encode(date(days).2),
            8 => self.encode(date(days).1),
            9 => self.encode(date(days).0 % 100),
            STATUS_A => {
                let until_update = SECOND - self.nanos(now) % SECOND;
                let updates = Duration::from_nanos(until_update) <= UPDATE;
                RATE | if updates { UPDATE_IN_PROGRESS } else { 0 }
            }
            STATUS_B => self.control,
            STATUS_C => std::mem::take(&mut self.flags),
            STATUS_D => VALID,
            index => self.memory[usize::from(index)],
        }
    }

    /// A write of the data port.
    pub fn write(&mut self, value: u8, now: Instant) {
        match self.index {
            index if ALARM.contains(&index) => self.alarm[usize::from(index / 2)] = value,
            0..=9 | STATUS_A | STATUS_C | STATUS_D => return,
            STATUS_B => self.control = value & (ALARM_ENABLE | BINARY) | HOURS_24,
            index => self.memory[usize::from(index)] = value,
        }
        self.set_due(now);
    }

    /// Whether it requests an interrupt.
    pub fn is_asserted(&self) -> bool {
        self.flags & REQUEST != 0
    }

    /// When the alarm goes off next, if its interrupt is enabled.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Returns whether the alarm has gone off.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        let Some(due) = self.due.filter(|due| *due <= now) else { return false };
        self.flags |= ALARM_FLAG | REQUEST;
        self.set_due(due.max(now));
        true
    }

    fn nanos(&self, now: Instant) -> u64 {
        let time = self.base.saturating_add(now - Instant::START);
        u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
    }

    fn seconds(&self, now: Instant) -> u64 {
        self.nanos(now) / SECOND
    }

    fn encode(&self, value: u64) -> u8 {
        let value = value as u8;
        if self.control & BINARY != 0 { value } else { ((value / 10) << 4) | (value % 10) }
    }

    fn set_due(&mut self, now: Instant) {
        self.due = (self.control & ALARM_ENABLE != 0).then(|| self.next_alarm(now)).flatten();
    }

    /// The first second after `now` that matches the alarm; `None` if no time of day does.
    fn next_alarm(&self, now: Instant) -> Option<Instant> {
        let (nanos, seconds) = (self.nanos(now), self.seconds(now));
        let matches = |second: &u64| {
            let of_day = second % DAY;
            let time = [of_day % 60, of_day / 60 % 60, of_day / 3600];
            let is_it = |(alarm, value): (&u8, u64)| *alarm >= ANY || *alarm == self.encode(value);
            self.alarm.iter().zip(time).all(is_it)
        };
        let second = (seconds + 1..=seconds + DAY).find(matches)?;
        Some(now + Duration::from_nanos(second.saturating_mul(SECOND).saturating_sub(nanos)))
    }
}

/// Year, month and day, `days` after 2000-01-01.
fn date(mut days: u64) -> (u64, u64, u64) {
    /// Days in 400 years, after which the calendar repeats.
    const CYCLE: u64 = 146_097;
    let mut year = 2000 + days / CYCLE * 400;
    days %= CYCLE;
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Instant {
        Instant::START + Duration::from_secs_f64(seconds)
    }

    fn read(rtc: &mut Rtc, index: u8, now: Instant) -> u8 {
        rtc.select(index);
        rtc.read(now)
    }

    fn write(rtc: &mut Rtc, index: u8, value: u8, now: Instant) {
        rtc.select(index);
        rtc.write(value, now);
    }

    #[test]
    fn time_and_date_are_bcd_or_binary() {
        let mut rtc = Rtc::new();
        // 2004-02-29 was a Sunday: 4 * 365 + 1 days, and 59.
        let now = at(((1461 + 59) * DAY + 23 * 3600 + 58 * 60 + 57) as f64);
        let all = |rtc: &mut Rtc| [0, 2, 4, 6, 7, 8, 9].map(|index| read(rtc, index, now));
        assert_eq!(all(&mut rtc), [0x57, 0x58, 0x23, 1, 0x29, 2, 4]);
        write(&mut rtc, STATUS_B, BINARY, now);
        assert_eq!(all(&mut rtc), [57, 58, 23, 1, 29, 2, 4]);
        write(&mut rtc, 0, 1, now);
        assert_eq!(read(&mut rtc, 0, now), 57, "software cannot set it");
    }

    #[test]
    fn an_update_announces_itself() {
        let mut rtc = Rtc::new();
        for (time, updates) in [(0.5, false), (0.997, false), (0.998, true), (1.0, false)] {
            let status = read(&mut rtc, STATUS_A, at(time));
            assert_eq!(status & UPDATE_IN_PROGRESS != 0, updates, "{time}");
        }
    }

    #[test]
    fn the_alarm_goes_off_at_its_time_and_its_flag_is_cleared_by_a_read() {
        let mut rtc = Rtc::new();
        for (register, value) in ALARM.into_iter().zip([0x30, 0x01, ANY]) {
            write(&mut rtc, register, value, at(0.25));
        }
        assert_eq!(rtc.poll_timeout(), None, "its interrupt is off");
        write(&mut rtc, STATUS_B, ALARM_ENABLE, at(0.25));
        assert_eq!(rtc.poll_timeout(), Some(at(90.0)));
        assert!(!rtc.handle_timeout(at(89.0)) && rtc.handle_timeout(at(90.0)));
        assert_eq!(rtc.poll_timeout(), Some(at(3690.0)), "an hour later");
        assert!(rtc.is_asserted());
        assert_eq!(read(&mut rtc, STATUS_C, at(90.0)), 0xa0);
        assert_eq!((read(&mut rtc, STATUS_C, at(90.0)), rtc.is_asserted()), (0, false));
        // No minute has this number.
        write(&mut rtc, 3, 0x61, at(90.0));
        assert_eq!(rtc.poll_timeout(), None);
    }

    #[test]
    fn it_goes_on_while_the_machine_is_off() {
        let mut rtc = Rtc::new();
        for register in ALARM {
            write(&mut rtc, register, ANY, at(0.0));
        }
        write(&mut rtc, STATUS_B, ALARM_ENABLE, at(0.0));
        let mut later = rtc.continued(Duration::from_millis(61_250));
        assert_eq!((read(&mut later, 0, at(0.0)), read(&mut later, 2, at(0.0))), (1, 1));
        assert_eq!(later.poll_timeout(), Some(at(0.75)));
    }
}
