//! Waiting times: a row for each policy, with the distributions for the faulty port's devices
//! (stuck) and for all others (innocent).
//!
//! ```text
//!   policy   |-----[====|=======]---------o     thin: all waits; thick: the middle half;
//!            |--[=|==]-------o                  a tick: the median; the mark: the longest
//! ```

use std::time::Duration;

use super::axis::TimeAxis;
use super::canvas::{Anchor, Canvas, Drawn, Ink, draw};
use crate::text::time;

const WIDTH: i32 = 920;
const LEFT: i32 = 190;
const TOP: i32 = 34;
const ROW: i32 = 30;

/// The quantiles of a distribution that are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quantiles {
    pub(crate) least: Duration,
    pub(crate) quarter: Duration,
    pub(crate) median: Duration,
    pub(crate) three_quarters: Duration,
    pub(crate) longest: Duration,
}

impl Quantiles {
    fn text(self) -> String {
        format!(
            "median {}, three quarters within {}, longest {}",
            time(self.median),
            time(self.three_quarters),
            time(self.longest)
        )
    }
}

/// One policy.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// Waits of callers whose own device has the fault.
    pub(crate) stuck: Option<Quantiles>,
    /// Waits of all other callers.
    pub(crate) innocent: Option<Quantiles>,
}

/// A time that readers measure others by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) at: Duration,
    pub(crate) name: &'static str,
}

/// `marks`: an earlier one, whose name stands left of it, and a later one.
pub(crate) fn svg(rows: &[Row], marks: &[Mark; 2]) -> String {
    let bottom = TOP + ROW * i32::try_from(rows.len()).unwrap_or(i32::MAX / ROW - 10);
    let axis = TimeAxis { left: LEFT, right: WIDTH - 30, from: -6, to: 3 };
    draw((WIDTH, bottom + 42), |canvas| {
        axis.draw(canvas, (TOP - 4, bottom))?;
        canvas.text(
            (axis.left, bottom + 30),
            Anchor::Left,
            Ink::Muted,
            11,
            "time from submission to the caller's return, logarithmic",
        )?;
        legend(canvas)?;
        for (mark, anchor) in marks.iter().zip([Anchor::Right, Anchor::Left]) {
            let x = axis.x(mark.at);
            canvas.dashes(x, (TOP - 8, bottom), Ink::Muted)?;
            let aside = if anchor == Anchor::Right { -5 } else { 5 };
            canvas.text((x + aside, TOP - 12), anchor, Ink::Muted, 11, mark.name)?;
        }
        rows.iter().enumerate().try_for_each(|(index, row)| {
            let y = TOP + ROW * i32::try_from(index).unwrap_or(0) + ROW / 2;
            canvas.text((LEFT - 10, y), Anchor::Right, Ink::Text, 12, &row.name)?;
            for (waits, whose) in
                [(row.stuck, "own device has the fault"), (row.innocent, "own device is healthy")]
            {
                let (aside, ink) =
                    if whose.ends_with("fault") { (-5, Ink::Stuck) } else { (6, Ink::Neighbor) };
                strip(canvas, axis, y + aside, waits, ink)?;
                if let Some(waits) = waits {
                    let text = format!("{}, {whose}: {}", row.name, waits.text());
                    canvas.tip((axis.left, y + aside - 5), (axis.right, y + aside + 5), &text);
                }
            }
            Ok(())
        })
    })
}

fn legend(canvas: &Canvas<'_>) -> Drawn {
    let y = 10;
    canvas.rect((LEFT, y - 3), (LEFT + 18, y + 3), Ink::Stuck)?;
    canvas.text((LEFT + 24, y), Anchor::Left, Ink::Text, 11, "own device has the fault")?;
    canvas.rect((LEFT + 190, y - 3), (LEFT + 208, y + 3), Ink::Neighbor)?;
    canvas.text((LEFT + 214, y), Anchor::Left, Ink::Text, 11, "own device is healthy")
}

fn strip(
    canvas: &Canvas<'_>,
    axis: TimeAxis,
    y: i32,
    quantiles: Option<Quantiles>,
    ink: Ink,
) -> Drawn {
    let Some(q) = quantiles else { return Ok(()) };
    canvas.line((axis.x(q.least), y), (axis.x(q.longest), y), ink, 1)?;
    canvas.shade((axis.x(q.quarter), y - 3), (axis.x(q.three_quarters), y + 3), ink, 0.75)?;
    let median = axis.x(q.median);
    canvas.rect((median - 1, y - 5), (median + 1, y + 5), ink)?;
    if ink == Ink::Stuck {
        canvas.dot((axis.x(q.longest), y), 4, ink)
    } else {
        canvas.diamond((axis.x(q.longest), y), 4, ink)
    }
}
