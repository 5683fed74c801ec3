//! The axis that all plots have: time, logarithmic, because what is compared lies between a
//! microsecond and minutes.

use std::time::Duration;

use super::canvas::{Anchor, Canvas, Drawn, Ink};

/// The time axis: maps times to pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeAxis {
    /// Of the page, in pixels.
    pub(super) left: i32,
    /// Of the page, in pixels.
    pub(super) right: i32,
    /// At the left end, as a power of ten of seconds.
    pub(super) from: i32,
    /// At the right end.
    pub(super) to: i32,
}

impl TimeAxis {
    /// An axis on which all of `times` fit, from a power of ten to another.
    pub(super) fn around(times: impl Iterator<Item = Duration>, left: i32, right: i32) -> Self {
        let powers = times.map(|time| time.as_secs_f64().max(1e-6).log10());
        let (least, most) =
            powers.fold((2.0, -5.0), |(least, most): (f64, f64), p| (least.min(p), most.max(p)));
        // From -6 to 12: a Duration's logarithm is small.
        Self { left, right, from: least.floor() as i32, to: most.ceil() as i32 }
    }

    /// Times that do not fit lie at the ends.
    pub(super) fn x(self, time: Duration) -> i32 {
        let seconds = time.as_secs_f64().max(f64::MIN_POSITIVE);
        let (from, to) = (f64::from(self.from), f64::from(self.to));
        let part = ((seconds.log10() - from) / (to - from)).clamp(0.0, 1.0);
        // Between the ends, so it fits.
        self.left + (part * f64::from(self.right - self.left)).round() as i32
    }

    /// A line and a label for each power of ten.
    pub(super) fn draw(self, canvas: &Canvas<'_>, (top, bottom): (i32, i32)) -> Drawn {
        for power in self.from..=self.to {
            let x = self.x(Duration::from_secs_f64(10_f64.powi(power)));
            canvas.line((x, top), (x, bottom), Ink::Grid, 1)?;
            canvas.text((x, bottom + 12), Anchor::Center, Ink::Muted, 11, &decade(power))?;
        }
        Ok(())
    }
}

fn decade(power: i32) -> String {
    let (unit, base) = match power {
        ..-6 => ("ns", -9),
        -6..-3 => ("µs", -6),
        -3..0 => ("ms", -3),
        0.. => ("s", 0),
    };
    format!("{:.0} {unit}", 10_f64.powi(power - base))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_lie_where_the_labels_say() {
        let axis = TimeAxis { left: 100, right: 900, from: -6, to: 2 };
        assert_eq!(axis.x(Duration::from_micros(1)), 100);
        assert_eq!(axis.x(Duration::from_millis(1)), 400);
        assert_eq!(axis.x(Duration::from_secs(100)), 900);
        assert_eq!(axis.x(Duration::ZERO), 100);
        assert_eq!(axis.x(Duration::MAX), 900);
        assert_eq!(
            [-9, -6, -4, -1, 0, 2].map(decade).join(" "),
            "1 ns 1 µs 100 µs 100 ms 1 s 100 s"
        );
    }
}
