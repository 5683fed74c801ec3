//! Scripts for both machines, and their observations.

use std::fmt;

use super::place;

/// The four double words of the fault record.
pub const RECORD: [u64; 4] = [0x220, 0x224, 0x228, 0x22c];

/// Bytes by which a place in a page is known again.
pub fn pattern(length: usize) -> impl Iterator<Item = u8> {
    // 251 is prime, so that no two pages and no two double words in a page are alike.
    (0..length).map(|at| (at % 251) as u8 ^ (at >> 8) as u8)
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A write of four bytes.
    WriteLong(u64, u32),
    /// A write of eight bytes.
    WriteQuad(u64, u64),
    /// A read of four bytes, of which the bits in the mask are compared.
    ReadLong(u64, u32),
    /// A read of eight bytes, of which the bits in the mask are compared.
    ReadQuad(u64, u64),
    /// The fault record is read; it is compared if it holds a fault, and without PP and PV: QEMU gives
    /// requests without PASID one.
    Record,
    /// Bytes of memory are compared.
    Peek(u64, usize),
    /// Memory is filled.
    Fill(u64, usize, u8),
    /// Memory is filled with bytes that differ from their neighbours, see [`pattern`].
    Pattern(u64, usize),
    /// A double word in configuration space of a device on bus 0 is written.
    Config(u8, u8, u32),
    /// An `edu` is told to transfer. Of several that run at once, those with lower numbers must
    /// have been told first.
    Dma {
        /// Its number.
        edu: u8,
        /// DMA source register.
        source: u64,
        /// DMA destination register.
        destination: u64,
        /// Bytes.
        count: u64,
        /// DMA command register; the run bit is added.
        command: u64,
    },
    /// An `iommu-testdev` writes its pattern by DMA and compares memory; its result is compared. QEMU has
    /// the device from 11 on.
    Write {
        /// Its number.
        writer: u8,
        /// The address of the DMA.
        iova: u64,
        /// The address of the memory that the device reads to compare, without the unit.
        gpa: u64,
        /// Bytes.
        count: u32,
    },
    /// All transfers end; interrupt messages since the last time are compared.
    Settle,
}

impl Step {
    /// The steps of a transfer, as writes to the device.
    pub fn dma_writes(&self) -> Vec<(u64, u64)> {
        let Self::Dma { edu, source, destination, count, command } = *self else { return vec![] };
        let bar = place::edu_bar(edu);
        vec![
            (bar + 0x80, source),
            (bar + 0x88, destination),
            (bar + 0x90, count),
            (bar + 0x98, command | 1),
        ]
    }

    /// The register writes of an `iommu-testdev`, up to the doorbell.
    pub fn writer_writes(&self) -> Vec<(u64, u32)> {
        let Self::Write { writer, iova, gpa, count } = *self else { return vec![] };
        let bar = place::writer_bar(writer);
        let halves = |at: u64, value: u64| [(at, value as u32), (at + 4, (value >> 32) as u32)];
        let addresses = [halves(bar + 0x04, iova), halves(bar + 0x1c, gpa)].concat();
        [addresses, vec![(bar + 0x0c, count), (bar + 0x14, 1)]].concat()
    }

    /// The step as commands of the qtest protocol.
    pub fn commands(&self) -> Vec<String> {
        match *self {
            Self::WriteLong(at, value) => vec![format!("writel {at:#x} {value:#x}")],
            Self::WriteQuad(at, value) => vec![format!("writeq {at:#x} {value:#x}")],
            Self::ReadLong(at, _) => vec![format!("readl {at:#x}")],
            Self::ReadQuad(at, _) => vec![format!("readq {at:#x}")],
            Self::Record => {
                RECORD.iter().map(|offset| format!("readl {:#x}", place::UNIT + offset)).collect()
            }
            Self::Peek(at, length) => vec![format!("read {at:#x} {length:#x}")],
            Self::Fill(at, length, value) => vec![format!("memset {at:#x} {length:#x} {value:#x}")],
            Self::Pattern(at, length) => {
                let digits = pattern(length).fold(String::new(), |mut text, byte| {
                    text.extend(
                        [byte >> 4, byte & 0xf]
                            .map(|n| char::from_digit(n.into(), 16))
                            .into_iter()
                            .flatten(),
                    );
                    text
                });
                vec![format!("write {at:#x} {length:#x} 0x{digits}")]
            }
            Self::Config(device, register, value) => {
                let latch = 0x8000_0000 | u32::from(device) << 11 | u32::from(register);
                vec![format!("outl 0xcf8 {latch:#x}"), format!("outl 0xcfc {value:#x}")]
            }
            Self::Dma { .. } => {
                let writes = self.dma_writes().into_iter();
                writes.map(|(at, value)| format!("writeq {at:#x} {value:#x}")).collect()
            }
            Self::Write { writer, .. } => {
                let writes = self.writer_writes().into_iter();
                let bar = place::writer_bar(writer);
                let reads = [format!("readl {bar:#x}"), format!("readl {:#x}", bar + 0x10)];
                writes
                    .map(|(at, value)| format!("writel {at:#x} {value:#x}"))
                    .chain(reads)
                    .collect()
            }
            Self::Settle => vec!["clock_step 100000000".to_owned()],
        }
    }
}

