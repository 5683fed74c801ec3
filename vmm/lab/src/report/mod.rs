//! `report.html`: one file without scripts and references to the network, in light and dark colours.

mod advice;
mod figures;
mod tables;

use std::fmt::Write as _;

use crate::sim::{RunId, RunSpec};
use iommu::submit::{PRESETS, Policy, Preset};

use super::plan::Plan;
use super::plot::{self, timeline::Lane};
use super::seeds::Place;
use super::summary::{Group, Row, Summary};
use super::{table, text};
pub(super) use text::escape;

/// The input of a report.
#[derive(Debug)]
pub(super) struct Report<'a> {
    /// The plan of the comparison.
    pub(super) plan: &'a Plan,
    /// Its results.
    pub(super) summary: &'a Summary,
    /// Single runs.
    pub(super) timelines: &'a [Timeline],
    /// The rows of each group.
    groups: Vec<(Group, Vec<Row>)>,
}

/// A single run.
#[derive(Debug)]
pub(super) struct Timeline {
    /// Identifies the run.
    pub(super) run: RunId,
    /// A sentence about the run, as text.
    pub(super) caption: String,
    /// The plot.
    pub(super) lanes: Vec<Lane>,
}

const STYLE: &str = include_str!("style.css");

impl<'a> Report<'a> {
    pub(super) fn new(plan: &'a Plan, summary: &'a Summary, timelines: &'a [Timeline]) -> Self {
        let groups = summary.groups().into_iter().map(|group| (group, summary.rows(group)));
        Self { plan, summary, timelines, groups: groups.collect() }
    }
}

