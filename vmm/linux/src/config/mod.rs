//! The configuration of a kernel: `.config` of a build tree, a file beside the image, as
//! distributions install it, or built into the image (`CONFIG_IKCONFIG`).

mod embedded;
mod requirements;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

pub use requirements::{Need, REQUIREMENTS, Requirement, fragment};

use crate::kernel::{GuestKernel, ImageKind, KernelError, KernelRelease, inspect, tree_of};
use crate::modules::{ModuleState, normalize};

/// The most that is read of a configuration, in bytes. Debian's have a quarter of a MiB.
const LONGEST: u64 = 16 << 20;

/// A kernel's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelConfig {
    /// Where it is from, for messages.
    origin: String,
    /// The values of options, without `CONFIG_`. Options that are not set are not here.
    values: HashMap<String, String>,
}

impl KernelConfig {
    /// The configuration of the kernel in the file `image`, if it can be found at once: a bzImage is not
    /// unpacked to look for one.
    pub fn of_image(image: &Path) -> Option<Self> {
        let inspected = inspect(image).ok();
        let inspected = inspected.as_ref().map(|(kind, release)| (*kind, release));
        let tree = tree_of(image);
        Self::beside(image, tree.as_deref(), inspected.map(|(_, release)| release)).or_else(|| {
            let (ImageKind::Vmlinux, _) = inspected? else { return None };
            Self::inside(image, ImageKind::Vmlinux)
        })
    }

    /// The configuration that a user names: a `.config`, or a kernel as [`GuestKernel::find`] takes it.
    ///
    /// # Errors
    /// [`KernelError`], if there is neither.
    pub fn find(what: &Path) -> Result<Self, KernelError> {
        if let Some(config) = Self::read(&what.join(".config")) {
            return Ok(config);
        }
        if what.is_file()
            && let Some(config) = Self::read(what)
        {
            return Ok(config);
        }
        let kernel = GuestKernel::find(what, None)?;
        kernel.config.ok_or(KernelError::NoConfig { image: kernel.image })
    }

    pub(crate) fn of_kernel(
        root: &Path,
        image: &Path,
        tree: Option<&Path>,
        inspected: Option<(ImageKind, &KernelRelease)>,
    ) -> Option<Self> {
        let release = inspected.map(|(_, release)| release);
        let found = Self::beside(image, tree, release);
        let found = found.or_else(|| Self::inside(image, inspected?.0));
        // The release of a kernel of one's own may be that of an installed one, so this comes last.
        found.or_else(|| Self::read(&root.join("boot").join(format!("config-{}", release?))))
    }

    /// The configuration in the tree of an image, or in a file beside the image.
    fn beside(image: &Path, tree: Option<&Path>, release: Option<&KernelRelease>) -> Option<Self> {
        let mut places: Vec<PathBuf> = tree.map(|tree| tree.join(".config")).into_iter().collect();
        let name = image.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        places.push(image.with_file_name(match name.split_once('-') {
            // `config-X` beside `vmlinuz-X`, or whatever else stands in front of the hyphen.
            Some((_, version)) => format!("config-{version}"),
            None => "config".to_owned(),
        }));
        places.extend(release.map(|release| image.with_file_name(format!("config-{release}"))));
        places.iter().find_map(|place| Self::read(place))
    }

    /// The configuration that is built into an image.
    fn inside(image: &Path, kind: ImageKind) -> Option<Self> {
        Self::parse("its built-in configuration", &embedded::read(image, kind)?)
    }

    /// Reads a file; `None` if it is no configuration.
    fn read(path: &Path) -> Option<Self> {
        // A pipe or a device may have no end.
        if !fs::metadata(path).ok()?.is_file() {
            return None;
        }
        let mut text = String::new();
        fs::File::open(path).ok()?.take(LONGEST).read_to_string(&mut text).ok()?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Reads the text of a configuration; `None` if it has no option.
    pub fn parse(origin: &str, text: &str) -> Option<Self> {
        let options = text.lines().filter_map(|line| {
            let (option, value) = line.trim_end().strip_prefix("CONFIG_")?.split_once('=')?;
            Some((option.to_owned(), value.to_owned()))
        });
        // As for make, the last of several lines counts.
        let values: HashMap<String, String> = options.collect();
        (!values.is_empty()).then(|| Self { origin: origin.to_owned(), values })
    }

    /// Where the configuration is from: a path, or words.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The value of an option, as it is written: `y`, `m`, `8`, `"text"`. `None` if it is not set.
    /// `option` has no `CONFIG_`.
    pub fn value(&self, option: &str) -> Option<&str> {
        self.values.get(option).map(String::as_str)
    }

    /// Whether the option is built in; a module is not.
    pub fn is_built_in(&self, option: &str) -> bool {
        self.value(option) == Some("y")
    }

    /// Where a module of [`REQUIREMENTS`] is, by its option. The file of a module is not known here:
    /// such modules are [`ModuleState::Unknown`], and so are modules that are not in the table.
    pub(crate) fn module_state(&self, name: &str) -> ModuleState {
        let name = normalize(name);
        let row = REQUIREMENTS.iter().find(|row| row.module == Some(&name));
        match row.map(|row| self.value(row.option)) {
            Some(Some("y")) => ModuleState::BuiltIn,
            Some(None) => ModuleState::Absent,
            Some(Some(_)) | None => ModuleState::Unknown,
        }
    }
}
