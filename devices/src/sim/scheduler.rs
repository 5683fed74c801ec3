//! What happens next, in the order of times, and of scheduling where those are the same.
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

/// When something happens: its time, and its number over all that was scheduled.
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
    next: u64,
}

impl<T> Scheduler<T> {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::with_capacity(64), lanes: Vec::new(), next: 0 }
    }

    /// Lets `task` happen at `at`, after everything else that is already to happen then.
    pub(super) fn at(&mut self, at: Instant, task: T) {
        let key = self.key(at);
        self.heap.push(Reverse(Entry { key, task }));
    }

    /// The same `delay` after `now`, which never goes back. There are few delays, and each of them comes
    /// often.
    pub(super) fn after(&mut self, delay: Duration, now: Instant, task: T) {
        let entry = Entry { key: self.key(now + delay), task };
        match self.lanes.iter_mut().find(|lane| lane.delay == delay) {
            Some(lane) => lane.queue.push_back(entry),
            None => self.lanes.push(Lane { delay, queue: VecDeque::from([entry]) }),
        }
    }

    fn key(&mut self, at: Instant) -> Key {
        let number = self.next;
        self.next += 1;
        (at, number)
    }

    /// When the next task happens.
    pub(super) fn next_time(&self) -> Option<Instant> {
        self.next().map(|((at, _), _)| at)
    }

    /// Takes the next task.
    pub(super) fn pop(&mut self) -> Option<T> {
        let entry = match self.next()?.1 {
            None => self.heap.pop().map(|Reverse(entry)| entry),
            Some(lane) => self.lanes[lane].queue.pop_front(),
        };
        entry.map(|entry| entry.task)
    }

    /// When and where the next one is: on the heap, or on a lane.
    fn next(&self) -> Option<(Key, Option<usize>)> {
        let lanes = self.lanes.iter().enumerate();
        let laned = lanes.filter_map(|(at, lane)| Some((lane.queue.front()?.key, Some(at))));
        let timed = self.heap.peek().map(|Reverse(entry)| (entry.key, None));
        laned.chain(timed).min_by_key(|(key, _)| *key)
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
