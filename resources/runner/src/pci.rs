//! PCI functions by sysfs, and their configuration space.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// All functions.
pub(crate) const DEVICES: &str = "/sys/bus/pci/devices";
/// Bytes of a function's configuration space.
pub(crate) const CONFIG_SIZE: usize = 4096;

const CAPABILITIES: u16 = 0x34;
const EXPRESS: u8 = 0x10;
const LINK_CONTROL: u16 = 0x10;
const LINK_DISABLE: u16 = 1 << 4;
const EXTENDED: u16 = 0x100;
const ATS: u16 = 0x0f;
const ATS_CONTROL: u16 = 6;
const ATS_ENABLE: u16 = 1 << 15;

/// A source of configuration space.
pub(crate) trait ConfigSpace {
    /// Reads at `offset`. All ones if the function does not answer.
    fn read(&self, offset: u16, data: &mut [u8]) -> io::Result<()>;

    /// One byte.
    fn read8(&self, offset: u16) -> io::Result<u8> {
        let mut data = [0];
        self.read(offset, &mut data)?;
        Ok(data[0])
    }

    /// Two bytes.
    fn read16(&self, offset: u16) -> io::Result<u16> {
        let mut data = [0; 2];
        self.read(offset, &mut data)?;
        Ok(u16::from_le_bytes(data))
    }

    /// Four bytes.
    fn read32(&self, offset: u16) -> io::Result<u32> {
        let mut data = [0; 4];
        self.read(offset, &mut data)?;
        Ok(u32::from_le_bytes(data))
    }

    /// Whether the function does not answer.
    fn is_absent(&self) -> io::Result<bool> {
        Ok(self.read16(0)? == u16::MAX)
    }

    /// The offset of a capability. A list has at most 48 entries.
    fn capability(&self, id: u8) -> io::Result<Option<u16>> {
        let mut offset = u16::from(self.read8(CAPABILITIES)?) & !3;
        for _ in 0..48 {
            if offset < 0x40 {
                return Ok(None);
            }
            if self.read8(offset)? == id {
                return Ok(Some(offset));
            }
            offset = u16::from(self.read8(offset + 1)?) & !3;
        }
        Ok(None)
    }

    /// The offset of an extended capability. A list has at most 480 entries of 8 bytes.
    fn extended_capability(&self, id: u16) -> io::Result<Option<u16>> {
        let mut offset = EXTENDED;
        for _ in 0..480 {
            let header = self.read32(offset)?;
            if header == 0 || header == u32::MAX {
                return Ok(None);
            }
            if header as u16 == id {
                return Ok(Some(offset));
            }
            offset = (header >> 20) as u16 & !3;
            if offset < EXTENDED {
                return Ok(None);
            }
        }
        Ok(None)
    }
}

/// A function, by its name in sysfs, such as `0000:01:00.0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Function(pub(crate) String);

impl Function {
    /// All functions, sorted.
    pub(crate) fn all() -> io::Result<Vec<Self>> {
        let names = std::fs::read_dir(DEVICES)?.flatten();
        let mut all: Vec<String> =
            names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        all.sort_unstable();
        Ok(all.into_iter().map(Self).collect())
    }

    /// The directory in sysfs.
    pub(crate) fn directory(&self) -> PathBuf {
        Path::new(DEVICES).join(&self.0)
    }

    /// A file of the directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    /// The port above, which must be asked for while the function is there.
    pub(crate) fn port(&self) -> io::Result<Self> {
        let path = self.directory().canonicalize()?;
        let port = path.parent().and_then(Path::file_name).unwrap_or_default();
        Ok(Self(port.to_string_lossy().into_owned()))
    }

    fn config(&self, write: bool) -> io::Result<File> {
        File::options().read(true).write(write).open(self.file("config"))
    }

    /// Reads all of the configuration space. It may be shorter than 4 KiB.
    pub(crate) fn dump(&self) -> io::Result<Vec<u8>> {
        let mut space = vec![0; CONFIG_SIZE];
        let length = self.config(false)?.read_at(&mut space, 0)?;
        space.truncate(length);
        Ok(space)
    }

    /// ATS control, `None` if the function has no ATS.
    pub(crate) fn ats_control(&self) -> io::Result<Option<u16>> {
        let Some(offset) = self.extended_capability(ATS)? else { return Ok(None) };
        self.read16(offset + ATS_CONTROL).map(Some)
    }

