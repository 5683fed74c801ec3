//! An NVMe namespace in a file of the host.
//!
//! ```text
//!   read, write --> pread, pwrite: the host's page cache    flush --> fdatasync: the host's disk
//! ```
//!
//! Data that was flushed survives a crash of the machine, its monitor or the host. Other data survives
//! unless the host itself goes down. The file is locked while it is open, so that no two
//! machines write to it.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use devices::nvme::storage::{BLOCK_SIZE, Storage, StorageError};
use devices::topology::{Media, Topology};

/// Why a file cannot hold a namespace.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileStorageError {
    /// There is no such file.
    #[error(
        "there is no namespace file '{}'; create it, as by: truncate -s 64M '{}'",
        path.display(),
        path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be opened for reading and writing.
    #[error(
        "cannot open namespace file '{}': {source}; it must be readable and writable",
        path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// It is a directory, a device or the like.
    #[error("'{}' is not a regular file; a namespace needs one", path.display())]
    NotAFile {
        /// Its path.
        path: PathBuf,
    },
    /// Another process holds its lock.
    #[error(
        "namespace file '{}' is locked: another machine uses it; end that one, or give each a \
         file of its own",
        path.display()
    )]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// It has less than a block.
    #[error(
        "namespace file '{}' has {size} bytes, which is too small; a block has {BLOCK_SIZE}",
        path.display()
    )]
    TooSmall {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
    /// It ends in the middle of a block.
    #[error(
        "namespace file '{}' has {size} bytes, which is not a multiple of {BLOCK_SIZE}; make it \
         {}, say",
        path.display(),
        size.next_multiple_of(BLOCK_SIZE)
    )]
    NotBlocks {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
}

/// A file with a whole number of blocks, which stays locked until this and all its clones are dropped.
#[derive(Debug, Clone)]
pub struct FileStorage {
    file: Arc<File>,
    size: u64,
}

impl FileStorage {
    /// Opens `path` and locks it. Its size is that of the namespace.
    ///
    /// # Errors
    /// [`FileStorageError`], if the file cannot hold a namespace.
    pub fn open(path: &Path) -> Result<Self, FileStorageError> {
        let path = path.to_owned();
        // A named pipe or a device is not opened even for a look: that can block, or do something.
        match std::fs::metadata(&path) {
            Ok(metadata) if !metadata.is_file() => return Err(FileStorageError::NotAFile { path }),
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                return Err(FileStorageError::Missing { path });
            }
            _ => {}
        }
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(source) => return Err(FileStorageError::Open { path, source }),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(FileStorageError::Locked { path }),
            Err(TryLockError::Error(source)) => {
                return Err(FileStorageError::Open { path, source });
            }
        }
        match file.metadata().map(|metadata| metadata.len()) {
            Ok(size) if size < BLOCK_SIZE => Err(FileStorageError::TooSmall { path, size }),
            Ok(size) if !size.is_multiple_of(BLOCK_SIZE) => {
                Err(FileStorageError::NotBlocks { path, size })
            }
            Ok(size) => Ok(Self { file: Arc::new(file), size }),
            Err(source) => Err(FileStorageError::Open { path, source }),
        }
    }

    /// Writes must not make the file longer.
    fn check(&self, offset: u64, length: usize) -> Result<(), StorageError> {
        let end = u64::try_from(length).ok().and_then(|length| offset.checked_add(length));
        match end {
            Some(end) if end <= self.size => Ok(()),
            _ => Err(StorageError::OutOfRange { offset, length, size: self.size }),
        }
    }
}

impl Storage for FileStorage {
    fn blocks(&self) -> u64 {
        self.size / BLOCK_SIZE
    }

    fn read(&mut self, offset: u64, data: &mut [u8]) -> Result<(), StorageError> {
        self.check(offset, data.len())?;
        self.file.read_exact_at(data, offset).map_err(medium)
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), StorageError> {
        self.check(offset, data.len())?;
        self.file.write_all_at(data, offset).map_err(medium)
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.file.sync_data().map_err(medium)
    }
}

