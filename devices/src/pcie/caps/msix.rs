//! MSI-X (`PCIe 7.7.2`): a table of messages and their pending bits in a BAR of the function.
//!
//! ```text
//!   configuration space: enable, function mask, offsets of the table and of the pending bits
//!   BAR: Table  16 bytes a vector: address, data, mask      raise --+-- enabled, unmasked --> message
//!        PBA    a bit a vector, read-only                           +-- masked: pending until unmasked
//! ```

use iommu::ats;

use crate::Error;
use crate::pcie::config::{ConfigSpace, Register};
use crate::pcie::header::ConfigBuilder;
use crate::pcie::spec::msix::*;

/// Double words in an entry of the table: lower address, upper address, data, vector control.
const ENTRY_WORDS: usize = 4;
/// Vector Control's only bit: the vector is masked.
const MASKED: u32 = 1;

/// The MSI-X capability of a function.
#[derive(Debug, Clone, Copy)]
pub struct Msix {
    at: u16,
}

impl Msix {
    /// Declares the capability with `vectors` (1 to 64). The table is at `table` and the pending
    /// bits are at `pending` in BAR `bar`, both multiples of 8.
    ///
    /// # Errors
    /// [`Error::CapabilitySpace`] if it does not fit.
    pub fn add(
        builder: &mut ConfigBuilder,
        vectors: u16,
        bar: u8,
        table: u32,
        pending: u32,
    ) -> Result<Self, Error> {
        let at = builder.capability(ID, LENGTH)?;
        let control = Control::new().with_table_size(vectors.saturating_sub(1));
        let writable = Control::new().with_function_mask(true).with_enable(true);
        builder.declare(at + CONTROL, Register::new(control).writable(writable));
        builder.declare(at + TABLE, Register::new(table | u32::from(bar)));
        builder.declare(at + PENDING, Register::new(pending | u32::from(bar)));
        Ok(Self { at })
    }

    fn control(self, config: &ConfigSpace) -> Control {
        config.get(self.at + CONTROL)
    }
}

/// The table and the pending bits. Both take aligned accesses of four and eight bytes
/// (`PCIe 6.1.4.2`). Other reads give all ones, other writes are ignored.
#[derive(Debug)]
pub struct MsixTable {
    words: Vec<u32>,
    /// A bit for each vector.
    pending: u64,
}

impl MsixTable {
    /// A table of `vectors` (1 to 64) after reset: all vectors are masked.
    pub fn new(vectors: u16) -> Self {
        let entries = usize::from(vectors.clamp(1, 64));
        Self { words: [0, 0, 0, MASKED].repeat(entries), pending: 0 }
    }

    /// Reads the table; bytes past its end read as zero.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        read_words(offset, data, |index| self.words.get(index).copied().unwrap_or(0));
    }

    /// Writes the table.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        if !is_allowed(offset, data.len()) {
            return;
        }
        for (index, bytes) in (word_index(offset)..).zip(data.as_chunks::<4>().0) {
            let keep = if index % ENTRY_WORDS == 3 { MASKED } else { u32::MAX };
            if let Some(word) = self.words.get_mut(index) {
                *word = u32::from_le_bytes(*bytes) & keep;
            }
        }
    }

    /// Reads the pending bits.
    pub fn read_pending(&self, offset: u64, data: &mut [u8]) {
        read_words(offset, data, |index| match index {
            0 => self.pending as u32,
            1 => (self.pending >> 32) as u32,
            _ => 0,
        });
    }

    /// Raises `vector`. Returns the message to send now, `None` if MSI-X is disabled, or if the
    /// vector or the function is masked. A masked message stays pending.
    pub fn raise(&mut self, vector: u16, msix: Msix, config: &ConfigSpace) -> Option<ats::Msi> {
        if !msix.control(config).enable() || usize::from(vector) >= self.vectors() {
            return None;
        }
        self.pending |= 1 << vector;
        self.take(vector.into(), msix.control(config))
    }

    /// The next pending message whose vector is no longer masked, `None` if there is no more.
    pub fn take_pending(&mut self, msix: Msix, config: &ConfigSpace) -> Option<ats::Msi> {
        if self.pending == 0 {
            return None;
        }
        let control = msix.control(config);
        (0..self.vectors()).find_map(|vector| self.take(vector, control))
    }

    fn vectors(&self) -> usize {
        self.words.len() / ENTRY_WORDS
    }

    fn take(&mut self, vector: usize, control: Control) -> Option<ats::Msi> {
        let start = vector * ENTRY_WORDS;
        let &[lower, upper, data, mask] = self.words.get(start..)?.first_chunk()?;
        let held = !control.enable() || control.function_mask() || mask & MASKED != 0;
        if held || self.pending & 1 << vector == 0 {
            return None;
        }
        self.pending &= !(1 << vector);
        Some(ats::Msi { address: u64::from(upper) << 32 | u64::from(lower), data })
    }
}

