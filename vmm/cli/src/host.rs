//! Options that choose what carries out the guest's Device-TLB invalidations: its own unit, or a
//! host with a policy.

use std::fmt;
use std::path::Path;

use clap::{Args, ValueEnum};
use devices::root_complex::RootComplexConfig;
use iommu::event::UnitRole;
use iommu::submit::{PRESETS, Policy};
use iommu::unit::UnitConfig;
use serde::Deserialize;

use super::policies::{PoliciesArgs, PoliciesError};

/// The arrangement of the guest's unit and the physical one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum HostKind {
    /// The guest's unit is the physical one, as on bare metal.
    Direct,
    /// A host's driver carries out the invalidations of the guest's unit, as under a VMM.
    Forwarded,
}

/// Options for the host below the guest.
#[derive(Debug, Clone, Args)]
pub(crate) struct HostArgs {
    /// What carries out the guest's Device-TLB invalidations: its own unit, as on bare metal (direct),
    /// or a host with a policy and a unit of its own, as under a VMM (forwarded)
    /// [default: direct, or forwarded with --policy]
    #[arg(long, value_enum, value_name = "HOST")]
    host: Option<HostKind>,

    /// What a forwarded host does when an invalidation takes too long; see 'ghostlink policies'
    /// [default: linux]
    #[arg(long, value_name = "POLICY")]
    policy: Option<String>,

    #[command(flatten)]
    policies: PoliciesArgs,
}

/// The host below the guest, without its unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum HostChoice {
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
pub(crate) struct PolicyWithoutHost {
    /// The option or key, with its value.
    given: String,
}

impl PolicyWithoutHost {
    /// The error for an option or key, given with its value.
    pub(crate) const fn new(given: String) -> Self {
        Self { given }
    }

    /// The error for a file of policies.
    fn file(path: &Path) -> Self {
        Self::new(format!("--policies-file '{}'", path.display()))
    }
}

impl HostChoice {
    /// The host of that kind. Without a kind a policy means a forwarded one.
    ///
    /// # Errors
    /// If there is a policy, and no host to have it.
    pub(crate) fn new(
        kind: Option<HostKind>,
        policy: Option<Policy>,
    ) -> Result<Self, PolicyWithoutHost> {
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
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Forwarded(_) => "forwarded",
        }
    }

    /// The name of the host's policy, if there is a host.
    pub(crate) fn policy(&self) -> Option<&str> {
        match self {
            Self::Direct => None,
            Self::Forwarded(policy) => Some(&policy.name),
        }
    }

    /// A root complex with that host, and with units like `unit`.
    pub(crate) fn into_root_complex(self, unit: UnitConfig) -> RootComplexConfig {
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

impl HostArgs {
    /// The host.
    pub(crate) fn into_host(self) -> Result<HostChoice, PoliciesError> {
        if let (Some(HostKind::Direct), None, Some(file)) =
            (self.host, &self.policy, self.policies.file())
        {
            return Err(PolicyWithoutHost::file(file).into());
        }
        let policy = match (self.policy, self.policies.file()) {
            (None, None) => None,
            (name, _) => {
                let name = name.unwrap_or_else(|| PRESETS[0].name.to_owned());
                self.policies.choose(&[name])?.pop()
            }
        };
        Ok(HostChoice::new(self.host, policy)?)
    }
}

/// The hosts of a comparison: bare metal and a host with each policy of `usual`, or those that the
/// command line chooses by kind and by policies.
///
/// # Errors
/// For an unknown policy, and for policies without a host that has them.
pub(crate) fn compared(
    kind: Option<HostKind>,
    chosen: &[String],
    policies: &PoliciesArgs,
    usual: Vec<Policy>,
) -> Result<Vec<HostChoice>, PoliciesError> {
    let forwarded = match (kind, chosen) {
        (Some(HostKind::Direct), []) => match policies.file() {
            Some(file) => return Err(PolicyWithoutHost::file(file).into()),
            None => Vec::new(),
        },
        (Some(HostKind::Direct), [policy, ..]) => {
            return Err(PolicyWithoutHost::new(format!("policy '{policy}'")).into());
        }
        (_, []) => usual,
        (_, chosen) => policies.choose(chosen)?,
    };
    let has_direct = kind != Some(HostKind::Forwarded) && chosen.is_empty();
    let direct = has_direct.then_some(HostChoice::Direct);
    Ok(direct.into_iter().chain(forwarded.into_iter().map(HostChoice::Forwarded)).collect())
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
    fn a_comparison_has_both_unless_the_command_line_chooses() {
        let kinds = |kind, chosen: &[&str]| {
            let chosen: Vec<String> = chosen.iter().map(|&name| name.to_owned()).collect();
            let hosts = compared(kind, &chosen, &PoliciesArgs::default(), vec![policy()]);
            hosts.unwrap().iter().map(HostChoice::kind).collect::<Vec<_>>()
        };
        assert_eq!(kinds(None, &[]), ["direct", "forwarded"]);
        assert_eq!(kinds(Some(HostKind::Direct), &[]), ["direct"]);
        assert_eq!(kinds(Some(HostKind::Forwarded), &[]), ["forwarded"]);
        assert_eq!(kinds(None, &["amd", "linux"]), ["forwarded", "forwarded"]);
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