impl Report<'_> {
    /// The page.
    pub(super) fn html(&self) -> String {
        let mut page = String::new();
        // Writing into memory does not fail.
        let _ = self.write(&mut page);
        page
    }

    fn write(&self, page: &mut String) -> std::fmt::Result {
        write!(
            page,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
             <title>ghostlink: when a device stops answering, who waits, for how long, and is it \
             safe?</title>\n<style>\n{}{STYLE}</style>\n</head>\n<body>\n<main>\n",
            plot::theme_css()
        )?;
        self.head(page)?;
        self.advice(page)?;
        self.verdict(page)?;
        self.pareto(page)?;
        self.policy_table(page)?;
        self.heat_table(page)?;
        self.stalls(page)?;
        self.timelines(page)?;
        self.rows(page)?;
        page.push_str("</main>\n</body>\n</html>\n");
        Ok(())
    }

    fn head(&self, page: &mut String) -> std::fmt::Result {
        let summary = self.summary;
        let runs = summary.runs();
        write!(
            page,
            "<h1>When a device stops answering, who waits, for how long, and is it safe?</h1>\n\
             <p>{} policies that wait for a Device-TLB invalidation, {} faults, {} workloads, {} \
             units, {}: {runs} runs in virtual time, of the code that also drives machines under \
             KVM. ghostlink {}; the same command writes the same bytes.</p>\n",
            summary.policies.len(),
            summary.faults.len(),
            summary.workloads.len(),
            summary.units.len(),
            table::seeds(summary),
            env!("CARGO_PKG_VERSION"),
        )?;
        if let Some(precision) = table::precision(summary, self.plan.matrix.seeds) {
            writeln!(page, "<p>{}</p>", escape(&precision))?;
        }
        command(page, &self.plan.command())
    }

    /// Lists the policies of each group by the properties that all their runs have.
    fn verdict(&self, page: &mut String) -> std::fmt::Result {
        page.push_str(
            "<h2>Live, safe, fair</h2>\n\
             <p class=\"muted\">Live: no lock-up detector reports, and every caller is back within 10 s. \
             Safe: no DMA uses a translation whose invalidation had been reported complete or given up, and \
             no waiter takes the completion of another request for its own. Fair: no healthy device is \
             fenced, reset, removed, or kept from working. In every run under faults of devices that keep \
             to the specification.</p>\n",
        );
        self.for_each_group(page, |page, _, rows| {
            page.push_str("<dl>\n");
            for (class, title, live, safe) in [
                ("good", "Live and safe", true, true),
                ("unsafe", "Live, but not safe", true, false),
                ("stuck", "Safe, but not live", false, true),
                ("", "Neither", false, false),
            ] {
                let names = rows.iter().filter(|row| {
                    let totals = &row.totals;
                    totals.is_run() && (totals.is_live(), totals.is_safe()) == (live, safe)
                });
                let names = names.map(|row| {
                    let fair = if row.totals.is_fair() { " (fair)" } else { "" };
                    format!("{}{fair}", self.policy_name(row.policy))
                });
                let names: Vec<String> = names.collect();
                let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                writeln!(page, "<dt class=\"{class}\">{title}</dt><dd>{names}</dd>")?;
            }
            page.push_str("</dl>\n");
            Ok(())
        })
    }

    /// Definitions of the rows, and the parameters of all runs.
    fn rows(&self, page: &mut String) -> std::fmt::Result {
        let matrix = &self.plan.matrix;
        page.push_str("<h2>What was run</h2>\n");
        let policies = matrix.policies.iter().map(|row| (row.name.clone(), policy_text(row)));
        list(page, "Policies", policies)?;
        let faults = matrix.faults.iter().map(|row| {
            let fault = row.fault.as_ref().map_or(String::new(), |fault| format!(" ({fault})"));
            (row.name.clone(), format!("{}{fault}", row.about))
        });
        list(page, "Faults", faults)?;
        let workloads = matrix.workloads.iter().map(|row| (row.name.clone(), row.about.clone()));
        list(page, "Workloads", workloads)?;
        let units = matrix.units.iter().map(|row| (row.name.clone(), row.about.clone()));
        list(page, "Units", units)?;
        list(page, "Parameters of the model", self.parameters().into_iter())
    }

    /// The parameters of all runs.
    fn parameters(&self) -> Vec<(String, String)> {
        let Some(RunSpec { costs, horizon, .. }) =
            self.plan.matrix.spec(Place { cell: 0, seed: 0 })
        else {
            return Vec::new();
        };
        let mut parameters = vec![
            ("horizon".to_owned(), text::time(horizon)),
            ("obeys".to_owned(), self.plan.matrix.machine.obeys.to_string()),
            ("ict".to_owned(), format!("{} until a unit raises ITE", self.plan.matrix.machine.ict)),
        ];
        let costs = serde_json::to_value(costs).unwrap_or_default();
        for (name, value) in costs.as_object().into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            parameters.push((name.clone(), value));
        }
        parameters
    }
}

/// The system that a preset reproduces, and the values of the policy.
fn policy_text(policy: &Policy) -> String {
    let is_preset = |preset: &&Preset| preset.policy().name == policy.name;
    let about = PRESETS
        .iter()
        .find(is_preset)
        .map_or(String::new(), |preset| format!("{} ({}). ", preset.reproduces, preset.source));
    let values = serde_json::to_value(policy).unwrap_or_default();
    let values = values.as_object().into_iter().flatten().filter(|(name, _)| *name != "name");
    let values: Vec<String> = values.map(|(name, value)| format!("{name} {value}")).collect();
    format!("{about}{}", values.join(", ").replace('"', ""))
}

/// A folded list of names and texts.
fn list(
    page: &mut String,
    title: &str,
    rows: impl Iterator<Item = (String, String)>,
) -> std::fmt::Result {
    write!(page, "<details><summary>{title}</summary>\n<dl>\n")?;
    for (name, text) in rows {
        writeln!(page, "<dt><code>{}</code></dt><dd>{}</dd>", escape(&name), escape(&text))?;
    }
    page.push_str("</dl>\n</details>\n");
    Ok(())
}

/// A command that a reader can copy.
fn command(page: &mut String, command: &str) -> std::fmt::Result {
    writeln!(page, "<pre>{}</pre>", escape(command))
}
