//! Random numbers that are the same for the same seed, here and on every other machine.

/// SplitMix64: small, and good enough to pick test cases.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The sequence of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.bits() % end.max(1)
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of `choices`, which is not empty.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        let index = self.below(choices.len() as u64);
        choices[usize::try_from(index).unwrap_or(0)]
    }

    /// One of the bits that are set in `mask`, which is not 0.
    pub fn bit_of(&mut self, mask: u64) -> u64 {
        let nth = self.below(u64::from(mask.count_ones()));
        (0..64).map(|bit| 1 << bit).filter(|bit| mask & bit != 0).nth(nth as usize).unwrap_or(0)
    }

    /// A number of interest: nothing, everything, one bit, or any.
    pub fn value(&mut self) -> u64 {
        match self.below(5) {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << self.below(64),
            _ => self.bits(),
        }
    }
}
