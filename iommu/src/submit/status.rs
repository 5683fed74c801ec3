//! Status words, by which a waiter recognizes the completion of its wait descriptor.
//!
//! The methods differ in the effect of a late status write, which belongs to a wait that its waiter
//! has given up (XSA-373):
//!
//! | method | a late write hits |
//! |---|---|
//! | slot | the word of the next user of the ring slot, which takes it for a completion |
//! | sequence | the shared word, with a number too low for any current waiter; if waits complete out of order, a higher number may wake the wrong waiter |
//! | leak | a word without a waiter: it is used again only after the unit has completed or aborted the wait |
//! | cpu | the word of the next wait of the same CPU |
//! | numbered | the word of the next user of the ring slot, with a number that is not its own |

use std::sync::atomic::Ordering;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, VolatileSlice};

use super::fields::Completion;
use super::ring::Ring;
use crate::Memory;
use crate::ids::Gpa;

/// Values of a word, as in Linux.
const IN_USE: u32 = 1;
const DONE: u32 = 2;
/// Numbers start here. The value of a word whose wait has a number is the complement until then.
const FIRST_NUMBER: u32 = 1;

/// The word and the value that a wait descriptor writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    word: u32,
    /// The value that the unit writes.
    pub(super) data: u32,
}

/// A view of all status words, which saves a look-up in memory for each. The driver's memory always
/// holds the words.
pub(super) struct WordsView<'a>(Option<VolatileSlice<'a>>);

impl WordsView<'_> {
    fn load(&self, word: u32) -> u32 {
        let load = |words: &VolatileSlice<'_>| words.load(word as usize * 4, Ordering::SeqCst);
        self.0.as_ref().and_then(|words| load(words).ok()).map_or(0, u32::from_le)
    }
}

/// The status words, with those that are in use.
#[derive(Debug)]
pub(super) struct StatusWords {
    completion: Completion,
    base: Gpa,
    next_sequence: u32,
    /// Words that are polled. With [`Completion::Leak`] also words that the unit may still write.
    taken: [bool; Ring::ENTRIES as usize],
    /// Words without a waiter that the unit may still write.
    leaked: Vec<u32>,
}

impl StatusWords {
    /// Status words at `base`, one for each slot of the ring.
    pub(super) fn new(completion: Completion, base: Gpa) -> Self {
        Self {
            completion,
            base,
            next_sequence: FIRST_NUMBER,
            taken: [false; Ring::ENTRIES as usize],
            leaked: Vec::with_capacity(Ring::ENTRIES as usize),
        }
    }

    /// The address that the unit writes for `token`.
    pub(super) fn address(&self, token: Token) -> Gpa {
        Gpa(self.base.0 + u64::from(token.word) * 4)
    }

    /// A token for the wait descriptor in ring slot `slot`; `None` while all words are leaked.
    pub(super) fn take(&mut self, slot: u32, memory: &Memory) -> Option<Token> {
        let token = match self.completion {
            Completion::Slot => Token { word: slot, data: DONE },
            Completion::Numbered => {
                let data = self.next_sequence;
                self.next_sequence = data.wrapping_add(1).max(FIRST_NUMBER);
                Token { word: slot, data }
            }
            Completion::Sequence => {
                let data = self.next_sequence;
                self.next_sequence = data.wrapping_add(1);
                return Some(Token { word: 0, data });
            }
            // A CPU has one word. A new wait runs on the first CPU that does not wait.
            Completion::Leak | Completion::Cpu => {
                self.reclaim(memory);
                let word = self.taken.iter().position(|taken| !taken)?;
                self.taken[word] = true;
                Token { word: word as u32, data: DONE }
            }
        };
        let value = match self.completion {
            Completion::Numbered => !token.data,
            _ => IN_USE,
        };
        self.store(token, value, memory);
        Some(token)
    }

    /// All words, for [`Self::is_done`].
    pub(super) fn words<'a>(&self, memory: &'a Memory) -> WordsView<'a> {
        let length = Ring::ENTRIES as usize * 4;
        let base = GuestAddress::from(self.base);
        WordsView(GuestMemoryBackend::get_slice(memory, base, length).ok())
    }

    /// Whether the unit has written what `token` waits for.
    pub(super) fn is_done(&self, token: Token, words: &WordsView<'_>) -> bool {
        let word = words.load(token.word);
        match self.completion {
            Completion::Slot | Completion::Leak | Completion::Cpu | Completion::Numbered => {
                word == token.data
            }
            Completion::Sequence => word.wrapping_sub(token.data).cast_signed() >= 0,
        }
    }

    /// Both the waiter and the unit are done with `token`.
    pub(super) fn release(&mut self, token: Token) {
        self.taken[token.word as usize] = false;
    }

    /// The waiter gives up `token`, which the unit may still write. Returns whether that will show.
    pub(super) fn abandon(&mut self, token: Token) -> bool {
        match self.completion {
            Completion::Leak => self.leaked.push(token.word),
            _ => self.taken[token.word as usize] = false,
        }
        matches!(self.completion, Completion::Leak | Completion::Numbered)
    }

    /// Whether the unit may still write `token`, which was given up. If another wait uses the word by
    /// now, that does not show.
    pub(super) fn is_pending(&self, token: Token, memory: &Memory) -> bool {
        match self.completion {
            Completion::Leak => self.leaked.contains(&token.word),
            Completion::Numbered => self.load(token, memory) == !token.data,
            Completion::Slot | Completion::Sequence | Completion::Cpu => false,
        }
    }

    /// The unit has dropped all waits: leaked words are free again.
    pub(super) fn forget_leaked(&mut self) {
        for word in self.leaked.drain(..) {
            self.taken[word as usize] = false;
        }
    }

    /// Frees the leaked words that the unit has written meanwhile.
    pub(super) fn reclaim(&mut self, memory: &Memory) {
        let mut leaked = std::mem::take(&mut self.leaked);
        leaked.retain(|word| {
            let written = self.load(Token { word: *word, data: DONE }, memory) == DONE;
            self.taken[*word as usize] = !written;
            !written
        });
        self.leaked = leaked;
    }

    fn load(&self, token: Token, memory: &Memory) -> u32 {
        let address = GuestAddress::from(self.address(token));
        // The words lie in the driver's own memory, so that the read cannot fail.
        memory.load(address, Ordering::SeqCst).map_or(0, u32::from_le)
    }

    fn store(&self, token: Token, value: u32, memory: &Memory) {
        let address = GuestAddress::from(self.address(token));
        let _ = memory.store(value.to_le(), address, Ordering::SeqCst);
    }
}
