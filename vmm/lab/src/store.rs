//! The directory with the results. Finished runs stay in it if a comparison is interrupted, and a
//! later comparison continues there.
//!
//! ```text
//!   plan.json            what is compared, and which part of it
//!   results.jsonl.part   the runs so far, one a line, in the order of the plan
//!   results.jsonl        the same file when it is complete
//!   results.csv, cells.csv, report.html   views of it
//! ```
//!
//! A file has its name only when it is whole. The runs in it are a prefix of all runs, whichever
//! thread finished first: their number tells where an interrupted comparison continues.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

/// Name of the file with the plan.
pub(super) const PLAN: &str = "plan.json";
/// The runs, one a line.
pub(super) const RESULTS: &str = "results.jsonl";
const PART: &str = "results.jsonl.part";

/// Results that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be made.
    #[error(
        "cannot make the directory '{}': {source}; name one in a place that you may write to",
        path.display()
    )]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error(
        "cannot write '{}': {source}; finished runs are kept, and --resume continues there",
        path.display()
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error(
        "cannot read '{}': {source}; name a directory that 'compare --out' or 'merge' has written",
        path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// There is something already.
    #[error(
        "'{}' has results already; continue with --resume, or name another directory",
        .0.display()
    )]
    Occupied(PathBuf),
    /// Another process writes into the directory.
    #[error("'{}' is being written by another ghostlink; wait for it, or name another directory", .0.display())]
    InUse(PathBuf),
    /// The directory belongs to another plan.
    #[error("'{}' has the results of another comparison: {what}; give the same options, or name another directory", path.display())]
    OtherPlan {
        /// The directory.
        path: PathBuf,
        /// The first difference.
        what: String,
    },
    /// An invalid line.
    #[error("'{}', line {line}: {what}; remove the file, and run this part again", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// The mistake.
        what: String,
    },
}

/// A directory that results are being written to.
#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
    part: BufWriter<File>,
}

impl Store {
    /// Opens `directory`, and makes it if it does not exist. `plan` is the plan as JSON. `accept`
    /// gets the line of each run that is there, in order, and says what is wrong with it.
    ///
    /// # Errors
    ///
    /// The directory cannot be written to, has results while `resume` is not set, or has results of
    /// another plan.
    pub(super) fn open(
        directory: &Path,
        plan: &str,
        resume: bool,
        accept: impl FnMut(&str) -> Result<(), String>,
    ) -> Result<Self, StoreError> {
        fs::create_dir_all(directory)
            .map_err(|source| StoreError::Directory { path: directory.to_owned(), source })?;
        let (part, complete) = (directory.join(PART), directory.join(RESULTS));
        let occupied = [&part, &complete].iter().any(|path| path.exists());
        if occupied && !resume {
            return Err(StoreError::Occupied(directory.to_owned()));
        }
        if occupied {
            same_plan(directory, plan)?;
        }
        if complete.exists() {
            // Everything is there; its views are made again.
            fs::rename(&complete, &part).map_err(write(&complete))?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&part)
            .map_err(write(&part))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse(directory.to_owned())),
            // A file system without locks is no reason not to write.
            Err(TryLockError::Error(_)) | Ok(()) => {}
        }
        if !occupied {
            write_whole(&directory.join(PLAN), |out| out.write_all(plan.as_bytes()))?;
        }
        finished_lines(&mut file, &part, accept)?;
        Ok(Self { directory: directory.to_owned(), part: BufWriter::new(file) })
    }

    /// Adds the line of the next run.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub(super) fn append(&mut self, line: &str) -> Result<(), StoreError> {
        let path = self.directory.join(PART);
        writeln!(self.part, "{line}").map_err(write(&path))
    }

    /// Sees to it that what was added is kept, whatever happens to this process.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub(super) fn flush(&mut self) -> Result<(), StoreError> {
        self.part.flush().map_err(write(&self.directory.join(PART)))
    }

    /// Gives the file its name: all runs are there.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub(super) fn complete(mut self) -> Result<(), StoreError> {
        self.flush()?;
        let complete = self.directory.join(RESULTS);
        fs::rename(self.directory.join(PART), &complete).map_err(write(&complete))
    }
}

/// Writes a file under another name, which it loses when it is whole.
///
/// # Errors
///
/// It cannot be written; what was there before is still there.
pub(super) fn write_whole(
    path: &Path,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    let unfinished = PathBuf::from(name);
    let written = File::create(&unfinished).and_then(|file| {
        let mut out = BufWriter::new(file);
        content(&mut out)?;
        out.flush()?;
        fs::rename(&unfinished, path)
    });
    written.inspect_err(|_| drop(fs::remove_file(&unfinished))).map_err(write(path))
}

/// The lines of the complete results in `directory`.
///
/// # Errors
///
/// They cannot be read.
pub(super) fn read_results(
    directory: &Path,
) -> Result<impl Iterator<Item = Result<String, StoreError>> + use<>, StoreError> {
    let path = directory.join(RESULTS);
    let file = File::open(&path).map_err(read(&path))?;
    Ok(BufReader::new(file).lines().map(move |line| line.map_err(read(&path))))
}

