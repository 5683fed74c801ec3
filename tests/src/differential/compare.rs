//! The comparison of two runs, one on each machine.

use std::fmt;

use super::place;
use super::script::{Observed, Script, Step};

/// The first step at which two runs differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The group that it is in.
    pub group: usize,
    /// The action of that group.
    pub label: String,
    /// The step.
    pub step: Step,
    /// The observation on our machine.
    pub ours: Observed,
    /// The observation on QEMU.
    pub qemu: Observed,
}

/// Compares what the steps of `script` have shown.
pub fn compare(script: &Script, ours: &[Observed], qemu: &[Observed]) -> Option<Difference> {
    let groups = script.groups.iter().enumerate();
    let steps =
        groups.flat_map(|(at, group)| group.steps.iter().map(move |step| (at, group, step)));
    let pairs = ours.iter().zip(qemu);
    let (found, pair) = steps.zip(pairs).find(|(_, (ours, qemu))| !agree(ours, qemu))?;
    let (group, in_group, step) = found;
    Some(Difference {
        group,
        label: in_group.label.clone(),
        step: step.clone(),
        ours: pair.0.clone(),
        qemu: pair.1.clone(),
    })
}

/// Whether both have seen the same. QEMU's I/O APIC leaves bit 14 of the data clear, which says that a
/// level is asserted; remapping sets it on both (`docs/differences.md`).
fn agree(ours: &Observed, qemu: &Observed) -> bool {
    const ASSERT: u32 = 1 << 14;
    match (ours, qemu) {
        (Observed::Messages(ours), Observed::Messages(qemu)) => {
            let mut pairs = ours.iter().zip(qemu);
            ours.len() == qemu.len()
                && pairs.all(|(ours, qemu)| {
                    let (address, data) = *qemu;
                    *ours == (address, data) || *ours == (address, data | ASSERT)
                })
        }
        _ => ours == qemu,
    }
}

impl Difference {
    /// The signature that must stay while a script is made smaller: the difference, and its bits.
    pub fn kind(&self) -> (Step, u64) {
        let bits = match (&self.ours, &self.qemu) {
            (Observed::Value(ours), Observed::Value(qemu)) => ours ^ qemu,
            (Observed::Messages(ours), Observed::Messages(qemu)) => {
                (ours.len() as u64) << 32 | qemu.len() as u64
            }
            (Observed::Record(Some(ours)), Observed::Record(Some(qemu))) => {
                u64::from(ours[3] ^ qemu[3])
            }
            _ => 0,
        };
        (self.step.clone(), bits)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.step {
            Step::ReadLong(at, _) | Step::ReadQuad(at, _) | Step::Peek(at, _) => place::name(at),
            Step::Record => "fault record".to_owned(),
            Step::Write { iova, .. } => format!("result of a write to {iova:#x}"),
            _ => "interrupt messages".to_owned(),
        };
        write!(f, "group {} ({}), {what}: ", self.group, self.label)?;
        match (&self.ours, &self.qemu) {
            (Observed::Value(ours), Observed::Value(qemu)) => {
                write!(f, "ours {ours:#x}, QEMU {qemu:#x}, differing in {:#x}", ours ^ qemu)
            }
            (Observed::Bytes(ours), Observed::Bytes(qemu)) => {
                let at = ours.iter().zip(qemu).position(|(a, b)| a != b).unwrap_or(0);
                let end = (at + 16).min(ours.len()).min(qemu.len());
                write!(
                    f,
                    "from byte {at:#x} ours {:02x?}, QEMU {:02x?}",
                    &ours[at..end],
                    &qemu[at..end]
                )
            }
            (ours, qemu) => write!(f, "ours {ours:x?}, QEMU {qemu:x?}"),
        }
    }
}
