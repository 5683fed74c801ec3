//! The schedule of faults. The caller reports time and events, and the schedule answers with the
//! faults that are due. Each fault happens once.

use iommu::time::Instant;

use super::effect::Effect;
use super::mode::FaultMode;
use super::spec::{Fault, GuestConsole, Point, Trigger};

/// A port as a schedule sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortInfo {
    /// Its name.
    pub name: String,
    /// There is a link below it. The upper port of a switch has none.
    pub has_link: bool,
    /// Its slot has an attention button.
    pub has_button: bool,
}

/// The error of an invalid schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("fault {number} ('{fault}'): {reason}")]
pub struct ScheduleError {
    /// The fault's number, from 1.
    pub number: usize,
    /// The fault.
    pub fault: String,
    /// The rule that the fault breaks.
    pub reason: String,
}

/// Something that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action {
    /// The fault's number, from 0.
    pub fault: usize,
    /// The index of the port to which the fault happens.
    pub port: usize,
    /// The fault's mode.
    pub mode: FaultMode,
    /// Whether the fault ends. Otherwise it begins.
    pub ends: bool,
}

#[derive(Debug)]
struct Entry {
    fault: Fault,
    port: usize,
    has_happened: bool,
    ends: Option<Instant>,
}

impl Entry {
    fn counts_dma(&self) -> bool {
        matches!(self.fault.trigger, Trigger::Count(Point::Dma, _))
    }
}

/// Faults that wait for their moment.
#[derive(Debug, Default)]
pub struct Schedule {
    entries: Vec<Entry>,
    /// Whether any of them waits, or has waited, for DMA requests.
    counts_dma: bool,
    /// How often each point has been reached, in the order of [`Point::ALL`].
    counts: [u64; Point::ALL.len()],
}

impl Schedule {
    /// Checks the faults as a whole against the ports that there are.
    ///
    /// # Errors
    /// The first that cannot be, and why.
    pub fn new(faults: &[Fault], ports: &[PortInfo]) -> Result<Self, ScheduleError> {
        let mut entries: Vec<Entry> = Vec::with_capacity(faults.len());
        for (index, fault) in faults.iter().enumerate() {
            let wrong = |reason: String| ScheduleError {
                number: index + 1,
                fault: fault.to_string(),
                reason,
            };
            let port = find_port(fault, ports).map_err(wrong)?;
            if fault.mode == FaultMode::Safe && !ports[port].has_button {
                let name = &ports[port].name;
                return Err(wrong(format!(
                    "port '{name}' has no attention button; give it hotplug=button"
                )));
            }
            let twice = |entry: &&Entry| {
                entry.port == port
                    && entry.fault.trigger == fault.trigger
                    && entry.fault.mode.effect().is_about_link()
                        == fault.mode.effect().is_about_link()
            };
            if let Some(other) = entries.iter().find(twice) {
                let other = &other.fault;
                return Err(wrong(format!("it contradicts '{other}', at the same moment")));
            }
            entries.push(Entry { fault: fault.clone(), port, has_happened: false, ends: None });
        }
        let counts_dma = entries.iter().any(Entry::counts_dma);
        Ok(Self { entries, counts_dma, counts: Default::default() })
    }

    /// The fault with that number, counted from 0, as it is written.
    pub fn text(&self, fault: usize) -> String {
        self.entries.get(fault).map(|entry| entry.fault.to_string()).unwrap_or_default()
    }

    /// The regular expressions for lines of `console` that faults wait for, each with the number of
    /// its fault.
    pub fn expressions(&self, console: GuestConsole) -> impl Iterator<Item = (usize, &str)> {
        let of_entry = move |(index, entry)| {
            let Entry { fault, .. }: &Entry = entry;
            match &fault.trigger {
                Trigger::Line(of, expression) if *of == console => {
                    Some((index, expression.as_str()))
                }
                _ => None,
            }
        };
        self.entries.iter().enumerate().filter_map(of_entry)
    }

