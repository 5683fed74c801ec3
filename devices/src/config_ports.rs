//! Configuration mechanism #1: an address latch at port 0xcf8, data at 0xcfc to 0xcff
//! (`PCI 3.0 3.2.2.3.2`).
//!
//! The latch only says where an access goes; the caller carries it out.

use bitfield_struct::bitfield;
use iommu::ids::Bdf;

/// The latch's port.
pub const ADDRESS_PORT: u16 = 0xcf8;
/// The first data port; one for each byte of a double word.
pub const DATA_PORT: u16 = 0xcfc;

/// The layout of the latch.
#[bitfield(u32)]
struct Address {
    /// Byte in the first 256 of the function's configuration space. The two low bits should be
    /// zero, but there is software that leaves them and reads 0xcfc.
    offset: u8,
    function: u16,
    #[bits(7)]
    __: u8,
    enable: bool,
}

/// Where in configuration space a data access goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigTarget {
    /// The function.
    pub function: Bdf,
    /// The offset in its configuration space.
    pub offset: u16,
}

/// The latch at port 0xcf8.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConfigPorts {
    address: u32,
}

impl ConfigPorts {
    /// A latch that enables nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The guest reads `data.len()` bytes at `port`. `Some`: the caller must read `data` from that
    /// place in configuration space; otherwise `data` is complete.
    pub fn read(&self, port: u16, data: &mut [u8]) -> Option<ConfigTarget> {
        data.fill(0xff);
        if let (ADDRESS_PORT, Ok(data)) = (port, <&mut [u8; 4]>::try_from(&mut *data)) {
            *data = self.address.to_le_bytes();
        }
        self.target(port, data.len())
    }

    /// The guest writes `data` to `port`. `Some`: the caller must write `data` to that place in
    /// configuration space; otherwise nothing is left to do.
    pub fn write(&mut self, port: u16, data: &[u8]) -> Option<ConfigTarget> {
        if let (ADDRESS_PORT, Ok(data)) = (port, <[u8; 4]>::try_from(data)) {
            self.address = u32::from_le_bytes(data) & WRITABLE.into_bits();
        }
        self.target(port, data.len())
    }

    /// Where `length` bytes at `port` go, `None` if nowhere.
    fn target(&self, port: u16, length: usize) -> Option<ConfigTarget> {
        let address = Address::from(self.address);
        let lane = u16::from(address.offset() % 4) + port.checked_sub(DATA_PORT)?;
        let fits = port < DATA_PORT + 4 && (1..=4).contains(&(usize::from(lane) + length));
        (address.enable() && fits && length > 0).then(|| ConfigTarget {
            function: Bdf::from_bits(address.function()),
            offset: u16::from(address.offset() & !3) + lane,
        })
    }
}

const WRITABLE: Address = Address::new().with_offset(0xff).with_function(0xffff).with_enable(true);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn latch(address: u32) -> ConfigPorts {
        let mut ports = ConfigPorts::new();
        assert_eq!(ports.write(ADDRESS_PORT, &address.to_le_bytes()), None);
        ports
    }

    fn target(bus: u8, device: u8, function: u8, offset: u16) -> Option<ConfigTarget> {
        Some(ConfigTarget { function: Bdf::new(bus, device, function), offset })
    }

    #[test]
    fn the_latch_reads_back_without_its_reserved_bits() {
        let mut data = [0; 4];
        assert_eq!(latch(0xffff_ffff).read(ADDRESS_PORT, &mut data), None);
        assert_eq!(u32::from_le_bytes(data), 0x80ff_ffff);
    }

    #[test]
    fn data_ports_select_byte_lanes() {
        let mut ports = latch(0x8001_0a04);
        assert_eq!(ports.write(0xcfc, &[0; 4]), target(1, 1, 2, 4));
        assert_eq!(ports.write(0xcfe, &[0; 2]), target(1, 1, 2, 6));
        assert_eq!(ports.read(0xcff, &mut [0]), target(1, 1, 2, 7));
        assert_eq!(ports.read(0xcfe, &mut [0; 4]), None);
    }

    #[test]
    fn low_bits_in_the_latch_select_byte_lanes_too() {
        let ports = latch(0x8000_0006);
        assert_eq!(ports.read(0xcfc, &mut [0; 2]), target(0, 0, 0, 6));
        assert_eq!(ports.read(0xcfd, &mut [0]), target(0, 0, 0, 7));
        assert_eq!(ports.read(0xcfd, &mut [0; 2]), None);
    }

    #[test]
    fn a_disabled_latch_leads_nowhere() {
        let mut data = [0; 4];
        assert_eq!(latch(0x0000_0800).read(0xcfc, &mut data), None);
        assert_eq!(data, [0xff; 4]);
    }

    proptest! {
        #[test]
        fn any_access_stays_within_one_double_word(
            address: u32, port: u16, mut data in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            let mut ports = latch(address);
            let targets = [ports.read(port, &mut data), ports.write(port, &data)];
            for ConfigTarget { offset, .. } in targets.into_iter().flatten() {
                prop_assert!(usize::from(offset % 4) + data.len() <= 4 && offset < 256);
            }
        }
    }
}
