//! Options that choose a policy: a preset, or a row of the user's TOML file ([`lab::file`]).

use std::path::{Path, PathBuf};

use clap::Args;
use iommu::submit::Policy;
use lab::file;
use lab::policies::find;
use lab::sim::Catalog;
use lab::toml_file::FileError;

use crate::host::PolicyWithoutHost;

/// The user's own policies.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct PoliciesArgs {
    /// TOML file with your own policies, each a table `[[policy]]`: see docs/policies.md
    #[arg(long, value_name = "FILE")]
    policies_file: Option<PathBuf>,
}

/// Unusable policies.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PoliciesError {
    /// The file cannot be read, or is invalid.
    #[error(transparent)]
    File(#[from] FileError),
    /// The command line names an unknown policy.
    #[error("--policy: {0}")]
    Unknown(String),
    /// There is no host that could have a policy.
    #[error(transparent)]
    WithoutHost(#[from] PolicyWithoutHost),
}

impl PoliciesArgs {
    /// The file, if there is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.policies_file.as_deref()
    }

    /// The policies of the file. Its other tables are for other commands, but have to be valid too.
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
