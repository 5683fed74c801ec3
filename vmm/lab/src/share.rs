//! A share of runs, with the interval in which it lies.

use std::fmt;

/// Runs of which something holds, and all runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Runs of which it holds; at most `whole`.
    pub part: u64,
    /// All runs.
    pub whole: u64,
}

/// An interval from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl Share {
    /// The normal quantile of a confidence of 95 %, both sides.
    const Z: f64 = 1.959_963_984_540_054;

    /// `part` of `whole`, from 0 to 1; 0 without runs.
    pub fn value(self) -> f64 {
        // Counts of runs are far below 2^52.
        if self.whole == 0 { 0.0 } else { self.part as f64 / self.whole as f64 }
    }

    /// In whole percent, which are never rounded to nothing or to all; a dash for nothing.
    pub fn percent(self) -> String {
        let percent = self.value() * 100.0;
        match self.part {
            0 => "-".to_owned(),
            part if part == self.whole => "100%".to_owned(),
            _ if percent < 1.0 => "<1%".to_owned(),
            _ => format!("{:.0}%", percent.min(99.0)),
        }
    }

    /// Wilson's score interval of 95 % confidence, which holds at 0 and at 1 too. Without runs it is
    /// everything from 0 to 1.
    pub fn interval(self) -> Interval {
        if self.whole == 0 {
            return Interval { low: 0.0, high: 1.0 };
        }
        let (n, p, z2) = (self.whole as f64, self.value(), Self::Z * Self::Z);
        let center = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
        let half = Self::Z * ((p * (1.0 - p) + z2 / (4.0 * n)) / n).sqrt() / (1.0 + z2 / n);
        // The ends at 0 and 1 are exact; the formula misses them by a rounding.
        let low = if self.part == 0 { 0.0 } else { (center - half).max(0.0) };
        let high = if self.part == self.whole { 1.0 } else { (center + half).min(1.0) };
        Interval { low, high }
    }
}

impl Interval {
    /// Its width in percentage points.
    pub fn points(self) -> f64 {
        (self.high - self.low) * 100.0
    }

    /// Whether all of it lies below all of `other`.
    pub fn is_below(self, other: Self) -> bool {
        self.high < other.low
    }
}

impl fmt::Display for Interval {
    /// In whole percent, rounded outward: `<5` up to 5, `>95` from 95 on, else `38-52`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = ((self.low * 100.0).floor(), (self.high * 100.0).ceil());
        match (low <= 0.0, high >= 100.0) {
            (true, true) => f.write_str("0-100"),
            (true, false) => write!(f, "<{high}"),
            (false, true) => write!(f, ">{low}"),
            (false, false) => write!(f, "{low}-{high}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn interval(part: u64, whole: u64) -> Interval {
        Share { part, whole }.interval()
    }

    fn near(found: Interval, low: f64, high: f64) -> bool {
        (found.low - low).abs() < 5e-4 && (found.high - high).abs() < 5e-4
    }

    #[test]
    fn intervals_are_wilsons() {
        // Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
        assert!(near(interval(81, 263), 0.2553, 0.3662));
        assert!(near(interval(15, 148), 0.0624, 0.1605));
        assert!(near(interval(0, 20), 0.0, 0.1611));
        assert!(near(interval(1, 29), 0.0061, 0.1718));
        assert!(near(interval(29, 29), 0.8830, 1.0));
        assert_eq!(interval(0, 0), Interval { low: 0.0, high: 1.0 });
    }

    #[test]
    fn text_never_claims_more_than_the_interval() {
        let text = |part, whole| interval(part, whole).to_string();
        assert_eq!(text(0, 20), "<17");
        assert_eq!(text(20, 20), ">83");
        assert_eq!(text(0, 400), "<1");
        assert_eq!(text(81, 263), "25-37");
        assert_eq!(text(0, 0), "0-100");
    }

    #[test]
    fn only_what_is_apart_is_ranked() {
        assert!(!interval(0, 20).is_below(interval(3, 20)));
        assert!(interval(0, 20).is_below(interval(10, 20)));
        assert!(!interval(10, 20).is_below(interval(10, 20)));
    }

    proptest! {
        #[test]
        fn the_share_lies_in_it_and_more_runs_narrow_it(part in 0_u64..500, rest in 0_u64..500) {
            let share = Share { part, whole: (part + rest).max(1) };
            let found = share.interval();
            prop_assert!(found.low <= share.value() && share.value() <= found.high);
            let more = interval(share.part * 4, share.whole * 4);
            prop_assert!(more.points() < found.points());
            // Its complement is its mirror.
            let mirror = interval(share.whole - share.part, share.whole);
            prop_assert!(near(mirror, 1.0 - found.high, 1.0 - found.low));
        }
    }
}