/// Opens every file that namespaces of `topology` are in.
///
/// # Errors
/// The error of the first file that cannot be used.
pub fn open_all(topology: &Topology) -> Result<HashMap<PathBuf, FileStorage>, FileStorageError> {
    topology.files().map(|path| Ok((path.to_owned(), FileStorage::open(path)?))).collect()
}

/// The media of a hierarchy: each file once more, under the same lock.
pub fn media(files: &HashMap<PathBuf, FileStorage>) -> Media {
    let boxed = |storage: &FileStorage| Box::new(storage.clone()) as Box<dyn Storage>;
    files.iter().map(|(path, storage)| (path.clone(), boxed(storage))).collect()
}

fn medium(error: io::Error) -> StorageError {
    StorageError::Medium(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that is gone when the test ends.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str, size: u64) -> Self {
            let name = format!("ghostlink-storage-{}-{name}", std::process::id());
            let path = std::env::temp_dir().join(name);
            File::create(&path).unwrap().set_len(size).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn refusal(path: &Path) -> String {
        let text = FileStorage::open(path).unwrap_err().to_string();
        assert!(text.contains(&path.display().to_string()) && !text.contains('\n'), "{text}");
        text
    }

    #[test]
    fn what_was_flushed_is_there_for_the_next_machine() {
        let scratch = Scratch::new("durable", 8 * BLOCK_SIZE);
        let mut storage = FileStorage::open(&scratch.0).unwrap();
        assert_eq!(storage.blocks(), 8);
        storage.write(7 * BLOCK_SIZE, &[0xa5; 512]).unwrap();
        storage.flush().unwrap();
        storage.power_cycle();
        drop(storage);
        let mut storage = FileStorage::open(&scratch.0).unwrap();
        let mut data = [0; 1024];
        storage.read(6 * BLOCK_SIZE, &mut data).unwrap();
        assert_eq!(data, *[[0; 512], [0xa5; 512]].as_flattened());
    }

    #[test]
    fn the_file_never_grows() {
        let scratch = Scratch::new("grows", BLOCK_SIZE);
        let mut storage = FileStorage::open(&scratch.0).unwrap();
        let refused = StorageError::OutOfRange { offset: 1, length: 512, size: 512 };
        assert_eq!(storage.write(1, &[0; 512]), Err(refused));
        assert!(storage.read(u64::MAX, &mut [0; 2]).is_err());
        assert_eq!(std::fs::metadata(&scratch.0).unwrap().len(), BLOCK_SIZE);
    }

    #[test]
    fn a_file_that_somebody_has_cut_off_is_a_media_error() {
        let scratch = Scratch::new("cut", 4 * BLOCK_SIZE);
        let mut storage = FileStorage::open(&scratch.0).unwrap();
        OpenOptions::new().write(true).open(&scratch.0).unwrap().set_len(BLOCK_SIZE).unwrap();
        let outcome = storage.read(BLOCK_SIZE, &mut [0; 512]);
        assert!(matches!(outcome, Err(StorageError::Medium(_))), "{outcome:?}");
    }

    #[test]
    fn a_file_that_cannot_be_used_is_refused_with_one_line() {
        let missing = std::env::temp_dir().join("ghostlink-storage-that-there-is-not");
        assert!(refusal(&missing).starts_with("there is no namespace file"));
        assert!(
            refusal(&std::env::temp_dir())
                .ends_with("is not a regular file; a namespace needs one")
        );
        assert!(refusal(&Scratch::new("empty", 0).0).contains("has 0 bytes, which is too small"));
        assert!(refusal(&Scratch::new("odd", 1000).0).ends_with("make it 1024, say"));
        let scratch = Scratch::new("locked", BLOCK_SIZE);
        let first = FileStorage::open(&scratch.0).unwrap();
        assert!(refusal(&scratch.0).contains("is locked"));
        drop(first);
        assert!(FileStorage::open(&scratch.0).is_ok());
    }
}
