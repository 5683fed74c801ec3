//! Measures over the values of an axis: a panel for each measure, a curve for each combination of the
//! other dimensions. Times and counts are logarithmic, with zero at the bottom.

use super::canvas::{Anchor, Canvas, Drawn, Ink, draw};
use crate::experiment::Value;

const WIDTH: i32 = 920;
const LEFT: i32 = 80;
const RIGHT: i32 = WIDTH - 230;
/// Of a panel, with its title and the labels below it.
const HEIGHT: i32 = 300;
const TOP: i32 = 34;
const BOTTOM: i32 = HEIGHT - 46;
const LINE: i32 = 14;

/// One curve; no value where there was nothing to run.
#[derive(Debug)]
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) points: Vec<Option<Value>>,
}

/// One measure.
#[derive(Debug)]
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) curves: Vec<Curve>,
}

/// The curves, with `axis` and its `values` below each panel.
pub(crate) fn svg(axis: &str, values: &[String], panels: &[Panel]) -> String {
    let height = HEIGHT * i32::try_from(panels.len()).unwrap_or(1).max(1);
    draw((WIDTH, height), |canvas| {
        canvas.rect((0, 0), (WIDTH, height), Ink::Paper)?;
        for (index, panel) in (0..).zip(panels) {
            draw_panel(canvas, index * HEIGHT, panel, axis, values)?;
        }
        Ok(())
    })
}

/// The height of values on a panel.
struct Scale {
    /// The powers of ten at the bottom and at the top; shares have none.
    decades: Option<(i32, i32)>,
    is_time: bool,
}

impl Scale {
    fn of(curves: &[Curve]) -> Self {
        let values = || curves.iter().flat_map(|curve| curve.points.iter().flatten());
        let is_time = values().any(|value| matches!(value, Value::Time(_)));
        let is_share = values().any(|value| matches!(value, Value::Share(..)));
        let powers = values().filter_map(number).filter(|number| *number > 0.0).map(f64::log10);
        let (least, most) =
            powers.fold((f64::MAX, f64::MIN), |(least, most), p| (least.min(p), most.max(p)));
        let decades = match least <= most {
            // Logarithms of times and counts are small.
            true => (least.floor() as i32 - 1, (most.floor() as i32) + 1),
            false => (-1, 1),
        };
        Self { decades: (!is_share).then_some(decades), is_time }
    }

    fn y(&self, value: f64) -> i32 {
        let part = match self.decades {
            None => value,
            Some(_) if value <= 0.0 => 0.0,
            Some((from, to)) => (value.log10() - f64::from(from)) / f64::from(to - from),
        };
        BOTTOM - (part.clamp(0.0, 1.0) * f64::from(BOTTOM - TOP)).round() as i32
    }

    /// The lines of the grid: a value, and its label.
    fn grid(&self) -> Vec<(f64, String)> {
        let Some((from, to)) = self.decades else {
            return (0..=4).map(|n| (f64::from(n) / 4.0, format!("{} %", n * 25))).collect();
        };
        let decades = (from + 1..=to).map(|power| {
            let value = 10_f64.powi(power);
            let label = match self.is_time {
                true => crate::text::time(std::time::Duration::from_secs_f64(value)),
                false => format!("{value}"),
            };
            (value, label)
        });
        std::iter::once((0.0, "0".to_owned())).chain(decades).collect()
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Time(time) => Some(time.as_secs_f64()),
        Value::Mean(mean) => Some(*mean),
        Value::Share(part, all) | Value::Ratio(part, all) => {
            Some(crate::share::Share { part: *part, whole: *all }.value())
        }
        Value::Text(_) => None,
    }
}

