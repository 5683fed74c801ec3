//! One run over time: a lane for the link, one for each CPU, one with a row for each queue slot.
//!
//! Time is counted from the fault and logarithmic: a presence check of 70 µs and a time-out of 90 s
//! are both to be seen, and all timelines have one axis.

use std::time::Duration;

use super::axis::TimeAxis;
use super::canvas::{Anchor, Canvas, Drawn, Ink, draw};

const WIDTH: i32 = 920;
const LEFT: i32 = 150;
const TOP: i32 = 8;
/// Height of a lane with one row.
const LANE: i32 = 20;
const GAP: i32 = 8;
/// Height of a row in a lane with many.
const TALL: i32 = 72;

/// A horizontal strip.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lane {
    pub(crate) name: String,
    /// The number of rows, at least one.
    pub(crate) rows: u32,
    pub(crate) spans: Vec<Span>,
    pub(crate) marks: Vec<Mark>,
}

/// Something that lasts.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) from: Duration,
    pub(crate) to: Duration,
    pub(crate) row: u32,
    pub(crate) ink: Ink,
    /// Is written into it, if there is room.
    pub(crate) text: String,
}

/// Something that happens at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) at: Duration,
    pub(crate) ink: Ink,
}

impl Lane {
    const fn height(&self) -> i32 {
        if self.rows > 1 { TALL } else { LANE }
    }
}

pub(crate) fn svg(lanes: &[Lane]) -> String {
    let bottom = lanes.iter().fold(TOP, |y, lane| y + lane.height() + GAP);
    let axis = TimeAxis { left: LEFT, right: WIDTH - 30, from: -6, to: 3 };
    draw((WIDTH, bottom + 40), |canvas| {
        axis.draw(canvas, (TOP, bottom))?;
        let text = "time since the fault, logarithmic";
        canvas.text((axis.left, bottom + 28), Anchor::Left, Ink::Muted, 11, text)?;
        let mut top = TOP;
        for lane in lanes {
            lane.draw(canvas, axis, top)?;
            top += lane.height() + GAP;
        }
        Ok(())
    })
}

impl Lane {
    fn draw(&self, canvas: &Canvas<'_>, axis: TimeAxis, top: i32) -> Drawn {
        let middle = top + self.height() / 2;
        canvas.text((LEFT - 10, middle), Anchor::Right, Ink::Text, 12, &self.name)?;
        let rows = i32::try_from(self.rows.max(1)).unwrap_or(i32::MAX);
        // The last pixel of each span that was drawn in a row: what would lie on it is left out.
        let mut drawn = std::collections::HashMap::new();
        for span in &self.spans {
            let row = i32::try_from(span.row).unwrap_or(0);
            let upper = top + self.height() * row / rows;
            let lower = (top + self.height() * (row + 1) / rows).max(upper + 1);
            let (from, to) = (axis.x(span.from), axis.x(span.to));
            if drawn.get(&(row, span.ink)).is_some_and(|last| to <= *last) {
                continue;
            }
            drawn.insert((row, span.ink), to.max(from + 1));
            canvas.rect((from, upper), (to, lower), span.ink)?;
            let room = i32::try_from(span.text.len()).unwrap_or(i32::MAX / 8) * 7 + 8;
            if to - from > room && lower - upper >= 14 && !span.text.is_empty() {
                let at = ((from + to) / 2, (upper + lower) / 2);
                canvas.text(at, Anchor::Center, Ink::Paper, 11, &span.text)?;
            }
        }
        let mut last = i32::MIN;
        for mark in &self.marks {
            let x = axis.x(mark.at);
            // One for all that lie on each other.
            if x > last + 3 {
                canvas.diamond((x, middle), 5, mark.ink)?;
                last = x;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_short_waits_are_no_million_rectangles() {
        let wait = |nth: u64| {
            let from = Duration::from_millis(nth);
            Span {
                from,
                to: from + Duration::from_micros(900),
                row: 0,
                ink: Ink::Wait,
                text: String::new(),
            }
        };
        let lane = Lane {
            name: "CPU 0".to_owned(),
            rows: 1,
            spans: (0..100_000).map(wait).collect(),
            marks: Vec::new(),
        };
        assert!(svg(&[lane]).matches("<rect").count() < 1000);
    }
}
