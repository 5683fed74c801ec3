//! Files of TOML that people write, and what can be wrong with one: told with its place, and with what may have
//! been meant.

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::text::{position, suggestion};

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read '{}': {source}; give a TOML file with {what}", path.display())]
    Read {
        /// What should be in it.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It does not say what it should.
    #[error("'{}', {position}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Line and column.
        position: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
}

/// A file that has been read.
#[derive(Debug)]
pub struct TomlFile<'a> {
    path: &'a Path,
    text: String,
}

impl<'a> TomlFile<'a> {
    /// Reads `path`, which should hold `what`.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn read(path: &'a Path, what: &'static str) -> Result<Self, FileError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Self { path, text }),
            Err(source) => Err(FileError::Read { what, path: path.to_owned(), source }),
        }
    }

    /// What it says.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it says, as a value.
    ///
    /// # Errors
    ///
    /// It is not TOML, or not of that shape.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, FileError> {
        parse(&self.text).map_err(|mistake| self.wrong(mistake))
    }

    /// A mistake in it.
    pub fn wrong(&self, (at, reason): Mistake) -> FileError {
        let position = position(&self.text, at);
        FileError::Content { path: self.path.to_owned(), position, reason }
    }

    /// Where this byte stands, for people.
    pub fn origin(&self, at: usize) -> String {
        format!("'{}', {}", self.path.display(), position(&self.text, at))
    }
}

/// A byte of a text, and what is wrong there.
pub type Mistake = (usize, String);

/// A text as a value.
///
/// # Errors
///
/// It is not TOML, or not of that shape.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Mistake> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        (error.span().map_or(0, |span| span.start), with_suggestion(error.message()))
    })
}

/// What TOML says of a mistake, on one line, and what may have been meant by an unknown word.
fn with_suggestion(message: &str) -> String {
    let line = message.trim().replace('\n', " ");
    let quoted: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
    let unknown = line.starts_with("unknown field") || line.starts_with("unknown variant");
    match quoted.split_first() {
        Some((word, known)) if unknown => match suggestion(word, known.iter().copied()) {
            Some(meant) => format!("{line}; did you mean `{meant}`?"),
            None => line,
        },
        _ => line,
    }
}
