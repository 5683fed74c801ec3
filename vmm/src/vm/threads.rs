//! The threads of the virtual CPUs: however the run ends, all of them end with it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::Error;
use crate::exit::{Ending, Exit};
use crate::kvm::{CpuSight, Exits, Spot, Vcpu, kick, prepare_kicks};

/// How long a CPU is waited for when somebody wants to see it. It takes microseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// The CPUs, for whoever wants to see what they do.
#[derive(Default)]
pub(super) struct Crew {
    /// No other lock is taken while this one is held.
    handles: Mutex<Vec<JoinHandle<()>>>,
    spots: Vec<Arc<Spot>>,
}

impl Crew {
    pub(super) fn new(vcpus: &[Vcpu]) -> Self {
        Self { handles: Mutex::default(), spots: vcpus.iter().map(Vcpu::spot).collect() }
    }

    /// What each CPU does; none of those that do not run.
    pub(super) fn look(&self) -> Vec<CpuSight> {
        self.spots.iter().for_each(|spot| spot.want());
        let handles = self.handles();
        handles.iter().for_each(kick);
        let running = handles.len();
        drop(handles);
        self.spots[..running].iter().filter_map(|spot| spot.wait(PATIENCE)).collect()
    }

    fn handles(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Threads that are stopped and joined when this is dropped.
pub(super) struct Threads {
    crew: Arc<Crew>,
    ending: Arc<Ending>,
}

impl Threads {
    pub(super) fn new(crew: Arc<Crew>, ending: Arc<Ending>) -> Result<Self, Error> {
        prepare_kicks()?;
        Ok(Self { crew, ending })
    }

    /// Runs `vcpu` on a thread of its own until the run is over, or ends the run if it cannot go
    /// on.
    pub(super) fn start<E>(&self, vcpu: Vcpu, exits: Arc<E>) -> Result<(), Error>
    where
        E: Exits + Send + Sync + 'static,
    {
        let alarm = PanicAlarm { cpu: vcpu.id(), ending: self.ending.clone() };
        let run = move || {
            let alarm = alarm;
            if let Err(error) = vcpu.run(&*exits) {
                alarm.ending.end(Err(error));
            }
        };
        let mut handles = self.crew.handles();
        let name = format!("cpu{}", handles.len());
        let handle = thread::Builder::new().name(name).spawn(run);
        handles.push(handle.map_err(Error::host("start the thread of a virtual CPU"))?);
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Without effect where the run is over already, which is the rule.
        self.ending.end(Ok(Exit::Stopped));
        let handles = std::mem::take(&mut *self.crew.handles());
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
    ending: Arc<Ending>,
}

impl Drop for PanicAlarm {
    fn drop(&mut self) {
        if thread::panicking() {
            self.ending.end(Err(Error::Panicked { cpu: self.cpu }));
        }
    }
}
