//! The report's figures, each with a caption and the command that repeats it.

use std::fmt::Write as _;

use crate::sim::Latencies;
use iommu::event::LockupDetector;

use super::{Report, Timeline, command, escape};
use crate::plot::pareto::{self, Point};
use crate::plot::stalls::{self, Mark, Quantiles};
use crate::plot::timeline;
use crate::summary::Totals;
use crate::text::time;

impl Report<'_> {
    pub(super) fn pareto(&self, page: &mut String) -> std::fmt::Result {
        page.push_str(
            "<h2>Safety against liveness</h2>\n\
             <p>Each mark is a policy, over its runs under all faults of devices that keep to the \
             specification. A circle was safe in every run, a diamond was not. A ring is around those \
             that no other policy beats in both.</p>\n",
        );
        self.for_each_group(page, |page, group, rows| {
            let points = rows.iter().filter(|row| row.totals.is_run()).map(|row| {
                let totals = &row.totals;
                let share = totals.not_safe();
                Point {
                    name: self.summary.policies[row.policy].clone(),
                    longest: totals.longest(),
                    unsafe_share: share.value(),
                    about: format!(
                        "longest wait {}, unsafe in {} of {} runs",
                        time(totals.longest()),
                        share.part,
                        share.whole
                    ),
                }
            });
            let plot = pareto::plot(&points.collect::<Vec<_>>());
            let mut key = String::new();
            for (number, names) in (1..).zip(&plot.key) {
                let names: Vec<String> =
                    names.iter().map(|name| format!("<code>{}</code>", escape(name))).collect();
                write!(key, "<span class=\"entry\"><b>{number}</b> {}</span> ", names.join(", "))?;
            }
            let group = escape(&self.summary.group_name(group));
            let label = format!("Safety against liveness, a mark for each policy: {group}");
            figure(page, &plot.svg, &label, &key)
        })?;
        command(page, &self.plan.command())
    }

    pub(super) fn stalls(&self, page: &mut String) -> std::fmt::Result {
        let summary = self.summary;
        page.push_str("<h2>Waiting times</h2>\n");
        let rows = |of: &dyn Fn(usize) -> Totals| -> Vec<stalls::Row> {
            let row = |(policy, name): (usize, &String)| {
                let totals = of(policy);
                stalls::Row {
                    name: name.clone(),
                    stuck: quantiles(&totals.sum.stuck),
                    innocent: quantiles(&totals.sum.innocent),
                }
            };
            summary.policies.iter().enumerate().map(row).collect()
        };
        figure(
            page,
            &stalls::svg(&rows(&|policy| summary.over_groups(policy, |_| true)), &marks()),
            "Distribution of waits for each policy",
            "All runs: all faults, workloads and units. Thin line: every wait; thick: the middle half; tick: the median; dot or \
             diamond: the longest.",
        )?;
        command(page, &self.plan.command())?;
        for (fault, name) in summary.faults.iter().enumerate() {
            let name = escape(name);
            writeln!(page, "<details><summary>Under <code>{name}</code></summary>")?;
            let rows = rows(&|policy| summary.over_groups(policy, |other| other == fault));
            let label = format!("Distribution of waits for each policy under {name}");
            figure(page, &stalls::svg(&rows, &marks()), &label, "")?;
            command(page, &format!("{} --faults {name}", &self.plan.command()))?;
            page.push_str("</details>\n");
        }
        Ok(())
    }

    pub(super) fn timelines(&self, page: &mut String) -> std::fmt::Result {
        if self.timelines.is_empty() {
            return Ok(());
        }
        page.push_str("<h2>Single runs</h2>\n");
        page.push_str(
            "<p>Each policy in the run in which it did worst: an unsafe one if there is one, and of \
             those the one with the longest wait.</p>\n",
        );
        for Timeline { run, caption, lanes } in self.timelines {
            let name = escape(&run.to_string());
            writeln!(page, "<details><summary><code>{name}</code></summary>")?;
            let label = format!("Timeline of {name}");
            figure(page, &timeline::svg(lanes), &label, &escape(caption))?;
            command(page, &format!("{} --trace trace.json", self.plan.explain(run)))?;
            page.push_str("</details>\n");
        }
        Ok(())
    }
}

/// The detectors' thresholds.
fn marks() -> [Mark; 2] {
    [LockupDetector::Hard, LockupDetector::Soft].map(|detector| Mark {
        at: detector.threshold(),
        name: match detector {
            LockupDetector::Hard => "hard lock-up, 10 s",
            LockupDetector::Soft => "soft, 20 s",
        },
    })
}

fn quantiles(waits: &Latencies) -> Option<Quantiles> {
    (waits.count() > 0).then(|| Quantiles {
        least: waits.quantile(0.0),
        quarter: waits.quantile(0.25),
        median: waits.quantile(0.5),
        three_quarters: waits.quantile(0.75),
        longest: waits.max(),
    })
}

/// `label` is for screen readers, `caption` is HTML.
fn figure(page: &mut String, svg: &str, label: &str, caption: &str) -> std::fmt::Result {
    writeln!(
        page,
        "<figure>\n<div class=\"wide\" role=\"img\" aria-label=\"{label}\">\n{svg}</div>\n\
         <figcaption>{caption}</figcaption>\n</figure>"
    )
}
