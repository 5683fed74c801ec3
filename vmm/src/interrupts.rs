//! The I/O APIC as threads see it. Its messages go through the root complex, where they can be
//! remapped as those of any device; KVM hears of its routes, so that ends of interrupt come back.
//!
//! A route is what comes out of the remapping unit: a local APIC ends the vector that it was given,
//! not the one in the redirection entry. Software changes the unit's table without telling the I/O
//! APIC, so that routes are looked up again whenever a message goes out: only an interrupt that has
//! been sent can be ended. The vector that is ended is then compared with that of the redirection
//! entry, as in hardware; software that lets the two differ writes the EOI register (`VT-d 5.1.5.1`).

use std::sync::{Arc, Mutex, PoisonError};

use devices::io_apic::IoApic;
use devices::root_complex::INTA_PINS;
use devices::root_complex::RootComplex;
use iommu::ats::Msi;

use crate::Error;
use crate::exit::Ending;
use crate::fabric::Fabric;
use crate::kvm::Injector;

/// The I/O APIC, shared by all threads.
pub(crate) struct Interrupts {
    /// The fabric's lock may be taken while this one is held, never the other way round.
    state: Mutex<State>,
    fabric: Arc<Fabric>,
    injector: Injector,
    ending: Arc<Ending>,
}

struct State {
    io_apic: IoApic,
    /// The messages of all pins that are not masked, as the I/O APIC sends them.
    sent: Vec<(u8, Msi)>,
    /// What KVM has been told that they arrive as.
    routes: Vec<(u8, Msi)>,
}

impl Interrupts {
    pub(crate) fn new(fabric: Arc<Fabric>, injector: Injector, ending: Arc<Ending>) -> Self {
        let state = State { io_apic: IoApic::new(), sent: Vec::new(), routes: Vec::new() };
        Self { state: Mutex::new(state), fabric, injector, ending }
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

    /// Wires of functions on bus 0 have changed. They are looked at under the lock: of two changes
    /// the later one thus comes last, whichever thread is faster.
    pub(crate) fn follow_wires(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        set_wires(&mut state.io_apic, self.fabric.lines());
        self.settle(&mut state);
    }

    /// A CPU has ended the level-triggered interrupt `vector`.
    pub(crate) fn end_of_interrupt(&self, vector: u8) {
        self.with(|io_apic| io_apic.eoi(vector));
    }

    fn with(&self, call: impl FnOnce(&mut IoApic)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        call(&mut state.io_apic);
        self.settle(&mut state);
    }

    /// Until no more wires change: each call of the root complex does what is due, which can change
    /// some.
    fn settle(&self, state: &mut State) {
        while self.forward(state) {
            set_wires(&mut state.io_apic, self.fabric.lines());
        }
    }

    /// Carries the messages of the I/O APIC to the root complex, and routes to KVM. Returns whether
    /// wires have changed meanwhile.
    fn forward(&self, state: &mut State) -> bool {
        let messages = std::iter::from_fn(|| state.io_apic.poll_message());
        let messages: Vec<Msi> = messages.map(|(_, message)| message).collect();
        let changed = state.note_sent();
        if messages.is_empty() && !changed {
            return false;
        }
        // Under both locks, so that of two changes KVM hears of the later one last. The interrupts
        // leave the fabric after that: none is ended before KVM knows its route.
        let (told, wires_changed) = self.fabric.call(|root_complex, now| {
            for message in messages {
                root_complex.io_apic_message(message, now);
            }
            state.update_routes(root_complex, &self.injector)
        });
        if let Err(error) = told {
            self.ending.end(Err(error));
        }
        wires_changed
    }
}

fn set_wires(io_apic: &mut IoApic, lines: u32) {
    for pin in INTA_PINS {
        io_apic.set_level(pin, lines & 1 << pin != 0);
    }
}

impl State {
    /// Says whether the messages that pins send have changed.
    fn note_sent(&mut self) -> bool {
        let sent: Vec<_> = self.io_apic.routes().collect();
        let changed = sent != self.sent;
        self.sent = sent;
        changed
    }

    fn update_routes(
        &mut self,
        root_complex: &RootComplex,
        injector: &Injector,
    ) -> Result<(), Error> {
        let arrives = |(pin, sent): &(u8, Msi)| Some((*pin, root_complex.io_apic_route(*sent)?));
        let routes: Vec<_> = self.sent.iter().filter_map(arrives).collect();
        if routes != self.routes {
            injector.set_routes(&routes)?;
            self.routes = routes;
        }
        Ok(())
    }
}
