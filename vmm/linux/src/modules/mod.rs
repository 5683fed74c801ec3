//! The modules of one kernel.

mod load;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

pub use load::ModuleError;

pub(crate) use load::Loader;

/// Directories below each other that are searched for modules.
const DEEPEST: usize = 24;
/// Bytes that are read of a list of modules. Debian's have less than a MiB.
const LONGEST_LIST: u64 = 64 << 20;

/// How modules are arranged in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ModuleLayout {
    /// As in `/lib/modules/RELEASE`; or just files.
    Installed,
    /// A build tree, of which `modules.order` lists the modules.
    Tree,
}

/// Where a module is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModuleState {
    /// In this file.
    File(PathBuf),
    /// In the kernel.
    BuiltIn,
    /// The kernel does not have it.
    Absent,
    /// There is no list of the kernel's modules, and no configuration that tells.
    Unknown,
}

/// The modules of a kernel, by name.
#[derive(Debug, Clone)]
pub struct ModuleTree {
    /// Where they are.
    directory: PathBuf,
    files: HashMap<String, PathBuf>,
    /// What `modules.dep` says that a module needs, directly or not.
    dependencies: HashMap<String, Vec<String>>,
    /// `None` if there is no list of them.
    built_in: Option<HashSet<String>>,
}

impl ModuleTree {
    /// Looks which modules there are.
    pub(crate) fn open(directory: &Path, layout: ModuleLayout) -> io::Result<Self> {
        let mut tree = Self {
            directory: directory.to_owned(),
            files: HashMap::new(),
            dependencies: HashMap::new(),
            built_in: None,
        };
        match layout {
            ModuleLayout::Tree => tree.read_order()?,
            ModuleLayout::Installed => {
                tree.walk(directory, DEEPEST)?;
                tree.read_dependencies()?;
            }
        }
        if let Some(lines) = lines(&directory.join("modules.builtin"))? {
            tree.built_in = Some(lines.iter().filter_map(|line| name_in(line)).collect());
        }
        Ok(tree)
    }

    /// The directory of the modules.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether there are no modules.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Where a module is. `-` and `_` are the same in a name.
    pub fn state(&self, name: &str) -> ModuleState {
        let name = normalize(name);
        if let Some(file) = self.files.get(&name) {
            return ModuleState::File(file.clone());
        }
        match &self.built_in {
            Some(built_in) if built_in.contains(&name) => ModuleState::BuiltIn,
            Some(_) => ModuleState::Absent,
            None => ModuleState::Unknown,
        }
    }

    /// What `modules.dep` says that a module needs; `None` if it does not know the module.
    pub(crate) fn listed_dependencies(&self, name: &str) -> Option<&[String]> {
        self.dependencies.get(&normalize(name)).map(Vec::as_slice)
    }

    /// Finds the modules below a directory. Links to directories, such as `build`, are not followed.
    fn walk(&mut self, directory: &Path, depth: usize) -> io::Result<()> {
        let mut entries: Vec<_> = fs::read_dir(directory)?.collect::<io::Result<_>>()?;
        // Of two modules with one name the first one counts, and `updates` comes before all others, as
        // for depmod.
        entries.sort_by_key(|entry| (entry.file_name() != "updates", entry.file_name()));
        for entry in entries {
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                if depth > 0 {
                    self.walk(&path, depth - 1)?;
                }
            } else if let Some(name) = path.to_str().and_then(name_in) {
                self.files.entry(name).or_insert(path);
            }
        }
        Ok(())
    }

    /// `modules.order` of a build tree: a line for each module, `kernel/fs/ext4/ext4.ko` or, from 6.2
    /// on, `fs/ext4/ext4.o`.
    fn read_order(&mut self) -> io::Result<()> {
        for line in lines(&self.directory.join("modules.order"))?.unwrap_or_default() {
            let path = line.strip_prefix("kernel/").unwrap_or(&line);
            let path = path.strip_suffix(".o").or(path.strip_suffix(".ko")).unwrap_or(path);
            let file = self.directory.join(format!("{path}.ko"));
            if let Some(name) = file.to_str().and_then(name_in) {
                self.files.insert(name, file);
            }
        }
        Ok(())
    }

    /// `modules.dep`: a line for each module, its file, a colon, and the files of what it needs.
    fn read_dependencies(&mut self) -> io::Result<()> {
        for line in lines(&self.directory.join("modules.dep"))?.unwrap_or_default() {
            let Some((file, needed)) = line.split_once(':') else { continue };
            let Some(name) = name_in(file) else { continue };
            let path = self.directory.join(file);
            if path.is_file() {
                self.files.insert(name.clone(), path);
                let needed = needed.split_whitespace().filter_map(name_in).collect();
                self.dependencies.insert(name, needed);
            }
        }
        Ok(())
    }
}

/// The lines of a file, if it exists.
fn lines(path: &Path) -> io::Result<Option<Vec<String>>> {
    match fs::File::open(path) {
        Ok(file) => {
            BufReader::new(file.take(LONGEST_LIST)).lines().collect::<io::Result<_>>().map(Some)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The name of the module in a file: `a/vfio-pci.ko.zst` has `vfio_pci`. `None` if the file has none.
fn name_in(path: &str) -> Option<String> {
    let file = path.trim().rsplit('/').next()?;
    let stem = ["", ".xz", ".zst", ".gz"]
        .iter()
        .find_map(|packed| file.strip_suffix(packed)?.strip_suffix(".ko"))?;
    (!stem.is_empty()).then(|| normalize(stem))
}

/// A name as the kernel has it.
pub(crate) fn normalize(name: &str) -> String {
    name.replace('-', "_")
}
