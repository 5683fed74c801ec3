//! Functions that are not ready yet: after a reset, and after their return to D0.

use iommu::event::{DropReason, Event, Lost};
use iommu::ids::Bdf;
use iommu::time::Instant;

use super::{FunctionNode, Hierarchy};
use crate::pcie::readiness::NotReadyAnswer;

/// The vendor ID that software reads while a function answers with Request Retry Status (`PCIe
/// 2.3.2`).
const RETRY: u16 = 0x0001;

/// A function that is not ready, or that has virtual functions that are not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recovery {
    /// The index of the function.
    index: usize,
    /// When the first of them is ready, or earlier.
    next: Instant,
}

/// Lets the function `id`, which belongs to the node with index `index`, be ready at `until`. There
/// is one recovery for each node at most.
pub(super) fn begin(
    recoveries: &mut Vec<Recovery>,
    node: &mut FunctionNode,
    index: usize,
    id: Bdf,
    until: Instant,
) {
    let Some(core) = node.function.core_of(id) else { return };
    core.ready_at = Some(until);
    match recoveries.iter_mut().find(|recovery| recovery.index == index) {
        Some(recovery) => recovery.next = recovery.next.min(until),
        None => recoveries.push(Recovery { index, next: until }),
    }
}

impl Hierarchy {
    /// When the next function is ready, or earlier.
    pub(super) fn next_recovery(&self) -> Option<Instant> {
        self.recoveries.iter().map(|recovery| recovery.next).min()
    }

    /// When the function with index `index` is ready; `None` if it is.
    pub fn ready_at(&self, index: usize) -> Option<Instant> {
        self.functions.get(index).and_then(|node| node.function.core().ready_at)
    }

    /// Functions whose time has passed by `now` are ready.
    #[inline]
    pub(super) fn end_recoveries(&mut self, now: Instant) {
        if self.recoveries.is_empty() {
            return;
        }
        let Self { recoveries, functions, .. } = self;
        recoveries.retain_mut(|recovery| {
            if now < recovery.next {
                return true;
            }
            let mut next = None;
            functions[recovery.index].function.for_each_core(&mut |core| {
                core.ready_at = core.ready_at.filter(|at| now < *at);
                next = Instant::earliest([next, core.ready_at]);
            });
            recovery.next = next.unwrap_or(now);
            next.is_some()
        });
    }

    /// Whether the function `id`, which belongs to the node with index `index`, is not ready.
    #[inline]
    pub(super) fn recovers(&self, index: usize, id: Bdf) -> bool {
        if self.recoveries.is_empty() {
            return false;
        }
        let physical = self.functions[index].function.as_ref();
        physical.virtual_function(id).unwrap_or(physical).core().ready_at.is_some()
    }

    /// The function `id` is not ready, and drops a configuration request.
    pub(super) fn drop_config(&self, id: Bdf, what: Lost, now: Instant) {
        let reason = DropReason::NotReady;
        self.tracer.emit(now, || Event::Dropped { function: id, what, reason });
    }

    /// Software reads configuration space of a function that is not ready. `data` is all ones. With
    /// RRS Software Visibility a read of both bytes of the vendor ID reads [`RETRY`].
    pub(super) fn read_not_ready(&self, index: usize, offset: u16, data: &mut [u8]) {
        let node = &self.functions[index];
        let answers = node.readiness.answer != NotReadyAnswer::Timeout;
        if answers
            && offset == 0
            && self.shows_rrs(node.above)
            && let Some(vendor) = data.first_chunk_mut::<2>()
        {
            *vendor = RETRY.to_le_bytes();
        }
    }

    /// Whether the root port above has RRS Software Visibility enabled.
    fn shows_rrs(&self, above: Option<usize>) -> bool {
        let ports = std::iter::successors(above, |port| self.ports[*port].above);
        ports.last().is_some_and(|root| self.ports[root].port.shows_rrs())
    }

    /// Software, or a fault, writes configuration space of a function that is ready. A write that
    /// lets it return to D0 has its time.
    pub(super) fn write_function(
        &mut self,
        index: usize,
        id: Bdf,
        offset: u16,
        data: &[u8],
        now: Instant,
    ) {
        let Self { functions, recoveries, .. } = self;
        let node = &mut functions[index];
        let wake = node.readiness.wake;
        let sleeps = |node: &mut FunctionNode| {
            !wake.is_zero() && node.function.core_of(id).is_some_and(|core| core.sleeps())
        };
        let slept = sleeps(node);
        node.function.config_write(id, offset, data, now);
        if slept && !sleeps(node) {
            begin(recoveries, node, index, id, now + wake);
        }
    }
}
