//! Looks for what faults wait for in the lines that the guest sends to its console.

use std::sync::{Arc, Mutex, PoisonError};

use regex_lite::Regex;

use crate::Error;
use crate::fabric::Fabric;

/// The longest line that is looked at; of a longer one only its last part is.
const LONGEST_LINE: usize = 4096;

/// Regular expressions that have not matched yet, and the line so far.
pub(crate) struct ConsoleWatch {
    /// No other lock is taken while this one is held.
    state: Mutex<State>,
    fabric: Arc<Fabric>,
}

#[derive(Debug, Default)]
struct State {
    /// Each with the number of the fault that waits for it.
    waiting: Vec<(usize, Regex)>,
    line: Vec<u8>,
}

impl ConsoleWatch {
    /// A watch for the faults of `fabric`.
    pub(crate) fn new(fabric: Arc<Fabric>) -> Result<Self, Error> {
        let compile = |(fault, text): (usize, &str)| match Regex::new(text) {
            Ok(expression) => Ok((fault, expression)),
            Err(source) => Err(Error::Expression { text: text.to_owned(), source }),
        };
        let waiting = fabric.with(|root_complex, _| {
            root_complex.console_expressions().map(compile).collect::<Result<_, _>>()
        })?;
        Ok(Self { state: Mutex::new(State { waiting, line: Vec::new() }), fabric })
    }

    /// The guest has sent `bytes`. What they make match happens before this returns.
    pub(crate) fn sent(&self, bytes: &[u8]) {
        let matched = self.state.lock().unwrap_or_else(PoisonError::into_inner).look(bytes);
        for fault in matched {
            self.fabric.with(|root_complex, now| root_complex.console_matched(fault, now));
        }
    }
}

impl State {
    /// A line counts as soon as it matches, before its end has been sent.
    fn look(&mut self, bytes: &[u8]) -> Vec<usize> {
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

    fn state(expressions: &[&str]) -> State {
        let compile = |(index, text): (usize, &&str)| (index, Regex::new(text).unwrap());
        State { waiting: expressions.iter().enumerate().map(compile).collect(), line: Vec::new() }
    }

    #[test]
    fn a_line_counts_as_soon_as_it_matches_and_once() {
        let mut state = state(&["up", "^# done$"]);
        assert!(state.look(b"link is u").is_empty());
        assert_eq!(state.look(b"p\nup again\n# do"), [0]);
        assert_eq!(state.look(b"ne"), [1]);
        assert!(state.look(b"up\n# done\n").is_empty());
    }

    #[test]
    fn bytes_that_are_not_text_do_not_hide_the_rest_of_a_line() {
        assert_eq!(state(&["^. up.$"]).look(b"\xff up\xc3"), [0]);
    }

    #[test]
    fn nothing_matches_across_lines() {
        assert!(state(&["a.*b"]).look(b"a\nb\n").is_empty());
    }

    #[test]
    fn a_line_without_end_does_not_fill_memory() {
        let mut state = state(&["never"]);
        for _ in 0..100 {
            state.look(&[b'x'; 1000]);
            assert!(state.line.len() <= LONGEST_LINE);
        }
    }
}
