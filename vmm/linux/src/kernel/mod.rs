//! A kernel that a user names.

mod error;
mod image;
mod locate;
mod release;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use error::KernelError;
pub use release::{KernelRelease, ParseReleaseError};

pub(crate) use image::{ImageKind, inspect};
pub(crate) use locate::tree_of;

use crate::config::KernelConfig;
use crate::modules::{ModuleState, ModuleTree};

/// A kernel: its image, and what belongs to it.
#[derive(Debug, Clone)]
pub struct GuestKernel {
    /// The bzImage or vmlinux.
    pub image: PathBuf,
    /// The release that the image names.
    pub release: KernelRelease,
    /// The configuration, if it can be found.
    pub config: Option<KernelConfig>,
    /// The modules; `None` if the kernel has none, or they were not found.
    pub modules: Option<ModuleTree>,
}

impl GuestKernel {
    /// Finds the kernel that `what` names:
    ///
    /// | `what` | image | modules |
    /// |---|---|---|
    /// | a file | itself, a bzImage or a vmlinux | as for the directory that it is in |
    /// | a build tree, or the directory of `make O=` | `arch/x86/boot/bzImage`, else `vmlinux` | the tree's, if it has built some |
    /// | a release, or `/lib/modules/RELEASE` | `boot/vmlinuz-RELEASE`, or `vmlinuz` beside the modules | `/lib/modules/RELEASE` |
    /// | the directory of an unpacked package | `boot/vmlinuz-RELEASE` | `lib/modules/RELEASE` |
    ///
    /// `modules` names modules in another place: `/lib/modules/RELEASE`, a root directory with
    /// `lib/modules/RELEASE` in it (`make INSTALL_MOD_PATH=`), a build tree, or a directory of `.ko`
    /// files.
    ///
    /// # Errors
    /// [`KernelError`]: nothing is there, it is no kernel, the tree is not built, there are several
    /// candidates, or the modules are of another release.
    pub fn find(what: &Path, modules: Option<&Path>) -> Result<Self, KernelError> {
        Self::find_in(Path::new("/"), what, modules)
    }

    /// As [`find`](Self::find), on a machine with this root directory.
    pub(crate) fn find_in(
        root: &Path,
        what: &Path,
        modules: Option<&Path>,
    ) -> Result<Self, KernelError> {
        let place = locate::locate(root, what)?;
        let (kind, release) = image::inspect(&place.image)?;
        if let Some(tree) = &place.tree {
            check_tree(tree, &place.image, &release)?;
        }
        let modules = match modules {
            Some(directory) => Some(locate::given_modules(directory, &place.image, &release)?),
            None => locate::own_modules(root, &place, &release)?,
        };
        let tree = place.tree.as_deref();
        let config = KernelConfig::of_kernel(root, &place.image, tree, Some((kind, &release)));
        Ok(Self { image: place.image, release, config, modules })
    }

    /// Where the module `name` is. `-` and `_` are the same in a name.
    pub fn module(&self, name: &str) -> ModuleState {
        let listed = self.modules.as_ref().map_or(ModuleState::Unknown, |tree| tree.state(name));
        if !matches!(listed, ModuleState::Unknown | ModuleState::Absent) {
            return listed;
        }
        // A module that the tree has not built is absent, even if the configuration has it as one.
        match self.config.as_ref().map(|config| (config.module_state(name), config)) {
            Some((ModuleState::Unknown, config)) if !config.is_built_in("MODULES") => {
                ModuleState::Absent
            }
            None | Some((ModuleState::Unknown, _)) => listed,
            Some((state, _)) => state,
        }
    }
}

/// Whether the image in a tree is what the tree was built to last.
fn check_tree(tree: &Path, image: &Path, release: &KernelRelease) -> Result<(), KernelError> {
    let Ok(text) = std::fs::read_to_string(tree.join("include/config/kernel.release")) else {
        return Ok(());
    };
    match text.trim().parse::<KernelRelease>() {
        Ok(tree_release) if tree_release != *release => Err(KernelError::Stale {
            tree: tree.to_owned(),
            image: image.to_owned(),
            image_release: release.clone(),
            tree_release,
        }),
        _ => Ok(()),
    }
}
