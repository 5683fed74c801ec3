//! Interrupts into the guest: messages at once, and the routes by which KVM knows for which
//! vectors the chipset's I/O APIC must hear of an end of interrupt.

use std::sync::Arc;

use devices::io_apic::PINS;
use iommu::ats::Msi;
use kvm_bindings::{
    KVM_IRQ_ROUTING_MSI, KvmIrqRouting, kvm_irq_routing_entry, kvm_irq_routing_entry__bindgen_ty_1,
    kvm_irq_routing_msi, kvm_msi,
};

use super::KvmVm;
use crate::Error;

const SET_ROUTES: &str = "set the interrupt routes";

/// The sink of interrupts. Several threads call it at a time, except for the routes.
pub(crate) trait InterruptSink: Send + Sync {
    /// Delivers `msi` to the CPUs that it is for.
    fn inject(&self, msi: Msi);

    /// From now on these are the vectors of level-triggered interrupts. Their ends are answered.
    ///
    /// # Errors
    /// The host refuses.
    fn set_routes(&self, routes: &Routes) -> Result<(), Error>;
}

/// The message of each pin of the I/O APIC, in KVM's form. A pin whose ends of interrupt do not matter
/// has an edge-triggered message, which KVM ignores.
pub(crate) struct Routes(KvmIrqRouting);

impl Routes {
    pub(crate) fn new() -> Result<Self, Error> {
        let none = [(); PINS as usize].map(|()| kvm_irq_routing_entry::default());
        let table = KvmIrqRouting::from_entries(&none).map_err(|error| Error::Host {
            action: SET_ROUTES,
            source: std::io::Error::other(format!("{error:?}")),
        })?;
        let mut this = Self(table);
        (0..PINS).for_each(|pin| this.set(pin, None));
        Ok(this)
    }

    /// Level-triggered interrupts of `pin` arrive as `msi`.
    pub(crate) fn set(&mut self, pin: u8, msi: Option<Msi>) {
        if let Some(entry) = self.0.as_mut_slice().get_mut(usize::from(pin)) {
            *entry = route(pin, msi.unwrap_or(Msi { address: 0xfee0_0000, data: 0 }));
        }
    }
}

/// The way into KVM's local APICs.
#[derive(Debug)]
pub(crate) struct Injector(Arc<KvmVm>);

impl Injector {
    pub(crate) fn new(vm: Arc<KvmVm>) -> Self {
        Self(vm)
    }
}

impl InterruptSink for Injector {
    fn inject(&self, msi: Msi) {
        let (address_lo, address_hi) = halves(msi);
        let message = kvm_msi { address_lo, address_hi, data: msi.data, ..Default::default() };
        // KVM refuses what no local APIC takes: a wrong destination or a reserved delivery mode,
        // both of which a guest can ask for, and gets nothing.
        let _ = self.0.fd().signal_msi(message);
    }

    fn set_routes(&self, routes: &Routes) -> Result<(), Error> {
        self.0.fd().set_gsi_routing(&routes.0).map_err(Error::kvm(SET_ROUTES))
    }
}

fn halves(msi: Msi) -> (u32, u32) {
    (msi.address as u32, (msi.address >> 32) as u32)
}

fn route(pin: u8, msi: Msi) -> kvm_irq_routing_entry {
    let (address_lo, address_hi) = halves(msi);
    let msi = kvm_irq_routing_msi { address_lo, address_hi, data: msi.data, ..Default::default() };
    kvm_irq_routing_entry {
        gsi: pin.into(),
        type_: KVM_IRQ_ROUTING_MSI,
        u: kvm_irq_routing_entry__bindgen_ty_1 { msi },
        ..Default::default()
    }
}
