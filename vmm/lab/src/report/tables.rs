//! The report's tables: policies, and policies against faults.

use std::fmt::Write as _;
use std::time::Duration;

use iommu::event::LockupDetector;

use super::{Report, command, escape};
use crate::share::Share;
use crate::summary::{FaultKind, Row, Totals};
use crate::table;
use crate::text::{bytes, count, time};

/// The columns behind the policy, with the help that a pointer gets.
const COLUMNS: [(&str, &str); 26] = [
    ("live", "rank in liveness, 1 is best; one rank where intervals overlap"),
    ("safe", "rank in safety"),
    ("not live", "runs with a lock-up, or with a caller that was not back in 10 s"),
    ("not safe", "runs with stale DMA or a false completion"),
    ("not fair", "runs in which a healthy device was fenced, reset, removed, or kept from working"),
    ("hard", "runs in which the hard lock-up detector reported"),
    ("soft", "runs in which the soft one did"),
    ("still waiting", "runs that ended while a caller waited"),
    ("lost", "runs in which nothing could end the wait of a caller"),
    ("least live under", "the fault with most runs that are not live"),
    ("least safe under", "the fault with most runs that are not safe"),
    ("worst wait", "the longest wait of all runs"),
    ("typical wait", "the longest wait of the median run"),
    ("healthy machine", "the longest wait without a fault"),
    ("neighbor\u{2019}s", "the longest wait of callers whose own device is healthy"),
    ("IRQs off", "the longest time with interrupts off"),
    ("IRQs off, total", "the time with interrupts off of all CPUs, for each run"),
    ("stale DMA", "accesses after the invalidation, by the device with the fault"),
    ("neighbor\u{2019}s", "accesses after the invalidation, by healthy devices"),
    ("bytes", "of stale accesses"),
    ("exposed", "how long pages could be reached after they were given back, all together"),
    ("stale/s", "stale accesses for each second of that"),
    ("false", "waiters that took another\u{2019}s completion for their own"),
    ("told wrong", "callers told of success while the ATC still held the page"),
    ("recovered", "runs that ended well after the fault"),
    ("broken devices", "runs that are not safe with devices that break the specification"),
];

