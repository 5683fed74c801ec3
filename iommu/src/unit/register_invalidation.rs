//! Invalidation by the registers CCMD and IOTLB (`VT-d 6.5.1`). It works only in legacy mode, while
//! the queue is disabled, and up to version 5. Otherwise the unit reports that it has done nothing
//! (`VT-d 11.4.6`).

use super::Unit;
use super::observation::Observation;
use crate::ids::{Bdf, DomainId};
use crate::spec::control::TableMode;
use crate::spec::descriptor::{ContextScope, IotlbScope, masked_range};

impl Unit {
    /// Register-based invalidation of the context cache.
    pub(super) fn context_command(&mut self) {
        let command = self.registers.context_command();
        if !command.start() {
            return;
        }
        let domain = DomainId(command.domain());
        let source = Bdf::from_bits(command.source_id());
        let scope = match command.granularity() {
            1 => Some(ContextScope::Global),
            2 => Some(ContextScope::Domain(domain)),
            3 => Some(ContextScope::device(domain, source, command.function_mask())),
            _ => None,
        };
        let scope = scope.filter(|_| self.register_invalidation_works());
        let actual = if scope.is_some() { command.granularity() } else { 0 };
        if let Some(scope) = scope {
            self.translator.invalidate_contexts(scope);
            self.translator.drain();
        }
        self.registers.set_context_command(command.with_start(false).with_actual(actual));
    }

    /// Register-based invalidation of the IOTLB.
    pub(super) fn iotlb_command(&mut self) {
        let command = self.registers.iotlb_command();
        if !command.start() {
            return;
        }
        let domain = DomainId(command.domain());
        let (address, cap) = (self.registers.invalidate_address(), self.registers.cap());
        let scope = match command.granularity() {
            1 => Some(IotlbScope::Global),
            2 => Some(IotlbScope::Domain(domain)),
            3 if cap.page_selective() && address.mask() <= cap.max_address_mask() => {
                let range = masked_range(address.page(), address.mask());
                Some(IotlbScope::Pages(domain, range))
            }
            _ => None,
        };
        let scope = scope.filter(|_| self.register_invalidation_works());
        let actual = if scope.is_some() { command.granularity() } else { 0 };
        if let Some(scope) = scope {
            match address.hint() && self.config.honor_hint {
                true => self.translator.invalidate_leaves(scope),
                false => self.translator.invalidate_iotlb(scope),
            }
            self.translator.drain();
            self.note(Observation::Iotlb { scope, wait: None });
        }
        self.registers.set_iotlb_command(command.with_start(false).with_actual(actual));
    }

    /// Drops cached translations, as an invalidation of the IOTLB does that takes no time and is not
    /// in the queue: for a machine in which one unit stands for two, and only Device-TLB
    /// invalidations of the upper one come to the lower one's queue.
    pub fn drop_translations(&mut self, scope: IotlbScope) {
        self.translator.invalidate_iotlb(scope);
        self.translator.drain();
    }

    fn register_invalidation_works(&self) -> bool {
        self.config.version.has_register_invalidation()
            && !self.queue.enabled()
            && self.mode == TableMode::Legacy
    }
}
