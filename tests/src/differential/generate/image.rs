//! The tables above and below one device, as an image of memory: entries can be looked at and
//! changed before they are written.

use std::collections::BTreeMap;

use crate::differential::Mode;
use crate::differential::place::{CONTEXTS, ROOT, TABLES};
use crate::differential::script::Group;

/// Rights of a second-stage entry.
pub(super) const READ_WRITE: u64 = 3;
/// Present, writable, user, of a first-stage entry.
pub(super) const PRESENT_WRITABLE_USER: u64 = 7;
/// A page of 2 MiB or 1 GiB.
pub(super) const LARGE: u64 = 1 << 7;

/// Which tables translate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    First,
    Second,
}

impl Stage {
    /// The stage of a mode's page tables.
    pub(super) const fn of(mode: Mode) -> Self {
        match mode {
            Mode::FirstStage => Self::First,
            Mode::Legacy | Mode::Remapping | Mode::Scalable => Self::Second,
        }
    }

    /// The bits of an entry with all rights.
    pub(super) const fn rights(self) -> u64 {
        match self {
            Self::First => PRESENT_WRITABLE_USER,
            Self::Second => READ_WRITE,
        }
    }
}

/// Quad words by their addresses.
#[derive(Debug, Clone, Default)]
pub(super) struct Image {
    words: BTreeMap<u64, u64>,
    pages: u64,
}

impl Image {
    /// A page of zeros for a table.
    pub(super) fn page(&mut self) -> u64 {
        self.pages += 1;
        TABLES + 0x1000 * (self.pages - 1)
    }

    pub(super) fn get(&self, at: u64) -> u64 {
        self.words.get(&at).copied().unwrap_or(0)
    }

    pub(super) fn set(&mut self, at: u64, value: u64) {
        self.words.insert(at, value);
    }

    /// Writes all of it.
    pub(super) fn write(&self, group: &mut Group) {
        for (at, value) in &self.words {
            group.poke(*at, *value);
        }
    }
}

/// The path to one device's page tables.
#[derive(Debug, Clone)]
pub(super) struct Path {
    pub(super) stage: Stage,
    /// Addresses of root, context, PASID directory and PASID table entry, as far as they exist.
    pub(super) above: Vec<u64>,
    /// The table of the highest level.
    pub(super) root: u64,
    /// Levels of tables, 3 or 4.
    pub(super) levels: u64,
    pub(super) domain: u64,
}

/// Leads requests of the function `id` on bus 0 to empty page tables.
pub(super) fn lead(image: &mut Image, mode: Mode, id: u16, domain: u64, levels: u64) -> Path {
    let stage = Stage::of(mode);
    let id = u64::from(id);
    let root = image.page();
    if !mode.is_scalable() {
        let slot = CONTEXTS + 16 * id;
        image.set(ROOT, CONTEXTS | 1);
        image.set(slot, root | 1);
        image.set(slot + 8, (levels - 2) | (domain << 8));
        return Path { stage, above: vec![ROOT, slot], root, levels, domain };
    }
    let (half, contexts) = if id < 0x80 { (ROOT, CONTEXTS) } else { (ROOT + 8, CONTEXTS + 0x1000) };
    let slot = contexts + 32 * (id & 0x7f);
    let (directory, table) = (image.page(), image.page());
    image.set(half, contexts | 1);
    image.set(slot, directory | 1);
    image.set(directory, table | 1);
    let pointer = match stage {
        Stage::First => 1 << 6 | 2 << 2,
        Stage::Second => root | 2 << 6 | (levels - 2) << 2,
    };
    image.set(table, pointer | 1);
    // PWSNP: without it, ours does not set accessed bits.
    image.set(table + 8, domain | u64::from(stage == Stage::First) << 23);
    if stage == Stage::First {
        image.set(table + 16, root);
    }
    Path { stage, above: vec![half, slot, directory, table], root, levels, domain }
}

impl Path {
    /// Maps a page of level 1, 2 or 3 at `iova` to `target`. Returns the addresses of the entries, from
    /// the highest level down.
    pub(super) fn map(&self, image: &mut Image, iova: u64, level: u64, target: u64) -> Vec<u64> {
        let mut table = self.root;
        let mut slots = Vec::new();
        for at in (level..=self.levels).rev() {
            let slot = table + 8 * (iova >> (12 + 9 * (at - 1)) & 0x1ff);
            slots.push(slot);
            if at == level {
                let size = if level > 1 { LARGE } else { 0 };
                image.set(slot, target | size | self.stage.rights());
            } else if image.get(slot) == 0 {
                table = image.page();
                image.set(slot, table | self.stage.rights());
            } else {
                table = image.get(slot) & 0x000f_ffff_ffff_f000;
            }
        }
        slots
    }
}
