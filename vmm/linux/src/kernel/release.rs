//! A kernel's release.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// The release of a kernel, as `uname -r` prints it: `6.12.117+deb12-amd64`.
///
/// It begins with a version, has 1 to 64 visible ASCII characters, and no slash, as it is also the
/// name of a directory. Releases are ordered by version, then by text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KernelRelease(String);

/// A text that is not a kernel's release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a kernel's release, such as 6.12.117 or 7.1.0-rc3")]
pub struct ParseReleaseError(String);

impl KernelRelease {
    /// The longest one (`__NEW_UTS_LEN`), in bytes.
    const LONGEST: usize = 64;

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Version, patch level and sublevel; the last is 0 if it is not written. 6.12.117 is
    /// `(6, 12, 117)`.
    pub fn version(&self) -> (u32, u32, u32) {
        parse_version(&self.0).unwrap_or_default()
    }
}

fn parse_version(text: &str) -> Option<(u32, u32, u32)> {
    let digits = text.split(|next: char| !next.is_ascii_digit() && next != '.').next()?;
    let mut numbers = digits.split('.');
    let mut next = || numbers.next().map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (next(), next()) else { return None };
    Some((major, minor, next().and_then(Result::ok).unwrap_or(0)))
}

impl FromStr for KernelRelease {
    type Err = ParseReleaseError;

    fn from_str(text: &str) -> Result<Self, ParseReleaseError> {
        let is_valid = (1..=Self::LONGEST).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
            && parse_version(text).is_some();
        let shown = || text.chars().take(Self::LONGEST).collect();
        is_valid.then(|| Self(text.to_owned())).ok_or_else(|| ParseReleaseError(shown()))
    }
}

impl fmt::Display for KernelRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PartialOrd for KernelRelease {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for KernelRelease {
    fn cmp(&self, other: &Self) -> Ordering {
        self.version().cmp(&other.version()).then_with(|| self.0.cmp(&other.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_what_uname_prints() {
        for (text, version) in [
            ("6.12.117+deb12-amd64", (6, 12, 117)),
            ("7.1.0-rc3-00012-gdeadbeef-dirty", (7, 1, 0)),
            ("6.1", (6, 1, 0)),
            ("6.1-x", (6, 1, 0)),
        ] {
            assert_eq!(text.parse::<KernelRelease>().unwrap().version(), version);
        }
        let long = format!("6.1-{}", "x".repeat(61));
        for text in ["", "6", "6.", "x6.1", "6.1/../..", "6.1 x", "6.1\n", "99999999999.1", &long] {
            let error = text.parse::<KernelRelease>().unwrap_err().to_string();
            assert!(error.contains("6.12.117"), "{error}");
        }
    }

    #[test]
    fn releases_are_ordered_by_version() {
        let mut releases =
            ["6.12.9", "6.1.200", "6.12.117"].map(|text| text.parse::<KernelRelease>().unwrap());
        releases.sort();
        assert_eq!(releases.map(|release| release.0), ["6.1.200", "6.12.9", "6.12.117"]);
    }
}
