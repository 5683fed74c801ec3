//! An initramfs in memory.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;

use cpio::newc::{Builder, ModeFileType, trailer};

use crate::kernel::GuestKernel;
use crate::modules::{Loader, ModuleError};

/// An initramfs: directories and files, as a cpio archive that is not compressed.
///
/// ```
/// let mut initramfs = linux::Initramfs::new();
/// initramfs.file("init", 0o755, "#!...").directory("proc");
/// assert!(initramfs.build().starts_with(b"070701"));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Initramfs {
    /// By path, without a slash in front: a directory comes before what is in it.
    entries: BTreeMap<String, Entry>,
    /// The lines of the file `modules`.
    modules: String,
}

#[derive(Debug, Clone)]
enum Entry {
    Directory,
    File { mode: u32, bytes: Vec<u8> },
}

impl Initramfs {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces a file, and adds the directories that it is in. `mode` has the permissions,
    /// such as `0o755`.
    pub fn file(&mut self, path: &str, mode: u32, bytes: impl Into<Vec<u8>>) -> &mut Self {
        let path = path.trim_matches('/');
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
        }
        self.entries.insert(path.to_owned(), Entry::File { mode, bytes: bytes.into() });
        self
    }

    /// Adds a directory, and those that it is in.
    pub fn directory(&mut self, path: &str) -> &mut Self {
        let path = path.trim_matches('/');
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for end in ends.filter(|end| *end > 0) {
            self.entries.entry(path[..end].to_owned()).or_insert(Entry::Directory);
        }
        self
    }

    /// Adds modules of a kernel and all that they need, as `/lib/modules/NAME.ko`, not compressed, and
    /// the file `/modules` with a line for each, in the order in which they can be loaded:
    ///
    /// ```text
    /// nvme /lib/modules/nvme.ko nvme_auth nvme_core
    /// ```
    ///
    /// These are the name, the file, and all modules to be loaded before, in order. Modules that the
    /// kernel has built in have no line, and neither do modules of a kernel of which nothing is known: no
    /// modules and no configuration. `-` and `_` are the same in `names`.
    ///
    /// # Errors
    /// [`ModuleError`], if a module is missing, damaged, or of another kernel.
    pub fn modules(
        &mut self,
        kernel: &GuestKernel,
        names: &[&str],
    ) -> Result<&mut Self, ModuleError> {
        let mut loader = Loader::new(kernel);
        for name in names {
            loader.load(name, None)?;
        }
        for module in loader.finish() {
            let path = format!("/lib/modules/{}.ko", module.name);
            // A module that an earlier call has added has its line.
            if self.entries.contains_key(path.trim_start_matches('/')) {
                continue;
            }
            let dependencies = module.dependencies.iter().map(|name| format!(" {name}"));
            // A String takes all that is written to it.
            let _ = writeln!(
                self.modules,
                "{} {path}{}",
                module.name,
                dependencies.collect::<String>()
            );
            self.file(&path, 0o644, module.bytes);
        }
        Ok(self)
    }

    /// The archive, in the format `newc`. The same content makes the same bytes.
    pub fn build(mut self) -> Vec<u8> {
        let modules = std::mem::take(&mut self.modules);
        self.file("modules", 0o644, modules);
        let archive =
            self.entries.into_iter().zip(1..).try_fold(Vec::new(), |archive, (entry, ino)| {
                append(archive, &entry.0, &entry.1, ino)
            });
        let archive = archive.and_then(trailer);
        archive.expect("memory takes all that is written to it, and no file has 4 GiB")
    }
}

fn append(archive: Vec<u8>, path: &str, entry: &Entry, ino: u32) -> io::Result<Vec<u8>> {
    let (kind, mode, bytes) = match entry {
        Entry::Directory => (ModeFileType::Directory, 0o755, &[][..]),
        Entry::File { mode, bytes } => (ModeFileType::Regular, *mode, &bytes[..]),
    };
    let size = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    let builder = Builder::new(path).ino(ino).mode(mode).set_mode_file_type(kind);
    let mut writer = builder.write(archive, size);
    io::Write::write_all(&mut writer, bytes)?;
    writer.finish()
}
