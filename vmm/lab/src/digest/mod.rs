//! One run in ten lines: what the policy promises, what happened, the first unsafe event with its
//! cause, and the CPU that was stuck for longest.

mod facts;
mod promise;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use iommu::event::{Event, LockupDetector};
use iommu::submit::{Completion, Verdict};
use iommu::time::Instant;

use super::narrate;
use super::properties::Properties;
use super::sim::{RunResult, RunSpec};
use super::text::time;
use super::timelines::Replay;
use facts::{Facts, FirstUnsafe, Stretch};

/// Writes the summary of a run: a line for each fact, with its name in front. Times are counted
/// from the fault.
///
/// # Errors
///
/// `out` cannot be written.
pub fn digest(spec: &RunSpec, replay: &Replay, out: &mut dyn Write) -> io::Result<()> {
    let facts = Facts::new(&replay.events, Instant::START + spec.horizon);
    let digest = Digest { spec, result: &replay.result, facts };
    for (name, text) in digest.lines() {
        writeln!(out, "  {name:13} {text}")?;
    }
    Ok(())
}

struct Digest<'a> {
    spec: &'a RunSpec,
    result: &'a RunResult,
    facts: Facts,
}

impl Digest<'_> {
    fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![
            ("promised", promise::promise(&self.spec.policy, self.spec.unit.ict)),
            ("fault", self.fault()),
            ("outcome", self.outcome()),
            ("stale DMA", self.stale_accesses()),
            ("first unsafe", self.first_unsafe()),
            ("cause", self.cause()),
            ("longest wait", self.longest()),
            ("lock-ups", self.lockups()),
            ("verdicts", self.verdicts()),
            ("at the end", self.end()),
        ];
        lines.retain(|(_, text)| !text.is_empty());
        lines
    }

    fn fault(&self) -> String {
        let about = &self.spec.fault.about;
        match &self.facts.fault {
            Some((at, fault)) => {
                format!("{about} ({fault}), {} into the run", time(*at - Instant::START))
            }
            None => format!("{about}: no fault happened"),
        }
    }

    /// Whether the run was live, safe and fair.
    fn outcome(&self) -> String {
        let result = self.result;
        let Properties { live, safe, fair } = Properties::of(result, Properties::WITHIN);
        let live = if live { "live" } else { "NOT LIVE" };
        let safe = if safe { "safe" } else { "NOT SAFE" };
        let fair = if fair { "fair" } else { "NOT FAIR to healthy devices" };
        let longest = result.stuck.max().max(result.innocent.max()).max(result.waiting.max());
        format!("{live}, {safe}, {fair}; the longest wait is {}", time(longest))
    }

    fn stale_accesses(&self) -> String {
        let result = self.result;
        if result.stale_accesses == 0 {
            return match result.deferred_accesses {
                0 => "none".to_owned(),
                count => {
                    format!("none; {count} accesses between an unmapping and its deferred flush")
                }
            };
        }
        let by = self.facts.stale.iter().map(|(function, count)| format!("{function} {count}"));
        format!(
            "{} accesses ({}), {} by healthy devices, {} to pages of another device; pages were \
             exposed for {} in all",
            result.stale_accesses,
            by.collect::<Vec<_>>().join(", "),
            result.stale_innocent,
            result.stale_foreign,
            time(result.exposure.sum()),
        )
    }

    fn first_unsafe(&self) -> String {
        let Some(FirstUnsafe { event, .. }) = &self.facts.first_unsafe else {
            return String::new();
        };
        let text = narrate::sentence(&event.event).unwrap_or_default();
        format!("{}  {text}", self.when(event.at))
    }

    /// What led to the first unsafe event.
    fn cause(&self) -> String {
        let Some(FirstUnsafe { event, of }) = &self.facts.first_unsafe else {
            return String::new();
        };
        let Some(stretch) = of else { return String::new() };
        let caller = format!("the caller on {}", self.cpu(stretch.cpu));
        if matches!(event.event, Event::FalseCompletion { .. }) {
            let word = match self.spec.policy.completion {
                Completion::Slot => "the word of its ring slot, which an earlier wait still wrote",
                Completion::Sequence => "one rising number for all, which a later wait wrote",
                Completion::Cpu => "the word of its CPU, which an earlier wait still wrote",
                Completion::Leak | Completion::Numbered => "a word that another wait wrote",
            };
            let behind = self.blocker(stretch.to);
            return format!("{caller} polled {word}; its own wait is not done{behind}");
        }
        let end = match stretch.verdict {
            Some((_, Verdict::Completed)) => "was told that it is complete".to_owned(),
            Some((_, verdict)) => narrate::verdict(verdict).to_owned(),
            None => "went on".to_owned(),
        };
        format!(
            "{caller} goes on {} ({end}), and the page is given back; {}",
            self.when(stretch.to),
            self.fate(stretch)
        )
    }

    /// What became of the Invalidate Request of an invalidation by its end.
    fn fate(&self, stretch: &Stretch) -> String {
        let function = stretch.function;
        let Some(request) = self.facts.request_of(stretch) else {
            return match stretch.submitted {
                None => format!("no Invalidate Request was submitted for {function}"),
                Some(_) => format!(
                    "its Invalidate Request to {function} was still in the queue{}",
                    self.blocker(stretch.to)
                ),
            };
        };
        let sent = format!("ITag {} to {function}, sent {}", request.itag, self.when(request.sent));
        match request.answered {
            Some(answered) if answered <= stretch.to => {
                format!("{sent}, was answered {}, and the ATC kept the page", self.when(answered))
            }
            Some(answered) => format!("{sent}, was answered {}: too late", self.when(answered)),
            None => format!("{sent}, had no answer to the end of the run"),
        }
    }

    /// The request behind which the queue stands at `at`.
    fn blocker(&self, at: Instant) -> String {
        let Some((function, request)) = self.facts.oldest_unanswered(at) else {
            return String::new();
        };
        format!(
            ", behind ITag {} to {function}, unanswered since {}",
            request.itag,
            self.when(request.sent)
        )
    }

    /// The CPU with the longest stretch of interrupts off: where, and for how long.
    fn longest(&self) -> String {
        let longest = self.facts.stretches.iter().max_by_key(|stretch| {
            // Of equals the first.
            (stretch.length(), std::cmp::Reverse(stretch.from))
        });
        let Some(stretch) = longest else { return "no CPU waited".to_owned() };
        let mut text = format!(
            "{} for {}, IRQs off for {} {}",
            self.cpu(stretch.cpu),
            stretch.function,
            time(stretch.length()),
            if stretch.has_ended {
                format!("from {}", self.when(stretch.from))
            } else {
                format!("from {} to the end of the run", self.when(stretch.from))
            },
        );
        let in_lock = stretch.in_lock();
        let polls = stretch.length() - in_lock;
        let mut parts = Vec::new();
        if in_lock > Duration::ZERO {
            parts.push(format!("{} on the lock of the domain", time(in_lock)));
        }
        if stretch.locked.is_some() {
            let place = if stretch.submitted.is_some() {
                "polling its status word"
            } else {
                "at a full queue"
            };
            parts.push(format!("{} {place}", time(polls)));
        }
        let _ = write!(text, ": {}", parts.join(", "));
        if stretch.length() >= NOTABLE {
            // Where the queue stood in the middle of the wait.
            let middle = stretch.from + stretch.length() / 2;
            text += &self.blocker(middle);
        }
        text
    }

    /// The first report of each lock-up detector, and the CPUs.
    fn lockups(&self) -> String {
        let result = self.result;
        if result.hard_lockups + result.soft_lockups == 0 {
            return "none".to_owned();
        }
        let limit = LockupDetector::Hard.threshold();
        let mut cpus: Vec<u16> = self
            .facts
            .stretches
            .iter()
            .filter(|stretch| stretch.length() >= limit)
            .map(|stretch| stretch.cpu)
            .collect();
        cpus.sort_unstable();
        cpus.dedup();
        let first = self.facts.stretches.iter().filter(|stretch| stretch.length() >= limit);
        let first = first.map(|stretch| stretch.from).min();
        let first = first.map(|from| format!(", the first {}", self.when(from + limit)));
        let names: Vec<String> = cpus.iter().take(8).map(|cpu| self.cpu(*cpu)).collect();
        let more = cpus.len().saturating_sub(names.len());
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        format!(
            "hard {}, soft {}{}: {}{more}",
            result.hard_lockups,
            result.soft_lockups,
            first.unwrap_or_default(),
            names.join(", "),
        )
    }

    /// Verdicts of all callers.
    fn verdicts(&self) -> String {
        let false_done = self.result.host.false_completions;
        let told = self.result.told.all().into_iter().filter_map(|(verdict, answers)| {
            let mut count = answers.dropped + answers.held;
            if verdict == Verdict::Completed {
                count = count.saturating_sub(false_done);
            }
            let wrongly = match answers.held {
                held if held > 0 && verdict.is_success() => {
                    format!(" ({held} while the ATC still held the page)")
                }
                _ => String::new(),
            };
            (count > 0).then(|| format!("{count} {}{wrongly}", word(verdict)))
        });
        let told: Vec<String> = told.collect();
        let false_done = match false_done {
            0 => String::new(),
            count => format!("{count} FALSELY completed, "),
        };
        format!("{false_done}{}", told.join(", "))
    }

    fn end(&self) -> String {
        let result = self.result;
        let waiting = match result.never_returned {
            0 => "no CPU waits".to_owned(),
            1 => format!("1 CPU still waits, for {} so far", time(result.waiting.max())),
            count => {
                format!("{count} CPUs still wait, up to {} so far", time(result.waiting.max()))
            }
        };
        let device = match (result.faulted, result.recovered) {
            (0, _) => "",
            (_, 0) => "; the machine has not recovered",
            _ => "; the device works, or its driver has let it go",
        };
        format!("{waiting}{device}; the run ends after {}", time(self.spec.horizon))
    }

    /// A time from the fault on.
    fn when(&self, at: Instant) -> String {
        let zero = self.facts.fault.as_ref().map_or(Instant::START, |(at, _)| *at);
        if at < zero { format!("-{}", time(zero - at)) } else { format!("+{}", time(at - zero)) }
    }

    /// The name of a CPU: those behind the workload's are helpers, one for each device.
    fn cpu(&self, cpu: u16) -> String {
        match cpu.checked_sub(self.spec.workload.cpus) {
            None => format!("CPU {cpu}"),
            Some(device) => format!("the helper of device {device}"),
        }
    }
}

/// Shorter waits are those of a healthy machine.
const NOTABLE: Duration = Duration::from_millis(1);

/// A verdict in a list of counts.
const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Completed => "completed",
        Verdict::Skipped => "skipped",
        Verdict::DeadlinePassed => "given up at the deadline",
        Verdict::UnitTimedOut => "given up at the unit's time-out",
        Verdict::Quarantined => "quarantined",
        Verdict::Removed => "removed",
        Verdict::Reset => "reset",
        Verdict::Fenced => "fenced",
        Verdict::Recovering => "left to a worker",
        Verdict::Blocked => "waived during a reset",
        Verdict::Withheld => "withheld",
        Verdict::AtsDisabled => "ended with ATS turned off",
        Verdict::Crashed => "ended with their domain",
    }
}
