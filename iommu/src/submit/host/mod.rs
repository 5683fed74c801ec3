//! The host: the physical unit, its driver's memory, and the submit-and-wait loop.

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

/// The layout of the driver's memory.
const ROOT_TABLE: u64 = 0;
const RING: u64 = PAGE_SIZE;
const STATUS: u64 = 3 * PAGE_SIZE;
const MEMORY: u64 = 4 * PAGE_SIZE;

/// The driver's memory cannot be mapped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot map {bytes} bytes for the host's remapping driver: {reason}")]
pub struct HostError {
    bytes: u64,
    reason: String,
}

/// The host below the guest: a driver with a policy, and the physical unit that it drives.
///
/// Below a guest the physical unit does not translate: guest-physical addresses are used as
/// host-physical ones. A machine without a guest-visible unit has page tables in the memory of
/// [`Self::with_memory`].
#[derive(Debug)]
pub struct HostSide {
    unit: Unit,
    memory: Memory,
    submitter: Submitter,
    is_unit_gone: bool,
}

impl HostSide {
    /// Bytes of memory that the driver needs, from 0 on. The root table is in the first page.
    pub const MEMORY: u64 = MEMORY;

    /// A host with an enabled and idle unit, in memory of its own. The tables have no function.
    ///
    /// # Errors
    /// If the memory cannot be mapped.
    pub fn new(config: UnitConfig, policy: Policy, tracer: Tracer) -> Result<Self, HostError> {
        Ok(Self::with_memory(config, policy, Self::map_memory(Self::MEMORY)?, tracer))
    }

    /// Maps `bytes` of zeroed memory for [`Self::with_memory`].
    ///
    /// # Errors
    /// If the memory cannot be mapped.
    pub fn map_memory(bytes: u64) -> Result<Memory, HostError> {
        let size = usize::try_from(bytes).unwrap_or(usize::MAX);
        Memory::from_ranges(&[(GuestAddress(0), size)])
            .map_err(|error| HostError { bytes, reason: error.to_string() })
    }

