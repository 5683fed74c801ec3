//! The data structures of Identify (`NVMe 5.15.2`), 4 KiB each.

use super::model::{
    CRITICAL_TEMPERATURE, ERROR_LOG_ENTRIES, FIRMWARE, MAX_EVENT_REQUESTS, MAX_TRANSFER_ORDER,
    MODEL, VENDOR_ID, WARNING_TEMPERATURE,
};
use super::regs;
use super::spec::identify::controller::{self, *};
use super::spec::identify::{SIZE, cns, descriptor, namespace, primary, secondary};
use super::spec::{COMMAND_SIZE_ORDER, COMPLETION_SIZE_ORDER, Status, namespace_index, put};
use super::storage::{BLOCK_SIZE, Storage};

/// Aborts that can be outstanding.
const ABORT_LIMIT: u8 = 4;
/// Maximum power, in 10 mW.
const MAX_POWER: u16 = 500;

/// The Controller ID of a physical function. Those of its virtual functions follow.
const FIRST_CONTROLLER: u16 = 1;

/// The place of a controller among those of its device (`NVMe 8.5`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It is the only one.
    Alone,
    /// The primary controller: the physical function.
    Primary {
        /// Its secondary controllers.
        total: u16,
        /// Those that are online, from the first: their virtual functions are enabled.
        online: u16,
    },
    /// A secondary controller.
    Secondary {
        /// Its virtual function's number, from 1 up.
        number: u16,
    },
}

impl Role {
    pub(super) fn is_secondary(self) -> bool {
        matches!(self, Self::Secondary { .. })
    }

    /// CNTLID.
    fn controller(self) -> u16 {
        match self {
            Self::Alone | Self::Primary { .. } => FIRST_CONTROLLER,
            Self::Secondary { number } => FIRST_CONTROLLER + number,
        }
    }

    /// CMIC.
    fn sharing(self) -> u8 {
        match self {
            Self::Alone => 0,
            Self::Primary { .. } => SEVERAL_CONTROLLERS,
            Self::Secondary { .. } => SEVERAL_CONTROLLERS | VIRTUAL_FUNCTION,
        }
    }
}

/// The identification of this controller.
#[derive(Debug)]
pub(super) struct Identity {
    serial: String,
    /// Those of configuration space.
    vendor: u16,
    subsystem_vendor: u16,
    pub(super) role: Role,
}

impl Identity {
    /// The Serial Number is the first 20 printable ASCII characters of `serial`.
    pub(super) fn new(serial: &str, role: Role) -> Self {
        let serial = serial.chars().filter(|char| matches!(char, ' '..='~'));
        let serial = serial.take(SN_LENGTH).collect();
        Self { serial, vendor: VENDOR_ID, subsystem_vendor: VENDOR_ID, role }
    }

    /// Configuration space has other vendors.
    pub(super) fn set_vendors(&mut self, vendor: Option<u16>, subsystem_vendor: Option<u16>) {
        self.vendor = vendor.unwrap_or(self.vendor);
        self.subsystem_vendor = subsystem_vendor.or(vendor).unwrap_or(self.subsystem_vendor);
    }

    /// The structure `cns`. `first` is the first Controller ID of a list of controllers.
    pub(super) fn structure(
        &self,
        cns: u8,
        first: u16,
        namespace: u32,
        namespaces: &[Box<dyn Storage>],
    ) -> Result<Vec<u8>, Status> {
        let count = namespaces.len();
        match cns {
            cns::CONTROLLER => Ok(self.controller(count)),
            cns::NAMESPACE => {
                let index = namespace_index(namespace, count)?;
                Ok(self.namespace(namespace, namespaces[index].blocks()))
            }
            cns::NAMESPACE_DESCRIPTORS => {
                namespace_index(namespace, count)?;
                Ok(self.descriptors(namespace))
            }
            cns::ACTIVE_NAMESPACES if namespace < 0xffff_fffe => {
                Ok(active_namespaces(namespace, count))
            }
            cns::ACTIVE_NAMESPACES => Err(Status::InvalidNamespace),
            // Of the primary controller that executes the command.
            cns::PRIMARY_CAPABILITIES | cns::SECONDARY_CONTROLLERS => match self.role {
                Role::Primary { .. } if cns == cns::PRIMARY_CAPABILITIES => {
                    let mut data = vec![0; SIZE];
                    put(&mut data, primary::CNTLID, &FIRST_CONTROLLER.to_le_bytes());
                    Ok(data)
                }
                Role::Primary { total, online } => Ok(secondary_controllers(first, total, online)),
                Role::Alone | Role::Secondary { .. } => Err(Status::InvalidField),
            },
            _ => Err(Status::InvalidField),
        }
    }

