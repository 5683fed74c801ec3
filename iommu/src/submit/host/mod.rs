//! The physical unit, its driver's memory and the submit-and-wait loop, joined.

use vm_memory::GuestAddress;

use super::hardware::Hardware;
use super::queue::QueueLayout;
use super::submitter::Submitter;
use super::{Conclusion, Counters, Flush, FunctionAccess, Policy, Ticket};
use crate::Memory;
use crate::ats::{InvalidateCompletion, InvalidateRequest};
use crate::event::Tracer;
use crate::ids::{Bdf, Gpa, PAGE_SIZE};
use crate::spec::control::{GlobalBits, RootTableAddress};
use crate::spec::offset;
use crate::spec::queue::QueueAddress;
use crate::time::Instant;
use crate::unit::{Output, Unit, UnitConfig};

/// Where the driver keeps things in its memory.
const ROOT_TABLE: u64 = 0;
const RING: u64 = PAGE_SIZE;
const STATUS: u64 = 3 * PAGE_SIZE;
const MEMORY: u64 = 4 * PAGE_SIZE;

/// There is no host side: its driver's memory cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot map {bytes} bytes for the host's remapping driver: {reason}")]
pub struct HostError {
    bytes: u64,
    reason: String,
}

/// The host below the guest: a driver with a policy, and the physical unit that it drives.
///
/// Below a guest the physical unit does not translate: guest-physical addresses stand for
/// host-physical ones. Whoever uses it as the only unit of a machine lays out its tables in
/// [`Self::with_memory`].
#[derive(Debug)]
pub struct HostSide {
    unit: Unit,
    memory: Memory,
    submitter: Submitter,
    is_unit_gone: bool,
}

impl HostSide {
    /// What the driver needs of its memory, in bytes from 0 on. The root table is in its first page.
    pub const MEMORY: u64 = MEMORY;

    /// A host whose unit is built as `config` says, switched on and idle, in memory of its own: no
    /// function is in its tables.
    pub fn new(config: UnitConfig, policy: Policy, tracer: Tracer) -> Result<Self, HostError> {
        Ok(Self::with_memory(config, policy, Self::map_memory(Self::MEMORY)?, tracer))
    }

    /// Memory for [`Self::with_memory`], `bytes` of it, all zero.
    pub fn map_memory(bytes: u64) -> Result<Memory, HostError> {
        let size = usize::try_from(bytes).unwrap_or(usize::MAX);
        Memory::from_ranges(&[(GuestAddress(0), size)])
            .map_err(|error| HostError { bytes, reason: error.to_string() })
    }

    /// As [`Self::new`], in `memory`, whose first [`Self::MEMORY`] bytes are zero and the driver's
    /// own. What is behind them is for page tables, and for what devices read and write.
    pub fn with_memory(config: UnitConfig, policy: Policy, memory: Memory, tracer: Tracer) -> Self {
        let mut unit = Unit::new(config, tracer.clone());
        let now = Instant::START;
        let mut write = |at: u16, value: u32| {
            unit.write(u64::from(at), &value.to_le_bytes(), &memory, now);
        };
        // As Linux does it, scalable mode alone decides for 256-bit descriptors.
        let wide = config.scalable_mode;
        let ring = QueueAddress::new().with_wide(wide).with_size(wide.into());
        let root = RootTableAddress::new().with_mode(wide.into());
        write(offset::IQA, ring.with_page(RING / PAGE_SIZE).into_bits() as u32);
        write(offset::RTADDR, root.with_page(ROOT_TABLE / PAGE_SIZE).into_bits() as u32);
        let on = GlobalBits::new().with_queued_invalidation(true);
        write(offset::GCMD, on.with_set_root_table(true).into_bits());
        write(offset::GCMD, on.with_translation(true).into_bits());
        let layout = QueueLayout {
            ring: Gpa(RING),
            slot_bytes: ring.descriptor_bytes(),
            status: Gpa(STATUS),
            max_mask: config.page_selective.then_some(config.max_address_mask),
        };
        let submitter = Submitter::new(policy, layout, tracer);
        Self { unit, memory, submitter, is_unit_gone: false }
    }

    /// Whether the driver sets FN in its wait descriptors from now on: the unit executes nothing behind such
    /// a wait before that is done (`VT-d 6.5.2.9`). It does not unless it is told to.
    pub fn set_fenced_waits(&mut self, fenced: bool) {
        self.submitter.set_fenced_waits(fenced);
    }

