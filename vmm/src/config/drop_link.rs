//! Which link is to vanish, and when.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use iommu::time::parse_duration;

/// When a link vanishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropWhen {
    /// This long after the start of the run.
    At(Duration),
    /// When the guest rings the bench's doorbell, before its OUT instruction retires.
    Doorbell,
}

/// A link that vanishes during a run, silently.
///
/// Written `at=2s` or `doorbell`, then optionally `,port=rp1`; the first port is `rp0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DropLink {
    /// The root port above the link, counted from 0.
    pub port: usize,
    /// When it vanishes.
    pub when: DropWhen,
}

impl DropLink {
    /// The first two of `drops` that mean the same port: a link can only vanish once.
    pub fn find_conflict(drops: &[Self]) -> Option<(Self, Self)> {
        drops.iter().enumerate().find_map(|(index, first)| {
            let second = drops[index + 1..].iter().find(|second| second.port == first.port)?;
            Some((*first, *second))
        })
    }
}

/// What [`DropLink::from_str`] says of a text that is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' does not say when a link drops ({reason}); write at=2s or doorbell, and add \
     ,port=rp1 for another port than rp0"
)]
pub struct ParseDropLinkError {
    text: String,
    reason: String,
}

impl FromStr for DropLink {
    type Err = ParseDropLinkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |reason: String| ParseDropLinkError { text: text.to_owned(), reason };
        let (mut when, mut port) = (None, None);
        for part in text.split(',') {
            let repeated = match part.split_once('=') {
                Some(("at", time)) => {
                    let time = parse_duration(time).map_err(|e| error(e.to_string()))?;
                    when.replace(DropWhen::At(time)).is_some()
                }
                None if part == "doorbell" => when.replace(DropWhen::Doorbell).is_some(),
                Some(("port", name)) => {
                    let number = parse_port(name)
                        .ok_or_else(|| error(format!("no port is named '{name}'")))?;
                    port.replace(number).is_some()
                }
                _ => return Err(error(format!("'{part}' is unknown"))),
            };
            if repeated {
                return Err(error(format!("'{part}' comes on top of another")));
            }
        }
        let when = when.ok_or_else(|| error("the time is missing".to_owned()))?;
        Ok(Self { port: port.unwrap_or(0), when })
    }
}

fn parse_port(name: &str) -> Option<usize> {
    let digits = name.strip_prefix("rp")?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

impl fmt::Display for DropLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.when {
            DropWhen::At(time) => {
                let time = humantime::format_duration(time).to_string();
                write!(f, "at={time},port=rp{}", self.port)
            }
            DropWhen::Doorbell => write!(f, "doorbell,port=rp{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_drop_survives_being_written_and_read(nanos: Option<u64>, port in 0_usize..8) {
            let when = match nanos {
                Some(nanos) => DropWhen::At(Duration::from_nanos(nanos.max(1))),
                None => DropWhen::Doorbell,
            };
            let drop = DropLink { port, when };
            prop_assert_eq!(drop.to_string().parse(), Ok(drop));
        }
    }

    #[test]
    fn parts_come_in_any_order_and_the_port_may_be_left_out() {
        let at = DropLink { port: 0, when: DropWhen::At(Duration::from_secs(2)) };
        assert_eq!("at=2s".parse(), Ok(at));
        let doorbell = DropLink { port: 1, when: DropWhen::Doorbell };
        assert_eq!("port=rp1,doorbell".parse(), Ok(doorbell));
    }

    #[test]
    fn nonsense_is_refused_with_its_text() {
        for text in [
            "",
            "at",
            "at=",
            "at=2",
            "at=0s",
            "doorbell,at=2s",
            "doorbell,doorbell",
            "port=rp0",
            "doorbell,port=0",
            "doorbell,port=rp+1",
            "doorbell,port=rp",
            "doorbell,now",
            "doorbell,",
        ] {
            let error = text.parse::<DropLink>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("'{text}'")), "{error}");
        }
    }

    #[test]
    fn two_drops_of_one_port_contradict_each_other() {
        let drops = |texts: &[&str]| {
            texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<DropLink>>()
        };
        let different = drops(&["doorbell", "at=2s,port=rp1"]);
        assert_eq!(DropLink::find_conflict(&different), None);
        let same = drops(&["doorbell", "at=1s,port=rp1", "at=2s"]);
        assert_eq!(DropLink::find_conflict(&same), Some((same[0], same[2])));
    }
}
