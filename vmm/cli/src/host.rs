//! Options that choose what carries out the guest's Device-TLB invalidations: its own unit, or a
//! host with a policy.

use std::path::Path;

use clap::Args;
use iommu::submit::{PRESETS, Policy};
pub(crate) use scenario::host::{HostChoice, HostKind, PolicyWithoutHost};

use super::policies::{PoliciesArgs, PoliciesError};

/// Options for the host below the guest.
#[derive(Debug, Clone, Args)]
pub(crate) struct HostArgs {
    /// What carries out the guest's Device-TLB invalidations: its own unit, as on bare metal (direct),
    /// or a host with a policy and a unit of its own, as under a VMM (forwarded)
    /// [default: direct, or forwarded with --policy]
    #[arg(long, value_name = "direct|forwarded")]
    host: Option<HostKind>,

    /// What a forwarded host does when an invalidation takes too long; see 'ghostlink policies'
    /// [default: linux]
    #[arg(long, value_name = "POLICY")]
    policy: Option<String>,

    #[command(flatten)]
    policies: PoliciesArgs,
}

/// The error for a file of policies without a host.
fn without_host(path: &Path) -> PolicyWithoutHost {
    PolicyWithoutHost::new(format!("--policies-file '{}'", path.display()))
}

impl HostArgs {
    /// The host.
    pub(crate) fn into_host(self) -> Result<HostChoice, PoliciesError> {
        if let (Some(HostKind::Direct), None, Some(file)) =
            (self.host, &self.policy, self.policies.file())
        {
            return Err(without_host(file).into());
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
            Some(file) => return Err(without_host(file).into()),
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
}