    /// Whether the unit's registers are gone: they read as all ones and take no writes. What the unit
    /// holds by then goes on.
    pub fn set_unit_gone(
        &mut self,
        is_unit_gone: bool,
        access: &mut dyn FunctionAccess,
        now: Instant,
    ) {
        self.is_unit_gone = is_unit_gone;
        self.poll(access, now);
    }

    /// The physical unit, to look at.
    pub fn unit(&self) -> &Unit {
        &self.unit
    }

    /// The physical unit as functions reach it, with the memory that it reads its tables from.
    pub fn dma_path(&mut self) -> (&mut Unit, &Memory) {
        (&mut self.unit, &self.memory)
    }

    /// What has been done so far.
    pub fn counters(&self) -> &Counters {
        self.submitter.counters()
    }

    /// A driver wants `flush` carried out, or the guest-visible unit an Invalidate Request: a caller
    /// begins to wait. [`Self::poll_verdict`] says how that ends, under the ticket that this returns.
    pub fn submit(
        &mut self,
        flush: impl Into<Flush>,
        access: &mut dyn FunctionAccess,
        now: Instant,
    ) -> Ticket {
        let (submitter, mut hardware) = self.parts(access);
        let ticket = submitter.submit(flush.into(), &mut hardware, now);
        submitter.poll(&mut hardware, now);
        ticket
    }

    /// Whether `function` is in quarantine, and the unit blocks everything that it sends.
    pub fn is_blocked(&self, function: Bdf) -> bool {
        self.submitter.quarantine().is_blocked(function)
    }

    /// How often the answer of [`Self::is_blocked`] may have changed, for whichever function.
    pub fn block_changes(&self) -> u64 {
        self.submitter.quarantine().changes()
    }

    /// The functions that are in quarantine or taken for removed.
    pub fn isolated(&self) -> impl Iterator<Item = Bdf> {
        self.submitter.quarantine().isolated()
    }

    /// Whether `function` is one of those.
    pub fn is_isolated(&self, function: Bdf) -> bool {
        self.isolated().any(|isolated| isolated == function)
    }

    /// `function` has been reset, and the host knows: by FLR, by its slot's power, or by a reset of the
    /// bus that it is on. That ends its quarantine.
    pub fn handle_reset(&mut self, function: Bdf, access: &mut dyn FunctionAccess, now: Instant) {
        let (submitter, mut hardware) = self.parts(access);
        submitter.handle_reset(function, &mut hardware, now);
        submitter.poll(&mut hardware, now);
    }

    /// An Invalidate Completion has come up a link.
    pub fn handle_completion(
        &mut self,
        completion: InvalidateCompletion,
        access: &mut dyn FunctionAccess,
        now: Instant,
    ) {
        self.unit.handle_completion(completion, &self.memory, now);
        self.poll(access, now);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, access: &mut dyn FunctionAccess, now: Instant) {
        self.unit.handle_timeout(now);
        self.poll(access, now);
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        Instant::earliest([self.unit.poll_timeout(), self.submitter.poll_timeout()])
    }

    /// Takes the oldest Invalidate Request that is to go down a link.
    pub fn poll_request(&mut self) -> Option<InvalidateRequest> {
        // The driver polls and leaves the unit's events masked: no MSI comes.
        std::iter::from_fn(|| self.unit.poll_output()).find_map(|output| match output {
            Output::Invalidate(request) => Some(request),
            // The host's driver uses neither interrupts nor page requests.
            Output::Msi(_) | Output::PageGroupResponse(_) => None,
        })
    }

    /// Takes the oldest verdict, with what it is about.
    pub fn poll_verdict(&mut self) -> Option<Conclusion> {
        self.submitter.poll_verdict()
    }

    fn poll(&mut self, access: &mut dyn FunctionAccess, now: Instant) {
        let (submitter, mut hardware) = self.parts(access);
        submitter.poll(&mut hardware, now);
    }

    fn parts<'a>(
        &'a mut self,
        functions: &'a mut dyn FunctionAccess,
    ) -> (&'a mut Submitter, Hardware<'a>) {
        let Self { unit, memory, is_unit_gone, .. } = self;
        let hardware = Hardware { unit, memory, functions, is_unit_gone: *is_unit_gone };
        (&mut self.submitter, hardware)
    }
}

#[cfg(test)]
mod tests;