impl Report<'_> {
    pub(super) fn policy_table(&self, page: &mut String) -> std::fmt::Result {
        let summary = self.summary;
        let (conforming, broken) =
            (summary.faults_of(FaultKind::Conforming), summary.faults_of(FaultKind::Broken));
        write!(
            page,
            "<h2>Policies in numbers</h2>\n\
             <p>Shares are of all runs of a row: the mean over the {conforming} faults of devices that keep \
             to the specification, each with the same weight, which no real mix of faults has. Read \
             them with the worst fault beside them, or fault by fault in the next table. Below each \
             share is its 95 % interval (Wilson). Policies have one rank where intervals overlap. \
             The last column is about {broken} faults of devices that break the specification, which \
             count nowhere else.</p>\n",
        )?;
        self.for_each_group(page, |page, group, rows| {
            page.push_str("<div class=\"wide\"><table>\n<thead><tr><th>policy</th>");
            for (title, help) in COLUMNS {
                write!(page, "<th title=\"{help}\">{title}</th>")?;
            }
            page.push_str("</tr></thead>\n<tbody>\n");
            for row in rows {
                let name = self.policy_name(row.policy);
                write!(page, "<tr><td>{name}</td>")?;
                self.policy_cells(page, row)?;
                page.push_str("</tr>\n");
            }
            page.push_str("</tbody>\n</table></div>\n");
            self.without_runs(page, group)
        })?;
        command(page, &self.plan.command())
    }

    fn policy_cells(&self, page: &mut String, row: &Row) -> std::fmt::Result {
        let totals = &row.totals;
        let class = |yes: bool, class: &'static str| if yes { class } else { "" };
        let sum = &totals.sum;
        let stuck = |part: u64| (class(part > 0, "stuck"), share(totals.share(part)));
        let wrong = |part: u64| (class(part > 0, "unsafe"), count(part));
        let irqs_off = sum.interrupts_off.max();
        let each = |time: Duration| time / u32::try_from(totals.runs()).unwrap_or(u32::MAX);
        let still = if totals.waiting_runs > 0 && sum.waiting.max() == totals.longest() {
            "&gt; "
        } else {
            ""
        };
        let fault = |worst: Option<(usize, Share)>| match worst {
            Some((fault, worst)) => {
                format!("{}<br/>{}", escape(&self.summary.faults[fault]), share(worst))
            }
            None => "-".to_owned(),
        };
        let broken = match row.broken.is_run() {
            true => share(row.broken.not_safe()),
            false => "-".to_owned(),
        };
        let healthy = match row.healthy.is_run() {
            true => time(row.healthy.longest()),
            false => "-".to_owned(),
        };
        let rate = totals.stale_per_second();
        let rate = rate.map_or("-".to_owned(), |rate| format!("{rate:.2}"));
        let cells: [(&str, String); COLUMNS.len()] = [
            (class(totals.is_live(), "good"), row.live.to_string()),
            (class(totals.is_safe(), "good"), row.safe.to_string()),
            stuck(totals.stuck_runs),
            (class(!totals.is_safe(), "unsafe"), share(totals.not_safe())),
            (class(!totals.is_fair(), "stuck"), share(totals.not_fair())),
            stuck(totals.hard_runs),
            stuck(totals.soft_runs),
            stuck(totals.waiting_runs),
            stuck(totals.lost_runs),
            ("", fault(row.least_live)),
            ("", fault(row.least_safe)),
            ("", format!("{still}{}", time(totals.longest()))),
            ("", time(totals.typical())),
            ("", healthy),
            ("", time(sum.innocent.max())),
            (class(irqs_off >= LockupDetector::Hard.threshold(), "stuck"), time(irqs_off)),
            ("", time(each(sum.interrupts_off.sum()))),
            wrong(sum.stale_stuck()),
            wrong(sum.stale_innocent),
            ("", bytes(sum.stale_bytes)),
            ("", time(sum.exposure.sum())),
            ("", rate),
            wrong(sum.host.false_completions),
            wrong(totals.told_wrong()),
            ("", share(totals.share(sum.recovered))),
            (class(!row.broken.is_safe(), "unsafe"), broken),
        ];
        for (class, text) in cells {
            write!(page, "<td class=\"{class}\">{text}</td>")?;
        }
        Ok(())
    }

    /// Policies against faults: the longest wait as a number and a colour, unsafe as a mark.
    pub(super) fn heat_table(&self, page: &mut String) -> std::fmt::Result {
        let summary = self.summary;
        write!(
            page,
            "<h2>Every policy against every fault</h2>\n\
             <p>In each cell: the longest wait of any caller; the 95 % intervals, in percent, of the runs \
             that were not live (L) and not safe (S); the number of seeds, {}. &gt;: a wait still lasted at the \
             end of a run; never: nothing could end it.</p>\n\
             <p class=\"key heat\">The longest wait: <span class=\"w0\">below 1 s</span>\
             <span class=\"w1\">below 10 s</span><span class=\"w2\">below 20 s</span>\
             <span class=\"w3\">longer</span> <span class=\"u\"><b>!</b> unsafe in some run</span> \
             <span>\u{2020} a device that breaks the specification</span> <span>n/a: this pair exists in no \
             machine</span></p>\n",
            table::seeds(summary)
        )?;
        self.for_each_group(page, |page, group, rows| {
            page.push_str("<div class=\"wide\"><table class=\"heat\">\n<thead><tr><th></th>");
            for (fault, kind) in summary.faults.iter().zip(&summary.kinds) {
                let mark = if *kind == FaultKind::Broken { " \u{2020}" } else { "" };
                write!(page, "<th>{}{mark}</th>", escape(fault))?;
            }
            page.push_str("</tr></thead>\n<tbody>\n");
            for row in rows {
                write!(page, "<tr><td>{}</td>", self.policy_name(row.policy))?;
                for fault in 0..summary.faults.len() {
                    self.heat_cell(page, summary.cell(row.policy, fault, group))?;
                }
                page.push_str("</tr>\n");
            }
            page.push_str("</tbody>\n</table></div>\n");
            Ok(())
        })?;
        command(page, &self.plan.command())
    }

    fn heat_cell(&self, page: &mut String, totals: &Totals) -> std::fmt::Result {
        if !totals.is_run() {
            return page.write_str("<td class=\"muted\">n/a</td>");
        }
        let longest = totals.longest();
        let heat = match longest {
            _ if longest >= LockupDetector::Soft.threshold() => "w3",
            _ if longest >= LockupDetector::Hard.threshold() => "w2",
            _ if longest >= Duration::from_secs(1) => "w1",
            _ => "w0",
        };
        let (class, mark) = if totals.is_safe() { ("", "") } else { (" u", "<b>!</b> ") };
        let worst = totals.worst.as_ref().map(|worst| self.plan.explain(&worst.run));
        let still_lasts = totals.waiting_runs > 0 && totals.sum.waiting.max() == longest;
        let longest = match totals.lost_runs {
            0 if still_lasts => format!("&gt; {}", time(longest)),
            0 => time(longest),
            _ => "never".to_owned(),
        };
        write!(
            page,
            "<td class=\"{heat}{class}\" title=\"{}\">{mark}{longest}<small>L {} S {}<br/>n {}</small></td>",
            escape(&worst.unwrap_or_default()),
            escape(&totals.not_live().interval().to_string()),
            escape(&totals.not_safe().interval().to_string()),
            totals.runs(),
        )
    }
}

/// A share in percent, and its interval.
fn share(share: Share) -> String {
    let interval = share.interval().to_string();
    format!("{}<small>{}</small>", escape(&share.percent()), escape(&interval))
}
