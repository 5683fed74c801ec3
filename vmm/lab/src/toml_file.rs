//! The user's TOML files. Errors have the position in the file, and a suggestion for an unknown word.

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::text::{position, suggestion};

/// An unusable file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read.
    #[error("cannot read '{}': {source}; give a TOML file with {what}", path.display())]
    Read {
        /// The expected content, for the message.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The content is invalid.
    #[error("'{}', {position}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Line and column.
        position: String,
        /// The mistake, and the remedy.
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
    /// Reads `path`; messages call the expected content `what`.
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

    /// The text of the file.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Parses the file as a value.
    ///
    /// # Errors
    ///
    /// It is not TOML, or not of that shape.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, FileError> {
        parse(&self.text).map_err(|mistake| self.wrong(mistake))
    }

    /// The error for a mistake in this file.
    pub fn wrong(&self, (at, reason): Mistake) -> FileError {
        let position = position(&self.text, at);
        FileError::Content { path: self.path.to_owned(), position, reason }
    }

    /// File, line and column of the byte `at`, for messages.
    pub fn origin(&self, at: usize) -> String {
        format!("'{}', {}", self.path.display(), position(&self.text, at))
    }
}

/// The offset of a byte in a text, and the mistake there.
pub type Mistake = (usize, String);

/// Parses a text as a value.
///
/// # Errors
///
/// It is not TOML, or not of that shape.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Mistake> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        (error.span().map_or(0, |span| span.start), with_suggestion(error.message()))
    })
}

/// The parser's message on one line, with a suggestion for an unknown word.
pub fn with_suggestion(message: &str) -> String {
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
