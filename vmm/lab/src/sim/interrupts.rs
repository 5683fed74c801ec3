//! The CPU that moves interrupts: it changes an interrupt's entry, invalidates the interrupt entry
//! cache, and waits in the same queue as everybody else, with interrupts off.

use devices::fault::Point;
use iommu::event::Event;
use iommu::ids::Bdf;
use iommu::submit::Flush;
use iommu::time::Timeout;

use super::cpu::State;
use super::machine::Machine;

/// The function that stands for the remapping unit in events about this CPU.
const UNIT: Bdf = Bdf::new(0, 0, 0);

impl Machine<'_> {
    /// The CPU that moves interrupts, if the workload wants one: it comes after all workers and
    /// helpers.
    pub(super) fn begin_moving(&mut self) {
        if let Timeout::After(period) = self.spec.workload.irq_moves {
            let delay = self.jitter(period);
            self.pause(self.mover, delay);
        }
    }

    /// It goes on.
    pub(super) fn go_on_moving(&mut self) {
        let (cpu, now, costs) = (self.mover, self.now, self.spec.costs);
        let (state, quiet) = (self.cpu(cpu).state, self.quiet);
        match state {
            State::Idle if now < quiet => {
                let state = self.cpu(cpu);
                (state.job.since, state.job.off, state.job.locked) = (now, now, Some(now));
                state.state = State::Submitting { present: None };
                self.tracer.emit(now, || Event::CpuBlocked { cpu, function: UNIT });
                self.wake(cpu, costs.descriptor * 2 + costs.doorbell);
            }
            State::Submitting { .. } => {
                self.downstream.reach(Point::Tail, now);
                self.cpu(cpu).state = State::Waiting;
                let ticket = self.downstream.submit(Flush::interrupt_entries(), now);
                self.tickets.insert(ticket, cpu);
            }
            State::Returning => {
                let waited = now - self.cpu(cpu).job.since;
                self.result.irq_moves.record(waited);
                self.note_interrupts_off(cpu, true);
                self.tracer.emit(now, || Event::CpuReleased { cpu, function: UNIT, waited });
                self.cpu(cpu).state = State::Idle;
                self.begin_moving();
            }
            _ => {}
        }
    }
}
