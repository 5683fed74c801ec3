//! Looks for what faults wait for in the lines that the guest sends to its consoles.

use devices::chipset::Chipset;
use devices::fault::GuestConsole;
use regex_lite::Regex;

use crate::Error;

/// The longest line that is looked at; of a longer one only its last part is.
const LONGEST_LINE: usize = 4096;

/// Regular expressions that have not matched yet, and the line so far.
#[derive(Debug)]
pub(crate) struct ConsoleWatch {
    /// Each with the number of the fault that waits for it.
    waiting: Vec<(usize, Regex)>,
    line: Vec<u8>,
}

impl ConsoleWatch {
    /// A watch for the faults of `chipset` that wait for lines of `console`.
    pub(crate) fn new(chipset: &Chipset, console: GuestConsole) -> Result<Self, Error> {
        let compile = |(fault, text): (usize, &str)| match Regex::new(text) {
            Ok(expression) => Ok((fault, expression)),
            Err(source) => Err(Error::Expression { text: text.to_owned(), source }),
        };
        let waiting =
            chipset.console_expressions(console).map(compile).collect::<Result<_, _>>()?;
        Ok(Self { waiting, line: Vec::new() })
    }

    /// The guest has sent this line, with its end or without; returns the faults whose expressions
    /// match. Not to be mixed with [`Self::sent`].
    pub(crate) fn line(&mut self, line: &[u8]) -> Vec<usize> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        let line = String::from_utf8_lossy(line.trim_ascii_end());
        let found = self.waiting.extract_if(.., |(_, regex)| regex.is_match(&line));
        found.map(|(fault, _)| fault).collect()
    }

    /// The guest has sent `bytes`; returns the faults whose expressions match now. A line counts as
    /// soon as it matches, before its end has been sent.
    pub(crate) fn sent(&mut self, bytes: &[u8]) -> Vec<usize> {
        let mut matched = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.waiting.is_empty() {
                return matched;
            }
            self.line.extend_from_slice(piece);
            self.line.drain(..self.line.len().saturating_sub(LONGEST_LINE));
            let line = String::from_utf8_lossy(&self.line);
            let found = self.waiting.extract_if(.., |(_, regex)| regex.is_match(&line));
            matched.extend(found.map(|(fault, _)| fault));
            if piece.ends_with(b"\n") {
                self.line.clear();
            }
        }
        matched
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(expressions: &[&str]) -> ConsoleWatch {
        let compile = |(index, text): (usize, &&str)| (index, Regex::new(text).unwrap());
        ConsoleWatch {
            waiting: expressions.iter().enumerate().map(compile).collect(),
            line: Vec::new(),
        }
    }

    #[test]
    fn a_line_counts_as_soon_as_it_matches_and_once() {
        let mut watch = watch(&["up", "^# done$"]);
        assert!(watch.sent(b"link is u").is_empty());
        assert_eq!(watch.sent(b"p\nup again\n# do"), [0]);
        assert_eq!(watch.sent(b"ne"), [1]);
        assert!(watch.sent(b"up\n# done\n").is_empty());
    }

    #[test]
    fn bytes_that_are_not_text_do_not_hide_the_rest_of_a_line() {
        assert_eq!(watch(&["^. up.$"]).sent(b"\xff up\xc3"), [0]);
    }

    #[test]
    fn a_whole_line_matches_without_its_end_and_once() {
        let mut watch = watch(&["mark drop$", "never"]);
        assert!(watch.line(b"mark drops\n").is_empty());
        assert_eq!(watch.line(b"\xff mark drop\r\n"), [0]);
        assert!(watch.line(b"mark drop\n").is_empty());
    }

    #[test]
    fn nothing_matches_across_lines() {
        assert!(watch(&["a.*b"]).sent(b"a\nb\n").is_empty());
    }

    #[test]
    fn a_line_without_end_does_not_fill_memory() {
        let mut watch = watch(&["never"]);
        for _ in 0..100 {
            watch.sent(&[b'x'; 1000]);
            assert!(watch.line.len() <= LONGEST_LINE);
        }
    }
}
