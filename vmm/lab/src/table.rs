//! The tables for the terminal: one for each workload and unit, with a line for each policy, the most
//! alive first. Each fits in 100 columns.

use std::fmt::Write as _;

use console::Style;

use super::seeds::Seeds;
use super::summary::{FaultKind, Row, Summary};
use super::text::{short_count, short_time};

/// A column: its title, its width, the blanks in front of it, and whether it is about safety.
struct Column {
    title: &'static str,
    width: usize,
    gap: usize,
    about: About,
}

/// What a column is about, which decides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    Name,
    LiveRank,
    SafeRank,
    Liveness,
    Safety,
}

const fn column(title: &'static str, width: usize, gap: usize, about: About) -> Column {
    Column { title, width, gap, about }
}

/// Together they have 98 columns.
const COLUMNS: [Column; 13] = [
    column("policy", 24, 0, About::Name),
    column("L", 2, 1, About::LiveRank),
    column("S", 2, 1, About::SafeRank),
    column("worst", 5, 2, About::Liveness),
    column("median", 6, 1, About::Liveness),
    column("nbr", 5, 1, About::Liveness),
    column("hard%", 5, 2, About::Liveness),
    column("soft%", 5, 1, About::Liveness),
    column("unsafe%", 7, 2, About::Safety),
    column("stale", 5, 1, About::Safety),
    column("nbr's", 5, 1, About::Safety),
    column("false", 5, 2, About::Safety),
    column("wrong", 5, 1, About::Safety),
];

/// Explains the columns; for below the tables.
pub const LEGEND: &str = "\
L, S: ranks in liveness and safety, 1 is best. Policies have one rank if their intervals overlap.\n\
hard%, soft%, unsafe%: 95 % intervals of the share of runs: the mean over all faults of devices that\n\
keep to the specification, each with the same weight, which no real mix of faults has; --out DIR\n\
writes the share under each fault. !: unsafe also, or only, with devices that break it.\n\
worst: the longest wait of all runs. median: that of the median run. nbr: the longest of a healthy\n\
device's caller. >: a wait still lasted when its run ended; never: nothing could end it.\n\
stale, nbr's: DMA after the invalidation, by the device with the fault, and by healthy ones.\n\
false: waiters that took another's completion for their own. wrong: callers told of success while\n\
the ATC still held the page. -: none. n/a: exists with no such unit, or describes another path.";

/// The tables. `coloured` is for terminals.
pub fn text(summary: &Summary, coloured: bool) -> String {
    let groups = summary.groups();
    let tables = groups.iter().map(|group| {
        let mut table = format!("{}: {}\n", summary.group_name(*group), scope(summary));
        table += &line(&COLUMNS.map(|column| column.title.to_owned()), None);
        for row in summary.rows(*group) {
            table += &line(&cells(summary, &row), coloured.then_some(&row));
        }
        let missing: Vec<&str> =
            summary.without_runs(*group).map(|policy| &*summary.policies[policy]).collect();
        if !missing.is_empty() {
            table += &wrapped(&format!("n/a: {}", missing.join(", ")));
        }
        table
    });
    tables.collect::<Vec<_>>().join("\n")
}

/// A text in lines of 100 columns, those after the first indented.
fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut width = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if width > 0 && width + 1 + length > 100 {
            lines += "\n    ";
            width = 4;
        } else if width > 0 {
            lines.push(' ');
            width += 1;
        }
        lines += word;
        width += length;
    }
    lines + "\n"
}

/// The runs of a row, in words.
fn scope(summary: &Summary) -> String {
    let (kind, broken) = (summary.ranked_kind(), summary.faults_of(FaultKind::Broken));
    let faults = match kind {
        FaultKind::Conforming => format!("{} faults", summary.faults_of(kind)),
        FaultKind::Broken => format!("{broken} faults that break the specification"),
        FaultKind::Healthy => "no fault".to_owned(),
    };
    let mut text = format!("{faults}, {}", seeds(summary));
    if broken > 0 && kind == FaultKind::Conforming {
        let _ = write!(text, "; !: {broken} more that break the specification");
    }
    text
}

