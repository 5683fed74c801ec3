//! Errors of [`GuestKernel::find`](super::GuestKernel::find).

use std::io;
use std::path::PathBuf;

use super::KernelRelease;

/// Why what a user has named is not a kernel that can be used. Each message has one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// Neither a path nor an installed kernel.
    #[error(
        "there is no file, directory or installed kernel '{what}'; {}",
        list_installed(installed)
    )]
    NotFound {
        /// What the user has named.
        what: String,
        /// The installed kernels.
        installed: Vec<KernelRelease>,
    },
    /// A file or directory cannot be read.
    #[error("cannot read '{}': {source}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A file that is no kernel.
    #[error("'{}' is not a kernel for x86-64: {reason}; give a bzImage (vmlinuz), a vmlinux or a build tree", path.display())]
    NotAKernel {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A build tree without an image.
    #[error("the kernel tree '{}' is not built: it has neither arch/x86/boot/bzImage nor vmlinux; run make in it", tree.display())]
    NotBuilt {
        /// The tree.
        tree: PathBuf,
    },
    /// A build tree with an image of an earlier build.
    #[error("the kernel tree '{}' is only built in part: '{}' is {image_release}, and include/config/kernel.release says {tree_release}; run make in it", tree.display(), image.display())]
    Stale {
        /// The tree.
        tree: PathBuf,
        /// The image in it.
        image: PathBuf,
        /// The image's release.
        image_release: KernelRelease,
        /// The tree's release.
        tree_release: KernelRelease,
    },
    /// A directory without a kernel.
    #[error("the directory '{}' has no kernel: it is not a build tree, not /lib/modules/RELEASE, and has no vmlinuz-RELEASE in itself or in boot", directory.display())]
    NoKernel {
        /// The directory.
        directory: PathBuf,
    },
    /// An installed kernel whose image is not there.
    #[error("there are modules of {release} in '{}', and its image is none of '{}'; give the image's file", modules.display(), list(tried))]
    NoImage {
        /// The kernel's release.
        release: String,
        /// The directory with its modules.
        modules: PathBuf,
        /// Where an image would be.
        tried: Vec<PathBuf>,
    },
    /// A directory with several kernels.
    #[error("the directory '{}' has {} kernels; give one of '{}'", directory.display(), candidates.len(), list(candidates))]
    Several {
        /// The directory.
        directory: PathBuf,
        /// The kernels.
        candidates: Vec<PathBuf>,
    },
    /// A kernel whose configuration is wanted, and that has none.
    #[error("there is no configuration of '{}': neither a .config of its tree, nor a file config-RELEASE beside it, nor CONFIG_IKCONFIG inside of it", image.display())]
    NoConfig {
        /// The image.
        image: PathBuf,
    },
    /// Modules that are not there.
    #[error("'{}' has no modules: it is not /lib/modules/RELEASE, not a build tree, and has no .ko files; leave --modules out if the kernel needs none", directory.display())]
    NoModules {
        /// The directory.
        directory: PathBuf,
    },
    /// Modules of another kernel.
    #[error("the modules in '{}' are of {found}, and the kernel '{}' is {wanted}; give modules of {wanted}", directory.display(), image.display())]
    OtherRelease {
        /// The directory.
        directory: PathBuf,
        /// The release of the modules.
        found: String,
        /// The kernel's image.
        image: PathBuf,
        /// The kernel's release.
        wanted: KernelRelease,
    },
}

fn list(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    names.join("', '")
}

fn list_installed(installed: &[KernelRelease]) -> String {
    match installed {
        [] => "no kernel is installed".to_owned(),
        _ => {
            let names: Vec<&str> = installed.iter().map(KernelRelease::as_str).collect();
            format!("installed are {}", names.join(", "))
        }
    }
}
