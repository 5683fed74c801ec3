//! Safety against liveness: a mark for each policy, and the Pareto front.
//!
//! A name stands beside its mark, if all of them have room. If not, marks have numbers, which a key
//! explains: those that lie on each other share one.

use std::time::Duration;

use super::axis::TimeAxis;
use super::canvas::{Anchor, Canvas, Drawn, Ink, draw};

const WIDTH: i32 = 920;
const HEIGHT: i32 = 440;
const TOP: i32 = 24;
/// The lowest marks reach below it, and the labels of the axis stand below them.
const BOTTOM: i32 = HEIGHT - 56;
/// Radius of a mark with a number.
const RADIUS: i32 = 10;
/// Width of a letter at size 12, rounded up.
const LETTER: i32 = 8;

/// One policy.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Point {
    pub(crate) name: String,
    /// The longest wait of any caller.
    pub(crate) longest: Duration,
    /// The share of runs that were unsafe, from 0 to 1.
    pub(crate) unsafe_share: f64,
    /// Its numbers, in words.
    pub(crate) about: String,
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

/// The plot, and its key.
#[derive(Debug)]
pub(crate) struct Pareto {
    pub(crate) svg: String,
    /// The names at each number, from 1. Empty if the names stand at the marks.
    pub(crate) key: Vec<Vec<String>>,
}

/// Marks that lie on each other.
#[derive(Debug)]
struct Cluster<'a> {
    at: (i32, i32),
    points: Vec<&'a Point>,
    is_best: bool,
}

/// A name beside a mark.
#[derive(Debug)]
struct Label {
    at: (i32, i32),
    anchor: Anchor,
    /// Left, top, right and bottom.
    area: [i32; 4],
}

pub(crate) fn plot(points: &[Point]) -> Pareto {
    let axis = TimeAxis::around(points.iter().map(|point| point.longest), 70, WIDTH - 40);
    let top = points.iter().map(|point| point.unsafe_share).fold(0.0, f64::max);
    // Full tenths, so that the grid ends at a line.
    let top = ((top * 10.0).ceil() / 10.0).max(0.1);
    let y = |share: f64| BOTTOM - (share / top * f64::from(BOTTOM - TOP - 20)).round() as i32;
    let best = front(points);
    let clusters = clusters(points, &best, |point| (axis.x(point.longest), y(point.unsafe_share)));
    let labels = labels(&clusters);
    let svg = draw((WIDTH, HEIGHT), |canvas| {
        axis.draw(canvas, (TOP, BOTTOM + 16))?;
        for tenth in 0..=(top * 10.0).round() as i32 {
            let share = f64::from(tenth) / 10.0;
            canvas.line((axis.left, y(share)), (axis.right, y(share)), Ink::Grid, 1)?;
            let label = format!("{} %", tenth * 10);
            canvas.text((axis.left - 14, y(share)), Anchor::Right, Ink::Muted, 11, &label)?;
        }
        let text = "longest wait in any run, logarithmic: further left is more alive";
        canvas.text((axis.left, BOTTOM + 43), Anchor::Left, Ink::Muted, 11, text)?;
        let text = "runs that were unsafe: further down is safer";
        canvas.text((axis.left + 4, TOP - 12), Anchor::Left, Ink::Muted, 11, text)?;
        front_line(canvas, &clusters)?;
        for (index, cluster) in clusters.iter().enumerate() {
            let number = labels.is_none().then_some(index + 1);
            cluster.draw(canvas, number)?;
        }
        for (label, cluster) in labels.iter().flatten().zip(&clusters) {
            canvas.text(label.at, label.anchor, Ink::Text, 12, &cluster.points[0].name)?;
        }
        Ok(())
    });
    let names = |cluster: &Cluster<'_>| cluster.points.iter().map(|p| p.name.clone()).collect();
    let key = if labels.is_some() { Vec::new() } else { clusters.iter().map(names).collect() };
    Pareto { svg, key }
}

/// Marks that would touch each other become one, at the place of its first. From left to right.
fn clusters<'a>(
    points: &'a [Point],
    best: &[bool],
    place: impl Fn(&Point) -> (i32, i32),
) -> Vec<Cluster<'a>> {
    let mut clusters: Vec<Cluster<'_>> = Vec::new();
    for (point, is_best) in points.iter().zip(best) {
        let (x, y) = place(point);
        let near = |other: &&mut Cluster<'_>| {
            (other.at.0 - x).abs() < 2 * RADIUS + 2 && (other.at.1 - y).abs() < 2 * RADIUS + 2
        };
        match clusters.iter_mut().find(near) {
            Some(cluster) => {
                cluster.points.push(point);
                cluster.is_best |= is_best;
            }
            None => clusters.push(Cluster { at: (x, y), points: vec![point], is_best: *is_best }),
        }
    }
    clusters.sort_by_key(|cluster| cluster.at);
    clusters
}

