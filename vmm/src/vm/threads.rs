//! The threads of the virtual CPUs: however the run ends, all of them end with it.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::Error;
use crate::exit::{Ending, Exit};
use crate::kvm::{Exits, Vcpu, kick, prepare_kicks};

/// Threads that are stopped and joined when this is dropped.
pub(super) struct Threads {
    handles: Vec<JoinHandle<()>>,
    ending: Arc<Ending>,
}

impl Threads {
    pub(super) fn new(ending: Arc<Ending>) -> Result<Self, Error> {
        prepare_kicks()?;
        Ok(Self { handles: Vec::new(), ending })
    }

    /// Runs `vcpu` on a thread of its own until the run is over, or ends the run if it cannot go
    /// on.
    pub(super) fn start<E>(&mut self, vcpu: Vcpu, exits: Arc<E>) -> Result<(), Error>
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
        let name = format!("cpu{}", self.handles.len());
        let handle = thread::Builder::new().name(name).spawn(run);
        self.handles.push(handle.map_err(Error::host("start the thread of a virtual CPU"))?);
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Without effect where the run is over already, which is the rule.
        self.ending.end(Ok(Exit::Stopped));
        self.handles.iter().for_each(kick);
        for handle in self.handles.drain(..) {
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
