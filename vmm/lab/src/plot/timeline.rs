//! One run over time: a lane for the link, one for each CPU, one with a row for each queue slot.
//!
//! Time is counted from the fault and logarithmic: a presence check of 70 µs and a time-out of 90 s
//! are both to be seen, and all timelines have one axis.

use std::time::Duration;

use super::axis::TimeAxis;
use super::canvas::{Anchor, Canvas, Drawn, Ink, draw};
use crate::text::time;

const WIDTH: i32 = 920;
const LEFT: i32 = 150;
/// Below the legend.
const TOP: i32 = 30;
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
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    pub(crate) at: Duration,
    pub(crate) ink: Ink,
    /// What happens, for the tooltip.
    pub(crate) text: String,
}

/// The meaning of colours in a timeline.
const LEGEND: [(Ink, &str); 6] = [
    (Ink::Good, "as in a healthy run"),
    (Ink::Wait, "given up"),
    (Ink::Stuck, "10 s or more, or no end"),
    (Ink::Unsafe, "unsafe, or falsely done"),
    (Ink::Device, "blocked, or a driver acts"),
    (Ink::Muted, "link down"),
];

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
        legend(canvas, lanes)?;
        let mut top = TOP;
        for lane in lanes {
            lane.draw(canvas, axis, top)?;
            top += lane.height() + GAP;
        }
        Ok(())
    })
}

/// Names the colours that are used.
fn legend(canvas: &Canvas<'_>, lanes: &[Lane]) -> Drawn {
    let is_used = |ink: Ink| {
        lanes.iter().any(|lane| {
            lane.spans.iter().any(|span| span.ink == ink)
                || lane.marks.iter().any(|mark| mark.ink == ink)
        })
    };
    let mut x = 4;
    for (ink, name) in LEGEND.into_iter().filter(|(ink, _)| is_used(*ink)) {
        canvas.rect((x, 7), (x + 14, 17), ink)?;
        canvas.text((x + 19, 12), Anchor::Left, Ink::Text, 11, name)?;
        x += 34 + i32::try_from(name.len()).unwrap_or(0) * 6;
    }
    Ok(())
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
            if to - from < 2 {
                continue;
            }
            let about = format!(
                "{}, from +{} for {}",
                span.text,
                time(span.from),
                time(span.to - span.from)
            );
            canvas.tip((from, upper), (to, lower), &about);
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
                let about = format!("+{}: {}", time(mark.at), mark.text);
                canvas.tip((x - 5, middle - 5), (x + 5, middle + 5), &about);
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
