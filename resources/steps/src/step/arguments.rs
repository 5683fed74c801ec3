//! The arguments of steps.

use std::fmt;
use std::str::FromStr;

/// The number of a disk, in the order in which the driver has found them first: `nvme0` is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Disk(pub u8);

/// How the unit walks its tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VtdMode {
    /// Root and context entries.
    Legacy,
    /// PASID tables.
    Scalable,
}

/// The type of an IOMMU group's domain, as sysfs has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DomainType {
    /// No translation.
    Identity,
    /// Translation; unmapping invalidates at once.
    Dma,
    /// Translation; unmapping collects invalidations in a flush queue.
    DmaFq,
}

/// What a process does with disk 0 by VFIO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VfioAction {
    /// The disk is given to vfio-pci, and the process starts.
    Bind,
    /// The process opens container, group and device.
    Open,
    /// It maps memory.
    Map,
    /// It unmaps the memory.
    Unmap,
    /// It resets the function.
    Reset,
    /// It closes everything.
    Close,
    /// The disk is given back to its driver.
    Release,
}

/// A way in which software resets the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MachineReset {
    /// reboot(2), which shuts devices down.
    Reboot,
    /// sysrq b, which does not.
    Sysrq,
    /// A panic; `panic=-1` on the kernel's command line makes it reset.
    Panic,
}

/// A name of ASCII letters, digits, `_`, `-` and `.`, with 1 to 64 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word(String);

impl Word {
    /// The word.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Word {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let right = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(right);
        fits.then(|| Self(text.to_owned())).ok_or(())
    }
}

/// A regular expression without blanks and double quotes, which do not pass the kernel's command
/// line: a dot stands for each. This package does not compile it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// The longest expression, in bytes.
    pub const MAX: usize = 500;

    /// The expression.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Pattern {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let fits = (1..=Self::MAX).contains(&text.len()) && passes_command_line(text);
        fits.then(|| Self(text.to_owned())).ok_or(())
    }
}

/// Whether the kernel passes `text` to init as one word.
fn passes_command_line(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"')
}

/// `FromStr` and `Display` of an enum whose values have one word each.
macro_rules! words {
    ($type:ident { $($word:literal => $variant:ident,)+ }) => {
        impl FromStr for $type {
            type Err = ();

            fn from_str(text: &str) -> Result<Self, ()> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(()),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $word,)+
                })
            }
        }
    };
}

words!(VtdMode { "legacy" => Legacy, "scalable" => Scalable, });
words!(DomainType { "identity" => Identity, "DMA" => Dma, "DMA-FQ" => DmaFq, });
words!(MachineReset { "reboot" => Reboot, "sysrq" => Sysrq, "panic" => Panic, });
words!(VfioAction {
    "bind" => Bind,
    "open" => Open,
    "map" => Map,
    "unmap" => Unmap,
    "reset" => Reset,
    "close" => Close,
    "release" => Release,
});

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
