//! The kinds of scripts: what each is about, the mode of the unit, and the QEMU that it needs.

use super::caches::{self, Change};
use super::scalable;
use super::walks::{self, Wrong};
use super::{
    Scene, dma, epilogue, events, faults, interrupts, io_apic, prologue, queue, registers,
};
use crate::Release;
use crate::differential::Mode;
use crate::differential::place::{
    CONTEXTS, DATA, DATA_PAGES, INTERRUPTS, RING, ROOT, STATUS, TABLES, WRITERS, writer_bar,
};
use crate::differential::script::{Group, Script, Step};

/// What a script is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Registers,
    Events,
    Queue,
    Interrupts,
    IoApic,
    Dma,
    Walk(Wrong),
    Cache(Change),
    Faults,
}

/// A kind of scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// The mode of the unit.
    pub mode: Mode,
    /// The oldest QEMU that it can be run on.
    pub needs: Release,
    subject: Subject,
}

const fn old(name: &'static str, mode: Mode, subject: Subject) -> Kind {
    Kind { name, mode, needs: Release::Seven, subject }
}

const fn new(name: &'static str, mode: Mode, subject: Subject) -> Kind {
    Kind { name, mode, needs: Release::Eleven, subject }
}

/// All kinds.
pub const ALL: [Kind; 31] = {
    use Change::{Context, Leaf, PasidEntry, RootPointer};
    use Mode::{FirstStage, Legacy, Remapping, Scalable};
    use Subject::{Cache, Dma, Events, Faults, Interrupts, IoApic, Queue, Registers, Walk};
    use Wrong::{Above, Nothing, Pages};
    [
        old("registers", Legacy, Registers),
        old("registers-scalable", Scalable, Registers),
        old("events", Legacy, Events),
        old("events-scalable", Scalable, Events),
        old("queue-128", Legacy, Queue),
        old("queue-256", Scalable, Queue),
        old("interrupts", Remapping, Interrupts),
        old("io-apic", Legacy, IoApic),
        old("dma-legacy", Legacy, Dma),
        old("dma-scalable", Scalable, Dma),
        new("queue-256-first-stage", FirstStage, Queue),
        new("walks-legacy", Legacy, Walk(Nothing)),
        new("walks-legacy-wrong-pages", Legacy, Walk(Pages)),
        new("walks-legacy-wrong-above", Legacy, Walk(Above)),
        new("walks-scalable", Scalable, Walk(Nothing)),
        new("walks-scalable-wrong-pages", Scalable, Walk(Pages)),
        new("walks-scalable-wrong-above", Scalable, Walk(Above)),
        new("walks-first-stage", FirstStage, Walk(Nothing)),
        new("walks-first-stage-wrong-pages", FirstStage, Walk(Pages)),
        new("walks-first-stage-wrong-above", FirstStage, Walk(Above)),
        new("caches-legacy", Legacy, Cache(Leaf)),
        new("caches-scalable", Scalable, Cache(Leaf)),
        new("caches-first-stage", FirstStage, Cache(Leaf)),
        new("contexts-legacy", Legacy, Cache(Context)),
        new("contexts-scalable", Scalable, Cache(Context)),
        new("pasid-entries-scalable", Scalable, Cache(PasidEntry)),
        new("pasid-entries-first-stage", FirstStage, Cache(PasidEntry)),
        new("root-pointer-legacy", Legacy, Cache(RootPointer)),
        new("root-pointer-first-stage", FirstStage, Cache(RootPointer)),
        new("faults-legacy", Legacy, Faults),
        new("faults-first-stage", FirstStage, Faults),
    ]
};

impl Kind {
    /// The script of `seed`.
    pub fn script(&self, seed: u64, release: Release) -> Script {
        let mut scene = Scene::new(seed, self.mode, release);
        let has_edus = matches!(
            self.subject,
            Subject::Interrupts | Subject::IoApic | Subject::Dma | Subject::Events
        );
        scene.groups.push(if has_edus { prologue() } else { setup(release) });
        if self.mode.is_scalable() {
            scalable::latch(&mut scene);
        }
        match self.subject {
            Subject::Registers => registers::scene(&mut scene),
            Subject::Events => events::scene(&mut scene),
            Subject::Queue => queue::scene(&mut scene),
            Subject::Interrupts => interrupts::scene(&mut scene),
            Subject::IoApic => io_apic::scene(&mut scene),
            Subject::Dma => dma::scene(&mut scene),
            Subject::Walk(wrong) => walks::scene(&mut scene, wrong),
            Subject::Cache(change) => caches::scene(&mut scene, change),
            Subject::Faults => faults::scene(&mut scene),
        }
        if self.subject == Subject::Dma {
            let end = epilogue(&mut scene);
            scene.groups.extend(end);
        } else {
            scene.groups.extend(end());
        }
        Script { groups: scene.groups }
    }
}

/// The memory zeroed that scripts without `edu` use, and the `iommu-testdev`s switched on.
pub fn setup(release: Release) -> Group {
    let mut group = Group::new("set up");
    for (at, pages) in [
        (ROOT, 1),
        (CONTEXTS, 2),
        (RING, 8),
        (STATUS, 1),
        (INTERRUPTS, 1),
        (TABLES, 32),
        (DATA, DATA_PAGES),
    ] {
        group.step(Step::Fill(at, 0x1000 * pages as usize, 0));
    }
    if release >= Release::Eleven {
        for (index, device) in (0..).zip(WRITERS) {
            // Below 4 GiB, as all places are.
            group.step(Step::Config(device, 0x10, writer_bar(index) as u32));
            group.step(Step::Config(device, 0x04, 6));
        }
    }
    group
}

/// Reads of the unit and of the memory that scripts write.
fn end() -> Vec<Group> {
    let mut state = Group::new("the unit's state at the end");
    for (offset, mask) in registers::STATE {
        state.check(offset, mask);
    }
    let mut memory = Group::new("memory at the end");
    memory.step(Step::Peek(DATA, 0x1000 * DATA_PAGES as usize));
    memory.step(Step::Peek(STATUS, 0x1000));
    vec![state, memory]
}