impl fmt::Display for Step {
    /// One line for each command, with what it means behind it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for command in self.commands() {
            let at = match *self {
                Self::WriteLong(at, _) | Self::WriteQuad(at, _) => Some(at),
                Self::ReadLong(at, _) | Self::ReadQuad(at, _) => Some(at),
                Self::Peek(at, _) | Self::Fill(at, _, _) | Self::Pattern(at, _) => Some(at),
                Self::Record => Some(place::UNIT + RECORD[0]),
                Self::Write { iova, .. } => {
                    writeln!(f, "{command:<40} # writer to {iova:#x}")?;
                    continue;
                }
                Self::Config(..) | Self::Dma { .. } | Self::Settle => None,
            };
            match at {
                Some(at) => writeln!(f, "{command:<40} # {}", place::name(at))?,
                None => writeln!(f, "{command}")?,
            }
        }
        Ok(())
    }
}

/// Steps that belong together: shrinking keeps or drops them together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Group {
    /// Its action, in words.
    pub label: String,
    /// The steps of the action.
    pub steps: Vec<Step>,
}

impl Group {
    /// A group with nothing in it yet.
    pub fn new(label: impl Into<String>) -> Self {
        Self { label: label.into(), steps: Vec::new() }
    }

    /// Adds a step.
    pub fn step(&mut self, step: Step) -> &mut Self {
        self.steps.push(step);
        self
    }

    /// Adds a write of a double word to the unit's register at `offset`.
    pub fn set(&mut self, offset: u16, value: u32) -> &mut Self {
        self.step(Step::WriteLong(place::UNIT + u64::from(offset), value))
    }

    /// Adds a write of a quad word to the unit's register at `offset`.
    pub fn set_quad(&mut self, offset: u16, value: u64) -> &mut Self {
        self.step(Step::WriteQuad(place::UNIT + u64::from(offset), value))
    }

    /// Adds a read of the unit's register at `offset`, compared in the bits of `mask`.
    pub fn check(&mut self, offset: u16, mask: u32) -> &mut Self {
        self.step(Step::ReadLong(place::UNIT + u64::from(offset), mask))
    }

    /// Adds a write of a quad word to memory.
    pub fn poke(&mut self, address: u64, value: u64) -> &mut Self {
        self.step(Step::WriteQuad(address, value))
    }
}

/// A script.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Script {
    /// Its groups, in their order.
    pub groups: Vec<Group>,
}

impl Script {
    /// The script without its first group, which is the same in all.
    pub fn body(&self) -> Self {
        Self { groups: self.groups.get(1..).unwrap_or_default().to_vec() }
    }

    /// All steps, in their order.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.groups.iter().flat_map(|group| &group.steps)
    }
}

impl fmt::Display for Script {
    /// A transcript that `ghostlink qtest` takes once its comments are cut off.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for group in &self.groups {
            writeln!(f, "# {}", group.label)?;
            for step in &group.steps {
                write!(f, "{step}")?;
            }
        }
        Ok(())
    }
}

/// The observation of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// Nothing to see.
    Nothing,
    /// A value, cut to the mask.
    Value(u64),
    /// Bytes of memory.
    Bytes(Vec<u8>),
    /// The fault record, if it holds a fault.
    Record(Option<[u32; 4]>),
    /// Interrupt messages that have got through: address and data.
    Messages(Vec<(u64, u32)>),
}

impl Observed {
    /// The observation of a fault record's double words.
    pub fn record(words: [u32; 4]) -> Self {
        let [low, high, source, status] = words;
        let fault = [low, high, source & 0x7fff_ffff, status & 0xf000_00ff];
        Self::Record((status >> 31 != 0).then_some(fault))
    }
}