impl Cluster<'_> {
    fn draw(&self, canvas: &Canvas<'_>, number: Option<usize>) -> Drawn {
        let (x, y) = self.at;
        let is_unsafe = self.points.iter().any(|point| point.unsafe_share > 0.0);
        let ink = if is_unsafe { Ink::Unsafe } else { Ink::Good };
        let radius = if number.is_some() { RADIUS } else { 6 };
        if is_unsafe {
            canvas.diamond(self.at, radius + 2, ink)?;
        } else {
            canvas.dot(self.at, radius, ink)?;
        }
        if self.is_best {
            canvas.ring(self.at, radius + 4, Ink::Text)?;
        }
        let about: Vec<String> =
            self.points.iter().map(|point| format!("{}: {}", point.name, point.about)).collect();
        let reach = radius + 4;
        canvas.tip((x - reach, y - reach), (x + reach, y + reach), &about.join("\n"));
        match number {
            Some(number) => {
                canvas.text(self.at, Anchor::Center, Ink::Paper, 11, &number.to_string())
            }
            None => Ok(()),
        }
    }
}

/// Steps through the points of the front, from left to right.
fn front_line(canvas: &Canvas<'_>, clusters: &[Cluster<'_>]) -> Drawn {
    let mut corners: Vec<(i32, i32)> =
        clusters.iter().filter(|cluster| cluster.is_best).map(|cluster| cluster.at).collect();
    corners.sort_unstable_by_key(|(x, y)| (*x, std::cmp::Reverse(*y)));
    corners.dedup();
    let steps = corners.windows(2).flat_map(|pair| [pair[0], (pair[1].0, pair[0].1)]);
    let path: Vec<(i32, i32)> = steps.chain(corners.last().copied()).collect();
    if path.len() > 1 { canvas.path(path, Ink::Muted, 1) } else { Ok(()) }
}

/// A name beside each mark, right of it or left of it; `None` if one has no room, or if marks lie on
/// each other.
fn labels(clusters: &[Cluster<'_>]) -> Option<Vec<Label>> {
    let reach = RADIUS + 2;
    let mut taken: Vec<[i32; 4]> = clusters
        .iter()
        .map(|Cluster { at: (x, y), .. }| [x - reach, y - reach, x + reach, y + reach])
        .collect();
    let mut labels = Vec::new();
    for (index, Cluster { at: (x, y), points, .. }) in clusters.iter().enumerate() {
        let [point] = points[..] else { return None };
        let width = i32::try_from(point.name.len()).unwrap_or(WIDTH / LETTER) * LETTER;
        let right = Label {
            at: (x + reach + 2, *y),
            anchor: Anchor::Left,
            area: [x + reach + 1, y - 8, x + reach + 2 + width, y + 8],
        };
        let left = Label {
            at: (x - reach - 2, *y),
            anchor: Anchor::Right,
            area: [x - reach - 2 - width, y - 8, x - reach - 1, y + 8],
        };
        let has_room = |label: &Label| {
            let [left, top, right, bottom] = label.area;
            let is_apart = |(other, [l, t, r, b]): (usize, &[i32; 4])| {
                other == index || left >= *r || right <= *l || top >= *b || bottom <= *t
            };
            left >= 0 && right <= WIDTH && taken.iter().enumerate().all(is_apart)
        };
        let label = [right, left].into_iter().find(has_room)?;
        taken.push(label.area);
        labels.push(label);
    }
    Some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(name: &str, seconds: u64, unsafe_share: f64) -> Point {
        let longest = Duration::from_secs(seconds);
        Point { name: name.to_owned(), longest, unsafe_share, about: format!("{seconds} s") }
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
    fn names_stand_at_their_marks_if_they_have_room() {
        let Pareto { svg, key } = plot(&[point("a", 1, 0.5), point("b", 60, 0.0)]);
        assert!(key.is_empty());
        for name in ["a", "b"] {
            assert!(svg.contains(&format!("\n{name}\n")), "{name}: {svg}");
        }
        assert!(svg.contains("<title>b: 60 s</title>"), "{svg}");
    }

    #[test]
    fn names_without_room_become_numbers_with_a_key() {
        let points =
            [point("a", 1, 0.5), point("b", 1, 0.5), point("c", 60, 0.0), point("d", 1, 0.49)];
        let Pareto { svg, key } = plot(&points);
        assert_eq!(key, [vec!["a", "b", "d"], vec!["c"]]);
        assert!(svg.contains("\n1\n") && svg.contains("\n2\n") && !svg.contains("\na\n"), "{svg}");
        assert!(svg.contains("<title>a: 1 s\nb: 1 s\nd: 1 s</title>"), "{svg}");
    }
}
