//! "Which policy for you": what each reader asks of a policy, and which policies have it in these runs.
//! Every name and number is read off the results.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use iommu::submit::PolicyPath;

use super::{Report, escape};
use crate::summary::{FaultKind, Group, Row, Totals};
use crate::text::time;

/// One policy on one unit, over all workloads.
struct Candidate {
    policy: usize,
    /// Under faults of devices that keep to the specification.
    faulty: Totals,
    /// Without a fault.
    healthy: Totals,
}

impl Candidate {
    fn is_all(&self) -> bool {
        self.faulty.is_live() && self.faulty.is_safe() && self.faulty.is_fair()
    }
}

impl Report<'_> {
    pub(super) fn advice(&self, page: &mut String) -> std::fmt::Result {
        let summary = self.summary;
        if summary.faults_of(FaultKind::Conforming) == 0 {
            return Ok(());
        }
        page.push_str(
            "<h2>Which policy for you</h2>\n<p>Read off these runs, for each unit over all workloads and \
             all faults of devices that keep to the specification. A policy is named only if no run \
             speaks against it; more seeds can remove it.</p>\n<dl>\n",
        );
        for unit in 0..summary.units.len() {
            let candidates = self.candidates(unit);
            let name = escape(&summary.units[unit]);
            write!(
                page,
                "<dt>Kernel maintainer, unit {name}</dt><dd>{}</dd>\n\
                 <dt>VMM developer, unit {name}</dt><dd>{}</dd>\n\
                 <dt>Cloud operator, unit {name}</dt><dd>{}</dd>\n",
                self.for_kernel(&candidates),
                self.for_vmm(&candidates),
                self.for_cloud(&candidates),
            )?;
        }
        writeln!(page, "<dt>Validation engineer</dt><dd>{}</dd>\n</dl>", self.for_validation())
    }

    /// The policies that were run on a unit.
    fn candidates(&self, unit: usize) -> Vec<Candidate> {
        let summary = self.summary;
        let groups: Vec<_> =
            summary.groups().into_iter().filter(|group| group.unit == unit).collect();
        let of_kind = |policy, kind| {
            let mut totals = Totals::default();
            for group in &groups {
                totals.merge(&summary.totals(policy, *group, |fault| summary.kinds[fault] == kind));
            }
            totals
        };
        let candidate = |policy| Candidate {
            policy,
            faulty: of_kind(policy, FaultKind::Conforming),
            healthy: of_kind(policy, FaultKind::Healthy),
        };
        let all = (0..summary.policies.len()).map(candidate);
        all.filter(|candidate| candidate.faulty.is_run()).collect()
    }

    /// Names, each with what `about` says of it; the first few of those that `key` sorts first.
    fn names<K: Ord>(
        &self,
        candidates: &[&Candidate],
        key: impl Fn(&Candidate) -> K,
        about: impl Fn(&Candidate) -> String,
    ) -> String {
        const SHOWN: usize = 6;
        let mut sorted = candidates.to_vec();
        sorted.sort_by_key(|candidate| key(candidate));
        let names = sorted.iter().take(SHOWN).map(|candidate| {
            format!("{} ({})", self.policy_name(candidate.policy), about(candidate))
        });
        let mut text = names.collect::<Vec<_>>().join(", ");
        if sorted.len() > SHOWN {
            let _ = write!(text, ", and {} more", sorted.len() - SHOWN);
        }
        text
    }

    /// Live, safe and fair; what it costs a healthy machine.
    fn for_kernel(&self, candidates: &[Candidate]) -> String {
        let all: Vec<&Candidate> = candidates.iter().filter(|it| it.is_all()).collect();
        let longest = |it: &Candidate| it.faulty.longest();
        if !all.is_empty() {
            let about = |it: &Candidate| {
                let healthy = match it.healthy.is_run() {
                    true => format!(", {} without a fault", time(it.healthy.longest())),
                    false => String::new(),
                };
                format!("at most {}{healthy}", time(it.faulty.longest()))
            };
            return format!(
                "Live, safe and fair in every run, by the longest wait: {}.",
                self.names(&all, longest, about)
            );
        }
        let mut text = "No policy was live, safe and fair in every run.".to_owned();
        let wait = |it: &Candidate| format!("worst wait {}", time(it.faulty.longest()));
        for (name, has) in [
            (
                "Live and safe, but not fair",
                (|it| it.faulty.is_live() && it.faulty.is_safe()) as Has,
            ),
            ("Safe, but not live", |it| it.faulty.is_safe() && !it.faulty.is_live()),
        ] {
            let some: Vec<&Candidate> = candidates.iter().filter(|it| has(it)).collect();
            if !some.is_empty() {
                let _ = write!(text, " {name}: {}.", self.names(&some, longest, wait));
            }
        }
        let live: Vec<&Candidate> =
            candidates.iter().filter(|it| it.faulty.is_live() && !it.faulty.is_safe()).collect();
        if !live.is_empty() {
            let unsafe_runs = |it: &Candidate| it.faulty.unsafe_runs;
            let about = |it: &Candidate| {
                format!(
                    "unsafe in {} % of runs",
                    escape(&it.faulty.not_safe().interval().to_string())
                )
            };
            let _ = write!(text, " Live, but not safe: {}.", self.names(&live, unsafe_runs, about));
        }
        text
    }

    /// The caller is told the truth, and neighbors do not pay.
    fn for_vmm(&self, candidates: &[Candidate]) -> String {
        let is_true = |it: &&Candidate| {
            it.faulty.told_wrong() == 0 && it.faulty.sum.host.false_completions == 0
        };
        let honest: Vec<&Candidate> = candidates.iter().filter(is_true).collect();
        if honest.is_empty() {
            return "Under every policy some guest is told of success while the ATC still holds the page."
                .to_owned();
        }
        let waits = |it: &Candidate| it.faulty.sum.innocent.max();
        let about = |it: &Candidate| {
            let fair = if it.faulty.is_fair() { "" } else { ", harms healthy devices" };
            format!("another guest waits up to {}{fair}", time(it.faulty.sum.innocent.max()))
        };
        format!(
            "Never tells a caller of success while the ATC still holds the page, by how long the caller of \
             a healthy device waits: {}.",
            self.names(&honest, |it| (!it.faulty.is_fair(), waits(it)), about)
        )
    }

    /// No page of another tenant is reached; then the shortest time with interrupts off.
    fn for_cloud(&self, candidates: &[Candidate]) -> String {
        let safe: Vec<&Candidate> = candidates.iter().filter(|it| it.faulty.is_safe()).collect();
        let off = |it: &Candidate| -> Duration { it.faulty.sum.interrupts_off_one_cpu };
        if safe.is_empty() {
            let foreign = |it: &Candidate| it.faulty.sum.stale_foreign;
            let about = |it: &Candidate| {
                format!("{} accesses to pages of other devices", it.faulty.sum.stale_foreign)
            };
            let all: Vec<&Candidate> = candidates.iter().collect();
            return format!(
                "No policy keeps stale DMA out in every run. By accesses to pages that belong to another \
                 device: {}.",
                self.names(&all, foreign, about)
            );
        }
        let about = |it: &Candidate| format!("{} on one CPU", time(off(it)));
        format!(
            "No device reaches a page after it was given back, by the time with interrupts off in one run: \
             {}.",
            self.names(&safe, off, about)
        )
    }

    /// The fewest faults that show every failure that any fault shows.
    fn for_validation(&self) -> String {
        let summary = self.summary;
        let groups = summary.groups();
        let failures = |fault: usize| -> BTreeSet<(usize, bool)> {
            let policies = 0..summary.policies.len();
            let of = |policy: usize| {
                let cells = groups.iter().map(move |group| summary.cell(policy, fault, *group));
                let stuck = cells.clone().any(|cell| !cell.is_live());
                let wrong = cells.clone().any(|cell| !cell.is_safe());
                [(stuck, (policy, false)), (wrong, (policy, true))]
            };
            policies.flat_map(of).filter(|(fails, _)| *fails).map(|(_, what)| what).collect()
        };
        let mut open: BTreeSet<(usize, bool)> =
            (0..summary.faults.len()).flat_map(failures).collect();
        let total = open.len();
        let mut chosen = Vec::new();
        while !open.is_empty() {
            let gain = |fault: &usize| failures(*fault).intersection(&open).count();
            // Of equals the first of the plan.
            let best = (0..summary.faults.len()).rev().max_by_key(gain);
            let Some(best) = best.filter(|best| gain(best) > 0) else { break };
            let gain = gain(&best);
            open = open.difference(&failures(best)).copied().collect();
            let mark = if summary.kinds[best] == FaultKind::Broken { " \u{2020}" } else { "" };
            chosen.push(format!("<code>{}</code>{mark} (+{gain})", escape(&summary.faults[best])));
        }
        if chosen.is_empty() {
            return "No fault made a policy not live or not safe.".to_owned();
        }
        format!(
            "{} of {} faults show each of the {total} failures (a policy that is not live, or not safe) that \
             any fault shows: {}.",
            chosen.len(),
            summary.faults.len(),
            chosen.join(", ")
        )
    }

    /// A policy's name, with its place in a kernel if it has one.
    pub(super) fn policy_name(&self, policy: usize) -> String {
        let name = escape(&self.summary.policies[policy]);
        match self.plan.matrix.policies[policy].path {
            PolicyPath::Any => format!("<code>{name}</code>"),
            path => format!("<code>{name}</code> <span class=\"muted\">on {path}</span>"),
        }
    }

    /// Names the policies that do not exist in a group.
    pub(super) fn without_runs(&self, page: &mut String, group: Group) -> std::fmt::Result {
        let names: Vec<String> = self
            .summary
            .without_runs(group)
            .map(|policy| format!("<code>{}</code>", escape(&self.summary.policies[policy])))
            .collect();
        match names.as_slice() {
            [] => Ok(()),
            names => writeln!(
                page,
                "<p class=\"muted\">n/a, as they exist with no such unit or describe another path in a \
                 kernel: {}</p>",
                names.join(", ")
            ),
        }
    }

    /// Writes something for each group, folded but for the first.
    pub(super) fn for_each_group(
        &self,
        page: &mut String,
        mut write: impl FnMut(&mut String, Group, &[Row]) -> std::fmt::Result,
    ) -> std::fmt::Result {
        for (index, (group, rows)) in self.groups.iter().enumerate() {
            let open = if index == 0 { " open" } else { "" };
            let name = escape(&self.summary.group_name(*group));
            writeln!(page, "<details{open}><summary>{name}</summary>")?;
            write(page, *group, rows)?;
            page.push_str("</details>\n");
        }
        Ok(())
    }
}

/// A question to a candidate.
type Has = fn(&Candidate) -> bool;
