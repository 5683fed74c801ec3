//! The host bridge of a q35: its ids, and the register that places ECAM.

use bitfield_struct::bitfield;

use super::config::{ConfigSpace, Register};
use super::header::{self, ConfigBuilder, HeaderType, Identity};

/// The ids of the q35, which firmware and drivers know.
const IDENTITY: Identity =
    Identity { vendor: 0x8086, device: 0x29c0, class: 0x06_00_00, revision: 0 };

/// Offset of PCIEXBAR, 64 bits.
pub const PCIEXBAR: u16 = 0x60;

/// PCIEXBAR: the address of ECAM (Intel 3 Series Chipset, 5.1.17).
#[bitfield(u64)]
pub struct PcieBar {
    /// ECAM is enabled.
    pub enable: bool,
    /// 0: 256 buses, 1: 128, 2: 64.
    #[bits(2)]
    pub length: u8,
    #[bits(23)]
    __: u32,
    /// Address bits 35:26; those below the window's size are ignored.
    #[bits(10)]
    pub base: u16,
    #[bits(28)]
    __: u32,
}

/// A window in memory through which configuration space is reached (`PCIe 7.2.2`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EcamWindow {
    /// First address.
    pub base: u64,
    /// Bytes.
    pub size: u64,
}

impl EcamWindow {
    /// The offset in the window of `length` bytes at `address`, if all of them lie inside.
    pub fn offset(self, address: u64, length: usize) -> Option<u64> {
        header::offset(self.base, self.size, address, length)
    }
}

/// The host bridge at 00:00.0.
#[derive(Debug)]
pub struct HostBridge {
    config: ConfigSpace,
}

impl Default for HostBridge {
    fn default() -> Self {
        // A register of 64 bits is declared as two.
        let reset = PcieBar::new().with_base(0xb000_0000_u64.wrapping_shr(26) as u16);
        let writable = PcieBar::new().with_enable(true).with_length(3).with_base(0x3ff);
        let halves = |bar: PcieBar| (bar.into_bits() as u32, (bar.into_bits() >> 32) as u32);
        let ((reset, reset_high), (mask, mask_high)) = (halves(reset), halves(writable));
        let mut builder = ConfigBuilder::new(IDENTITY, HeaderType::Endpoint);
        builder.declare(PCIEXBAR, Register::new(reset).writable(mask));
        builder.declare(PCIEXBAR + 4, Register::new(reset_high).writable(mask_high));
        Self { config: builder.build() }
    }
}

impl HostBridge {
    /// The host bridge's configuration space.
    pub fn config(&self) -> &ConfigSpace {
        &self.config
    }

    /// Software writes to configuration space.
    pub fn config_write(&mut self, offset: u16, data: &[u8]) {
        self.config.write(offset, data);
    }

    /// The ECAM window, `None` while it is disabled, as after power-on.
    pub fn ecam(&self) -> Option<EcamWindow> {
        let low = u64::from(self.config.get::<u32>(PCIEXBAR));
        let high = u64::from(self.config.get::<u32>(PCIEXBAR + 4));
        let bar = PcieBar::from_bits(low | high << 32);
        let size = match bar.length() {
            0 => 256 << 20,
            1 => 128 << 20,
            2 => 64 << 20,
            _ => return None,
        };
        let base = u64::from(bar.base()) << 26 & !(size - 1);
        bar.enable().then_some(EcamWindow { base, size })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ecam(pciexbar: u64) -> Option<EcamWindow> {
        let mut bridge = HostBridge::default();
        bridge.config_write(PCIEXBAR, &(pciexbar as u32).to_le_bytes());
        bridge.config_write(PCIEXBAR + 4, &((pciexbar >> 32) as u32).to_le_bytes());
        bridge.ecam()
    }

    #[test]
    fn ecam_is_off_after_power_on_at_the_address_that_firmware_uses() {
        let bridge = HostBridge::default();
        assert_eq!(bridge.ecam(), None);
        assert_eq!(bridge.config().get::<u32>(PCIEXBAR), 0xb000_0000);
    }

    #[test]
    fn ecam_is_where_pciexbar_says() {
        let window = |base, size| Some(EcamWindow { base, size });
        assert_eq!(ecam(0xb000_0001), window(0xb000_0000, 256 << 20));
        assert_eq!(ecam(0xb800_0003), window(0xb800_0000, 128 << 20));
        assert_eq!(ecam(0xbc00_0005), window(0xbc00_0000, 64 << 20));
        assert_eq!(ecam(0xbc00_0001), window(0xb000_0000, 256 << 20));
        assert_eq!(ecam(0xf_b000_0001), window(0xf_b000_0000, 256 << 20));
        assert_eq!(ecam(0xb000_0000), None);
        assert_eq!(ecam(0xb000_0007), None);
    }

    #[test]
    fn an_access_must_lie_inside_as_a_whole() {
        let window = EcamWindow { base: 0x1000, size: 0x100 };
        assert_eq!(window.offset(0x10fc, 4), Some(0xfc));
        assert_eq!(window.offset(0x10fd, 4), None);
        assert_eq!(window.offset(0xfff, 4), None);
        assert_eq!(window.offset(u64::MAX, 4), None);
    }
}