    /// As [`Self::new`], in `memory`. The driver owns its first [`Self::MEMORY`] bytes, which must
    /// be zero. The rest is for page tables and for the data of devices.
    pub fn with_memory(config: UnitConfig, policy: Policy, memory: Memory, tracer: Tracer) -> Self {
        let mut unit = Unit::new(config, tracer.clone());
        let now = Instant::START;
        let mut write = |at: u16, value: u32| {
            unit.write(u64::from(at), &value.to_le_bytes(), &memory, now);
        };
        // As in Linux, scalable mode decides whether descriptors have 256 bits.
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

    /// Whether the driver sets FN in wait descriptors from now on: the unit then executes no later
    /// descriptor before the wait has completed (`VT-d 6.5.2.9`). At first [`Policy::fenced_waits`]
    /// decides, and FN stays set if that does.
    pub fn set_fenced_waits(&mut self, fenced: bool) {
        self.submitter.set_fenced_waits(fenced);
    }

    /// The Invalidate Queue Depth that all functions announce from now on, 1 to 32; 32 at first. The
    /// driver puts it in descriptors as MIP, and the unit has no more requests pending in a function
    /// (`PCIe 10.5.1`, `VT-d 6.5.2.5`).
    pub fn set_queue_depth(&mut self, depth: u8) {
        self.submitter.set_queue_depth(depth);
    }

    /// Whether the unit's registers are gone: they read as all ones, and writes have no effect. The
    /// unit goes on with what it has fetched.
    pub fn set_unit_gone(
        &mut self,
        is_unit_gone: bool,
        access: &mut dyn FunctionAccess,
        now: Instant,
    ) {
        self.is_unit_gone = is_unit_gone;
        self.poll(access, now);
    }

    /// The physical unit.
    pub fn unit(&self) -> &Unit {
        &self.unit
    }

    /// The physical unit, and the memory of its tables: the path of DMA requests.
    pub fn dma_path(&mut self) -> (&mut Unit, &Memory) {
        (&mut self.unit, &self.memory)
    }

    /// Counters over all calls.
    pub fn counters(&self) -> &Counters {
        self.submitter.counters()
    }

    /// Submits an invalidation of a driver, or an Invalidate Request of the guest-visible unit. The
    /// caller waits from now on. [`Self::poll_verdict`] returns the result under the ticket
    /// returned here.
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

    /// Whether the unit blocks all requests of `function`: it is in quarantine, or is reset.
    pub fn is_blocked(&self, function: Bdf) -> bool {
        self.is_quarantined(function) || self.submitter.resets().is_blocked(function)
    }

    /// Whether `function` is in quarantine, and the unit blocks all its requests.
    pub fn is_quarantined(&self, function: Bdf) -> bool {
        self.submitter.quarantine().is_blocked(function)
    }

    /// How often the result of [`Self::is_blocked`], [`Self::isolated`] or [`Self::is_below_fence`] may
    /// have changed.
    pub fn block_changes(&self) -> u64 {
        let blocks = self.submitter.quarantine().changes() + self.submitter.resets().changes();
        blocks + self.submitter.ports().changes()
    }

    /// The functions in quarantine, and those treated as removed.
    pub fn isolated(&self) -> impl Iterator<Item = Bdf> {
        self.submitter.quarantine().isolated()
    }

    /// Whether `function` is treated as removed.
    pub fn is_removed(&self, function: Bdf) -> bool {
        self.submitter.quarantine().is_removed(function)
    }

    /// Whether a port above `function` blocks it.
    pub fn is_below_fence(&self, function: Bdf) -> bool {
        self.submitter.ports().covers(function)
    }

    /// The functions that a reset lets work again: those that are isolated, and those that get no
    /// invalidation.
    pub fn awaiting_reset(&self) -> impl Iterator<Item = Bdf> {
        self.isolated().chain(self.submitter.withheld())
    }

    /// Whether `function` is in quarantine or treated as removed.
    pub fn is_isolated(&self, function: Bdf) -> bool {
        self.isolated().any(|isolated| isolated == function)
    }

    /// `function` was reset by FLR, by the power of its slot, or by a reset of its bus. This ends
    /// its quarantine or removal.
    pub fn handle_reset(&mut self, function: Bdf, access: &mut dyn FunctionAccess, now: Instant) {
        let (submitter, mut hardware) = self.parts(access);
        submitter.handle_reset(function, &mut hardware, now);
        submitter.poll(&mut hardware, now);
    }

    /// A driver has reset `function` after the call of [`Flush::before_reset`], and sets it up. The
    /// reset may have failed.
    pub fn finish_reset(&mut self, function: Bdf, access: &mut dyn FunctionAccess, now: Instant) {
        let (submitter, mut hardware) = self.parts(access);
        submitter.end_reset_block(function, &mut hardware, now);
        submitter.poll(&mut hardware, now);
    }

    /// Handles an Invalidate Completion from a link.
    pub fn handle_completion(
        &mut self,
        completion: InvalidateCompletion,
        access: &mut dyn FunctionAccess,
        now: Instant,
    ) {
        self.unit.handle_completion(completion, &self.memory, now);
        self.poll(access, now);
    }

    /// Handles deadlines and time-outs that have passed by `now`.
    pub fn handle_timeout(&mut self, access: &mut dyn FunctionAccess, now: Instant) {
        self.unit.handle_timeout(now);
        self.poll(access, now);
    }

    /// When [`Self::handle_timeout`] must be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        Instant::earliest([self.unit.poll_timeout(), self.submitter.poll_timeout()])
    }

    /// Takes the oldest Invalidate Request for a link.
    pub fn poll_request(&mut self) -> Option<InvalidateRequest> {
        // There is no MSI: the driver polls, and leaves the unit's events masked.
        std::iter::from_fn(|| self.unit.poll_output()).find_map(|output| match output {
            Output::Invalidate(request) => Some(request),
            // The driver uses neither interrupts nor page requests.
            Output::Msi(_) | Output::PageGroupResponse(_) => None,
        })
    }

    /// Takes the oldest verdict.
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
