//! The kernels that a command line names, and what they boot with.

use std::path::{Path, PathBuf};

use linux::{GuestKernel, KernelError};
use scenario::Scenario;

/// A kernel of the command line.
#[derive(Debug, Clone)]
pub(super) struct Named {
    /// The name for results: what the user has given, or the release, or the argument itself.
    pub(super) name: String,
    /// What names it, as an absolute path if it is one.
    pub(super) what: PathBuf,
    pub(super) kernel: GuestKernel,
}

/// A kernel is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KernelsError {
    /// It cannot be found.
    #[error("--kernel {what}: {source}")]
    Kernel {
        /// The argument.
        what: String,
        /// Why it cannot be used.
        source: Box<KernelError>,
    },
    /// Two kernels have the same name.
    #[error(
        "two kernels have the name '{0}'; name them, as in --kernel before=DIRECTORY --kernel \
         after=DIRECTORY"
    )]
    Twice(String),
    /// There is none.
    #[error(
        "which kernel? Add --kernel with a bzImage, a vmlinux, a build tree, or the release of an \
         installed one"
    )]
    None,
}

/// The kernels that the arguments `[NAME=]WHAT` name.
pub(super) fn find(
    arguments: &[String],
    modules: Option<&Path>,
) -> Result<Vec<Named>, KernelsError> {
    let mut kernels: Vec<Named> = Vec::new();
    for argument in arguments {
        let (name, what) = match argument.split_once('=') {
            Some((name, what)) if !name.is_empty() && !name.contains('/') => (Some(name), what),
            _ => (None, argument.as_str()),
        };
        let kernel = GuestKernel::find(Path::new(what), modules).map_err(|source| {
            KernelsError::Kernel { what: what.to_owned(), source: Box::new(source) }
        })?;
        let name = name.map_or_else(|| kernel.release.to_string(), str::to_owned);
        let what = std::fs::canonicalize(what).unwrap_or_else(|_| what.into());
        kernels.push(Named { name, what, kernel });
    }
    for (index, Named { name, .. }) in kernels.iter().enumerate() {
        if kernels[..index].iter().any(|other| other.name == *name) {
            return Err(KernelsError::Twice(name.clone()));
        }
    }
    if kernels.is_empty() { Err(KernelsError::None) } else { Ok(kernels) }
}

impl Named {
    /// What the kernel lacks for a scenario, if its configuration is known.
    pub(super) fn missing(&self, scenario: &Scenario) -> Option<String> {
        let config = self.kernel.config.as_ref()?;
        let steps: Vec<String> = scenario.steps.iter().map(|step| step.step.to_string()).collect();
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        let unmet = config.unmet_by_scenario(&steps);
        let further = scenario.needs.iter().filter(|option| !config.is_built_in(option));
        let missing: Vec<String> = unmet
            .iter()
            .map(|row| format!("CONFIG_{} (without it Linux {})", row.option, row.without))
            .chain(further.map(|option| format!("CONFIG_{option} (the scenario is about it)")))
            .collect();
        (!missing.is_empty()).then(|| {
            format!("the kernel has no {}, says {}", missing.join(", no "), config.origin())
        })
    }
}
