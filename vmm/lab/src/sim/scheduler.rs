//! The tasks to come, in the order of their times. Tasks of the same time keep the order in which
//! they were scheduled.
//!
//! ```text
//!   heap    tasks of any time
//!   lanes   tasks that come a fixed time after they are scheduled, a queue for each such time: they
//!           are in order without being sorted, and keep the heap small
//! ```

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use iommu::time::Instant;

/// The order of a task: its time, and its number among all tasks that were scheduled.
type Key = (Instant, u64);

/// A task and its time. Compared by the latter only.
#[derive(Debug)]
struct Entry<T> {
    key: Key,
    task: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
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
        self.key.cmp(&other.key)
    }
}

/// Tasks that come a fixed time after they are scheduled.
#[derive(Debug)]
struct Lane<T> {
    delay: Duration,
    queue: VecDeque<Entry<T>>,
}

/// The tasks that are to come.
#[derive(Debug)]
pub(super) struct Scheduler<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    lanes: Vec<Lane<T>>,
    /// The next one.
    first: Option<(Key, Place)>,
    number: u64,
}

/// The place of a task.
#[derive(Debug, Clone, Copy)]
enum Place {
    Heap,
    Lane(usize),
}

impl<T> Scheduler<T> {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::with_capacity(64), lanes: Vec::new(), first: None, number: 0 }
    }

    /// Lets `task` happen at `at`, after everything else that is already to happen then.
    pub(super) fn at(&mut self, at: Instant, task: T) {
        let key = self.key(at);
        self.heap.push(Reverse(Entry { key, task }));
        self.note(key, Place::Heap);
    }

    /// As [`Self::at`], `delay` after `now`, which never goes back. There are few different delays,
    /// and each of them comes often.
    pub(super) fn after(&mut self, delay: Duration, now: Instant, task: T) {
        let key = self.key(now + delay);
        let lane = match self.lanes.iter().position(|lane| lane.delay == delay) {
            Some(lane) => lane,
            None => {
                self.lanes.push(Lane { delay, queue: VecDeque::new() });
                self.lanes.len() - 1
            }
        };
        self.lanes[lane].queue.push_back(Entry { key, task });
        self.note(key, Place::Lane(lane));
    }

    fn key(&mut self, at: Instant) -> Key {
        let number = self.number;
        self.number += 1;
        (at, number)
    }

    fn note(&mut self, key: Key, place: Place) {
        if self.first.is_none_or(|(first, _)| key < first) {
            self.first = Some((key, place));
        }
    }

    /// The time of the next task.
    pub(super) fn next_time(&self) -> Option<Instant> {
        self.first.map(|((at, _), _)| at)
    }

    /// Takes the next task.
    pub(super) fn pop(&mut self) -> Option<T> {
        let entry = match self.first?.1 {
            Place::Heap => self.heap.pop().map(|Reverse(entry)| entry),
            Place::Lane(lane) => self.lanes[lane].queue.pop_front(),
        };
        self.first = self.heap.peek().map(|Reverse(entry)| (entry.key, Place::Heap));
        for lane in 0..self.lanes.len() {
            if let Some(entry) = self.lanes[lane].queue.front() {
                self.note(entry.key, Place::Lane(lane));
            }
        }
        entry.map(|entry| entry.task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tasks_come_in_the_order_of_their_times_and_then_of_their_scheduling(
            tasks in proptest::collection::vec((0_u64..8, any::<bool>()), 0..100),
        ) {
            let mut scheduler = Scheduler::new();
            let mut times = Vec::new();
            for (index, (time, is_delay)) in tasks.iter().enumerate() {
                let now = Instant::from_nanos(index as u64 / 8);
                if *is_delay {
                    let delay = Duration::from_nanos(*time);
                    scheduler.after(delay, now, index);
                    times.push(now + delay);
                } else {
                    scheduler.at(Instant::from_nanos(*time), index);
                    times.push(Instant::from_nanos(*time));
                }
            }
            let mut expected: Vec<usize> = (0..times.len()).collect();
            expected.sort_by_key(|index| times[*index]);
            let order: Vec<usize> = std::iter::from_fn(|| scheduler.pop()).collect();
            prop_assert_eq!(order, expected);
        }
    }
}
