//! Pseudo-random numbers.

/// Xorshift with 64 bits of state (Marsaglia).
pub(super) struct Random(u64);

impl Random {
    /// A generator with this seed. 0 counts as 1, since xorshift stays at 0.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// 64 bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `limit`.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        (self.bits() >> 16) % limit
    }

    /// True once in `n` times.
    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// A value with random bits, few bits, one bit, or almost all bits set. Each kind finds other
    /// errors.
    pub(super) fn value(&mut self) -> u64 {
        match self.below(4) {
            0 => self.bits(),
            1 => self.bits() & self.bits() & self.bits(),
            2 => 1 << self.below(64),
            _ => !(self.bits() & self.bits() & self.bits()),
        }
    }

    /// `value`, in one of eight cases with a bit flipped.
    pub(super) fn spoil(&mut self, value: u64) -> u64 {
        if self.one_in(8) { value ^ 1 << self.below(64) } else { value }
    }
}
