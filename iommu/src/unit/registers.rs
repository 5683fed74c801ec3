//! The register file: the values, and the bits that a write changes. [`super::Unit::write`] decides
//! what else a write does.

use super::config::UnitConfig;
use crate::spec::capability::{Cap, Ecap};
use crate::spec::control::{
    ContextCommand, GlobalBits, InvalidateAddress, IotlbCommand, RootTableAddress,
};
use crate::spec::fault::{EventControl, FaultStatus};
use crate::spec::interrupt::InterruptTableAddress;
use crate::spec::offset;
use crate::spec::page_request::{
    PageRequestQueueAddress, PageRequestStatus, QUEUE_OFFSET as PAGE_REQUEST_OFFSET,
};
use crate::spec::queue::{QUEUE_OFFSET, QueueAddress, QueueErrorRecord};

/// Dwords in the unit's page.
const DWORDS: usize = 4096 / 4;

/// A register. Bits that are neither writable nor clearable are read-only.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) name: &'static str,
    pub(crate) offset: u16,
    /// Size in dwords, 1 or 2.
    pub(crate) dwords: u8,
    pub(crate) reset: u64,
    /// Bits that a write sets and clears.
    pub(crate) writable: u64,
    /// Bits that are cleared by writing 1.
    pub(crate) clearable: u64,
    /// Bits that every reset but a power-good reset keeps: RW1CS and ROS (`VT-d 11.3`).
    pub(crate) sticky: u64,
}

impl Layout {
    const fn dword(name: &'static str, offset: u16) -> Self {
        Self { name, offset, dwords: 1, reset: 0, writable: 0, clearable: 0, sticky: 0 }
    }

    const fn qword(name: &'static str, offset: u16) -> Self {
        Self { dwords: 2, ..Self::dword(name, offset) }
    }

    const fn reset(self, reset: u64) -> Self {
        Self { reset, ..self }
    }

    const fn writable(self, writable: u64) -> Self {
        Self { writable, ..self }
    }

    const fn clearable(self, clearable: u64) -> Self {
        Self { clearable, ..self }
    }

    const fn sticky(self, sticky: u64) -> Self {
        Self { sticky, ..self }
    }
}

const IM: u64 = EventControl::new().with_masked(true).into_bits() as u64;

