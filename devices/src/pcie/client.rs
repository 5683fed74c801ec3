//! Software's side of configuration space: typed accesses to one function, the walk of its
//! capabilities, and what firmware and drivers write there.

use iommu::ats;
use iommu::ids::Bdf;
use iommu::time::Instant;

use super::config::{CONFIG_SPACE_SIZE, Layout};
use super::spec::header::{
    BAR0, CAPABILITIES_POINTER, COMMAND, Command, ExtendedHeader, FIRST_CAPABILITY, FIRST_EXTENDED,
    MEMORY_BASE, MEMORY_LIMIT, SECONDARY_BUS, STATUS, SUBORDINATE_BUS, Status, WINDOW_ADDRESS,
};
use super::spec::{ats as ats_capability, msi};

/// Capabilities that fit below offset 0x100, four bytes each.
pub const MAX_CAPABILITIES: usize = 48;
/// Extended capabilities that fit from offset 0x100 on, eight bytes each.
pub const MAX_EXTENDED_CAPABILITIES: usize = (CONFIG_SPACE_SIZE - FIRST_EXTENDED) as usize / 8;

/// Carries configuration requests to functions. An access must lie inside one aligned double word.
pub trait ConfigAccess {
    /// Reads all ones where no function answers.
    fn config_read(&mut self, function: Bdf, offset: u16, data: &mut [u8], now: Instant);

    /// Has no effect where no function answers.
    fn config_write(&mut self, function: Bdf, offset: u16, data: &[u8], now: Instant);
}

/// The configuration space of one function, as software reaches it at `now`.
#[derive(Debug)]
pub struct ConfigClient<'a, A: ?Sized> {
    access: &'a mut A,
    function: Bdf,
    now: Instant,
}

impl<'a, A: ConfigAccess + ?Sized> ConfigClient<'a, A> {
    /// The configuration space of `function`, by way of `access`.
    pub fn new(access: &'a mut A, function: Bdf, now: Instant) -> Self {
        Self { access, function, now }
    }

    /// Reads the register at `offset`.
    pub fn read<T: Layout>(&mut self, offset: u16) -> T {
        let mut bytes = [0; 4];
        let data = &mut bytes[..usize::from(T::SIZE)];
        self.access.config_read(self.function, offset, data, self.now);
        T::from_word(u32::from_le_bytes(bytes))
    }

    /// Writes the register at `offset`.
    pub fn write<T: Layout>(&mut self, offset: u16, value: T) {
        let bytes = value.to_word().to_le_bytes();
        let data = &bytes[..usize::from(T::SIZE)];
        self.access.config_write(self.function, offset, data, self.now);
    }

    /// Id and offset of each capability. A list that loops ends after [`MAX_CAPABILITIES`].
    pub fn capabilities(&mut self) -> impl Iterator<Item = (u8, u16)> {
        let status = self.read::<Status>(STATUS);
        // Status has bits that are reserved: it reads all ones only if no function answers.
        let has_list = status.capabilities_list() && status.into_bits() != u16::MAX;
        let mut next: u8 = if has_list { self.read(CAPABILITIES_POINTER) } else { 0 };
        let step = move || {
            let offset = u16::from(next & !3);
            if offset < FIRST_CAPABILITY {
                return None;
            }
            let [id, after] = self.read::<u16>(offset).to_le_bytes();
            next = after;
            Some((id, offset))
        };
        std::iter::from_fn(step).take(MAX_CAPABILITIES)
    }

    /// Id and offset of each extended capability. A list that loops ends after
    /// [`MAX_EXTENDED_CAPABILITIES`].
    pub fn extended_capabilities(&mut self) -> impl Iterator<Item = (u16, u16)> {
        let mut next = FIRST_EXTENDED;
        let step = move || {
            let offset = next & !3;
            if offset < FIRST_EXTENDED {
                return None;
            }
            let header = self.read::<ExtendedHeader>(offset);
            next = header.next();
            (!matches!(header.into_bits(), 0 | u32::MAX)).then_some((header.id(), offset))
        };
        std::iter::from_fn(step).take(MAX_EXTENDED_CAPABILITIES)
    }

    /// The offset of the capability `id`.
    pub fn capability(&mut self, id: u8) -> Option<u16> {
        self.capabilities().find(|found| found.0 == id).map(|found| found.1)
    }

