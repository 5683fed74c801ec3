//! The 4 KiB of configuration space of one function, as software sees it (`PCIe 7.2`).
//!
//! Each bit is read-only unless its register is declared otherwise: writable, or cleared by writing
//! one (RW1C). These masks hold for [`ConfigSpace::write`], by which software writes. The function
//! itself uses [`ConfigSpace::get`] and [`ConfigSpace::set`], which ignore them.

use std::ops::Range;

use super::reset::Reset;

/// Bytes in a function's configuration space.
pub const CONFIG_SPACE_SIZE: u16 = 4096;

/// The value of a register of one, two or four bytes.
pub trait Layout: Copy {
    /// Bytes in the register.
    const SIZE: u16;

    /// From the register's bits; bytes beyond [`Self::SIZE`] are ignored.
    fn from_word(word: u32) -> Self;

    /// The register's bits.
    fn to_word(self) -> u32;
}

/// Makes integers, and `bitfield-struct` layouts of that width, usable as registers.
macro_rules! register_layout {
    ($($layout:ty: $bits:ty),* $(,)?) => {
        $(impl $crate::pcie::config::Layout for $layout {
            const SIZE: u16 = size_of::<$bits>() as u16;

            fn from_word(word: u32) -> Self {
                Self::from(word as $bits)
            }

            fn to_word(self) -> u32 {
                u32::from(<$bits>::from(self))
            }
        })*
    };
}
pub(crate) use register_layout;

register_layout!(u8: u8, u16: u16, u32: u32);

/// The behaviour of one register. Its bits are read-only by default.
#[derive(Debug, Clone, Copy)]
pub struct Register<T> {
    reset: T,
    writable: u32,
    clearable: u32,
    sticky: u32,
    kept: u32,
}

impl<T: Layout> Register<T> {
    /// A register that holds `reset` after a reset.
    pub fn new(reset: T) -> Self {
        Self { reset, writable: 0, clearable: 0, sticky: 0, kept: 0 }
    }

    /// Software may write the bits in `mask`.
    #[must_use]
    pub fn writable(self, mask: T) -> Self {
        Self { writable: mask.to_word(), ..self }
    }

    /// Software clears the bits in `mask` by writing ones (RW1C).
    #[must_use]
    pub fn clearable(self, mask: T) -> Self {
        Self { clearable: mask.to_word(), ..self }
    }

    /// The bits in `mask` are sticky: only a power cycle resets them (ROS, RWS, RW1CS).
    #[must_use]
    pub fn sticky(self, mask: T) -> Self {
        Self { sticky: mask.to_word(), ..self }
    }

    /// The bits in `mask` survive a Function Level Reset, because the other end of the link relies
    /// on them (`PCIe 6.6.2`).
    #[must_use]
    pub fn kept(self, mask: T) -> Self {
        Self { kept: mask.to_word(), ..self }
    }
}

/// The behaviour of one byte.
#[derive(Debug, Clone, Copy, Default)]
struct Masks {
    reset: u8,
    writable: u8,
    clearable: u8,
    sticky: u8,
    kept: u8,
}

/// A function's configuration space.
#[derive(Debug, Clone)]
pub struct ConfigSpace {
    /// Up to the last declared register; the rest reads as zero. The values are apart from the
    /// masks, so that those that a function reads for each request are close together.
    values: Vec<u8>,
    masks: Vec<Masks>,
}

impl ConfigSpace {
    /// A space without registers: it reads as zero.
    pub(crate) fn empty() -> Self {
        Self { values: Vec::new(), masks: Vec::new() }
    }

    /// Declares the register at `offset`; it takes its reset value.
    pub(crate) fn declare<T: Layout>(&mut self, offset: u16, register: Register<T>) {
        let bytes = |word: u32| word.to_le_bytes();
        let (reset, writable) = (bytes(register.reset.to_word()), bytes(register.writable));
        let (clearable, sticky) = (bytes(register.clearable), bytes(register.sticky));
        let kept = bytes(register.kept);
        let end = usize::from(offset.saturating_add(T::SIZE).min(CONFIG_SPACE_SIZE));
        let end = end.max(self.values.len());
        self.values.resize(end, 0);
        self.masks.resize(end, Masks::default());
        let at = usize::from(offset);
        for (index, mask) in self.masks[at..].iter_mut().take(usize::from(T::SIZE)).enumerate() {
            *mask = Masks {
                reset: reset[index],
                writable: writable[index],
                clearable: clearable[index],
                sticky: sticky[index],
                kept: kept[index],
            };
        }
        self.set(offset, register.reset);
    }

    /// Software reads `data.len()` bytes at `offset`. An access that is not within one aligned
    /// double word reads all ones.
    pub fn read(&self, offset: u16, data: &mut [u8]) {
        match within_dword(offset, data.len()) {
            Some(span) => {
                data.fill(0);
                for (byte, value) in data.iter_mut().zip(self.values.iter().skip(span.start)) {
                    *byte = *value;
                }
            }
            None => data.fill(0xff),
        }
    }

