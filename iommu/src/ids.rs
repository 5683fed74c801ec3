//! Types for requester ids, domains, PASIDs and addresses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use vm_memory::GuestAddress;

/// The size in bytes of the smallest page, and of every table of a remapping unit.
pub const PAGE_SIZE: u64 = 4096;

/// A bus, device and function number: the requester id of a PCIe function (`PCIe 2.2.6.2`).
///
/// Written as lspci does, `bb:dd.f` in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bdf(u16);

impl Bdf {
    /// `function` (0 to 7) of `device` (0 to 31) on `bus`. Higher bits are cut off.
    pub const fn new(bus: u8, device: u8, function: u8) -> Self {
        Self(((bus as u16) << 8) | ((device as u16 & 0x1f) << 3) | (function as u16 & 7))
    }

    /// The requester id `bits`, as in a TLP.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// The requester id, as in a TLP.
    pub const fn into_bits(self) -> u16 {
        self.0
    }

    /// The bus number.
    pub const fn bus(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// The device number, 0 to 31.
    pub const fn device(self) -> u8 {
        (self.0 >> 3) as u8 & 0x1f
    }

    /// The function number, 0 to 7.
    pub const fn function(self) -> u8 {
        self.0 as u8 & 7
    }

    /// Device and function in one byte: the index in a context table.
    pub const fn devfn(self) -> u8 {
        self.0 as u8
    }
}

impl fmt::Display for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{:02x}.{:x}", self.bus(), self.device(), self.function())
    }
}

impl fmt::Debug for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bdf({self})")
    }
}

/// The error of [`Bdf::from_str`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a PCI function; write bus:device.function in hexadecimal, as in 01:00.0")]
pub struct ParseBdfError(String);

impl FromStr for Bdf {
    type Err = ParseBdfError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (bus, rest) = text.split_once(':')?;
            let (device, function) = rest.split_once('.')?;
            let hex = |digits: &str, max: u8| {
                u8::from_str_radix(digits, 16).ok().filter(|value| *value <= max)
            };
            Some(Self::new(hex(bus, 0xff)?, hex(device, 0x1f)?, hex(function, 7)?))
        };
        parse().ok_or_else(|| ParseBdfError(text.to_owned()))
    }
}

impl Serialize for Bdf {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bdf {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A domain id (`VT-d 3.4`), the tag of cached translations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct DomainId(pub u16);

/// A process address space id, 20 bits (`PCIe 6.20`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct Pasid(u32);

impl Pasid {
    /// The PASID in the low 20 bits of `bits`; higher bits are cut off.
    pub const fn new(bits: u32) -> Self {
        Self(bits & 0xf_ffff)
    }

    /// The 20 bits.
    pub const fn get(self) -> u32 {
        self.0
    }
}

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
        pub struct $name(pub u64);

        impl $name {
            /// The first address of the 4-KiB page that contains this one.
            pub const fn page(self) -> Self {
                Self(self.0 & !(PAGE_SIZE - 1))
            }

            /// This address plus `offset`; `None` beyond 2^64.
            pub const fn checked_add(self, offset: u64) -> Option<Self> {
                match self.0.checked_add(offset) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }
    };
}

address! {
    /// An address that a device uses, before translation.
    Iova
}

address! {
    /// A physical address in [`Memory`](crate::Memory): guest-physical for the guest-visible unit,
    /// an address in the driver's own memory for the host's unit.
    Gpa
}

impl From<Gpa> for GuestAddress {
    fn from(address: Gpa) -> Self {
        GuestAddress(address.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_bdf_is_parsed_from_its_text(bits: u16) {
            let bdf = Bdf::from_bits(bits);
            prop_assert_eq!(bdf.to_string().parse::<Bdf>(), Ok(bdf));
            prop_assert_eq!(Bdf::new(bdf.bus(), bdf.device(), bdf.function()), bdf);
        }
    }

    #[test]
    fn an_invalid_bdf_is_named_in_the_error() {
        for text in ["", "01", "01:00", "01:20.0", "01:00.8", "100:00.0", "g1:00.0"] {
            let error = text.parse::<Bdf>().unwrap_err();
            assert!(error.to_string().starts_with(&format!("'{text}'")), "{error}");
        }
    }
}
