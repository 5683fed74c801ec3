//! The threads of a machine: one for each virtual CPU, and one that serves its devices. They end with
//! the run; those that do not are named and left behind.

use std::convert::Infallible;
use std::fmt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::Error;
use crate::event_loop::EventLoop;
use crate::exit::{Exit, RunEnd};
use crate::kvm::{Exits, LastExit, Vcpu, VcpuProbe, VcpuSnapshot, kick, prepare_kicks};

/// The time within which a CPU must show its state. It takes microseconds.
const PATIENCE: Duration = Duration::from_secs(1);
/// The time within which threads must come back when the run is over. The longest wait of a healthy
/// thread is a flush of a slow disk.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// A thread of the monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MachineThread {
    /// It runs the virtual CPU of this number.
    Cpu(u8),
    /// It serves timers and console input.
    Devices,
}

impl fmt::Display for MachineThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu(cpu) => write!(f, "CPU {cpu}"),
            Self::Devices => f.write_str("the timers"),
        }
    }
}

/// A thread that has not come back after the end of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StuckThread {
    /// Its work.
    pub thread: MachineThread,
    /// The last exit of the CPU, if the thread is a CPU's and has left the guest.
    pub last_exit: Option<LastExit>,
}

impl fmt::Display for StuckThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.last_exit {
            Some(exit) => write!(f, "{} (last exit: {exit})", self.thread),
            None => write!(f, "{}", self.thread),
        }
    }
}

/// The threads of the CPUs, and what each of them shows of itself.
#[derive(Default)]
pub(super) struct VcpuThreads {
    /// No other lock is taken while this one is held.
    handles: Mutex<Vec<JoinHandle<()>>>,
    probes: Vec<Arc<VcpuProbe>>,
}

impl VcpuThreads {
    pub(super) fn new(vcpus: &[Vcpu]) -> Self {
        Self { handles: Mutex::default(), probes: vcpus.iter().map(Vcpu::probe).collect() }
    }

    /// A snapshot of each CPU that runs.
    pub(super) fn snapshot(&self) -> Vec<VcpuSnapshot> {
        self.probes.iter().for_each(|probe| probe.want());
        let handles = self.handles();
        handles.iter().for_each(kick);
        let running = handles.len();
        drop(handles);
        self.probes[..running].iter().filter_map(|probe| probe.wait(PATIENCE)).collect()
    }

    fn handles(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Threads that are stopped when this is dropped.
pub(super) struct Threads {
    vcpu_threads: Arc<VcpuThreads>,
    devices: Option<JoinHandle<()>>,
    run_end: Arc<RunEnd>,
    /// Each thread has a clone: the channel closes when the last of them has ended.
    alive: Option<Sender<Infallible>>,
    all_ended: Receiver<Infallible>,
}

impl Threads {
    pub(super) fn new(vcpu_threads: Arc<VcpuThreads>, run_end: Arc<RunEnd>) -> Result<Self, Error> {
        prepare_kicks()?;
        let (alive, all_ended) = channel();
        Ok(Self { vcpu_threads, devices: None, run_end, alive: Some(alive), all_ended })
    }

    /// Runs `vcpu` on a thread of its own until the run is over, or ends the run if it cannot go
    /// on.
    pub(super) fn start_vcpu<E>(&self, vcpu: Vcpu, exits: Arc<E>) -> Result<(), Error>
    where
        E: Exits + Send + Sync + 'static,
    {
        let thread = MachineThread::Cpu(vcpu.id());
        let handle = self.start(thread, move || vcpu.run(&*exits))?;
        self.vcpu_threads.handles().push(handle);
        Ok(())
    }

    /// Runs `events` on a thread of its own until the run is over.
    pub(super) fn start_devices(&mut self, mut events: EventLoop) -> Result<(), Error> {
        let run = move || {
            events.run();
            Ok(())
        };
        self.devices = Some(self.start(MachineThread::Devices, run)?);
        Ok(())
    }

    fn start(
        &self,
        thread: MachineThread,
        run: impl FnOnce() -> Result<(), Error> + Send + 'static,
    ) -> Result<JoinHandle<()>, Error> {
        let guard =
            ThreadGuard { thread, run_end: self.run_end.clone(), _alive: self.alive.clone() };
        let name = match thread {
            MachineThread::Cpu(cpu) => format!("cpu{cpu}"),
            MachineThread::Devices => "devices".to_owned(),
        };
        let run = move || {
            let guard = guard;
            if let Err(error) = run() {
                guard.run_end.end(Err(error));
            }
        };
        thread::Builder::new()
            .name(name)
            .spawn(run)
            .map_err(Error::host("start a thread of the machine"))
    }

    /// Ends the run, if it is not over yet, and all threads; returns those that do not come back.
    pub(super) fn stop(&mut self) -> Vec<StuckThread> {
        self.run_end.end(Ok(Exit::Stopped));
        let handles = std::mem::take(&mut *self.vcpu_threads.handles());
        handles.iter().for_each(kick);
        self.alive = None;
        let stuck = self.all_ended.recv_timeout(GRACE) == Err(RecvTimeoutError::Timeout);
        let cpus = self.vcpu_threads.probes.iter().zip(0..).zip(handles);
        let threads = cpus
            .map(|((probe, cpu), handle)| (MachineThread::Cpu(cpu), probe.last_exit(), handle))
            .chain(self.devices.take().map(|handle| (MachineThread::Devices, None, handle)));
        let mut left = Vec::new();
        for (thread, last_exit, handle) in threads {
            if stuck && !handle.is_finished() {
                left.push(StuckThread { thread, last_exit });
            } else {
                // A panic has been reported by its `ThreadGuard`.
                let _ = handle.join();
            }
        }
        left
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // They have been stopped already unless starting one has failed.
        if self.alive.is_some() {
            self.stop();
        }
    }
}

/// Ends the run if its thread panics, which nothing else would notice, and tells when it ends.
struct ThreadGuard {
    thread: MachineThread,
    run_end: Arc<RunEnd>,
    _alive: Option<Sender<Infallible>>,
}

impl Drop for ThreadGuard {
    fn drop(&mut self) {
        if thread::panicking() {
            self.run_end.end(Err(Error::Panicked { thread: self.thread }));
        }
    }
}
