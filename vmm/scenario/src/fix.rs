//! Decides whether a kernel has a fix.
//!
//! A fix lands in the mainline once, and then in stable series one by one. So a list of the first releases
//! that have it answers for every kernel: `["6.1.167", "6.12.78", "7.0"]` is in 6.12.117, not in 6.12.74, not
//! in 6.9, and in all from 7.0 on.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// A kernel's release: 6.12.117, of which the first two numbers are the series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Release {
    series: (u32, u32),
    /// 0 for the mainline's own.
    stable: u32,
}

impl FromStr for Release {
    type Err = String;

    /// Reads what `uname -r` prints, too: what follows the numbers does not matter.
    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split(|next: char| !next.is_ascii_digit() && next != '.').next();
        let mut numbers = numbers.unwrap_or_default().split('.').map(str::parse);
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor)), stable) => Ok(Self {
                series: (major, minor),
                stable: stable.and_then(Result::ok).unwrap_or(0),
            }),
            _ => Err(format!("'{text}' is not a kernel's release; write 7.0 or 6.12.78")),
        }
    }
}

impl TryFrom<String> for Release {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { series: (major, minor), stable } = self;
        match stable {
            0 => write!(f, "{major}.{minor}"),
            _ => write!(f, "{major}.{minor}.{stable}"),
        }
    }
}

/// What is assumed of a kernel and a scenario's fix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Assume {
    /// Release and behaviour decide. A kernel whose release is before the fix, and that behaves as one
    /// with it, has a backport. A kernel whose release has the fix has to behave so.
    #[default]
    Auto,
    /// The kernel has the fix.
    Fixed,
    /// The kernel does not have the fix.
    NotFixed,
}

impl FromStr for Assume {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "yes" => Ok(Self::Fixed),
            "no" => Ok(Self::NotFixed),
            _ => Err(format!("'{text}' is none of yes, no, auto")),
        }
    }
}

/// A change of the kernel whose presence a scenario detects.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fix {
    /// In the mainline.
    pub commit: String,
    /// Its subject.
    pub subject: String,
    /// The first release with it of each series; the mainline's has two numbers. Empty if no release
    /// has it yet.
    pub releases: Vec<Release>,
}

impl Fix {
    /// Whether a kernel has it.
    pub fn is_in(&self, kernel: Release) -> bool {
        let stable = self.releases.iter().find(|first| first.series == kernel.series);
        let mainline = self.releases.iter().max();
        stable.or(mainline).is_some_and(|first| kernel >= *first)
    }
}

impl fmt::Display for Fix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (\"{}\")", self.commit, self.subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fix_is_in_its_series_from_a_release_on_and_in_all_later_mainline_kernels() {
        let releases = ["7.0", "6.12.78", "6.1.167"].map(|text| text.parse().unwrap());
        let fix = Fix { commit: String::new(), subject: String::new(), releases: releases.into() };
        let has = |kernel: &str| fix.is_in(kernel.parse().unwrap());
        assert!(
            ["6.12.78", "6.12.117+deb12-amd64", "6.1.192", "7.0", "7.3.4+deb13-amd64"]
                .map(has)
                .iter()
                .all(|has| *has)
        );
        assert!(
            !["6.12.74+deb12-amd64", "6.1.166", "6.9", "6.19.14", "5.10.1"]
                .map(has)
                .iter()
                .any(|has| *has)
        );
        let nowhere = Fix { releases: Vec::new(), ..fix };
        assert!(!nowhere.is_in("99.0".parse().unwrap()));
    }

    #[test]
    fn what_is_no_release_is_refused() {
        for text in ["", "6", "x.y", "6.", "linux-6.1"] {
            assert!(text.parse::<Release>().is_err(), "{text}");
        }
        assert_eq!("6.12.117+deb12-amd64".parse::<Release>().unwrap().to_string(), "6.12.117");
        assert_eq!("7.4.0-rc1".parse::<Release>().unwrap().to_string(), "7.4");
    }
}
