//! Options that say which policy: a preset, or a row of the user's own in a file of TOML
//! ([`lab::file`]).

use std::path::{Path, PathBuf};

use clap::Args;
use iommu::submit::Policy;
use lab::file;
use lab::policies::find;
use lab::sim::Catalog;
use lab::toml_file::FileError;

/// Where policies come from.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct PoliciesArgs {
    /// TOML file with your own policies, each a table `[[policy]]`: see docs/policies.md
    #[arg(long, value_name = "FILE")]
    policies_file: Option<PathBuf>,
}

/// One policy, and where it comes from.
#[derive(Debug, Clone, Args)]
pub(crate) struct PolicyArgs {
    /// What the host does when an invalidation takes too long; see 'ghostlink policies'
    #[arg(long, value_name = "POLICY", default_value = "linux")]
    policy: String,

    #[command(flatten)]
    policies: PoliciesArgs,
}

/// Why there is no such policy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PoliciesError {
    /// The file is of no use.
    #[error(transparent)]
    File(#[from] FileError),
    /// The command line asks for one that there is not.
    #[error("--policy: {0}")]
    Unknown(String),
}

impl PolicyArgs {
    /// The policy.
    pub(crate) fn into_policy(self) -> Result<Policy, PoliciesError> {
        find(&self.policy, &self.policies.own()?).map_err(PoliciesError::Unknown)
    }
}

impl PoliciesArgs {
    /// The file, if there is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.policies_file.as_deref()
    }

    /// The policies of the file. What else is in it has to be right, too, and is for other commands.
    pub(crate) fn own(&self) -> Result<Vec<Policy>, PoliciesError> {
        let Some(path) = &self.policies_file else { return Ok(Vec::new()) };
        let mut catalog = Catalog::default();
        let presets = catalog.policies.len();
        file::read(path, &mut catalog)?;
        Ok(catalog.policies.split_off(presets))
    }

    /// Those policies, by the names that are on the command line.
    pub(crate) fn choose(&self, names: &[String]) -> Result<Vec<Policy>, PoliciesError> {
        let own = self.own()?;
        names.iter().map(|name| find(name, &own).map_err(PoliciesError::Unknown)).collect()
    }
}