/// The plan of `directory`, as JSON.
///
/// # Errors
///
/// It cannot be read.
pub(super) fn read_plan(directory: &Path) -> Result<String, StoreError> {
    let path = directory.join(PLAN);
    fs::read_to_string(&path).map_err(read(&path))
}

fn write(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Write { path, source }
}

fn read(path: &Path) -> impl Fn(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Read { path: path.clone(), source }
}

/// Fails unless `plan` made the results in `directory`.
fn same_plan(directory: &Path, plan: &str) -> Result<(), StoreError> {
    let there = read_plan(directory)?;
    match difference(&there, plan) {
        None => Ok(()),
        Some(what) => Err(StoreError::OtherPlan { path: directory.to_owned(), what }),
    }
}

/// The first key that two plans do not have in common, with its values.
pub(super) fn difference(there: &str, here: &str) -> Option<String> {
    if there == here {
        return None;
    }
    let parse = |text| serde_json::from_str::<serde_json::Value>(text).unwrap_or_default();
    let (there, here) = (parse(there), parse(here));
    let keys = here.as_object().into_iter().flatten().map(|(key, _)| key);
    for key in keys {
        if there[key] != here[key] {
            return Some(format!("its {key} is {}, not {}", there[key], here[key]));
        }
    }
    Some(format!("its {PLAN} is not of this version"))
}

/// Hands out the lines that are whole, and cuts off what comes after them: the half of a line, if the
/// disk was full.
fn finished_lines(
    file: &mut File,
    path: &Path,
    mut accept: impl FnMut(&str) -> Result<(), String>,
) -> Result<(), StoreError> {
    file.rewind().map_err(read(path))?;
    let (mut reader, mut line) = (BufReader::new(&*file), Vec::new());
    let (mut whole, mut done) = (0, 0);
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line).map_err(read(path))?;
        if line.last() != Some(&b'\n') {
            break;
        }
        let wrong = |what| StoreError::Line { path: path.to_owned(), line: done + 1, what };
        let text = std::str::from_utf8(&line[..length - 1]).map_err(|e| wrong(e.to_string()))?;
        accept(text).map_err(wrong)?;
        whole += length as u64;
        done += 1;
    }
    file.set_len(whole).map_err(write(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmm_sys_util::tempdir::TempDir;

    const PLAN_A: &str = r#"{"seeds":3}"#;

    /// Opens a plan of three runs, `0`, `1` and `2`, and counts those that are done.
    fn open(directory: &TempDir, plan: &str, resume: bool) -> Result<(Store, usize), StoreError> {
        let mut done = 0;
        let store = Store::open(directory.as_path(), plan, resume, |line| {
            if !line.starts_with(&done.to_string()) {
                return Err(format!("it should begin with {done}"));
            }
            done += 1;
            Ok(())
        });
        Ok((store?, done))
    }

    #[test]
    fn what_was_finished_is_kept_and_gone_on_with() {
        let directory = TempDir::new().unwrap();
        let (mut store, done) = open(&directory, PLAN_A, false).unwrap();
        assert_eq!(done, 0);
        store.append("0 a").unwrap();
        store.append("1 b").unwrap();
        // Half a line: the disk was full.
        store.part.write_all(b"2 ").unwrap();
        drop(store);
        let (mut store, done) = open(&directory, PLAN_A, true).unwrap();
        assert_eq!(done, 2);
        store.append("2 c").unwrap();
        store.complete().unwrap();
        let lines: Vec<String> =
            read_results(directory.as_path()).unwrap().map(Result::unwrap).collect();
        assert_eq!(lines, ["0 a", "1 b", "2 c"]);
        assert_eq!(open(&directory, PLAN_A, true).unwrap().1, 3);
    }

    #[test]
    fn nothing_is_overwritten_or_mixed() {
        let directory = TempDir::new().unwrap();
        let (mut store, _) = open(&directory, PLAN_A, false).unwrap();
        let error = open(&directory, PLAN_A, true).unwrap_err().to_string();
        assert!(error.contains("another ghostlink"), "{error}");
        store.append("0 a").unwrap();
        drop(store);
        let error = open(&directory, PLAN_A, false).unwrap_err().to_string();
        assert!(error.contains("--resume"), "{error}");
        let error = open(&directory, r#"{"seeds":4}"#, true).unwrap_err().to_string();
        assert!(error.contains("its seeds is 3, not 4"), "{error}");
        fs::write(directory.as_path().join(PART), "0 a\n7 b\n").unwrap();
        let error = open(&directory, PLAN_A, true).unwrap_err().to_string();
        assert!(error.contains("line 2: it should begin with 1"), "{error}");
    }

    #[test]
    fn a_file_that_cannot_be_finished_leaves_the_old_one() {
        let directory = TempDir::new().unwrap();
        let path = directory.as_path().join("file");
        write_whole(&path, |out| out.write_all(b"old")).unwrap();
        let full = |_: &mut dyn Write| Err(io::ErrorKind::StorageFull.into());
        let error = write_whole(&path, full).unwrap_err().to_string();
        assert!(error.contains("file") && error.contains("--resume"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(directory.as_path()).unwrap().count(), 1);
    }
}