    /// The offset of the extended capability `id`.
    pub fn extended_capability(&mut self, id: u16) -> Option<u16> {
        self.extended_capabilities().find(|found| found.0 == id).map(|found| found.1)
    }

    /// Gives BAR 0, of 32 bits, an address.
    pub fn set_bar0(&mut self, address: u32) {
        self.write(BAR0, address);
    }

    /// Writes the Command register.
    pub fn set_command(&mut self, command: Command) {
        self.write(COMMAND, command);
    }

    /// Numbers the buses below a port.
    pub fn set_buses(&mut self, secondary: u8, subordinate: u8) {
        self.write(SECONDARY_BUS, secondary);
        self.write(SUBORDINATE_BUS, subordinate);
    }

    /// Gives a port the memory from `base` to `last`, as whole MiB.
    pub fn set_memory_window(&mut self, base: u32, last: u32) {
        self.write(MEMORY_BASE, (base >> 16) as u16 & WINDOW_ADDRESS);
        self.write(MEMORY_LIMIT, (last >> 16) as u16 & WINDOW_ADDRESS);
    }

    /// Turns ATS on in the capability at `ats`, with pages of 4 KiB.
    pub fn enable_ats(&mut self, ats: u16) {
        let control = ats_capability::Control::new().with_enable(true);
        self.write(ats + ats_capability::CONTROL, control);
    }

    /// Turns ATS off in the capability at `ats`.
    pub fn disable_ats(&mut self, ats: u16) {
        self.write(ats + ats_capability::CONTROL, ats_capability::Control::new());
    }

    /// Turns MSI on in the capability at `msi`, with one vector that sends `message`.
    pub fn enable_msi(&mut self, msi: u16, message: ats::Msi) {
        self.write(msi + msi::ADDRESS, message.address as u32);
        self.write(msi + msi::UPPER_ADDRESS, (message.address >> 32) as u32);
        self.write(msi + msi::DATA, message.data as u16);
        self.write(msi + msi::CONTROL, msi::Control::new().with_enable(true));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A function without registers but those of one array.
    struct Bytes(Vec<u8>);

    impl ConfigAccess for Bytes {
        fn config_read(&mut self, _: Bdf, offset: u16, data: &mut [u8], _: Instant) {
            let at = usize::from(offset);
            data.copy_from_slice(&self.0[at..at + data.len()]);
        }

        fn config_write(&mut self, _: Bdf, offset: u16, data: &[u8], _: Instant) {
            let at = usize::from(offset);
            self.0[at..at + data.len()].copy_from_slice(data);
        }
    }

    fn client(bytes: &mut Bytes) -> ConfigClient<'_, Bytes> {
        ConfigClient::new(bytes, Bdf::default(), Instant::START)
    }

    #[test]
    fn a_walk_ends_where_the_list_loops_and_where_no_function_answers() {
        let mut loops = Bytes(vec![0; 4096]);
        let mut function = client(&mut loops);
        function.write(STATUS, Status::new().with_capabilities_list(true));
        function.write(CAPABILITIES_POINTER, 0x43_u8);
        function.write(0x40, 0x4005_u16);
        function.write(0x100, ExtendedHeader::new().with_id(0xf).with_next(0x100));
        assert_eq!(function.capabilities().collect::<Vec<_>>(), [(5, 0x40); MAX_CAPABILITIES]);
        assert_eq!(function.capability(5), Some(0x40));
        assert_eq!(function.capability(6), None);
        let extended: Vec<_> = function.extended_capabilities().collect();
        assert_eq!(extended, [(0xf, 0x100); MAX_EXTENDED_CAPABILITIES]);
        assert_eq!(function.extended_capability(0x10), None);

        let mut absent = Bytes(vec![0xff; 4096]);
        let mut function = client(&mut absent);
        assert_eq!(function.capabilities().count(), 0);
        assert_eq!(function.extended_capabilities().count(), 0);
    }

    #[test]
    fn a_function_without_a_list_has_no_capabilities() {
        let mut bytes = Bytes(vec![0; 4096]);
        let mut function = client(&mut bytes);
        function.write(CAPABILITIES_POINTER, 0x40_u8);
        assert_eq!(function.capabilities().count(), 0);
        assert_eq!(function.extended_capabilities().count(), 0);
    }
}
