//! Types of a unit's settings.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The order in which wait descriptors complete, and how far the unit runs ahead of them. `VT-d
/// 6.5.2.12` permits all three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ordering {
    /// A wait completes after everything in front of it. An invalidation without completion thus
    /// holds up every later wait of the unit.
    #[default]
    Serial,
    /// A wait completes after what stands between it and the previous wait, which is all that the
    /// specification promises.
    Parallel,
    /// As [`Self::Serial`], and the unit fetches no descriptor behind a pending wait, as if every
    /// wait had the Fence flag. An invalidation without completion thus keeps later ones from being
    /// executed.
    Blocking,
}

impl Ordering {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Serial, Self::Parallel, Self::Blocking];
}

/// The error of [`Ordering::from_str`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an ordering; it is serial, parallel or blocking")]
pub struct ParseOrderingError(String);

impl FromStr for Ordering {
    type Err = ParseOrderingError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Self::ALL.into_iter().find(|ordering| ordering.to_string() == text);
        named.ok_or_else(|| ParseOrderingError(text.to_owned()))
    }
}

impl fmt::Display for Ordering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Serial => "serial",
            Self::Parallel => "parallel",
            Self::Blocking => "blocking",
        })
    }
}

/// The invalidations that are lost with an Invalidation Time-out Error. `VT-d 6.5.2.11` does not
/// guarantee that those behind the oldest pending Device-TLB invalidation were executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IteLoses {
    /// None: the unit executes invalidations as it fetches them.
    #[default]
    Nothing,
    /// All that were fetched behind the request: the unit executes them when the request completes.
    All,
}

/// A set of second-stage address widths: 39, 48 and 57 bits, for 3, 4 and 5 levels (CAP.SAGAW).
///
/// In TOML it is a list of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct AddressWidths(pub(super) u8);

impl AddressWidths {
    /// 39, 48 and 57 bits.
    pub const ALL: Self = Self(0b1110);
    /// 48 bits only, as in most servers.
    pub const ONLY_48: Self = Self(0b0100);

    /// The bits of SAGAW.
    pub const fn into_bits(self) -> u8 {
        self.0
    }

    /// Whether the set has the width of tables with `levels` levels.
    pub const fn has_levels(self, levels: u8) -> bool {
        levels >= 3 && self.0 >> (levels - 2) & 1 != 0
    }

    /// The most levels of tables; 0 for the empty set.
    pub const fn max_levels(self) -> u8 {
        match self.0.checked_ilog2() {
            Some(bit) => bit as u8 + 2,
            None => 0,
        }
    }

    /// The largest width in bits; 0 for the empty set.
    pub const fn max_bits(self) -> u8 {
        match self.max_levels() {
            0 => 0,
            levels => 12 + 9 * levels,
        }
    }
}

impl TryFrom<Vec<u8>> for AddressWidths {
    type Error = String;

    fn try_from(widths: Vec<u8>) -> Result<Self, String> {
        widths.iter().try_fold(Self(0), |set, width| match width {
            39 | 48 | 57 => Ok(Self(set.0 | 1 << ((width - 12) / 9 - 2))),
            _ => Err(format!("{width} is not an address width; there are 39, 48 and 57")),
        })
    }
}

impl From<AddressWidths> for Vec<u8> {
    fn from(set: AddressWidths) -> Self {
        (3..=5).filter(|levels| set.has_levels(*levels)).map(|levels| 12 + 9 * levels).collect()
    }
}

/// The architecture version in VER, a major and a minor number from 0 to 15 (`VT-d 11.4.1`).
///
/// In TOML it is a text such as `"6.0"`, or the number 6.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "VersionValue", into = "String")]
pub struct Version {
    /// The major number. From 2 on invalidations always drain, and from 6 on there is no
    /// invalidation by registers.
    pub major: u8,
    /// The minor number.
    pub minor: u8,
}

impl Version {
    /// The value of VER.
    pub const fn into_bits(self) -> u32 {
        (self.major as u32) << 4 | self.minor as u32
    }

    /// CCMD and IOTLB invalidate (`VT-d 11.4.6`).
    pub const fn has_register_invalidation(self) -> bool {
        self.major < 6
    }
}

/// A version in TOML.
#[derive(Deserialize)]
#[serde(untagged)]
enum VersionValue {
    Text(String),
    Number(f64),
}

impl TryFrom<VersionValue> for Version {
    type Error = String;

    fn try_from(value: VersionValue) -> Result<Self, String> {
        let text = match value {
            VersionValue::Text(text) => text,
            VersionValue::Number(number) => format!("{number:?}"),
        };
        let number = |digits: &str| digits.parse().ok().filter(|number| *number <= 15_u8);
        let parts = text.split_once('.');
        let parts = parts.and_then(|(major, minor)| Some((number(major)?, number(minor)?)));
        let (major, minor) = parts.ok_or_else(|| {
            format!("'{text}' is not a version; it is MAJOR.MINOR, each 0 to 15, such as \"6.0\"")
        })?;
        Ok(Self { major, minor })
    }
}

impl From<Version> for String {
    fn from(Version { major, minor }: Version) -> Self {
        format!("{major}.{minor}")
    }
}

/// The largest page that second-stage tables map (CAP.SSLPS).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LargePages {
    /// 4 KiB.
    #[serde(rename = "none")]
    None,
    /// 2 MiB.
    #[serde(rename = "2M")]
    TwoMiB,
    /// 1 GiB.
    #[serde(rename = "1G")]
    OneGiB,
}
