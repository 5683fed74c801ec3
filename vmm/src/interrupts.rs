//! The I/O APIC as threads see it. Its messages go through the root complex, where they can be
//! remapped as those of any device; KVM hears of its routes, so that ends of interrupt come back.
//!
//! The routes are the messages as the I/O APIC sends them, which is what arrives for as long as the
//! remapping unit leaves interrupts alone. When it remaps them, KVM must be told what comes out.

use std::sync::{Arc, Mutex, PoisonError};

use devices::io_apic::IoApic;
use iommu::ats::Msi;

use crate::Error;
use crate::exit::Ending;
use crate::fabric::Fabric;
use crate::kvm::Injector;

/// The I/O APIC, shared by all threads.
pub(crate) struct Interrupts {
    /// No other lock is taken while this one is held.
    state: Mutex<State>,
    fabric: Arc<Fabric>,
    injector: Injector,
    ending: Arc<Ending>,
}

struct State {
    io_apic: IoApic,
    /// What KVM has been told.
    routes: Vec<(u8, Msi)>,
}

impl Interrupts {
    pub(crate) fn new(fabric: Arc<Fabric>, injector: Injector, ending: Arc<Ending>) -> Self {
        let state = Mutex::new(State { io_apic: IoApic::new(), routes: Vec::new() });
        Self { state, fabric, injector, ending }
    }

    /// The guest reads the I/O APIC's page.
    pub(crate) fn read(&self, offset: u64, data: &mut [u8]) {
        self.with(|io_apic| io_apic.mmio_read(offset, data));
    }

    /// The guest writes the I/O APIC's page.
    pub(crate) fn write(&self, offset: u64, data: &[u8]) {
        self.with(|io_apic| io_apic.mmio_write(offset, data));
    }

    /// An edge at `pin`.
    pub(crate) fn pulse(&self, pin: u8) {
        self.with(|io_apic| {
            io_apic.set_level(pin, true);
            io_apic.set_level(pin, false);
        });
    }

    /// A CPU has ended the level-triggered interrupt `vector`.
    pub(crate) fn end_of_interrupt(&self, vector: u8) {
        self.with(|io_apic| io_apic.eoi(vector));
    }

    fn with(&self, call: impl FnOnce(&mut IoApic)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        call(&mut state.io_apic);
        let messages: Vec<Msi> = std::iter::from_fn(|| state.io_apic.poll_message()).collect();
        // Under the lock, so that of two changes KVM hears of the later one last, and before the
        // messages go out, so that no end of interrupt is missed.
        if let Err(error) = state.update_routes(&self.injector) {
            self.ending.end(Err(error));
        }
        drop(state);
        for message in messages {
            self.fabric.with(|root_complex, now| root_complex.io_apic_message(message, now));
        }
    }
}

impl State {
    fn update_routes(&mut self, injector: &Injector) -> Result<(), Error> {
        let routes: Vec<_> = self.io_apic.routes().collect();
        if routes != self.routes {
            injector.set_routes(&routes)?;
            self.routes = routes;
        }
        Ok(())
    }
}