/// The seeds of the cells, in words.
pub(super) fn seeds(summary: &Summary) -> String {
    match summary.seeds() {
        (least, most) if least == most => format!("{least} seeds each"),
        (least, most) => format!("{least} to {most} seeds each"),
    }
}

/// What the number of seeds was decided by, and whether the shares are as sharp as wanted.
pub fn precision(summary: &Summary, seeds: Seeds) -> Option<String> {
    let Seeds::Until(precision) = seeds else { return None };
    let (cells, open) = summary.open_cells(precision.points);
    let most = precision.most;
    Some(match open {
        0 => format!(
            "The interval of every share in every cell of policy, fault, workload and unit is at most {} points.",
            precision.points
        ),
        open => format!(
            "In {open} of {cells} cells of policy, fault, workload and unit an interval is wider than {} \
             points after {most} seeds, the most for a comparison of this size: --seeds N, or fewer rows.",
            precision.points
        ),
    })
}

fn cells(summary: &Summary, row: &Row) -> [String; 13] {
    let name = summary.policies[row.policy].clone();
    let totals = &row.totals;
    let sum = &totals.sum;
    let share = |part| {
        let share = totals.share(part);
        share.interval().to_string()
    };
    let is_worse = !row.broken.is_safe();
    let still_lasts = totals.waiting_runs > 0 && sum.waiting.max() == totals.longest();
    let worst = match totals.lost_runs {
        0 if still_lasts => format!(">{}", short_time(totals.longest())),
        0 => short_time(totals.longest()),
        _ => "never".to_owned(),
    };
    [
        name,
        row.live.to_string(),
        row.safe.to_string(),
        worst,
        short_time(totals.typical()),
        short_time(sum.innocent.max()),
        share(totals.hard_runs),
        share(totals.soft_runs),
        format!("{}{}", share(totals.unsafe_runs), if is_worse { "!" } else { "" }),
        short_count(sum.stale_stuck()),
        short_count(sum.stale_innocent),
        short_count(sum.host.false_completions),
        short_count(totals.told_wrong()),
    ]
}

/// A line of a table, in the colours of `row` if there is one.
fn line(cells: &[String; 13], row: Option<&Row>) -> String {
    let mut line = String::new();
    for (column, cell) in COLUMNS.iter().zip(cells) {
        let width = column.width;
        if column.about == About::Name && cell.chars().count() > width {
            // A long name has a line of its own.
            line += &format!("{cell}\n{:width$}", "");
            continue;
        }
        let padded = match column.about {
            About::Name => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        };
        line += &" ".repeat(column.gap);
        match row.and_then(|row| style(column.about, row)) {
            Some(style) => line += &style.apply_to(padded).to_string(),
            None => line += &padded,
        }
    }
    line.truncate(line.trim_end().len());
    line + "\n"
}

/// Red where a detector reported, magenta where it was unsafe, green for ranks where it was not.
fn style(about: About, row: &Row) -> Option<Style> {
    let style = Style::new().force_styling(true);
    let (live, safe) = (row.totals.is_live(), row.totals.is_safe());
    match about {
        About::Name => None,
        About::LiveRank if live => Some(style.green()),
        About::SafeRank if safe => Some(style.green()),
        About::LiveRank | About::Liveness => (!live).then_some(style.red()),
        About::SafeRank | About::Safety => (!safe).then_some(style.magenta()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_at_most_a_hundred_columns() {
        let width: usize = COLUMNS.iter().map(|column| column.gap + column.width).sum();
        assert!(width <= 100, "{width}");
        assert!(LEGEND.lines().all(|line| line.chars().count() <= 100), "{LEGEND}");
    }
}
