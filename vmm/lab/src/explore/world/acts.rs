//! The effects of the actions.

use devices::pcie::link::{InvalidateBehavior, LinkDownReasons};
use iommu::ats::{
    Access, AddressType, DmaRequest, ITag, InvalidateCompletion, InvalidateRequest, PageRange,
    TranslationRequest,
};
use iommu::event::{DropReason, Event, Lost};
use iommu::ids::{Bdf, DomainId, Iova};
use iommu::spec::descriptor::IotlbScope;
use iommu::submit::{Flush, Ticket};

use super::{FrameOwner, Functions, PATIENCE, RING, State, UNMAP, World, frame_of, iova, tables};
use crate::explore::Invariant;
use crate::explore::action::{Page, Who};

impl World {
    pub(super) fn unmap(&mut self, page: Page) {
        let device = &self.devices[page.0 as usize];
        tables::set(&self.memory, device.id, iova(page), None);
        let range = PageRange::page(iova(page));
        let (destination, itag) = (device.id, ITag::new(0));
        let request = InvalidateRequest { destination, itag, pasid: None, global: false, range };
        let scope = IotlbScope::Pages(DomainId(destination.bus().into()), range);
        // One function is never too many.
        let flush = Flush::new(Some(scope), &[request]).unwrap_or(Flush::from(request));
        let flush = flush.on(self.path);
        let tail = self.tail();
        let mut functions = Functions { devices: &mut self.devices, now: self.now };
        let ticket = self.host.submit(flush, &mut functions, self.now);
        let slot = ((tail + UNMAP) % RING == self.tail()).then_some((tail + UNMAP - 1) % RING);
        if let Some(mapping) = self.mappings.iter_mut().find(|mapping| mapping.page == page) {
            mapping.state = State::Flushing(ticket, self.now, slot);
        }
        self.collect();
    }

    /// An Invalidate Request reaches its function, if the link carries it.
    pub(super) fn deliver(&mut self, who: Who) {
        let device = &mut self.devices[who as usize];
        let Some(request) = device.requests.pop_front() else { return };
        if !device.link.carries(Lost::InvalidateRequest, self.now) {
            return;
        }
        if device.sleeps {
            let (function, reason) = (device.id, DropReason::Sleeping);
            let what = Lost::InvalidateRequest;
            self.tracer.emit(self.now, || Event::Dropped { function, what, reason });
            return;
        }
        device.receive(request);
        let answers = device.behavior.answers();
        if answers && device.link.carries(Lost::InvalidateCompletion, self.now) {
            device.complete(request.itag);
        }
    }

    pub(super) fn answer(&mut self, who: Who, completion: InvalidateCompletion) {
        let link = &self.devices[who as usize].link;
        if link.carries(Lost::InvalidateCompletion, self.now) {
            let mut functions = Functions { devices: &mut self.devices, now: self.now };
            self.host.handle_completion(completion, &mut functions, self.now);
            self.collect();
        }
    }

    /// A function uses a page.
    pub(super) fn touch(&mut self, page: Page) {
        let device = &mut self.devices[page.0 as usize];
        if device.ats_off {
            return;
        }
        let (unit, memory) = self.host.dma_path();
        let (requester, address) = (device.id, iova(page));
        let Some(hit) = device.atc.lookup(None, address) else {
            if !device.link.carries(Lost::TranslationRequest, self.now) {
                return;
            }
            let request = TranslationRequest {
                requester,
                pasid: None,
                privileged: false,
                address,
                no_write: false,
            };
            let answer = unit.translation_request(&request, memory, self.now);
            if let Ok(translation) = answer
                && translation.write
            {
                device.atc.insert(None, translation);
            }
            return;
        };
        if !device.link.carries(Lost::Dma, self.now) {
            return;
        }
        let request = DmaRequest {
            requester,
            pasid: None,
            privileged: false,
            address: Iova(hit.output.0),
            address_type: AddressType::Translated,
            access: Access::Write,
        };
        if let Ok(reached) = unit.dma(&request, memory, self.now)
            && let FrameOwner::Other(success) = self.owner_of(frame_of(reached))
        {
            self.broken = Some(match success {
                true => Invariant::StaleAfterSuccess,
                false => Invariant::StaleAfterFailure,
            });
        }
    }

