//! Status words: how a waiter knows that its wait descriptor has completed.
//!
//! The three ways differ in what a late status write can do, one for a wait that its submitter has
//! given up on (XSA-373):
//!
//! | way | a late write hits |
//! |---|---|
//! | slot | a word that the next user of the ring slot polls: a false completion |
//! | sequence | a number that is too low for anybody who waits now; but where waits complete out of order, a higher one may wake the wrong waiter |
//! | leak | a word that nobody polls: it is given out again only when the unit is done with it |
//! | cpu | the word that the same CPU polls for its very next wait |

use std::sync::atomic::Ordering;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, VolatileSlice};

use super::fields::Completion;
use super::ring::Ring;
use crate::Memory;
use crate::ids::Gpa;

/// What the words hold, as Linux numbers them.
const IN_USE: u32 = 1;
const DONE: u32 = 2;

/// How one wait descriptor is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    word: u32,
    /// What the unit writes there.
    pub(super) data: u32,
}

/// All status words in memory, which can be read one by one without looking each up. The driver's
/// memory always holds them.
pub(super) struct WordsView<'a>(Option<VolatileSlice<'a>>);

impl WordsView<'_> {
    fn load(&self, word: u32) -> u32 {
        let load = |words: &VolatileSlice<'_>| words.load(word as usize * 4, Ordering::SeqCst);
        self.0.as_ref().and_then(|words| load(words).ok()).map_or(0, u32::from_le)
    }
}

/// Which status words are in use.
#[derive(Debug)]
pub(super) struct StatusWords {
    completion: Completion,
    base: Gpa,
    next_sequence: u32,
    /// Words that are polled, and for [`Completion::Leak`] those that the unit may yet write.
    taken: [bool; Ring::ENTRIES as usize],
    /// Those that nobody polls any more, although the unit may write them.
    leaked: Vec<u32>,
}

impl StatusWords {
    /// Words from `base` on, one for each slot of the ring.
    pub(super) fn new(completion: Completion, base: Gpa) -> Self {
        Self {
            completion,
            base,
            next_sequence: 1,
            taken: [false; Ring::ENTRIES as usize],
            leaked: Vec::with_capacity(Ring::ENTRIES as usize),
        }
    }

    /// Where the unit writes for `token`.
    pub(super) fn address(&self, token: Token) -> Gpa {
        Gpa(self.base.0 + u64::from(token.word) * 4)
    }

    /// A token for the wait descriptor in ring slot `slot`; `None` while every word is leaked.
    pub(super) fn take(&mut self, slot: u32, memory: &Memory) -> Option<Token> {
        let token = match self.completion {
            Completion::Slot => Token { word: slot, data: DONE },
            Completion::Sequence => {
                let data = self.next_sequence;
                self.next_sequence = data.wrapping_add(1);
                return Some(Token { word: 0, data });
            }
            // A CPU that waits has a word of its own: whoever comes first has the first CPU.
            Completion::Leak | Completion::Cpu => {
                self.reclaim(memory);
                let word = self.taken.iter().position(|taken| !taken)?;
                self.taken[word] = true;
                Token { word: word as u32, data: DONE }
            }
        };
        self.store(token, IN_USE, memory);
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
            Completion::Slot | Completion::Leak | Completion::Cpu => word == token.data,
            Completion::Sequence => word.wrapping_sub(token.data).cast_signed() >= 0,
        }
    }

    /// The waiter is done with `token`, and so is the unit.
    pub(super) fn release(&mut self, token: Token) {
        self.taken[token.word as usize] = false;
    }

    /// The waiter gives up on `token`; the unit may write yet.
    pub(super) fn abandon(&mut self, token: Token) {
        match self.completion {
            Completion::Leak => self.leaked.push(token.word),
            _ => self.taken[token.word as usize] = false,
        }
    }

    /// The unit has dropped all waits that it held: leaked words are free again.
    pub(super) fn forget_leaked(&mut self) {
        for word in self.leaked.drain(..) {
            self.taken[word as usize] = false;
        }
    }

    /// Takes leaked words back that the unit has written after all.
    fn reclaim(&mut self, memory: &Memory) {
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
        // The host's own memory: the words lie inside it.
        memory.load(address, Ordering::SeqCst).map_or(0, u32::from_le)
    }

    fn store(&self, token: Token, value: u32, memory: &Memory) {
        let address = GuestAddress::from(self.address(token));
        let _ = memory.store(value.to_le(), address, Ordering::SeqCst);
    }
}
