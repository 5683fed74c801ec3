//! The report's figures, each with a caption and the command that repeats it.

use std::fmt::Write as _;

use crate::sim::Latencies;
use iommu::event::LockupDetector;

use super::{Report, Timeline, command, escape};
use crate::plot::pareto::{self, Point};
use crate::plot::stalls::{self, Mark, Quantiles, Row};
use crate::plot::timeline;
use crate::summary::Totals;

impl Report<'_> {
    pub(super) fn pareto(&self, page: &mut String) -> std::fmt::Result {
        let summary = self.summary;
        let points: Vec<Point> = summary
            .policies
            .iter()
            .enumerate()
            .map(|(policy, name)| {
                let totals = summary.policy(policy);
                let (longest, unsafe_share) = (totals.longest(), totals.unsafe_share());
                Point { name: name.clone(), longest, unsafe_share }
            })
            .collect();
        page.push_str("<h2>Safety against liveness</h2>\n");
        figure(
            page,
            &pareto::svg(&points),
            "Safety against liveness, a mark for each policy",
            "Each mark is a policy, over all its runs. A circle is safe in every run, a diamond is \
             not. A ring is around those that no other policy beats in both.",
        )?;
        command(page, &self.plan.command())
    }

    pub(super) fn stalls(&self, page: &mut String) -> std::fmt::Result {
        let summary = self.summary;
        page.push_str("<h2>Waiting times</h2>\n");
        let rows = |of: &dyn Fn(usize) -> Totals| -> Vec<Row> {
            let row = |(policy, name): (usize, &String)| {
                let totals = of(policy);
                Row {
                    name: name.clone(),
                    stuck: quantiles(&totals.sum.stuck),
                    innocent: quantiles(&totals.sum.innocent),
                }
            };
            summary.policies.iter().enumerate().map(row).collect()
        };
        figure(
            page,
            &stalls::svg(&rows(&|policy| summary.policy(policy).clone()), &marks()),
            "Distribution of waits for each policy",
            "All runs. Thin line: every wait; thick: the middle half; tick: the median; dot or \
             diamond: the longest.",
        )?;
        command(page, &self.plan.command())?;
        for (fault, name) in summary.faults.iter().enumerate() {
            let name = escape(name);
            writeln!(page, "<details><summary>Under <code>{name}</code></summary>")?;
            let rows = rows(&|policy| summary.fault(policy, fault).clone());
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