    /// Sets or clears Link Disable of a port.
    pub(crate) fn disable_link(&self, disable: bool) -> io::Result<()> {
        let express = self.capability(EXPRESS)?;
        let offset = express.ok_or_else(|| io::Error::other("no PCI Express capability"))?;
        let control = self.read16(offset + LINK_CONTROL)?;
        let control = if disable { control | LINK_DISABLE } else { control & !LINK_DISABLE };
        self.config(true)?.write_all_at(&control.to_le_bytes(), (offset + LINK_CONTROL).into())
    }
}

/// Whether ATS is on.
pub(crate) fn ats_is_on(control: u16) -> bool {
    control != u16::MAX && control & ATS_ENABLE != 0
}

impl ConfigSpace for Function {
    fn read(&self, offset: u16, data: &mut [u8]) -> io::Result<()> {
        self.config(false)?.read_exact_at(data, offset.into())
    }
}

/// Lines in the form of `lspci -xxxx`, which lspci takes as a dump: up to the last byte that is not
/// zero, and 17 lines at least, by which lspci sees that the space is extended.
pub(crate) fn dump_lines(space: &[u8]) -> Vec<String> {
    let rows: Vec<&[u8]> = space.chunks(16).collect();
    let used =
        rows.iter().rposition(|row| row.iter().any(|byte| *byte != 0)).map_or(0, |at| at + 1);
    let line = |(index, row): (usize, &&[u8])| {
        let bytes: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{:03x}: {}", index * 16, bytes.join(" "))
    };
    rows.iter().enumerate().take(used.max(17)).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Space(Vec<u8>);

    impl ConfigSpace for Space {
        fn read(&self, offset: u16, data: &mut [u8]) -> io::Result<()> {
            let at = usize::from(offset);
            let source = self.0.get(at..at + data.len());
            data.copy_from_slice(source.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        }
    }

    fn space(bytes: &[(usize, &[u8])]) -> Space {
        let mut space = vec![0; CONFIG_SIZE];
        for (at, bytes) in bytes {
            space[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        Space(space)
    }

    #[test]
    fn capabilities_are_found_by_their_lists() {
        let space = space(&[
            (0x34, &[0x40]),
            (0x40, &[0x01, 0x50]),
            (0x50, &[0x10, 0x00]),
            (0x100, &0x1500_0001_u32.to_le_bytes()),
            (0x150, &0x0001_000f_u32.to_le_bytes()),
        ]);
        assert_eq!(space.capability(0x10).unwrap(), Some(0x50));
        assert_eq!(space.capability(0x05).unwrap(), None);
        assert_eq!(space.extended_capability(0x0f).unwrap(), Some(0x150));
        assert_eq!(space.extended_capability(0x10).unwrap(), None);
    }

    #[test]
    fn a_function_that_is_gone_and_a_list_in_a_circle_end() {
        let gone = Space(vec![0xff; CONFIG_SIZE]);
        assert!(gone.is_absent().unwrap());
        assert_eq!(gone.capability(0x10).unwrap(), None);
        assert_eq!(gone.extended_capability(0x0f).unwrap(), None);
        assert!(!ats_is_on(0xffff) && ats_is_on(0x8000) && !ats_is_on(0x1f));
        let circle = space(&[
            (0x34, &[0x40]),
            (0x40, &[0x01, 0x40]),
            (0x100, &0x1000_0001_u32.to_le_bytes()),
        ]);
        assert_eq!(circle.capability(0x10).unwrap(), None);
        assert_eq!(circle.extended_capability(0x0f).unwrap(), None);
    }

    #[test]
    fn a_dump_ends_behind_the_last_byte_and_shows_that_the_space_is_extended() {
        let lines = dump_lines(&space(&[(0, &[0x86, 0x80])]).0);
        assert_eq!(lines.len(), 17);
        assert_eq!(lines[0], "000: 86 80 00 00 00 00 00 00 00 00 00 00 00 00 00 00");
        assert_eq!(dump_lines(&space(&[(0x205, &[1])]).0).len(), 33);
        assert_eq!(dump_lines(&[0; 256]).len(), 16);
    }
}
