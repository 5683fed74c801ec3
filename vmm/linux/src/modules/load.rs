//! Reading one module, and what it needs.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use elf::ElfBytes;
use elf::endian::LittleEndian;

use super::{ModuleState, normalize};
use crate::config::REQUIREMENTS;
use crate::kernel::{GuestKernel, KernelRelease};
use crate::unpack;

/// The most bytes that a module may have. The largest of Debian's has 20 MiB.
const LARGEST: u64 = 64 << 20;

/// Why a module cannot be given to a guest. Each message has one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModuleError {
    /// The kernel does not have it.
    #[error(
        "the kernel {kernel} has no module '{name}'{}: it is neither built in nor in '{}'{}",
        needed_by(needed.as_deref()), directory.display(), option_of(name)
    )]
    Missing {
        /// The module.
        name: String,
        /// The module that needs it.
        needed: Option<String>,
        /// The kernel's release.
        kernel: KernelRelease,
        /// Where its modules are, or its configuration.
        directory: PathBuf,
    },
    /// It is a module, and there are no modules.
    #[error(
        "the kernel {kernel} does not have '{name}' built in, and its modules were not found; give \
         their directory by --modules"
    )]
    NotFound {
        /// The module.
        name: String,
        /// The kernel's release.
        kernel: KernelRelease,
    },
    /// Its file cannot be read.
    #[error(
        "cannot read the module '{name}' in '{}': {source}{}", path.display(), advise(source)
    )]
    Read {
        /// The module.
        name: String,
        /// Its file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Its file is damaged.
    #[error("the module '{name}' in '{}' cannot be used: {reason}", path.display())]
    Damaged {
        /// The module.
        name: String,
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It is of another kernel.
    #[error(
        "the module '{name}' in '{}' is of {found}, and the kernel is {kernel}, which would refuse it; \
         give modules of this kernel", path.display()
    )]
    OtherRelease {
        /// The module.
        name: String,
        /// Its file.
        path: PathBuf,
        /// The release in its `vermagic`.
        found: String,
        /// The kernel's release.
        kernel: KernelRelease,
    },
}

fn needed_by(needed: Option<&str>) -> String {
    needed.map(|by| format!(", which '{by}' needs")).unwrap_or_default()
}

fn option_of(name: &str) -> String {
    match REQUIREMENTS.iter().find(|row| row.module == Some(name)) {
        Some(row) => format!("; build it with CONFIG_{}=y or m", row.option),
        None => String::new(),
    }
}

fn advise(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => "; run make modules",
        _ => "",
    }
}

/// A module that has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoadedModule {
    /// Its name, with `_`.
    pub(crate) name: String,
    /// The ELF file.
    pub(crate) bytes: Vec<u8>,
    /// All that it needs, in the order in which they have to be loaded.
    pub(crate) dependencies: Vec<String>,
}

/// Reads modules, and what they need.
#[derive(Debug)]
pub(crate) struct Loader<'a> {
    kernel: &'a GuestKernel,
    /// In the order in which they can be loaded.
    loaded: Vec<LoadedModule>,
    /// Modules whose dependencies are being loaded: a circle ends here.
    begun: Vec<String>,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(kernel: &'a GuestKernel) -> Self {
        Self { kernel, loaded: Vec::new(), begun: Vec::new() }
    }

    /// The modules, each after all that it needs.
    pub(crate) fn finish(self) -> Vec<LoadedModule> {
        self.loaded
    }

    /// Reads the module `name`, and what it needs, unless it is built in. A kernel without a list of
    /// modules and without a configuration may have it or not: then nothing is read.
    pub(crate) fn load(&mut self, name: &str, needed: Option<&str>) -> Result<(), ModuleError> {
        let name = normalize(name);
        if self.loaded.iter().any(|module| module.name == name) || self.begun.contains(&name) {
            return Ok(());
        }
        let kernel = self.kernel;
        let path = match (kernel.module(&name), &kernel.modules, &kernel.config) {
            (ModuleState::BuiltIn, ..) | (ModuleState::Unknown, _, None) => return Ok(()),
            (ModuleState::File(path), ..) => path,
            (ModuleState::Unknown, ..) => {
                return Err(ModuleError::NotFound { name, kernel: kernel.release.clone() });
            }
            (ModuleState::Absent, tree, config) => {
                let directory = tree.as_ref().map(|tree| tree.directory().to_owned());
                let origin = || config.as_ref().map(|config| config.origin().into());
                return Err(ModuleError::Missing {
                    name,
                    needed: needed.map(str::to_owned),
                    kernel: kernel.release.clone(),
                    directory: directory.or_else(origin).unwrap_or_default(),
                });
            }
        };
        self.begun.push(name.clone());
        let (bytes, info) = read(&name, &path)?;
        self.check_release(&name, &path, &info)?;
        let tree = kernel.modules.as_ref();
        let listed = tree.and_then(|tree| tree.listed_dependencies(&name));
        let needs: Vec<String> = listed.map(<[_]>::to_vec).unwrap_or_default();
        let needs = needs.into_iter().chain(info.depends());
        let soft = info.soft_dependencies().filter_map(|soft| self.alias(&soft));
        let needs: Vec<String> = soft.chain(needs).collect();
        let mut dependencies = Vec::new();
        for need in needs {
            self.load(&need, Some(&name))?;
            let found = self.loaded.iter().find(|module| module.name == normalize(&need));
            let found = found.into_iter().flat_map(|it| it.dependencies.iter().chain([&it.name]));
            for dependency in found {
                if !dependencies.contains(dependency) {
                    dependencies.push(dependency.clone());
                }
            }
        }
        self.loaded.push(LoadedModule { name, bytes, dependencies });
        Ok(())
    }

    /// The module that a soft dependency names, if the kernel has it as a module. Such a name may be an
    /// alias, of which unpacked packages have no list: `crypto-crc32c` is in `crc32c_generic`.
    fn alias(&self, soft: &str) -> Option<String> {
        let name = normalize(soft);
        let plain = name.strip_prefix("crypto_").unwrap_or(&name);
        let names = [name.clone(), plain.to_owned(), format!("{plain}_generic")];
        names.into_iter().find(|name| matches!(self.kernel.module(name), ModuleState::File(_)))
    }

    fn check_release(&self, name: &str, path: &Path, info: &ModuleInfo) -> Result<(), ModuleError> {
        let found = info.values("vermagic").next().unwrap_or_default();
        let found = found.split(' ').next().unwrap_or_default();
        if found == self.kernel.release.as_str() {
            return Ok(());
        }
        let found = match found {
            "" => "no kernel (it has no vermagic)".to_owned(),
            found => found.chars().take(64).collect(),
        };
        let (name, path) = (name.to_owned(), path.to_owned());
        Err(ModuleError::OtherRelease { name, path, found, kernel: self.kernel.release.clone() })
    }
}

