//! What a kernel boots with in a scenario: its image, and an initramfs with the runner.

use std::io;
use std::path::PathBuf;

use linux::{GuestKernel, Initramfs, ModuleError};
use steps::Step;
use vmm::{Kernel, Module};

use crate::file::Scenario;

/// A kernel with the files that it boots with.
#[derive(Debug, Clone)]
pub struct Boot {
    /// The kernel as the user has named it.
    pub name: String,
    /// Its image.
    pub kernel: Kernel,
    /// Its initramfs.
    pub modules: Vec<Module>,
}

/// The initramfs cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A module is missing or cannot be used.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// The image, which the guest loads as its second kernel, cannot be read.
    #[error("cannot read '{}': {source}", path.display())]
    Image {
        /// The image.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl Boot {
    /// The kernel with the runner, and the modules that the steps of the scenario need.
    ///
    /// # Errors
    ///
    /// A module is missing or cannot be used, or the image cannot be read.
    pub fn new(name: &str, kernel: &GuestKernel, scenario: &Scenario) -> Result<Self, BootError> {
        let mut initramfs = Initramfs::new();
        initramfs.file("init", 0o755, resources::RUNNER);
        for directory in ["dev", "proc", "sys", "tmp", "run"] {
            initramfs.directory(directory);
        }
        let steps = || scenario.steps.iter().map(|step| &step.step);
        if steps().any(|step| matches!(step, Step::Kdump | Step::Kexec)) {
            let image = std::fs::read(&kernel.image).map_err(|source| {
                let path = kernel.image.clone();
                BootError::Image { path, source }
            })?;
            initramfs.file("boot/vmlinuz", 0o644, image);
        }
        initramfs.modules(kernel, &modules(steps()))?;
        let module =
            Module::Bytes { name: "the scenario's runner".into(), bytes: initramfs.build().into() };
        Ok(Self {
            name: name.to_owned(),
            kernel: Kernel::File(kernel.image.clone()),
            modules: vec![module],
        })
    }
}

/// The modules that the steps need, if they are not built in.
fn modules<'a>(steps: impl Iterator<Item = &'a Step> + Clone) -> Vec<&'static str> {
    let mut modules = Vec::new();
    if steps.clone().any(|step| matches!(step, Step::Nvme(_) | Step::Vfs(_))) {
        modules.push("nvme");
    }
    let mut vfio = steps.filter(|step| matches!(step, Step::Vfio(_)));
    if vfio.next().is_some() {
        modules.extend(["vfio_pci", "vfio_iommu_type1"]);
    }
    modules
}