/// The four registers of an event: FECTL, IECTL or PECTL, and the next three.
const fn event(names: [&'static str; 4], offset: u16) -> [Layout; 4] {
    [
        Layout::dword(names[0], offset).reset(IM).writable(IM),
        Layout::dword(names[1], offset + 4).writable(0xffff),
        Layout::dword(names[2], offset + 8).writable(0xffff_fffc),
        Layout::dword(names[3], offset + 12).writable(0xffff_ffff),
    ]
}

/// All registers of a unit with these settings (`VT-d 11.4`).
pub(crate) fn layouts(config: &UnitConfig) -> Vec<Layout> {
    let address = !0xfff_u64 & !config.beyond_host();
    let queue_address = QueueAddress::new().with_size(7).with_wide(config.scalable_mode);
    let status = FaultStatus::new()
        .with_overflow(true)
        .with_queue_error(true)
        .with_completion_error(true)
        .with_timeout_error(true);
    let mut registers = vec![
        Layout::dword("VER", offset::VER).reset(u64::from(config.version.into_bits())),
        Layout::qword("CAP", offset::CAP).reset(config.cap().into_bits()),
        Layout::qword("ECAP", offset::ECAP).reset(config.ecap().into_bits()),
        // GCMD reads as 0: its value is not stored.
        Layout::dword("GCMD", offset::GCMD),
        Layout::dword("GSTS", offset::GSTS),
        Layout::qword("RTADDR", offset::RTADDR)
            .writable(address | RootTableAddress::new().with_mode(3).into_bits()),
        Layout::qword("CCMD", offset::CCMD)
            .writable(!ContextCommand::new().with_actual(3).into_bits() & !(0x1ff_ffff << 34)),
        Layout::dword("FSTS", offset::FSTS)
            .clearable(u64::from(status.into_bits()))
            .sticky(u64::from(status.with_pending(true).with_record_index(!0).into_bits())),
        Layout::qword("IQH", offset::IQH),
        Layout::qword("IQT", offset::IQT).writable(u64::from(QUEUE_OFFSET)),
        Layout::qword("IQA", offset::IQA).writable(address | queue_address.into_bits()),
        Layout::dword("ICS", offset::ICS).clearable(1).sticky(1),
        Layout::qword("IQERCD", offset::IQERCD).sticky(!0),
        Layout::qword("IVA", offset::IVA).writable(!0xf80),
        Layout::qword("IOTLB", offset::IOTLB).writable(
            IotlbCommand::new()
                .with_domain(!0)
                .with_drain_writes(true)
                .with_drain_reads(true)
                .with_granularity(3)
                .with_start(true)
                .into_bits(),
        ),
    ];
    registers.extend(event(["FECTL", "FEDATA", "FEADDR", "FEUADDR"], offset::FECTL));
    registers.extend(event(["IECTL", "IEDATA", "IEADDR", "IEUADDR"], offset::IECTL));
    if config.page_requests {
        registers.extend(page_request_queue(address));
    }
    if config.interrupt_remapping {
        let table = InterruptTableAddress::new().with_size(0xf);
        let table = table.with_extended(config.extended_interrupt_mode).into_bits();
        registers.push(Layout::qword("IRTA", offset::IRTA).writable(address | table));
    }
    for record in 0..u16::from(config.fault_records) {
        let base = offset::FRCD + 16 * record;
        registers.push(Layout::qword("FRCD", base).sticky(!0));
        registers.push(Layout::qword("FRCD", base + 8).clearable(1 << 63).sticky(!0));
    }
    registers
}

/// The registers of the page request queue (`VT-d 11.4.11`). Software initializes PQT by a write.
fn page_request_queue(address: u64) -> Vec<Layout> {
    let queue = PageRequestQueueAddress::new().with_size(7).into_bits();
    let status = PageRequestStatus::new().with_pending(true).with_overflow(true);
    let mut registers = vec![
        Layout::qword("PQH", offset::PQH).writable(u64::from(PAGE_REQUEST_OFFSET)),
        Layout::qword("PQT", offset::PQT).writable(u64::from(PAGE_REQUEST_OFFSET)),
        Layout::qword("PQA", offset::PQA).writable(address | queue),
        Layout::dword("PRS", offset::PRS)
            .clearable(u64::from(status.into_bits()))
            .sticky(u64::from(status.into_bits())),
    ];
    registers.extend(event(["PECTL", "PEDATA", "PEADDR", "PEUADDR"], offset::PECTL));
    registers
}

/// Values and masks of all registers, a dword each.
#[derive(Debug)]
pub(crate) struct Registers {
    words: Box<[u32; DWORDS]>,
    writable: Box<[u32; DWORDS]>,
    clearable: Box<[u32; DWORDS]>,
}

impl Registers {
    pub(crate) fn new(config: &UnitConfig) -> Self {
        let empty = || Box::new([0; DWORDS]);
        let mut file = Self { words: empty(), writable: empty(), clearable: empty() };
        for register in layouts(config) {
            for half in 0..u16::from(register.dwords) {
                let index = usize::from(register.offset / 4 + half);
                let part = |bits: u64| (bits >> (32 * half)) as u32;
                file.words[index] = part(register.reset);
                file.writable[index] = part(register.writable);
                file.clearable[index] = part(register.clearable);
            }
        }
        file
    }

    /// The sticky bits that are set, as offsets and values of dwords.
    pub(crate) fn sticky(&self, config: &UnitConfig) -> Vec<(u16, u32)> {
        let dwords = layouts(config).into_iter().flat_map(|register| {
            (0..u16::from(register.dwords)).map(move |half| {
                (register.offset + 4 * half, (register.sticky >> (32 * half)) as u32)
            })
        });
        let values = dwords.map(|(offset, sticky)| (offset, self.read(offset) & sticky));
        values.filter(|(_, value)| *value != 0).collect()
    }

    /// Sets sticky bits, which [`Self::sticky`] has returned for a unit with the same settings.
    pub(crate) fn restore(&mut self, sticky: &[(u16, u32)]) {
        for (offset, value) in sticky {
            self.set(*offset, *value);
        }
    }

    /// The dword at `offset`, a multiple of 4. It is 0 where there is no register.
    pub(crate) fn read(&self, offset: u16) -> u32 {
        self.words.get(usize::from(offset / 4)).copied().unwrap_or(0)
    }

    /// Writes the dword at `offset`, as far as software may change it. Returns the former value.
    pub(crate) fn write(&mut self, offset: u16, value: u32) -> u32 {
        let index = usize::from(offset / 4);
        let Some(word) = self.words.get_mut(index) else { return 0 };
        let old = *word;
        let kept = old & !self.writable[index] & !(value & self.clearable[index]);
        *word = kept | (value & self.writable[index]);
        old
    }

    fn read64(&self, offset: u16) -> u64 {
        u64::from(self.read(offset)) | u64::from(self.read(offset + 4)) << 32
    }

    fn set(&mut self, offset: u16, value: u32) {
        if let Some(word) = self.words.get_mut(usize::from(offset / 4)) {
            *word = value;
        }
    }

    fn set64(&mut self, offset: u16, value: u64) {
        self.set(offset, value as u32);
        self.set(offset + 4, (value >> 32) as u32);
    }

    /// The low and high half of a fault record.
    pub(crate) fn fault_record(&self, index: u8) -> (u64, u64) {
        let base = offset::FRCD + 16 * u16::from(index);
        (self.read64(base), self.read64(base + 8))
    }

    pub(crate) fn set_fault_record(&mut self, index: u8, (low, high): (u64, u64)) {
        let base = offset::FRCD + 16 * u16::from(index);
        self.set64(base, low);
        self.set64(base + 8, high);
    }

    /// The queue offset in IQT, which may be misaligned.
    pub(crate) fn tail(&self) -> u32 {
        self.read(offset::IQT)
    }

    pub(crate) fn set_head(&mut self, bytes: u32) {
        self.set(offset::IQH, bytes);
    }

    pub(crate) fn head(&self) -> u32 {
        self.read(offset::IQH)
    }

    pub(crate) fn page_request_head(&self) -> u32 {
        self.read(offset::PQH)
    }

    pub(crate) fn page_request_tail(&self) -> u32 {
        self.read(offset::PQT)
    }

    pub(crate) fn set_page_request_tail(&mut self, bytes: u32) {
        self.set(offset::PQT, bytes);
    }

    pub(crate) fn event_control(&self, at: u16) -> EventControl {
        EventControl::from_bits(self.read(at))
    }

    pub(crate) fn set_event_control(&mut self, at: u16, control: EventControl) {
        self.set(at, control.into_bits());
    }
}

macro_rules! typed {
    ($($get:ident, $set:ident, $offset:ident, $type:ident, $read:ident, $write:ident;)*) => {
        /// Accessors of registers by name.
        #[allow(dead_code, reason = "each register has both accessors, used or not")]
        impl Registers {
            $(
                pub(crate) fn $get(&self) -> $type {
                    $type::from_bits(self.$read(offset::$offset))
                }

                pub(crate) fn $set(&mut self, value: $type) {
                    self.$write(offset::$offset, value.into_bits());
                }
            )*
        }
    };
}

typed! {
    cap, set_cap, CAP, Cap, read64, set64;
    ecap, set_ecap, ECAP, Ecap, read64, set64;
    status, set_status, GSTS, GlobalBits, read, set;
    root_table, set_root_table, RTADDR, RootTableAddress, read64, set64;
    context_command, set_context_command, CCMD, ContextCommand, read64, set64;
    fault_status, set_fault_status, FSTS, FaultStatus, read, set;
    queue_address, set_queue_address, IQA, QueueAddress, read64, set64;
    interrupt_table, set_interrupt_table, IRTA, InterruptTableAddress, read64, set64;
    error_record, set_error_record, IQERCD, QueueErrorRecord, read64, set64;
    invalidate_address, set_invalidate_address, IVA, InvalidateAddress, read64, set64;
    iotlb_command, set_iotlb_command, IOTLB, IotlbCommand, read64, set64;
    page_request_queue, set_page_request_queue, PQA, PageRequestQueueAddress, read64, set64;
    page_request_status, set_page_request_status, PRS, PageRequestStatus, read, set;
}

/// ICS.IWC: a wait descriptor with IF=1 has completed.
impl Registers {
    pub(crate) fn wait_completed(&self) -> bool {
        self.read(offset::ICS) & 1 != 0
    }

    pub(crate) fn set_wait_completed(&mut self) {
        self.set(offset::ICS, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::UnitRole;
    use proptest::prelude::*;

    fn config(scalable_mode: bool) -> UnitConfig {
        if scalable_mode {
            UnitConfig::full(UnitRole::Guest)
        } else {
            UnitConfig::new(UnitRole::Guest)
        }
    }

    #[test]
    fn registers_do_not_overlap() {
        let mut owner = [None; DWORDS];
        for register in layouts(&config(true)) {
            for half in 0..u16::from(register.dwords) {
                let slot = &mut owner[usize::from(register.offset / 4 + half)];
                assert_eq!(*slot, None, "{} overlaps", register.name);
                *slot = Some(register.name);
            }
            assert_eq!(register.writable & register.clearable, 0, "{}", register.name);
        }
    }

    proptest! {
        #[test]
        fn a_write_changes_only_writable_bits(offset in 0_u16..0x1000, value: u32, scalable: bool) {
            let offset = offset & !3;
            let mut file = Registers::new(&config(scalable));
            let index = usize::from(offset / 4);
            let before = file.read(offset);
            file.write(offset, value);
            let after = file.read(offset);
            let (writable, clearable) = (file.writable[index], file.clearable[index]);
            prop_assert_eq!(after & writable, value & writable);
            prop_assert_eq!(after & clearable, before & !value & clearable);
            let rest = !(writable | clearable);
            prop_assert_eq!(after & rest, before & rest);
        }
    }
}
