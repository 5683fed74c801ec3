//! From whatever state the unit is in to one that translates, in the order that Linux keeps: queue,
//! root table, global invalidations, translation.

use crate::machine::time::Ticks;
use crate::pci::Bdf;
use crate::vtd::queue::{Queue, Width};
use crate::vtd::submit::Outcome;
use crate::vtd::tables::{LegacyTables, Requests, ScalableTables, SecondStage};
use crate::vtd::{Descriptor, Unit};

/// A device and the domain it belongs to.
pub type Attachment<'a> = (Bdf, &'a SecondStage, u16);

/// The time that a flush may take while nothing is wrong with any device.
pub fn healthy_limit() -> Ticks {
    Ticks::from_ms(5_000)
}

/// The queue alone, for 128-bit descriptors; DMA is not translated.
pub fn queue_alone(unit: Unit) -> Result<Queue, &'static str> {
    unit.shut_down()?;
    // A root table that nobody reads: what counts is its mode, legacy.
    unit.set_root(0)?;
    let queue = Queue::new(unit, Width::Narrow);
    unit.enable_queue(&queue)?;
    Ok(queue)
}

/// Legacy mode, 128-bit queue. Devices may use ATS where the unit can.
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

/// Scalable mode by second-stage tables, 256-bit queue. Untranslated requests only.
pub fn scalable(unit: Unit, attachments: &[Attachment<'_>]) -> Result<Queue, &'static str> {
    scalable_with(unit, attachments, 0)
}

/// As [`scalable`], with the [`rights`](crate::vtd::tables::rights) that devices have beside that.
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
