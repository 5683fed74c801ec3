//! The number of seeds of each cell: fixed, or as many as its shares need.
//!
//! ```text
//!   round 0   every cell, seeds 0 to 19      each round twice as many seeds as there were,
//!   round 1   the open cells, 20 to 39       for the cells with a share whose interval is
//!   round 2   the open cells, 40 to 79       still wider than it should be
//! ```
//!
//! Whether a cell is open depends on its own runs alone. So the runs are a function of the plan, and
//! a part that has all runs of its cells knows them without the other parts.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::shard::Shard;

/// Seeds for each cell, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Seeds {
    /// As many for each cell.
    Fixed(u64),
    /// Until the interval of each share is narrow.
    Until(Precision),
}

/// When a cell has enough seeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Precision {
    /// Width of the 95 % interval of each share, in percentage points.
    pub points: u32,
    /// Seeds before that is looked at for the first time.
    pub first: u64,
    /// Seeds after which a cell gets no more, however wide its intervals are.
    pub most: u64,
}

impl Seeds {
    /// Width of intervals, in percentage points, if nothing else is said. A share of one half needs
    /// 1,533 seeds for it, and one of 0 or 1 needs 74.
    pub const POINTS: u32 = 5;
    /// Seeds of the first round, if the comparison is not a large one.
    const FIRST: u64 = 20;
    /// Seeds after which no comparison goes on: enough for any share.
    const MOST: u64 = 2560;
    /// Cost of a comparison up to which cells get more seeds, in runs of four CPUs: some 15 s on two
    /// cores.
    const BUDGET: u64 = 34_000;
    /// The fewest seeds of a cell.
    const LEAST: u64 = 3;

    /// Until the intervals are narrow, as far as a budget allows. `cost` is that of one seed for
    /// every cell, in runs of four CPUs.
    pub fn within_budget(cost: u64) -> Self {
        let affordable = Self::BUDGET / cost.max(1);
        let first = affordable.clamp(Self::LEAST, Self::FIRST);
        let mut most = first;
        while most < Self::MOST && most * 2 <= affordable {
            most *= 2;
        }
        Self::Until(Precision { points: Self::POINTS, first, most })
    }

    /// The seeds of the first round, for every cell.
    pub fn first(self) -> Range<u64> {
        match self {
            Self::Fixed(seeds) => 0..seeds,
            Self::Until(Precision { first, .. }) => 0..first,
        }
    }

    /// The seeds of the round after one that ended before seed `end`; `None` if there is none.
    fn after(self, end: u64) -> Option<Range<u64>> {
        match self {
            Self::Fixed(_) => None,
            Self::Until(Precision { most, .. }) => {
                (end < most).then(|| end..end.saturating_mul(2).min(most))
            }
        }
    }

    /// The width of an interval that needs no more seeds, in percentage points.
    pub const fn points(self) -> Option<u32> {
        match self {
            Self::Fixed(_) => None,
            Self::Until(Precision { points, .. }) => Some(points),
        }
    }
}

/// A run of a comparison: a cell, by its place in the matrix, and a seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The cell, from 0.
    pub cell: usize,
    /// The seed.
    pub seed: u64,
}

/// One round: cells, and the seeds that each of them gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    seeds: Seeds,
    cells: Vec<usize>,
    range: Range<u64>,
}

impl Round {
    /// The first round of a part of the comparison with these cells.
    pub fn first(seeds: Seeds, cells: impl Iterator<Item = usize>, shard: Shard) -> Self {
        let cells = cells.filter(|cell| shard.has(*cell)).collect();
        Self { seeds, cells, range: seeds.first() }
    }

    /// The next round, if a cell needs one. `is_open` tells whether a share of a cell has an
    /// interval that is wider than so many percentage points.
    pub fn next(&self, is_open: impl Fn(usize, u32) -> bool) -> Option<Self> {
        let range = self.seeds.after(self.range.end)?;
        let points = self.seeds.points()?;
        let cells: Vec<usize> =
            self.cells.iter().copied().filter(|cell| is_open(*cell, points)).collect();
        (!cells.is_empty()).then_some(Self { seeds: self.seeds, cells, range })
    }

    /// The number of its runs.
    pub fn runs(&self) -> usize {
        let seeds = usize::try_from(self.range.end - self.range.start).unwrap_or(usize::MAX);
        self.cells.len().saturating_mul(seeds)
    }

    /// Its run `nth`, from 0: cell by cell, seed by seed. `None` after the last.
    pub fn run(&self, nth: usize) -> Option<Place> {
        let (nth, seeds) = (u64::try_from(nth).ok()?, self.range.end - self.range.start);
        let cell = self.cells.get(usize::try_from(nth.checked_div(seeds)?).ok()?)?;
        Some(Place { cell: *cell, seed: self.range.start + nth % seeds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn runs(round: &Round) -> Vec<(usize, u64)> {
        (0..round.runs()).map(|nth| round.run(nth).unwrap()).map(|at| (at.cell, at.seed)).collect()
    }

    #[test]
    fn rounds_go_on_for_open_cells_up_to_the_cap() {
        let seeds = Seeds::Until(Precision { points: 5, first: 2, most: 7 });
        let round = Round::first(seeds, 0..3, Shard::WHOLE);
        assert_eq!(runs(&round), [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]);
        assert_eq!(round.run(6), None);
        let round = round.next(|cell, points| cell != 1 && points == 5).unwrap();
        assert_eq!(runs(&round), [(0, 2), (0, 3), (2, 2), (2, 3)]);
        let round = round.next(|cell, _| cell == 2).unwrap();
        assert_eq!(runs(&round), [(2, 4), (2, 5), (2, 6)], "7 is the most");
        assert_eq!(round.next(|_, _| true), None);
        assert_eq!(Round::first(Seeds::Fixed(3), 0..1, Shard::WHOLE).next(|_, _| true), None);
    }

    #[test]
    fn a_large_comparison_gets_fewer_seeds_and_none_gets_none() {
        let precision = |cost| match Seeds::within_budget(cost) {
            Seeds::Until(precision) => (precision.first, precision.most),
            Seeds::Fixed(_) => unreachable!(),
        };
        assert_eq!(precision(1), (20, 2560));
        assert_eq!(precision(42), (20, 640));
        assert_eq!(precision(1_700), (20, 20));
        assert_eq!(precision(5_000), (6, 6));
        assert_eq!(precision(1_000_000), (3, 3));
    }

    proptest! {
        /// Whatever cells stay open: all parts together have the runs of the whole, each once.
        #[test]
        fn parts_have_the_runs_of_the_whole(cells in 0_usize..40, parts in 1_usize..6, salt: u64) {
            let seeds = Seeds::Until(Precision { points: 5, first: 3, most: 20 });
            let is_open = |cell: usize, _| !(salt >> (cell % 61)).is_multiple_of(3);
            let all = |shard: Shard| {
                let mut round = Some(Round::first(seeds, 0..cells, shard));
                let mut found = Vec::new();
                while let Some(now) = round {
                    found.extend(runs(&now));
                    round = now.next(is_open);
                }
                found
            };
            let mut whole = all(Shard::WHOLE);
            let parts = (1..=parts).map(|index| format!("{index}/{parts}").parse().unwrap());
            let mut together: Vec<_> = parts.flat_map(all).collect();
            whole.sort_unstable();
            together.sort_unstable();
            prop_assert_eq!(whole, together);
        }
    }
}
