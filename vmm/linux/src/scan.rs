//! Search in a stream that need not fit into memory: a vmlinux with debug information has 500 MB.

use std::io::{self, Read};

use memchr::memmem;

/// What is read at a time.
const CHUNK: usize = 1 << 20;

/// A stream, and a position in it that only moves forward.
pub(crate) struct Scanner<R> {
    reader: R,
    buffer: Vec<u8>,
    /// The position, in `buffer`.
    position: usize,
}

impl<R: Read> Scanner<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, buffer: Vec::new(), position: 0 }
    }

    /// Moves behind the next occurrence of `needle`; `false` at the end of the stream.
    pub(crate) fn find(&mut self, needle: &[u8]) -> io::Result<bool> {
        loop {
            if let Some(at) = memmem::find(&self.buffer[self.position..], needle) {
                self.position += at + needle.len();
                return Ok(true);
            }
            // The needle may lie across two chunks.
            let kept = self.buffer.len().saturating_sub(needle.len() - 1).max(self.position);
            self.buffer.drain(..kept);
            self.position = 0;
            if !self.fill()? {
                return Ok(false);
            }
        }
    }

    /// Up to `length` bytes from the position on, which does not move.
    pub(crate) fn peek(&mut self, length: usize) -> io::Result<&[u8]> {
        while self.buffer.len() - self.position < length && self.fill()? {}
        let end = self.buffer.len().min(self.position + length);
        Ok(&self.buffer[self.position..end])
    }

    /// Reads a chunk more; `false` at the end of the stream.
    fn fill(&mut self) -> io::Result<bool> {
        let read = self.reader.by_ref().take(CHUNK as u64).read_to_end(&mut self.buffer)?;
        Ok(read > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_needle_across_two_chunks_is_found_and_the_next_one_after_it() {
        let mut bytes = vec![b'.'; CHUNK - 3];
        bytes.extend_from_slice(b"needle1");
        bytes.extend_from_slice(&vec![b'.'; CHUNK]);
        bytes.extend_from_slice(b"needle2");
        let mut scanner = Scanner::new(&bytes[..]);
        assert!(scanner.find(b"needle").unwrap());
        assert_eq!(scanner.peek(3).unwrap(), b"1..");
        assert!(scanner.find(b"needle").unwrap());
        assert_eq!(scanner.peek(3).unwrap(), b"2");
        assert!(!scanner.find(b"needle").unwrap());
    }
}
