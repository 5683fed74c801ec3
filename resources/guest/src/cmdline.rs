//! The command line: words of the form `key=value`, separated by blanks. The last word with a key
//! counts.

/// A command line.
#[derive(Clone, Copy, Debug)]
pub struct Cmdline(&'static str);

impl Cmdline {
    /// Ignores words that this program does not know, as a kernel does.
    pub fn new(text: &'static str) -> Self {
        Self(text)
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&'static str> {
        let words = self.0.split_ascii_whitespace();
        words
            .filter_map(|word| word.split_once('='))
            .filter(|(name, _)| *name == key)
            .map(|(_, value)| value)
            .next_back()
    }

    /// The decimal number of `key`; `None` if the word is missing or is not a number.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.get(key)?.parse().ok()
    }
}
