//! The arrangement of the guest's unit and the physical one: bare metal, or a host with a policy.

use std::fmt;
use std::str::FromStr;

use devices::root_complex::RootComplexConfig;
use iommu::event::UnitRole;
use iommu::submit::{PRESETS, Policy};
use iommu::unit::UnitConfig;
use serde::Deserialize;

/// The arrangement of the guest's unit and the physical one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostKind {
    /// The guest's unit is the physical one, as on bare metal.
    Direct,
    /// A host's driver carries out the invalidations of the guest's unit, as under a VMM.
    Forwarded,
}

/// The text is no kind of host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a host; write direct or forwarded")]
pub struct ParseHostError(String);

impl FromStr for HostKind {
    type Err = ParseHostError;

    fn from_str(text: &str) -> Result<Self, ParseHostError> {
        match text {
            "direct" => Ok(Self::Direct),
            "forwarded" => Ok(Self::Forwarded),
            _ => Err(ParseHostError(text.to_owned())),
        }
    }
}

/// The host below the guest, without its unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HostChoice {
    /// None: the guest's unit is the physical one.
    #[default]
    Direct,
    /// A host whose driver has this policy.
    Forwarded(Policy),
}

/// A policy for a machine without a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{given} is for a forwarded host: with a direct one the guest's driver is the only one that waits; \
     leave out the policy, or choose the host 'forwarded'"
)]
pub struct PolicyWithoutHost {
    /// The option or key, with its value.
    given: String,
}

impl PolicyWithoutHost {
    /// The error for an option or key, given with its value.
    pub const fn new(given: String) -> Self {
        Self { given }
    }
}

impl HostChoice {
    /// The host of that kind. Without a kind a policy means a forwarded one.
    ///
    /// # Errors
    /// If there is a policy, and no host to have it.
    pub fn new(kind: Option<HostKind>, policy: Option<Policy>) -> Result<Self, PolicyWithoutHost> {
        match (kind, policy) {
            (Some(HostKind::Direct), Some(policy)) => {
                Err(PolicyWithoutHost::new(format!("policy '{policy}'")))
            }
            (Some(HostKind::Direct) | None, None) => Ok(Self::Direct),
            (Some(HostKind::Forwarded), None) => Ok(Self::Forwarded(PRESETS[0].policy())),
            (_, Some(policy)) => Ok(Self::Forwarded(policy)),
        }
    }

    /// The word for options and tables.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Forwarded(_) => "forwarded",
        }
    }

    /// The name of the host's policy, if there is a host.
    pub fn policy(&self) -> Option<&str> {
        match self {
            Self::Direct => None,
            Self::Forwarded(policy) => Some(&policy.name),
        }
    }

    /// A root complex with that host, and with units like `unit`.
    pub fn into_root_complex(self, unit: UnitConfig) -> RootComplexConfig {
        let unit = UnitConfig { role: UnitRole::Guest, ..unit };
        match self {
            Self::Direct => RootComplexConfig::direct(unit),
            Self::Forwarded(policy) => RootComplexConfig::forwarded(policy, unit),
        }
    }
}

/// `direct`, or `forwarded, bounded:100ms`.
impl fmt::Display for HostChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str(self.kind()),
            Self::Forwarded(policy) => write!(f, "{}, {policy}", self.kind()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        "bounded:1s".parse().unwrap()
    }

    #[test]
    fn a_policy_means_a_forwarded_host_and_none_bare_metal() {
        let forwarded = HostChoice::Forwarded;
        for (kind, policy, choice) in [
            (None, None, HostChoice::Direct),
            (Some(HostKind::Direct), None, HostChoice::Direct),
            (None, Some(policy()), forwarded(policy())),
            (Some(HostKind::Forwarded), Some(policy()), forwarded(policy())),
            (Some(HostKind::Forwarded), None, forwarded(PRESETS[0].policy())),
        ] {
            assert_eq!(HostChoice::new(kind, policy), Ok(choice));
        }
    }

    #[test]
    fn a_policy_without_a_host_is_refused_with_its_name() {
        let error = HostChoice::new(Some(HostKind::Direct), Some(policy())).unwrap_err();
        assert!(error.to_string().starts_with("policy 'bounded:1s' is for a forwarded host"));
    }

    #[test]
    fn the_time_out_is_that_of_the_physical_unit() {
        let ict = iommu::time::Timeout::After(std::time::Duration::from_secs(1));
        let unit = UnitConfig { ict, ..UnitConfig::new(UnitRole::Guest) };
        let direct = HostChoice::Direct.into_root_complex(unit);
        let forwarded = HostChoice::Forwarded(policy()).into_root_complex(unit);
        assert_eq!(direct.guest_unit.ict, ict);
        assert_eq!(forwarded.guest_unit.ict, iommu::time::Timeout::Never);
        let devices::root_complex::Host::Forwarded { unit, .. } = forwarded.host else {
            panic!("there is a host");
        };
        assert_eq!((unit.ict, unit.role), (ict, UnitRole::Host));
    }
}
