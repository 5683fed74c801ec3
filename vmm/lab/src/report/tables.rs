//! The report's tables: policies, and policies against faults.

use std::fmt::Write as _;
use std::time::Duration;

use iommu::event::LockupDetector;

use super::{Report, command, escape};
use crate::summary::Totals;
use crate::table::of_runs;
use crate::text::{bytes, count, time};

impl Report<'_> {
    pub(super) fn policy_table(&self, page: &mut String) -> std::fmt::Result {
        let summary = self.summary;
        page.push_str("<h2>Policies in numbers</h2>\n<div class=\"wide\"><table>\n<thead><tr>");
        for title in [
            "policy",
            "rank: live",
            "rank: safe",
            "longest wait",
            "neighbor's",
            "IRQs off",
            "hard lock-up",
            "soft lock-up",
            "never returned",
            "unsafe",
            "stale DMA",
            "of bytes",
            "oldest",
            "false completions",
            "told wrong",
            "aborted",
            "queue full",
            "zombie",
            "recovered",
            "presence checks",
        ] {
            write!(page, "<th>{title}</th>")?;
        }
        page.push_str("</tr></thead>\n<tbody>\n");
        let ranks = summary.ranks();
        for policy in summary.order() {
            let name = escape(&summary.policies[policy]);
            write!(page, "<tr><td><code>{name}</code></td>")?;
            policy_cells(page, summary.policy(policy), ranks[policy])?;
            page.push_str("</tr>\n");
        }
        page.push_str("</tbody>\n</table></div>\n");
        page.push_str(
            "<p class=\"muted\">Lock-ups, never returned, unsafe and recovered are shares of runs. Times are the longest, \
             counts are sums. \"longest wait\" is of callers whose own device has the fault, \
             \"neighbor's\" of all others.</p>\n",
        );
        command(page, &self.plan.command())
    }

    /// Policies against faults: the longest wait as a number and a colour, unsafe as a mark.
    pub(super) fn heat_table(&self, page: &mut String) -> std::fmt::Result {
        let summary = self.summary;
        page.push_str(
            "<h2>Every policy against every fault</h2>\n\
             <p class=\"key heat\">The longest wait of any caller: \
             <span class=\"w0\">below 1 s</span><span class=\"w1\">below 10 s</span>\
             <span class=\"w2\">below 20 s</span><span class=\"w3\">longer</span> \
             <span class=\"u\"><b>!</b> unsafe in some run</span> &gt;: it still lasted at the end of a run, never: nothing \
             could end it</p>\n\
             <div class=\"wide\"><table class=\"heat\">\n<thead><tr><th></th>",
        );
        for fault in &summary.faults {
            write!(page, "<th>{}</th>", escape(fault))?;
        }
        page.push_str("</tr></thead>\n<tbody>\n");
        for policy in summary.order() {
            write!(page, "<tr><td><code>{}</code></td>", escape(&summary.policies[policy]))?;
            for fault in 0..summary.faults.len() {
                self.heat_cell(page, summary.fault(policy, fault))?;
            }
            page.push_str("</tr>\n");
        }
        page.push_str("</tbody>\n</table></div>\n");
        command(page, &self.plan.command())
    }

    fn heat_cell(&self, page: &mut String, totals: &Totals) -> std::fmt::Result {
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
            "<td class=\"{heat}{class}\" title=\"{}\">{mark}{longest}</td>",
            escape(&worst.unwrap_or_default())
        )
    }
}

fn policy_cells(
    page: &mut String,
    totals: &Totals,
    (live, safe): (usize, usize),
) -> std::fmt::Result {
    let class = |yes: bool, class: &'static str| if yes { class } else { "" };
    let (runs, sum) = (totals.runs(), &totals.sum);
    let stuck = |part: u64| (class(part > 0, "stuck"), of_runs(part, runs));
    let wrong = |part: u64| (class(part > 0, "unsafe"), count(part));
    let irqs_off = sum.interrupts_off.max();
    let cells = [
        (class(totals.is_live(), "good"), live.to_string()),
        (class(totals.is_safe(), "good"), safe.to_string()),
        ("", time(sum.stuck.max())),
        ("", time(sum.innocent.max())),
        (class(irqs_off >= LockupDetector::Hard.threshold(), "stuck"), time(irqs_off)),
        stuck(totals.hard_runs),
        stuck(totals.soft_runs),
        stuck(totals.lost_runs),
        (class(!totals.is_safe(), "unsafe"), of_runs(totals.unsafe_runs, runs)),
        wrong(sum.stale_accesses),
        ("", bytes(sum.stale_bytes)),
        ("", time(sum.stale_age)),
        wrong(sum.host.false_completions),
        wrong(totals.told_wrong()),
        ("", count(sum.host.aborted)),
        ("", count(sum.host.queue_full)),
        ("", time(sum.zombie.max())),
        ("", of_runs(sum.recovered, runs)),
        ("", count(sum.host.presence_checks)),
    ];
    for (class, text) in cells {
        write!(page, "<td class=\"{class}\">{text}</td>")?;
    }
    Ok(())
}
