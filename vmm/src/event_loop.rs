//! The event loops. One, on the thread that called [`Vm::run`](crate::Vm::run), waits for whatever
//! ends the run: signals, the time limit, the news itself. It never waits for the machine's lock, which
//! a thread that is stuck may hold. The other, on a thread of its own, brings the machine timers and
//! console input.

use std::sync::Arc;
use std::time::Duration;

use event_manager::{EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps};
use vmm_sys_util::timerfd::TimerFd;

use crate::Error;
use crate::exit::{Exit, RunEnd};
use crate::machine::SharedMachine;
use crate::sys::SignalFd;

/// The longest time that an alarm waits: 68 years, well within what the kernel takes.
const ALARM_MAX: Duration = Duration::from_secs(i32::MAX as u64);

/// Something that the loop waits for.
pub(crate) type Subscriber = Box<dyn MutEventSubscriber + Send>;

/// The loop.
pub(crate) struct EventLoop {
    manager: EventManager<Subscriber>,
    run_end: Arc<RunEnd>,
}

impl EventLoop {
    /// A loop that runs until `run_end`.
    pub(crate) fn new(run_end: Arc<RunEnd>) -> Result<Self, Error> {
        let manager = EventManager::new().map_err(failed("make an event loop"))?;
        let mut this = Self { manager, run_end: run_end.clone() };
        this.add(Box::new(Stop(run_end)));
        Ok(this)
    }

    /// Adds something to wait for.
    pub(crate) fn add(&mut self, subscriber: Subscriber) {
        self.manager.add_subscriber(subscriber);
    }

    /// Runs until the run is over, for whatever reason.
    pub(crate) fn run(&mut self) {
        while !self.run_end.is_over() {
            if let Err(error) = self.manager.run() {
                self.run_end.end(Err(failed("wait for events")(error)));
            }
        }
    }
}

/// Watches `events`; if that cannot be done, the run is over.
pub(crate) fn watch(ops: &mut EventOps, events: Events, run_end: &RunEnd) {
    if let Err(error) = ops.add(events) {
        run_end.end(Err(failed("watch a file descriptor")(error)));
    }
}

fn failed(action: &'static str) -> impl Fn(event_manager::Error) -> Error {
    move |error| Error::Host { action, source: std::io::Error::other(error) }
}

/// Wakes the loop up when the run is over.
struct Stop(Arc<RunEnd>);

impl MutEventSubscriber for Stop {
    fn init(&mut self, ops: &mut EventOps) {
        watch(ops, Events::new(self.0.wake(), EventSet::IN), &self.0);
    }

    fn process(&mut self, _: Events, _: &mut EventOps) {}
}

/// Calls the chipset when it wants to be called.
pub(crate) struct Deadlines {
    pub(crate) machine: Arc<SharedMachine>,
    pub(crate) run_end: Arc<RunEnd>,
}

impl MutEventSubscriber for Deadlines {
    fn init(&mut self, ops: &mut EventOps) {
        watch(ops, Events::new_raw(self.machine.timer(), EventSet::IN), &self.run_end);
    }

    fn process(&mut self, _: Events, _: &mut EventOps) {
        self.machine.handle_timer();
    }
}

/// Ends the run when a signal comes.
pub(crate) struct Signals {
    pub(crate) signals: SignalFd,
    pub(crate) run_end: Arc<RunEnd>,
}

impl MutEventSubscriber for Signals {
    fn init(&mut self, ops: &mut EventOps) {
        watch(ops, Events::new(&self.signals, EventSet::IN), &self.run_end);
    }

    fn process(&mut self, _: Events, _: &mut EventOps) {
        if let Some(signal) = self.signals.read() {
            self.run_end.end(Ok(Exit::Signal(signal)));
        }
    }
}

/// Does something once, after some time.
pub(crate) struct Alarm<F> {
    timer: TimerFd,
    action: F,
    run_end: Arc<RunEnd>,
}

impl<F: FnMut()> Alarm<F> {
    /// Calls `action` when `wait` has passed from now on.
    pub(crate) fn new(wait: Duration, action: F, run_end: Arc<RunEnd>) -> Result<Self, Error> {
        let mut timer = TimerFd::new().map_err(Error::host("make a timer"))?;
        // Zero would not fire at all.
        let wait = wait.clamp(Duration::from_nanos(1), ALARM_MAX);
        timer.reset(wait, None).map_err(Error::host("set a timer"))?;
        Ok(Self { timer, action, run_end })
    }
}

impl<F: FnMut()> MutEventSubscriber for Alarm<F> {
    fn init(&mut self, ops: &mut EventOps) {
        watch(ops, Events::new(&self.timer, EventSet::IN), &self.run_end);
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        // Fails only if it is not watched.
        let _ = ops.remove(events);
        (self.action)();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loop_ends_when_anybody_says_so() {
        let run_end = Arc::new(RunEnd::new().unwrap());
        let mut events = EventLoop::new(run_end.clone()).unwrap();
        let other = std::thread::spawn({
            let run_end = run_end.clone();
            move || run_end.end(Ok(Exit::PowerOff))
        });
        events.run();
        other.join().unwrap();
        assert_eq!(run_end.take().unwrap().unwrap(), Exit::PowerOff);
    }

    #[test]
    fn an_alarm_goes_off_once() {
        let run_end = Arc::new(RunEnd::new().unwrap());
        let mut events = EventLoop::new(run_end.clone()).unwrap();
        let action = {
            let run_end = run_end.clone();
            move || run_end.end(Ok(Exit::TimeLimit))
        };
        events.add(Box::new(Alarm::new(Duration::ZERO, action, run_end.clone()).unwrap()));
        events.run();
        assert_eq!(run_end.take().unwrap().unwrap(), Exit::TimeLimit);
    }
}