fn draw_panel(
    canvas: &Canvas<'_>,
    top: i32,
    panel: &Panel,
    axis: &str,
    values: &[String],
) -> Drawn {
    let scale = Scale::of(&panel.curves);
    canvas.text((LEFT, top + 14), Anchor::Left, Ink::Text, 13, &panel.title)?;
    for (value, label) in scale.grid() {
        let y = top + scale.y(value);
        canvas.line((LEFT, y), (RIGHT, y), Ink::Grid, 1)?;
        canvas.text((LEFT - 8, y), Anchor::Right, Ink::Muted, 11, &label)?;
    }
    let count = i32::try_from(values.len()).unwrap_or(i32::MAX).max(1);
    let x = |index: i32| LEFT + 14 + index * (RIGHT - LEFT - 28) / (count - 1).max(1);
    for (index, value) in (0..count).zip(values) {
        canvas.text((x(index), top + BOTTOM + 12), Anchor::Center, Ink::Muted, 11, value)?;
    }
    canvas.text((RIGHT, top + BOTTOM + 28), Anchor::Right, Ink::Muted, 11, axis)?;
    let mut ends = Vec::new();
    for (number_of, curve) in panel.curves.iter().enumerate() {
        let points: Vec<(i32, i32)> = (0..)
            .zip(&curve.points)
            .filter_map(|(index, value)| Some((x(index), top + scale.y(number(value.as_ref()?)?))))
            .collect();
        let ink = INKS[number_of % INKS.len()];
        if points.len() > 1 {
            canvas.path(points.clone(), ink, 2)?;
        }
        points.iter().try_for_each(|at| mark(canvas, number_of, *at, ink))?;
        if let Some(end) = points.last() {
            ends.push((end.1, number_of, curve.name.as_str()));
        }
    }
    label_ends(canvas, top, ends)
}

/// The colours of curves. Beyond these, marks tell them apart.
const INKS: [Ink; 6] = [Ink::Device, Ink::Stuck, Ink::Good, Ink::Unsafe, Ink::Wait, Ink::Muted];

fn mark(canvas: &Canvas<'_>, curve: usize, at: (i32, i32), ink: Ink) -> Drawn {
    match curve % 4 {
        0 => canvas.dot(at, 4, ink),
        1 => canvas.diamond(at, 5, ink),
        2 => canvas.ring(at, 4, ink),
        _ => canvas.rect((at.0 - 3, at.1 - 3), (at.0 + 4, at.1 + 4), ink),
    }
}

/// The names of curves beside their ends, each on a line of its own, with its mark and a line to the
/// end of the curve.
fn label_ends(canvas: &Canvas<'_>, top: i32, mut ends: Vec<(i32, usize, &str)>) -> Drawn {
    ends.sort_unstable();
    let count = i32::try_from(ends.len()).unwrap_or(i32::MAX);
    let mut next = top + TOP;
    for (index, (y, number, name)) in (0..).zip(ends) {
        // The names that are left need this much room.
        let last = top + BOTTOM + LINE - (count - index) * LINE;
        let at = y.max(next).min(last.max(next));
        let ink = INKS[number % INKS.len()];
        canvas.line((RIGHT - 8, y), (RIGHT + 12, at), Ink::Grid, 1)?;
        mark(canvas, number, (RIGHT + 20, at), ink)?;
        canvas.text((RIGHT + 30, at), Anchor::Left, Ink::Text, 11, name)?;
        next = at + LINE;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_curve_is_named_once_and_values_that_are_missing_leave_gaps() {
        let time = |millis| Some(Value::Time(Duration::from_millis(millis)));
        let curve = |name: &str, points| Curve { name: name.to_owned(), points };
        let curves = vec![
            curve("first", vec![time(1), None, time(1000)]),
            curve("second", vec![time(0), time(10), time(1000)]),
        ];
        let values = ["a", "b", "c"].map(str::to_owned);
        let svg = svg("axis", &values, &[Panel { title: "waits".to_owned(), curves }]);
        for text in ["first", "second", "axis", "a", "b", "c", "waits"] {
            assert_eq!(svg.matches(&format!("\n{text}\n")).count(), 1, "{text}: {svg}");
        }
    }

    #[test]
    fn more_is_higher_and_nothing_is_at_the_bottom() {
        let curve = Curve {
            name: String::new(),
            points: [0.0, 1.0, 10.0, 500.0].map(|n| Some(Value::Mean(n))).into(),
        };
        let scale = Scale::of(&[curve]);
        let heights = [0.0, 1.0, 10.0, 500.0].map(|value| scale.y(value));
        assert!(heights.is_sorted_by(|low, high| low > high), "{heights:?}");
        assert_eq!(heights[0], BOTTOM);
    }
}