    fn controller(&self, namespaces: usize) -> Vec<u8> {
        // The required size, and the maximum, which is the same.
        let entry_size = |order: u8| order << 4 | order;
        let mut data = vec![0; SIZE];
        put(&mut data, VID, &self.vendor.to_le_bytes());
        put(&mut data, SSVID, &self.subsystem_vendor.to_le_bytes());
        put(&mut data, SN, &padded::<SN_LENGTH>(&self.serial));
        put(&mut data, MN, &padded::<MN_LENGTH>(MODEL));
        put(&mut data, FR, FIRMWARE);
        put(&mut data, CMIC, &[self.role.sharing()]);
        put(&mut data, MDTS, &[MAX_TRANSFER_ORDER]);
        put(&mut data, CNTLID, &self.role.controller().to_le_bytes());
        put(&mut data, VER, &regs::VERSION.to_le_bytes());
        put(&mut data, CNTRLTYPE, &[IO_CONTROLLER]);
        put(&mut data, ACL, &[ABORT_LIMIT - 1]);
        put(&mut data, AERL, &[MAX_EVENT_REQUESTS as u8 - 1]);
        put(&mut data, FRMW, &[ONE_READ_ONLY_SLOT]);
        put(&mut data, LPA, &[LOG_PAGE_OFFSET]);
        put(&mut data, ELPE, &[ERROR_LOG_ENTRIES as u8 - 1]);
        put(&mut data, WCTEMP, &WARNING_TEMPERATURE.to_le_bytes());
        put(&mut data, CCTEMP, &CRITICAL_TEMPERATURE.to_le_bytes());
        put(&mut data, SQES, &[entry_size(COMMAND_SIZE_ORDER)]);
        put(&mut data, CQES, &[entry_size(COMPLETION_SIZE_ORDER)]);
        put(&mut data, NN, &(namespaces as u32).to_le_bytes());
        put(&mut data, ONCS, &(controller::COMPARE | controller::WRITE_ZEROES).to_le_bytes());
        put(&mut data, VWC, &[CACHE_AND_FLUSH_ALL]);
        put(&mut data, SGLS, &SGL_ANY_ALIGNMENT.to_le_bytes());
        let name = format!("nqn.2014-08.org.nvmexpress:ghostlink:{}", self.serial);
        put(&mut data, SUBNQN, name.as_bytes());
        put(&mut data, PSD0, &MAX_POWER.to_le_bytes());
        data
    }

    fn namespace(&self, id: u32, blocks: u64) -> Vec<u8> {
        let mut data = vec![0; SIZE];
        for at in [namespace::NSZE, namespace::NCAP, namespace::NUSE] {
            put(&mut data, at, &blocks.to_le_bytes());
        }
        let shared = self.role != Role::Alone;
        put(&mut data, namespace::NMIC, &[if shared { namespace::SHARED } else { 0 }]);
        put(&mut data, namespace::EUI64, &self.eui64(id));
        put(&mut data, namespace::LBADS0, &[BLOCK_SIZE.trailing_zeros() as u8]);
        data
    }

    /// Namespace Identification Descriptors: one with the EUI-64.
    fn descriptors(&self, namespace: u32) -> Vec<u8> {
        let mut data = vec![0; SIZE];
        let identifier = self.eui64(namespace);
        put(&mut data, descriptor::NIDT, &[descriptor::EUI64]);
        put(&mut data, descriptor::NIDL, &[identifier.len() as u8]);
        put(&mut data, descriptor::NID, &identifier);
        data
    }

    /// An FNV-1a hash of the serial number and the namespace id. The bit for locally administered
    /// ids is set.
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

/// The Active Namespace ID list: those of 1 to `count` that are above `namespace`.
fn active_namespaces(namespace: u32, count: usize) -> Vec<u8> {
    let mut data = vec![0; SIZE];
    let above = (1..=count as u32).filter(|number| *number > namespace);
    for (entry, number) in data.as_chunks_mut::<4>().0.iter_mut().zip(above) {
        *entry = number.to_le_bytes();
    }
    data
}

/// The list of the secondary controllers from the Controller ID `first` up: `total` in all, of which
/// the first `online` are online.
fn secondary_controllers(first: u16, total: u16, online: u16) -> Vec<u8> {
    let mut data = vec![0; SIZE];
    let listed = (1..=total).filter(|number| FIRST_CONTROLLER + number >= first);
    let listed: Vec<u16> = listed.take(secondary::MAX_ENTRIES).collect();
    put(&mut data, secondary::NUMBER, &[listed.len() as u8]);
    let entries = data[secondary::ENTRIES..].chunks_exact_mut(secondary::ENTRY_SIZE);
    for (entry, number) in entries.zip(listed) {
        let state = if number <= online { secondary::ONLINE } else { 0 };
        put(entry, secondary::SCID, &(FIRST_CONTROLLER + number).to_le_bytes());
        put(entry, secondary::PCID, &FIRST_CONTROLLER.to_le_bytes());
        put(entry, secondary::SCS, &[state]);
        put(entry, secondary::VFN, &number.to_le_bytes());
    }
    data
}

fn padded<const LENGTH: usize>(text: &str) -> [u8; LENGTH] {
    let mut field = [b' '; LENGTH];
    for (to, from) in field.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    field
}
