//! Safety against liveness: a mark for each policy, and the Pareto front.

use std::time::Duration;

use super::axis::TimeAxis;
use super::canvas::{Anchor, Canvas, Drawn, Ink, draw};

const WIDTH: i32 = 920;
const HEIGHT: i32 = 440;
const TOP: i32 = 20;
const BOTTOM: i32 = HEIGHT - 50;
const LINE: i32 = 14;

/// One policy.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Point {
    pub(crate) name: String,
    /// The longest wait of any caller.
    pub(crate) longest: Duration,
    /// The share of runs that were unsafe, from 0 to 1.
    pub(crate) unsafe_share: f64,
}

impl Point {
    /// Whether it is at least as good in both, and better in one.
    fn beats(&self, other: &Self) -> bool {
        let no_worse = self.longest <= other.longest && self.unsafe_share <= other.unsafe_share;
        no_worse && (self.longest < other.longest || self.unsafe_share < other.unsafe_share)
    }
}

/// The points that no other point beats in both.
pub(crate) fn front(points: &[Point]) -> Vec<bool> {
    points.iter().map(|point| !points.iter().any(|other| other.beats(point))).collect()
}

pub(crate) fn svg(points: &[Point]) -> String {
    let axis = TimeAxis::around(points.iter().map(|point| point.longest), 70, WIDTH - 40);
    let top = points.iter().map(|point| point.unsafe_share).fold(0.0, f64::max);
    // Full tenths, so that the grid ends at a line.
    let top = ((top * 10.0).ceil() / 10.0).max(0.1);
    let y = |share: f64| BOTTOM - (share / top * f64::from(BOTTOM - TOP - 20)).round() as i32;
    draw((WIDTH, HEIGHT), |canvas| {
        axis.draw(canvas, (TOP, BOTTOM))?;
        for tenth in 0..=(top * 10.0).round() as i32 {
            let share = f64::from(tenth) / 10.0;
            canvas.line((axis.left, y(share)), (axis.right, y(share)), Ink::Grid, 1)?;
            let label = format!("{} %", tenth * 10);
            canvas.text((axis.left - 8, y(share)), Anchor::Right, Ink::Muted, 11, &label)?;
        }
        let text = "longest wait in any run, logarithmic: further left is more alive";
        canvas.text((axis.left, BOTTOM + 32), Anchor::Left, Ink::Muted, 11, text)?;
        let text = "runs that were unsafe: further down is safer";
        canvas.text((axis.left + 4, TOP - 10), Anchor::Left, Ink::Muted, 11, text)?;
        let placed: Vec<(i32, i32, &Point)> =
            points.iter().map(|p| (axis.x(p.longest), y(p.unsafe_share), p)).collect();
        let best = front(points);
        front_line(canvas, &placed, &best)?;
        for ((x, y, point), best) in placed.iter().zip(&best) {
            let ink = if point.unsafe_share > 0.0 { Ink::Unsafe } else { Ink::Good };
            if point.unsafe_share > 0.0 {
                canvas.diamond((*x, *y), 6, ink)?;
            } else {
                canvas.dot((*x, *y), 5, ink)?;
            }
            if *best {
                canvas.ring((*x, *y), 9, Ink::Text)?;
            }
        }
        labels(canvas, &placed)
    })
}

/// Steps through the points of the front, from left to right.
fn front_line(canvas: &Canvas<'_>, placed: &[(i32, i32, &Point)], best: &[bool]) -> Drawn {
    let mut corners: Vec<(i32, i32)> =
        placed.iter().zip(best).filter(|(_, best)| **best).map(|((x, y, _), _)| (*x, *y)).collect();
    corners.sort_unstable_by_key(|(x, y)| (*x, std::cmp::Reverse(*y)));
    corners.dedup();
    let steps = corners.windows(2).flat_map(|pair| [pair[0], (pair[1].0, pair[0].1)]);
    let path: Vec<(i32, i32)> = steps.chain(corners.last().copied()).collect();
    if path.len() > 1 { canvas.path(path, Ink::Muted, 1) } else { Ok(()) }
}

/// A name beside each mark; those of marks that lie on each other as a block, and no block on
/// another.
fn labels(canvas: &Canvas<'_>, placed: &[(i32, i32, &Point)]) -> Drawn {
    let mut blocks: Vec<(i32, i32, Vec<&str>)> = Vec::new();
    for (x, y, point) in placed {
        let near =
            |(bx, by, _): &&mut (i32, i32, Vec<&str>)| (*bx - x).abs() < 14 && (*by - y).abs() < 12;
        match blocks.iter_mut().find(near) {
            Some((_, _, names)) => names.push(&point.name),
            None => blocks.push((*x, *y, vec![&point.name])),
        }
    }
    // From the bottom up, each above those that are in its way.
    blocks.sort_unstable_by_key(|(x, y, _)| (std::cmp::Reverse(*y), *x));
    // Marks are in the way as well.
    let mut taken: Vec<[i32; 4]> =
        placed.iter().map(|(x, y, _)| [x - 9, y - 8, x + 9, y + 8]).collect();
    for (x, y, names) in &blocks {
        let lines = i32::try_from(names.len()).unwrap_or(1);
        let longest = names.iter().map(|name| name.len()).max().unwrap_or(0);
        let width = i32::try_from(longest).unwrap_or(0) * 7;
        let right = *x < WIDTH * 3 / 5;
        let (from, anchor) = if right { (x + 14, Anchor::Left) } else { (x - 14, Anchor::Right) };
        let left = if right { from } else { from - width };
        let mut bottom = (y + LINE / 2).max(TOP + lines * LINE);
        let overlaps = |bottom: i32, [l, t, r, b]: &[i32; 4]| {
            left < *r && left + width > *l && bottom - lines * LINE < *b && bottom > *t
        };
        while let Some(other) = taken.iter().find(|other| overlaps(bottom, other)) {
            bottom = other[1];
        }
        taken.push([left, bottom - lines * LINE, left + width, bottom]);
        for (line, name) in names.iter().rev().enumerate() {
            let line = i32::try_from(line).unwrap_or(0);
            canvas.text((from, bottom - line * LINE - LINE / 2), anchor, Ink::Text, 12, name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(name: &str, seconds: u64, unsafe_share: f64) -> Point {
        Point { name: name.to_owned(), longest: Duration::from_secs(seconds), unsafe_share }
    }

    #[test]
    fn the_front_are_those_whom_nobody_beats_in_both() {
        let points = [
            point("live and unsafe", 1, 0.5),
            point("worse in both", 2, 0.6),
            point("a compromise", 10, 0.1),
            point("safe and stuck", 60, 0.0),
            point("the same", 60, 0.0),
            point("safe, stuck longer", 90, 0.0),
        ];
        assert_eq!(front(&points), [true, false, true, true, true, false]);
    }

    #[test]
    fn every_policy_is_named() {
        let points = [point("a", 1, 0.5), point("b", 1, 0.5), point("c", 1, 0.49)];
        let svg = svg(&points);
        for name in ["a", "b", "c"] {
            assert!(svg.contains(&format!("\n{name}\n")), "{name}: {svg}");
        }
    }
}
