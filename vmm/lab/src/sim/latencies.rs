//! Distributions of durations, which merge in any order and in any grouping.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Durations, to within one part in 128, with exact count, sum and maximum.
///
/// In JSON `{"max":ns,"sum":ns,"counts":[[ns,count],..]}`, the lower end of each bucket that is
/// used, in rising order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latencies {
    max: u64,
    sum: u128,
    /// The lower end of each bucket, in rising order, and how many. Few are used: a run has few
    /// different waits.
    counts: Vec<(u64, u64)>,
}

/// The bits of a number that decide its bucket: the highest eight.
const BITS: u32 = 8;

impl Latencies {
    /// Adds one.
    pub fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.sum += u128::from(nanos);
        self.max = self.max.max(nanos);
        self.add(bucket(nanos), 1);
    }

    fn add(&mut self, low: u64, count: u64) {
        match self.counts.binary_search_by_key(&low, |(other, _)| *other) {
            Ok(place) => self.counts[place].1 += count,
            Err(place) => self.counts.insert(place, (low, count)),
        }
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.sum += other.sum;
        self.max = self.max.max(other.max);
        for (low, count) in &other.counts {
            self.add(*low, *count);
        }
    }

    /// The number of latencies.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    /// The longest, exactly; zero if there is none.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }

    /// All together.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(u64::try_from(self.sum).unwrap_or(u64::MAX))
    }

    /// The mean; zero if there is none.
    pub fn mean(&self) -> Duration {
        let mean = self.sum.checked_div(u128::from(self.count())).unwrap_or(0);
        Duration::from_nanos(u64::try_from(mean).unwrap_or(u64::MAX))
    }

    /// The latency that the share `quantile` of them, 0 to 1, does not exceed; zero if there is
    /// none.
    pub fn quantile(&self, quantile: f64) -> Duration {
        // Counts are far below 2^52.
        let wanted = (quantile.clamp(0.0, 1.0) * self.count() as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        let found = self.counts.iter().find(|(_, count)| {
            seen += count;
            seen >= wanted
        });
        Duration::from_nanos(found.map_or(0, |(low, _)| highest(*low)).min(self.max))
    }

    /// The buckets that are used, in rising order: lower end, and how many.
    pub fn buckets(&self) -> Vec<(Duration, u64)> {
        self.counts.iter().map(|(low, count)| (Duration::from_nanos(*low), *count)).collect()
    }
}

/// The number of low bits that do not decide the bucket of `nanos`.
const fn free_bits(nanos: u64) -> u32 {
    (u64::BITS - nanos.leading_zeros()).saturating_sub(BITS)
}

/// The lower end of the bucket of `nanos`.
const fn bucket(nanos: u64) -> u64 {
    nanos >> free_bits(nanos) << free_bits(nanos)
}

/// The highest number in the bucket that begins at `low`.
const fn highest(low: u64) -> u64 {
    low | ((1 << free_bits(low)) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(nanos: &[u64]) -> Latencies {
        let mut latencies = Latencies::default();
        nanos.iter().for_each(|nanos| latencies.record(Duration::from_nanos(*nanos)));
        latencies
    }

    #[test]
    fn quantiles_are_near_what_was_recorded() {
        let waits = of(&[1_500, 1_500, 1_510, 100_000_210, 90_000_000_160]);
        let quantile = |q| waits.quantile(q).as_secs_f64();
        assert!((quantile(0.5) / 1.51e-6 - 1.0).abs() < 0.01, "{}", quantile(0.5));
        assert!((quantile(0.8) / 0.1 - 1.0).abs() < 0.01, "{}", quantile(0.8));
        assert_eq!(waits.quantile(1.0), Duration::from_nanos(90_000_000_160));
        assert_eq!((waits.count(), waits.max().as_nanos()), (5, 90_000_000_160));
        assert_eq!(Latencies::default().quantile(0.5), Duration::ZERO);
        assert_eq!(of(&[u64::MAX]).quantile(0.5), Duration::from_nanos(u64::MAX));
    }

    proptest! {
        #[test]
        fn buckets_are_narrow_and_the_order_of_merges_does_not_show(
            a in prop::collection::vec(0_u64..200_000_000_000, 1..40),
            b in prop::collection::vec(any::<u64>(), 0..40),
        ) {
            for nanos in a.iter().chain(&b) {
                let (low, high) = (bucket(*nanos), highest(bucket(*nanos)));
                prop_assert!(low <= *nanos && *nanos <= high && bucket(high) == low);
                prop_assert!(high - low <= low / 128);
            }
            let (mut ab, mut ba) = (of(&a), of(&b));
            ab.merge(&of(&b));
            ba.merge(&of(&a));
            prop_assert_eq!(&ab, &ba);
            prop_assert_eq!(&ab, &of(&[a, b].concat()));
            let json = serde_json::to_string(&ab).unwrap();
            prop_assert_eq!(serde_json::from_str::<Latencies>(&json).unwrap(), ab);
        }
    }
}