/// The ELF file of a module, and its information.
fn read(name: &str, path: &Path) -> Result<(Vec<u8>, ModuleInfo), ModuleError> {
    let damaged = |reason: String| ModuleError::Damaged {
        name: name.to_owned(),
        path: path.to_owned(),
        reason,
    };
    let error = |source| ModuleError::Read { name: name.to_owned(), path: path.to_owned(), source };
    let too_large = || damaged(format!("it has more than {} MiB", LARGEST >> 20));
    let limited = |reader: &mut dyn Read| {
        let mut bytes = Vec::new();
        reader.take(LARGEST + 1).read_to_end(&mut bytes).map(|_| bytes)
    };
    let file = limited(&mut fs::File::open(path).map_err(error)?).map_err(error)?;
    let unpacked =
        unpack::decoder(&file).map(|decoder| decoder.and_then(|mut decoder| limited(&mut decoder)));
    let unpacked = unpacked.transpose();
    let unpacked = unpacked.map_err(|error| damaged(format!("it cannot be unpacked ({error})")))?;
    let bytes = unpacked.unwrap_or(file);
    if bytes.len() as u64 > LARGEST {
        return Err(too_large());
    }
    let info = ModuleInfo::find(&bytes).map_err(damaged)?;
    Ok((bytes, info))
}

/// The section `.modinfo` of a module: texts `key=value`, each with a zero byte behind it.
#[derive(Debug)]
struct ModuleInfo(String);

impl ModuleInfo {
    fn find(bytes: &[u8]) -> Result<Self, String> {
        if bytes.is_empty() {
            return Err("it is empty".to_owned());
        }
        if !bytes.starts_with(b"\x7fELF") {
            return Err("it is no ELF file, also not one compressed by gzip, xz or zstd".to_owned());
        }
        let section = || {
            let file = ElfBytes::<LittleEndian>::minimal_parse(bytes)?;
            let header = file.section_header_by_name(".modinfo")?;
            header.map(|header| file.section_data(&header).map(|(data, _)| data)).transpose()
        };
        let found: Result<_, elf::ParseError> = section();
        match found {
            Ok(Some(data)) => Ok(Self(String::from_utf8_lossy(data).into_owned())),
            Ok(None) => Err("it has no section .modinfo".to_owned()),
            Err(error) => Err(format!("its ELF headers are damaged ({error})")),
        }
    }

    fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.split('\0').filter_map(move |text| text.strip_prefix(key)?.strip_prefix('='))
    }

    fn depends(&self) -> impl Iterator<Item = String> {
        let names = self.values("depends").flat_map(|names| names.split(','));
        names.filter(|name| !name.is_empty()).map(normalize)
    }

    /// Modules to be loaded before this one if they exist: `pre: a b post: c`.
    fn soft_dependencies(&self) -> impl Iterator<Item = String> {
        self.values("softdep").flat_map(|text| {
            let words = text.split_whitespace().skip_while(|word| *word != "pre:").skip(1);
            words.take_while(|word| !word.ends_with(':')).map(str::to_owned)
        })
    }
}