fn is_allowed(offset: u64, length: usize) -> bool {
    matches!(length, 4 | 8) && offset.is_multiple_of(length as u64)
}

fn word_index(offset: u64) -> usize {
    usize::try_from(offset / 4).unwrap_or(usize::MAX - 1)
}

fn read_words(offset: u64, data: &mut [u8], word: impl Fn(usize) -> u32) {
    if !is_allowed(offset, data.len()) {
        data.fill(0xff);
        return;
    }
    for (index, bytes) in (word_index(offset)..).zip(data.as_chunks_mut::<4>().0) {
        *bytes = word(index).to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcie::header::{HeaderType, Identity};
    use proptest::prelude::*;

    const ENABLE: u16 = 1 << 15;
    const FUNCTION_MASK: u16 = 1 << 14;

    fn function() -> (Msix, ConfigSpace, MsixTable) {
        let identity = Identity { vendor: 0, device: 0, class: 0, revision: 0 };
        let mut builder = ConfigBuilder::new(identity, HeaderType::Endpoint);
        let msix = Msix::add(&mut builder, 3, 0, 0x2000, 0x3000).unwrap();
        (msix, builder.build(), MsixTable::new(3))
    }

    fn set(config: &mut ConfigSpace, msix: Msix, control: u16) {
        config.write(msix.at + CONTROL, &control.to_le_bytes());
    }

    fn program(table: &mut MsixTable, vector: u64, mask: u32) {
        table.write(vector * 16, &0xfee0_1000_u64.to_le_bytes());
        table.write(vector * 16 + 8, &(0x40 + vector as u32).to_le_bytes());
        table.write(vector * 16 + 12, &mask.to_le_bytes());
    }

    fn pending(table: &MsixTable) -> u32 {
        let mut bits = [0; 4];
        table.read_pending(0, &mut bits);
        u32::from_le_bytes(bits)
    }

    #[test]
    fn each_vector_sends_its_own_message() {
        let (msix, mut config, mut table) = function();
        program(&mut table, 2, 0);
        assert_eq!(table.raise(2, msix, &config), None, "off");
        assert_eq!(pending(&table), 0);
        set(&mut config, msix, ENABLE);
        let message = ats::Msi { address: 0xfee0_1000, data: 0x42 };
        assert_eq!(table.raise(2, msix, &config), Some(message));
        assert_eq!(table.raise(3, msix, &config), None, "there is no such vector");
    }

    #[test]
    fn a_masked_vector_waits_and_sends_one_message_when_it_is_unmasked() {
        let (msix, mut config, mut table) = function();
        set(&mut config, msix, ENABLE);
        program(&mut table, 1, 1);
        assert_eq!(table.raise(1, msix, &config), None);
        assert_eq!(table.raise(1, msix, &config), None);
        assert_eq!(pending(&table), 0b10);
        program(&mut table, 1, 0);
        set(&mut config, msix, ENABLE | FUNCTION_MASK);
        assert_eq!(table.take_pending(msix, &config), None);
        set(&mut config, msix, ENABLE);
        assert_eq!(table.take_pending(msix, &config).map(|msi| msi.data), Some(0x41));
        assert_eq!(table.take_pending(msix, &config), None);
        assert_eq!(pending(&table), 0);
    }

    proptest! {
        #[test]
        fn no_access_panics_and_what_is_written_is_read(
            offset: u64, data in prop::collection::vec(any::<u8>(), 0..17), word in 0_u64..12,
        ) {
            let (msix, config, mut table) = function();
            table.write(offset, &data);
            table.read(offset, &mut data.clone());
            table.read_pending(offset, &mut data.clone());
            table.raise(offset as u16, msix, &config);
            table.write(word * 4, &0xffff_ffff_u32.to_le_bytes());
            let mut read = [0; 4];
            table.read(word * 4, &mut read);
            let expected = if word % 4 == 3 { MASKED } else { u32::MAX };
            prop_assert_eq!(u32::from_le_bytes(read), expected);
        }
    }
}
