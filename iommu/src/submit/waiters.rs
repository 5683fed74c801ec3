//! The line of all waiters.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};

use super::Ticket;
use super::waiter::Waiter;

/// All waiters, oldest first, which is the order of their tickets.
#[derive(Debug, Default)]
pub(super) struct Waiters(VecDeque<Waiter>);

/// A waiter in its place in the line. It can be changed there, or removed.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    line: &'a mut VecDeque<Waiter>,
    at: usize,
}

impl Waiters {
    /// Appends `waiter`, whose ticket is higher than all tickets before.
    pub(super) fn push(&mut self, waiter: Waiter) {
        self.0.push_back(waiter);
    }

    /// Puts a waiter back to where it was, behind `at` others.
    pub(super) fn put_back(&mut self, at: usize, waiter: Waiter) {
        self.0.insert(at, waiter);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn last(&self) -> Option<&Waiter> {
        self.0.back()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Waiter> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Waiter> {
        self.0.iter_mut()
    }

    pub(super) fn get(&self, ticket: Ticket) -> Option<&Waiter> {
        self.0.get(self.find(ticket)?)
    }

    /// The waiter `ticket`.
    pub(super) fn entry(&mut self, ticket: Ticket) -> Option<Entry<'_>> {
        let at = self.find(ticket)?;
        self.entry_at(at)
    }

    /// The waiter behind `at` others.
    pub(super) fn entry_at(&mut self, at: usize) -> Option<Entry<'_>> {
        (at < self.0.len()).then_some(Entry { line: &mut self.0, at })
    }

    /// The oldest waiter for which `is_wanted` holds.
    pub(super) fn first(&mut self, is_wanted: impl Fn(&Waiter) -> bool) -> Option<Entry<'_>> {
        let at = self.0.iter().position(is_wanted)?;
        self.entry_at(at)
    }

    fn find(&self, ticket: Ticket) -> Option<usize> {
        self.0.binary_search_by_key(&ticket.0, |waiter| waiter.ticket.0).ok()
    }
}

impl Entry<'_> {
    /// Takes the waiter out of the line.
    pub(super) fn remove(self) -> Waiter {
        let Self { line, at } = self;
        line.remove(at).expect("an entry is inside the line")
    }
}

impl Deref for Entry<'_> {
    type Target = Waiter;

    fn deref(&self) -> &Waiter {
        &self.line[self.at]
    }
}

impl DerefMut for Entry<'_> {
    fn deref_mut(&mut self) -> &mut Waiter {
        &mut self.line[self.at]
    }
}
