//! Brings the unit from any state to translation, in Linux's order: queue, root table, global
//! invalidations, translation.

use crate::machine::time::Ticks;
use crate::pci::Bdf;
use crate::vtd::queue::{Queue, Width};
use crate::vtd::submit::Outcome;
use crate::vtd::tables::{LegacyTables, Requests, ScalableTables, SecondStage};
use crate::vtd::{Descriptor, Unit};

/// A device and the domain it belongs to.
pub type Attachment<'a> = (Bdf, &'a SecondStage, u16);

/// The longest time of a flush while all devices are healthy.
pub fn healthy_limit() -> Ticks {
    Ticks::from_ms(5_000)
}

/// Enables only the queue, with 128-bit descriptors. DMA is not translated.
pub fn queue_alone(unit: Unit) -> Result<Queue, &'static str> {
    unit.shut_down()?;
    // The unit does not read this root table. It sets the mode, legacy.
    unit.set_root(0)?;
    let queue = Queue::new(unit, Width::Narrow);
    unit.enable_queue(&queue)?;
    Ok(queue)
}

/// Enables legacy mode with a 128-bit queue. Devices may use ATS if the unit can.
pub fn legacy(unit: Unit, attachments: &[Attachment<'_>]) -> Result<Queue, &'static str> {
    unit.shut_down()?;
    let requests = if unit.extended_capability().has_device_tlb() {
        Requests::WithAts
    } else {
        Requests::Untranslated
    };
    let tables = LegacyTables::new();
    for &(device, domain, id) in attachments {
        tables.attach(device, domain, id, requests);
    }
    let start = [Descriptor::all_contexts(), Descriptor::all_translations(unit.capability())];
    turn_on(unit, tables.root_register(), Width::Narrow, &start)
}

/// Enables scalable mode with second-stage tables and a 256-bit queue, for untranslated requests.
pub fn scalable(unit: Unit, attachments: &[Attachment<'_>]) -> Result<Queue, &'static str> {
    scalable_with(unit, attachments, 0)
}

/// As [`scalable`], with more [`rights`](crate::vtd::tables::rights) of the devices.
pub fn scalable_with(
    unit: Unit,
    attachments: &[Attachment<'_>],
    rights: u64,
) -> Result<Queue, &'static str> {
    unit.shut_down()?;
    let tables = ScalableTables::new();
    for &(device, domain, id) in attachments {
        tables.attach(device, domain, id, rights);
    }
    let start = [
        Descriptor::all_contexts(),
        Descriptor::all_pasids(),
        Descriptor::all_translations(unit.capability()),
    ];
    turn_on(unit, tables.root_register(), Width::Wide, &start)
}

fn turn_on(
    unit: Unit,
    root: u64,
    width: Width,
    invalidations: &[Descriptor],
) -> Result<Queue, &'static str> {
    unit.set_root(root)?;
    let queue = Queue::new(unit, width);
    unit.enable_queue(&queue)?;
    match queue.flush(invalidations, healthy_limit()).outcome {
        Outcome::Completed => {}
        Outcome::Rejected => return Err("the unit refuses a global invalidation"),
        _ => return Err("the first flush does not end"),
    }
    unit.translate(true)?;
    Ok(queue)
}