    /// Time passes until something is due, and beyond what only the lock-up detectors wait for.
    pub(super) fn wait(&mut self) {
        let before = self.registers();
        let held = self.host.isolated().count();
        for _ in 0..3 {
            let Some(due) = self.host.poll_timeout() else { return };
            self.now = due;
            let mut functions = Functions { devices: &mut self.devices, now: self.now };
            self.host.handle_timeout(&mut functions, self.now);
            let reported = self.collect();
            let is_news =
                reported || self.registers() != before || self.host.isolated().count() != held;
            if is_news || !self.may_wait() {
                return;
            }
        }
    }

    /// The neighbor flushes, and is answered at once or gives up, until the next unmap has its wait
    /// where the abandoned one is.
    pub(super) fn go_round(&mut self) {
        let Some(slot) = self.abandoned.take() else { return };
        let start = (slot + RING + 1 - UNMAP) % RING;
        let neighbor = self.devices[Who::Neighbor as usize].id;
        for _ in 0..RING {
            let distance = (start + RING - self.tail()) % RING;
            if distance == 0 {
                return;
            }
            let range = PageRange::page(Iova(0x10_0000));
            let request = InvalidateRequest {
                destination: neighbor,
                itag: ITag::new(0),
                pasid: None,
                global: false,
                range,
            };
            // Two slots each, or three where that would miss.
            let iotlb = (distance % 2 == 1).then_some(IotlbScope::Domain(DomainId(2)));
            let flush = Flush::new(iotlb, &[request]).unwrap_or(Flush::from(request));
            let mut functions = Functions { devices: &mut self.devices, now: self.now };
            let ticket = self.host.submit(flush, &mut functions, self.now);
            self.collect();
            if !self.run_neighbor(ticket) {
                return;
            }
        }
    }

    /// Lets the neighbor answer, and time pass until the call has returned; `false` if nothing
    /// helps.
    pub(super) fn run_neighbor(&mut self, ticket: Ticket) -> bool {
        let neighbor = Who::Neighbor as usize;
        for _ in 0..PATIENCE {
            while !self.devices[neighbor].requests.is_empty() {
                self.deliver(Who::Neighbor);
                if let Some(answer) = self.devices[neighbor].send() {
                    self.answer(Who::Neighbor, answer);
                }
            }
            if self.reported == Some(ticket) {
                return true;
            }
            if self.broken.is_some() || self.host.poll_timeout().is_none() {
                return false;
            }
            self.wait();
        }
        false
    }

    pub(super) fn set_link(&mut self, down: LinkDownReasons) {
        let (device, now) = (&mut self.devices[Who::Victim as usize], self.now);
        // A glitch resets nothing.
        let _ = device.link.set_down(down, Bdf::new(0, device.id.bus(), 0), now);
    }

    /// Puts the victim into D3hot, or into D0. Both keep its state.
    pub(super) fn set_asleep(&mut self, sleeps: bool) {
        let victim = &mut self.devices[Who::Victim as usize];
        // A function in D3hot sends nothing: what is under way was sent before.
        victim.obey_all();
        victim.sleeps = sleeps;
    }

    /// FLR empties the ATC, and what the function has not answered it never will.
    pub(super) fn reset(&mut self) {
        let device = &mut self.devices[Who::Victim as usize];
        device.forget();
        device.behavior = InvalidateBehavior::Complete;
        device.completion_fault = None;
        device.pending.forget(device.id);
        device.sleeps = false;
        let id = device.id;
        let mut functions = Functions { devices: &mut self.devices, now: self.now };
        self.host.handle_reset(id, &mut functions, self.now);
        self.collect();
    }
}
