//! What Identify returns (`NVMe 5.15.2`): 4 KiB each.

use super::features::WARNING_TEMPERATURE;
use super::logs::{ERROR_ENTRIES, put};
use super::spec::Status;
use super::storage::{BLOCK_SIZE, Storage};
use super::{MAX_TRANSFER_ORDER, VENDOR_ID, events, regs};

/// Bytes in each structure.
pub(super) const SIZE: usize = 4096;
/// The firmware's revision.
pub(super) const FIRMWARE: &[u8; 8] = b"1.0     ";
/// Characters in a serial number.
const SERIAL_LENGTH: usize = 20;
const MODEL_LENGTH: usize = 40;
const MODEL: &str = "ghostlink NVMe controller";

/// CNS values.
mod cns {
    pub(super) const NAMESPACE: u8 = 0;
    pub(super) const CONTROLLER: u8 = 1;
    pub(super) const ACTIVE_NAMESPACES: u8 = 2;
    pub(super) const NAMESPACE_DESCRIPTORS: u8 = 3;
}

/// What tells this controller from others.
#[derive(Debug)]
pub(super) struct Identity {
    serial: String,
}

impl Identity {
    /// Only the first 20 printable ASCII characters of `serial` count.
    pub(super) fn new(serial: &str) -> Self {
        let serial = serial.chars().filter(|char| matches!(char, ' '..='~'));
        Self { serial: serial.take(SERIAL_LENGTH).collect() }
    }

    /// The structure that `cns` asks for.
    pub(super) fn structure(
        &self,
        cns: u8,
        namespace: u32,
        namespaces: &[Box<dyn Storage>],
    ) -> Result<Vec<u8>, Status> {
        let count = namespaces.len();
        match cns {
            cns::CONTROLLER => Ok(self.controller(count)),
            cns::NAMESPACE => {
                let index = index(namespace, count)?;
                Ok(self.namespace(namespace, namespaces[index].blocks()))
            }
            cns::NAMESPACE_DESCRIPTORS => {
                index(namespace, count)?;
                Ok(self.descriptors(namespace))
            }
            cns::ACTIVE_NAMESPACES if namespace < 0xffff_fffe => {
                Ok(active_namespaces(namespace, count))
            }
            cns::ACTIVE_NAMESPACES => Err(Status::InvalidNamespace),
            _ => Err(Status::InvalidField),
        }
    }

    fn controller(&self, namespaces: usize) -> Vec<u8> {
        const CRITICAL_TEMPERATURE: u16 = WARNING_TEMPERATURE + 10;
        let mut data = vec![0; SIZE];
        put(&mut data, 0, &VENDOR_ID.to_le_bytes());
        put(&mut data, 2, &VENDOR_ID.to_le_bytes());
        put(&mut data, 4, &padded::<SERIAL_LENGTH>(&self.serial));
        put(&mut data, 24, &padded::<MODEL_LENGTH>(MODEL));
        put(&mut data, 64, FIRMWARE);
        put(&mut data, 77, &[MAX_TRANSFER_ORDER]);
        put(&mut data, 78, &1_u16.to_le_bytes()); // CNTLID
        put(&mut data, 80, &regs::VERSION.to_le_bytes());
        put(&mut data, 111, &[1]); // CNTRLTYPE: an I/O controller
        put(&mut data, 258, &[3]); // ACL
        put(&mut data, 259, &[events::MAX_REQUESTS as u8 - 1]); // AERL
        put(&mut data, 260, &[0b11]); // FRMW: one slot, read-only
        put(&mut data, 261, &[0b100]); // LPA: log pages from any offset
        put(&mut data, 262, &[ERROR_ENTRIES as u8 - 1]); // ELPE
        put(&mut data, 266, &WARNING_TEMPERATURE.to_le_bytes());
        put(&mut data, 268, &CRITICAL_TEMPERATURE.to_le_bytes());
        put(&mut data, 512, &[0x66, 0x44]); // SQES, CQES
        put(&mut data, 516, &(namespaces as u32).to_le_bytes()); // NN
        put(&mut data, 520, &0b1001_u16.to_le_bytes()); // ONCS: Compare, Write Zeroes
        put(&mut data, 525, &[0b111]); // VWC: there is one; Flush takes every namespace
        put(&mut data, 536, &1_u32.to_le_bytes()); // SGLS: supported, with any alignment
        let name = format!("nqn.2014-08.org.nvmexpress:ghostlink:{}", self.serial);
        put(&mut data, 768, name.as_bytes());
        put(&mut data, 2048, &500_u16.to_le_bytes()); // PSD0: 5 W
        data
    }

    fn namespace(&self, namespace: u32, blocks: u64) -> Vec<u8> {
        let mut data = vec![0; SIZE];
        for at in [0, 8, 16] {
            put(&mut data, at, &blocks.to_le_bytes()); // NSZE, NCAP, NUSE
        }
        put(&mut data, 120, &self.eui64(namespace));
        put(&mut data, 130, &[BLOCK_SIZE.trailing_zeros() as u8]); // LBAF0
        data
    }

    /// Namespace Identification Descriptors: the EUI-64.
    fn descriptors(&self, namespace: u32) -> Vec<u8> {
        let mut data = vec![0; SIZE];
        put(&mut data, 0, &[1, 8]);
        put(&mut data, 4, &self.eui64(namespace));
        data
    }

    /// Made of the serial number and the namespace's (by FNV-1a), with the bit set that says that nobody
    /// has assigned it.
    fn eui64(&self, namespace: u32) -> [u8; 8] {
        const LOCAL: u8 = 2;
        let bytes = self.serial.bytes().chain(namespace.to_le_bytes());
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        let mut bytes = hash.to_be_bytes();
        bytes[0] = bytes[0] & !1 | LOCAL;
        bytes
    }
}

/// The numbers above `namespace` of the namespaces that there are: 1 to `count`.
fn active_namespaces(namespace: u32, count: usize) -> Vec<u8> {
    let mut data = vec![0; SIZE];
    let above = (1..=count as u32).filter(|number| *number > namespace);
    for (entry, number) in data.as_chunks_mut::<4>().0.iter_mut().zip(above) {
        *entry = number.to_le_bytes();
    }
    data
}

/// Which of `count` namespaces has the number `namespace`.
pub(super) fn index(namespace: u32, count: usize) -> Result<usize, Status> {
    let index = usize::try_from(namespace).ok().and_then(|number| number.checked_sub(1));
    index.filter(|index| *index < count).ok_or(Status::InvalidNamespace)
}

fn padded<const LENGTH: usize>(text: &str) -> [u8; LENGTH] {
    let mut field = [b' '; LENGTH];
    for (to, from) in field.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    field
}
