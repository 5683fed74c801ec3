//! The size of a guest's RAM.

use std::fmt;
use std::str::FromStr;

use iommu::ids::PAGE_SIZE;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// An amount of RAM: whole pages, 2 MiB to 1 TiB.
///
/// Written as a number and `K`, `M` or `G`: `256M`, `1G`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemorySize(u64);

impl MemorySize {
    /// The least: the boot data and a small kernel behind the first MiB.
    pub const MIN: Self = Self(2 * MIB);
    /// The most.
    pub const MAX: Self = Self(1024 * GIB);

    /// `mib` MiB, `None` outside the limits.
    pub fn from_mib(mib: u64) -> Option<Self> {
        Self::from_bytes(mib.checked_mul(MIB)?)
    }

    /// `bytes` bytes, `None` outside the limits or if that is not a whole number of pages.
    pub fn from_bytes(bytes: u64) -> Option<Self> {
        let in_range = (Self::MIN.0..=Self::MAX.0).contains(&bytes);
        (in_range && bytes.is_multiple_of(PAGE_SIZE)).then_some(Self(bytes))
    }

    /// The least whole number of MiB that holds everything below `end`, `None` outside the limits.
    pub fn covering(end: u64) -> Option<Self> {
        Self::from_mib(end.div_ceil(MIB)).or((end <= Self::MIN.0).then_some(Self::MIN))
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl Default for MemorySize {
    /// 256 MiB.
    fn default() -> Self {
        Self(256 * MIB)
    }
}

/// A text that is not an amount of RAM.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a memory size; write 2M to 1024G, as in 256M or 1G")]
pub struct ParseMemorySizeError(String);

impl FromStr for MemorySize {
    type Err = ParseMemorySizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let unit = match text.chars().last()? {
                'K' | 'k' => KIB,
                'M' | 'm' => MIB,
                'G' | 'g' => GIB,
                _ => return None,
            };
            let digits = &text[..text.len() - 1];
            // `u64::from_str` also takes a plus sign, which is no part of a size.
            let digits = digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(digits)?;
            Self::from_bytes(digits.parse::<u64>().ok()?.checked_mul(unit)?)
        };
        parse().ok_or_else(|| ParseMemorySizeError(text.to_owned()))
    }
}

impl fmt::Display for MemorySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes.is_multiple_of(GIB) => write!(f, "{}G", bytes / GIB),
            bytes if bytes.is_multiple_of(MIB) => write!(f, "{}M", bytes / MIB),
            bytes => write!(f, "{}K", bytes / KIB),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_size_survives_being_written_and_read(pages in 512_u64..=1 << 28) {
            let size = MemorySize::from_bytes(pages * PAGE_SIZE).unwrap();
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }
    }

    #[test]
    fn sizes_read_as_people_write_them() {
        let bytes = |text: &str| text.parse::<MemorySize>().unwrap().bytes();
        assert_eq!(bytes("256M"), 256 << 20);
        assert_eq!(bytes("1g"), 1 << 30);
        assert_eq!(bytes("4096K"), 4 << 20);
        assert_eq!(MemorySize::covering(0x12_3456), Some(MemorySize::MIN));
        assert_eq!(MemorySize::covering((5 << 20) + 1), MemorySize::from_mib(6));
    }

    #[test]
    fn nonsense_is_refused_with_its_text() {
        let half_a_page = "2050K";
        for text in
            ["", "M", "256", "0M", "1M", "2049G", "-1M", "+4M", "1.5G", "9\u{c4}", half_a_page]
        {
            let error = text.parse::<MemorySize>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("'{text}'")), "{error}");
        }
        assert!("99999999999999999999G".parse::<MemorySize>().is_err());
        assert!("18446744073709551615K".parse::<MemorySize>().is_err());
    }
}