    /// When [`Self::handle_timeout`] must be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.entries.iter().filter_map(Entry::due).min()
    }

    /// The next action that is due by time at `now`. Call this until it returns `None`.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Action> {
        let due = |entry: &Entry| entry.due().filter(|due| *due <= now);
        let (_, index) = (0..self.entries.len())
            .filter_map(|index| Some((due(&self.entries[index])?, index)))
            .min()?;
        let entry = &mut self.entries[index];
        if entry.ends.take().is_some() {
            return Some(entry.action(index, true));
        }
        Some(self.happen(index, now))
    }

    /// The bench's doorbell rings. Returns the next action. Call this until it returns `None`.
    pub fn doorbell(&mut self, now: Instant) -> Option<Action> {
        let waits = |entry: &Entry| entry.fault.trigger == Trigger::Doorbell;
        self.next(waits, now)
    }

    /// The console has shown what the fault with that number waits for.
    pub fn matched(&mut self, fault: usize, now: Instant) -> Option<Action> {
        let entry = self.entries.get(fault)?;
        let waits = matches!(entry.fault.trigger, Trigger::Line(..)) && !entry.has_happened;
        waits.then(|| self.happen(fault, now))
    }

    /// A point is reached once more. Then call [`Self::reached`] for the actions.
    pub fn count(&mut self, point: Point) {
        self.counts[point as usize] += 1;
    }

    /// The next action that is due by the count of `point`. Call this until it returns `None`.
    pub fn reached(&mut self, point: Point, now: Instant) -> Option<Action> {
        let count = self.counts[point as usize];
        let waits = move |entry: &Entry| {
            matches!(entry.fault.trigger, Trigger::Count(at, number) if at == point && number <= count)
                && point != Point::Dma
        };
        self.next(waits, now)
    }

    /// The next action that is due because `count` DMA requests have passed the link of a port.
    pub fn dma(&mut self, port: usize, count: u64, now: Instant) -> Option<Action> {
        let waits = move |entry: &Entry| {
            entry.port == port
                && matches!(entry.fault.trigger, Trigger::Count(Point::Dma, n) if n <= count)
        };
        self.next(waits, now)
    }

    /// How often a point must be reached before something happens, `None` if nothing will.
    pub fn next_count(&self, point: Point) -> Option<u64> {
        let numbers = self.waiting().filter_map(|entry| match entry.fault.trigger {
            Trigger::Count(at, number) if at == point => Some(number),
            _ => None,
        });
        Some(numbers.min()?.saturating_sub(self.counts[point as usize]))
    }

    /// The faults that wait for DMA requests of a port: after how many, and what they do then.
    pub fn waiting_for_dma(&self, port: usize) -> impl Iterator<Item = (u64, Effect)> {
        let of_port = self.waiting().filter(move |entry| entry.port == port);
        of_port.filter_map(|entry| match entry.fault.trigger {
            Trigger::Count(Point::Dma, number) => Some((number, entry.fault.mode.effect())),
            _ => None,
        })
    }

    /// Whether a fault waits, or has waited, for DMA requests.
    pub fn counts_dma(&self) -> bool {
        self.counts_dma
    }

    /// The first port, from the one with index `from` on, at which faults wait for DMA requests.
    pub fn next_dma_port(&self, from: usize) -> Option<usize> {
        let counting = self.waiting().filter(|entry| entry.counts_dma());
        counting.map(|entry| entry.port).filter(|port| *port >= from).min()
    }

    /// The faults that have happened: to which port, and which.
    pub fn happened(&self) -> impl Iterator<Item = (usize, FaultMode)> {
        let happened = self.entries.iter().filter(|entry| entry.has_happened);
        happened.map(|entry| (entry.port, entry.fault.mode))
    }

    fn waiting(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| !entry.has_happened)
    }

    fn next(&mut self, waits: impl Fn(&Entry) -> bool, now: Instant) -> Option<Action> {
        let index = self.entries.iter().position(|entry| !entry.has_happened && waits(entry))?;
        Some(self.happen(index, now))
    }

    fn happen(&mut self, index: usize, now: Instant) -> Action {
        let entry = &mut self.entries[index];
        entry.has_happened = true;
        entry.ends = entry.fault.lasts.map(|lasts| now + lasts);
        entry.action(index, false)
    }
}

impl Entry {
    /// When it begins or ends because of the time.
    fn due(&self) -> Option<Instant> {
        match self.fault.trigger {
            Trigger::At(time) if !self.has_happened => Some(Instant::START + time),
            _ => self.ends,
        }
    }

    fn action(&self, fault: usize, ends: bool) -> Action {
        Action { fault, port: self.port, mode: self.fault.mode, ends }
    }
}

fn find_port(fault: &Fault, ports: &[PortInfo]) -> Result<usize, String> {
    let is_meant = |port: &PortInfo| match &fault.port {
        Some(name) => port.has_link && port.name == *name,
        None => port.has_link,
    };
    ports.iter().position(is_meant).ok_or_else(|| {
        let with_link = ports.iter().filter(|port| port.has_link);
        let names: Vec<&str> = with_link.map(|port| port.name.as_str()).collect();
        match &fault.port {
            Some(name) => format!("there is no port '{name}'; there are {}", names.join(", ")),
            None => "there is no port; add one".to_owned(),
        }
    })
}

#[cfg(test)]
mod tests;
