//! The work, spread over threads; its results, in order.
//!
//! ```text
//!   next ---> worker: work(index) ---+
//!        ---> worker: work(index) ---+--> results, put in order --> take(index, result)
//!        ---> ...                    |        on the calling thread
//!     ^                              |
//!     +-- no more than WINDOW ahead -+
//! ```
//!
//! Indices are handed out in order and each that was handed out is finished, so that what `take` has
//! got is always a prefix of the whole: that is what makes an interrupted run one that can go on.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Distance by which the threads may run ahead of the oldest missing result: bounds the memory.
const WINDOW: usize = 256;
/// Longest time between two calls of `stop`.
const TICK: Duration = Duration::from_millis(50);

/// The end of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WorkEnd {
    /// All is done.
    Complete,
    /// `stop` returned true.
    Stopped,
}

/// Calls `work` on each of `range` on `jobs` threads, and `take` with each result in order, on this
/// thread. `stop` is called at least every [`TICK`]; work that has begun is still finished and taken.
///
/// # Errors
///
/// The first error of `take`; no result is taken after it.
pub(super) fn in_order<T: Send, E>(
    range: Range<usize>,
    jobs: NonZeroUsize,
    work: impl Fn(usize) -> T + Sync,
    mut take: impl FnMut(usize, T) -> Result<(), E>,
    mut stop: impl FnMut() -> bool,
) -> Result<WorkEnd, E> {
    let queue = Queue::new(range.clone());
    let (sender, results) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..jobs.get().min(range.len()) {
            let (queue, work, sender) = (&queue, &work, sender.clone());
            scope.spawn(move || {
                let _guard = StopOnPanic(queue);
                while let Some(index) = queue.next() {
                    if sender.send((index, work(index))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut early = BTreeMap::new();
        let mut wanted = range.start;
        loop {
            match results.recv_timeout(TICK) {
                Ok((index, result)) => _ = early.insert(index, result),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            while let Some(result) = early.remove(&wanted) {
                take(wanted, result).inspect_err(|_| queue.stop())?;
                wanted += 1;
                queue.taken(wanted);
            }
            if stop() {
                queue.stop();
            }
        }
        Ok(if wanted == range.end { WorkEnd::Complete } else { WorkEnd::Stopped })
    })
}

/// Hands out indices in order.
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Indices that no thread has begun with.
    left: Range<usize>,
    /// The first index whose result has not been taken.
    wanted: usize,
    /// Threads that are too far ahead of it.
    waiting: usize,
}

impl Queue {
    fn new(range: Range<usize>) -> Self {
        let state = State { wanted: range.start, left: range, waiting: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next index, as soon as it is not too far ahead; `None` if there are no more.
    fn next(&self) -> Option<usize> {
        let too_far =
            |state: &mut State| !state.left.is_empty() && state.left.start >= state.wanted + WINDOW;
        let mut state = self.lock();
        state.waiting += 1;
        let state = self.changed.wait_while(state, too_far);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        state.left.next()
    }

    fn taken(&self, wanted: usize) {
        let mut state = self.lock();
        state.wanted = wanted;
        // A wake-up is a system call, even without a waiting thread.
        if state.waiting > 0 {
            self.changed.notify_all();
        }
    }

    fn stop(&self) {
        self.lock().left = 0..0;
        self.changed.notify_all();
    }
}

/// Lets the others end when a thread panics: they would wait for its result for ever.
struct StopOnPanic<'a>(&'a Queue);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const JOBS: NonZeroUsize = NonZeroUsize::new(3).unwrap();

    #[test]
    fn results_come_in_order_whoever_is_first() {
        let mut taken = Vec::new();
        // The first of every ten is slow.
        let work = |index: usize| {
            if index.is_multiple_of(10) {
                thread::sleep(Duration::from_millis(2));
            }
            index * 2
        };
        let take = |index, result| {
            taken.push((index, result));
            Ok::<(), Infallible>(())
        };
        assert_eq!(in_order(5..1000, JOBS, work, take, || false), Ok(WorkEnd::Complete));
        assert_eq!(taken, (5..1000).map(|index| (index, index * 2)).collect::<Vec<_>>());
        assert_eq!(
            in_order(7..7, JOBS, work, |_, _| Err("called"), || false),
            Ok(WorkEnd::Complete)
        );
    }

    #[test]
    fn what_has_begun_is_taken_after_a_stop_and_nothing_else() {
        let begun = AtomicUsize::new(0);
        let taken = AtomicUsize::new(0);
        let work = |_| begun.fetch_add(1, Ordering::SeqCst);
        let take = |_, _| {
            taken.fetch_add(1, Ordering::SeqCst);
            Ok::<(), Infallible>(())
        };
        let stop = || taken.load(Ordering::SeqCst) >= 100;
        let ended = in_order(0..1_000_000, JOBS, work, take, stop);
        assert_eq!(ended, Ok(WorkEnd::Stopped));
        assert_eq!(begun.load(Ordering::SeqCst), taken.load(Ordering::SeqCst));
    }

    #[test]
    fn an_error_ends_it() {
        let take = |index, ()| if index == 10 { Err(index) } else { Ok(()) };
        assert_eq!(in_order(0..1_000_000, JOBS, |_| (), take, || false), Err(10));
    }

    #[test]
    fn nobody_runs_far_ahead_of_a_slow_one() {
        let (first, others) = (Mutex::new(()), AtomicUsize::new(0));
        let held = first.lock().unwrap();
        let mut held = Some(held);
        let work = |index| {
            if index == 0 {
                drop(first.lock().unwrap());
            } else {
                others.fetch_add(1, Ordering::SeqCst);
            }
        };
        // Everything that can be done without the first one has been done.
        let stop = || {
            if others.load(Ordering::SeqCst) == WINDOW - 1 {
                held.take();
            }
            false
        };
        let take = |_, ()| Ok::<(), Infallible>(());
        assert_eq!(in_order(0..2 * WINDOW, JOBS, work, take, stop), Ok(WorkEnd::Complete));
    }

    #[test]
    #[should_panic(expected = "a scoped thread panicked")]
    fn a_panic_is_not_waited_for() {
        let work = |index| assert_ne!(index, 10);
        let _ = in_order(0..1_000_000, JOBS, work, |_, ()| Ok::<(), Infallible>(()), || false);
    }
}