    /// Software writes `data` at `offset`. An access that is not within one aligned double word is
    /// ignored.
    pub fn write(&mut self, offset: u16, data: &[u8]) {
        let Some(span) = within_dword(offset, data.len()) else {
            return;
        };
        let cells = self.values.iter_mut().zip(&self.masks).skip(span.start);
        for (byte, (value, mask)) in data.iter().zip(cells) {
            let written = (*value & !mask.writable) | (byte & mask.writable);
            *value = written & !(byte & mask.clearable);
        }
    }

    /// The function reads its own register at `offset`.
    pub fn get<T: Layout>(&self, offset: u16) -> T {
        let values = self.values.get(usize::from(offset)..).unwrap_or_default();
        let word = values.first_chunk().copied().unwrap_or_else(|| {
            let mut word = [0; 4];
            word[..values.len()].copy_from_slice(values);
            word
        });
        T::from_word(u32::from_le_bytes(word))
    }

    /// The function sets its own register at `offset`, including read-only bits.
    pub fn set<T: Layout>(&mut self, offset: u16, value: T) {
        let values = self.values.get_mut(usize::from(offset)..).unwrap_or_default();
        let bytes = value.to_word().to_le_bytes();
        for (value, byte) in values.iter_mut().zip(bytes).take(usize::from(T::SIZE)) {
            *value = byte;
        }
    }

    /// Gives each bit that `reset` applies to its reset value.
    pub fn reset(&mut self, reset: Reset) {
        for (value, mask) in self.values.iter_mut().zip(&self.masks) {
            let kept = match reset {
                Reset::Function => mask.sticky | mask.kept,
                Reset::Hot => mask.sticky,
                Reset::Cold => 0,
            };
            *value = (*value & kept) | (mask.reset & !kept);
        }
    }
}

/// The bytes of an access, if one configuration request can carry it: it lies inside one aligned
/// double word of the space.
fn within_dword(offset: u16, length: usize) -> Option<Range<usize>> {
    let start = usize::from(offset);
    let fits = (1..=4 - start % 4).contains(&length) && offset < CONFIG_SPACE_SIZE;
    fits.then(|| start..start + length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AT: u16 = 0x44;

    fn space(reset: u32, writable: u32, clearable: u32) -> ConfigSpace {
        let mut space = ConfigSpace::empty();
        space.declare(AT, Register::new(reset).writable(writable).clearable(clearable));
        space
    }

    proptest! {
        #[test]
        fn every_bit_obeys_its_mask(reset: u32, a: u32, b: u32, written: u32) {
            let (writable, clearable) = (a & !b, b & !a);
            let mut space = space(reset, writable, clearable);
            space.write(AT, &written.to_le_bytes());
            let read = space.get::<u32>(AT);
            let fixed = !(writable | clearable);
            prop_assert_eq!(read & fixed, reset & fixed);
            prop_assert_eq!(read & writable, written & writable);
            prop_assert_eq!(read & clearable, reset & !written & clearable);
        }

        #[test]
        fn narrow_writes_leave_the_other_lanes_alone(
            reset: u32, written: u32, lane in 0_usize..4, length in 1_usize..=4,
        ) {
            prop_assume!(lane + length <= 4);
            let mut space = space(reset, u32::MAX, 0);
            space.write(AT + lane as u16, &written.to_le_bytes()[..length]);
            let mut expected = reset.to_le_bytes();
            expected[lane..lane + length].copy_from_slice(&written.to_le_bytes()[..length]);
            prop_assert_eq!(space.get::<u32>(AT), u32::from_le_bytes(expected));
        }

        #[test]
        fn a_reset_keeps_what_it_does_not_concern(value: u32, sticky: u32, kept: u32, written: u32) {
            for (reset, left) in
                [(Reset::Function, sticky | kept), (Reset::Hot, sticky), (Reset::Cold, 0)]
            {
                let mut space = ConfigSpace::empty();
                let register = Register::new(value).writable(u32::MAX).sticky(sticky).kept(kept);
                space.declare(AT, register);
                space.write(AT, &written.to_le_bytes());
                space.reset(reset);
                prop_assert_eq!(space.get::<u32>(AT), (written & left) | (value & !left));
            }
        }

        #[test]
        fn no_access_panics_and_odd_ones_read_all_ones(
            offset: u16, written in prop::collection::vec(any::<u8>(), 0..17),
        ) {
            let mut space = space(0x1234_5678, u32::MAX, 0);
            space.write(offset, &written);
            let mut read = vec![0; written.len()];
            space.read(offset, &mut read);
            let inside = usize::from(offset % 4) + written.len() <= 4 && offset < 4096;
            if !inside {
                prop_assert!(read.iter().all(|byte| *byte == 0xff));
                prop_assert_eq!(space.get::<u32>(AT), 0x1234_5678);
            }
        }
    }
}
