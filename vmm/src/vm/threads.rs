//! The threads of the virtual CPUs: however the run ends, all of them end with it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::Error;
use crate::exit::{Exit, RunEnd};
use crate::kvm::{Exits, Vcpu, VcpuProbe, VcpuSnapshot, kick, prepare_kicks};

/// How long a CPU is waited for when somebody wants to see it. It takes microseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// The CPUs, for whoever wants to see what they do.
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

    /// What each CPU does; none of those that do not run.
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

/// Threads that are stopped and joined when this is dropped.
pub(super) struct Threads {
    vcpu_threads: Arc<VcpuThreads>,
    run_end: Arc<RunEnd>,
}

impl Threads {
    pub(super) fn new(vcpu_threads: Arc<VcpuThreads>, run_end: Arc<RunEnd>) -> Result<Self, Error> {
        prepare_kicks()?;
        Ok(Self { vcpu_threads, run_end })
    }

    /// Runs `vcpu` on a thread of its own until the run is over, or ends the run if it cannot go
    /// on.
    pub(super) fn start<E>(&self, vcpu: Vcpu, exits: Arc<E>) -> Result<(), Error>
    where
        E: Exits + Send + Sync + 'static,
    {
        let alarm = PanicAlarm { cpu: vcpu.id(), run_end: self.run_end.clone() };
        let run = move || {
            let alarm = alarm;
            if let Err(error) = vcpu.run(&*exits) {
                alarm.run_end.end(Err(error));
            }
        };
        let mut handles = self.vcpu_threads.handles();
        let name = format!("cpu{}", handles.len());
        let handle = thread::Builder::new().name(name).spawn(run);
        handles.push(handle.map_err(Error::host("start the thread of a virtual CPU"))?);
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Without effect where the run is over already, which is the rule.
        self.run_end.end(Ok(Exit::Stopped));
        let handles = std::mem::take(&mut *self.vcpu_threads.handles());
        handles.iter().for_each(kick);
        for handle in handles {
            // A panic has been reported by its `PanicAlarm`.
            let _ = handle.join();
        }
    }
}

/// Ends the run if its thread panics; nobody else would notice.
struct PanicAlarm {
    cpu: u8,
    run_end: Arc<RunEnd>,
}

impl Drop for PanicAlarm {
    fn drop(&mut self) {
        if thread::panicking() {
            self.run_end.end(Err(Error::Panicked { cpu: self.cpu }));
        }
    }
}
