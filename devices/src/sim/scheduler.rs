//! What happens next: a heap of tasks in the order of their times, and of their scheduling where those
//! are the same.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use iommu::time::Instant;

/// A task and its time. Compared by time and number only.
#[derive(Debug)]
struct Entry<T> {
    at: Instant,
    number: u64,
    task: T,
}

impl<T> Entry<T> {
    fn key(&self) -> (Instant, u64) {
        (self.at, self.number)
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// The tasks that are to come.
#[derive(Debug)]
pub(super) struct Scheduler<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    next: u64,
}

impl<T> Scheduler<T> {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::with_capacity(64), next: 0 }
    }

    /// Lets `task` happen at `at`, after everything else that is already to happen then.
    pub(super) fn at(&mut self, at: Instant, task: T) {
        let number = self.next;
        self.next += 1;
        self.heap.push(Reverse(Entry { at, number, task }));
    }

    /// When the next task happens.
    pub(super) fn next_time(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// Takes the next task.
    pub(super) fn pop(&mut self) -> Option<T> {
        self.heap.pop().map(|Reverse(entry)| entry.task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tasks_come_in_the_order_of_their_times_and_then_of_their_scheduling(
            times in proptest::collection::vec(0_u64..8, 0..100),
        ) {
            let mut scheduler = Scheduler::new();
            for (index, time) in times.iter().enumerate() {
                scheduler.at(Instant::from_nanos(*time), index);
            }
            let mut expected: Vec<usize> = (0..times.len()).collect();
            expected.sort_by_key(|index| times[*index]);
            let order: Vec<usize> = std::iter::from_fn(|| scheduler.pop()).collect();
            prop_assert_eq!(order, expected);
        }
    }
}
