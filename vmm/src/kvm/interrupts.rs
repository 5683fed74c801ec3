//! Interrupts into the guest: messages at once, and the routes by which KVM knows for which
//! vectors the monitor's I/O APIC must hear of an end of interrupt.

use std::sync::Arc;

use iommu::ats::Msi;
use kvm_bindings::{
    KVM_IRQ_ROUTING_MSI, KvmIrqRouting, kvm_irq_routing_entry, kvm_irq_routing_entry__bindgen_ty_1,
    kvm_irq_routing_msi, kvm_msi,
};

use super::KvmVm;
use crate::Error;

/// The way into the local APICs.
#[derive(Debug, Clone)]
pub(crate) struct Injector(Arc<KvmVm>);

impl Injector {
    pub(crate) fn new(vm: Arc<KvmVm>) -> Self {
        Self(vm)
    }

    /// Delivers `msi` to the CPUs that it is for. A message for no CPU vanishes, as on a bus.
    pub(crate) fn inject(&self, msi: Msi) {
        let (address_lo, address_hi) = halves(msi);
        let message = kvm_msi { address_lo, address_hi, data: msi.data, ..Default::default() };
        // KVM refuses what no local APIC takes: a wrong destination or a reserved delivery mode,
        // both of which a guest can ask for, and gets nothing.
        let _ = self.0.fd().signal_msi(message);
    }

    /// Says which message each I/O APIC pin sends; pins that are masked are left out.
    pub(crate) fn set_routes(&self, routes: &[(u8, Msi)]) -> Result<(), Error> {
        let entries: Vec<_> = routes.iter().map(|(pin, msi)| entry(*pin, *msi)).collect();
        let action = "set the interrupt routes";
        let routing = KvmIrqRouting::from_entries(&entries).map_err(|error| Error::Host {
            action,
            source: std::io::Error::other(format!("{error:?}")),
        })?;
        self.0.fd().set_gsi_routing(&routing).map_err(Error::kvm(action))
    }
}

fn halves(msi: Msi) -> (u32, u32) {
    (msi.address as u32, (msi.address >> 32) as u32)
}

fn entry(pin: u8, msi: Msi) -> kvm_irq_routing_entry {
    let (address_lo, address_hi) = halves(msi);
    let msi = kvm_irq_routing_msi { address_lo, address_hi, data: msi.data, ..Default::default() };
    kvm_irq_routing_entry {
        gsi: pin.into(),
        type_: KVM_IRQ_ROUTING_MSI,
        u: kvm_irq_routing_entry__bindgen_ty_1 { msi },
        ..Default::default()
    }
}
