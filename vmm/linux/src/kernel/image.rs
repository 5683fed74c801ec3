//! What an image says of itself: its release, and for a bzImage where its payload is.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::{KernelError, KernelRelease};
use crate::scan::Scanner;

/// Offsets in a bzImage (Linux, `arch/x86/boot.rst`).
mod at {
    pub(super) const SETUP_SECTORS: usize = 0x1f1;
    pub(super) const BOOT_FLAG: usize = 0x1fe;
    pub(super) const MAGIC: usize = 0x202;
    pub(super) const VERSION: usize = 0x206;
    pub(super) const RELEASE: usize = 0x20e;
    pub(super) const XLOADFLAGS: usize = 0x236;
    pub(super) const PAYLOAD: usize = 0x248;
    pub(super) const PAYLOAD_LENGTH: usize = 0x24c;
    pub(super) const HEADER_END: usize = 0x268;
}

/// The first protocol version with `xloadflags`.
const OLDEST_PROTOCOL: u16 = 0x020c;
/// `XLF_KERNEL_64`: there is a 64-bit entry.
const KERNEL_64: u16 = 1;
/// Bytes of the file that may hold the release of a bzImage: its offset has 16 bits.
const SETUP: u64 = 0x1_0000 + 0x200 + 0x100;
/// The text before the release in a vmlinux.
const BANNER: &[u8] = b"Linux version ";
const MACHINE_X86_64: u16 = 62;

/// The kind of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ImageKind {
    /// A bzImage, with the offset and length of its compressed payload.
    BzImage { payload: u64, length: u64 },
    /// An ELF file.
    Vmlinux,
}

/// The kind of the image in a file, and its release.
pub(crate) fn inspect(path: &Path) -> Result<(ImageKind, KernelRelease), KernelError> {
    let read = |source| KernelError::Read { path: path.to_owned(), source };
    let foreign = |reason: String| KernelError::NotAKernel { path: path.to_owned(), reason };
    let mut file = File::open(path).map_err(read)?;
    if !file.metadata().map_err(read)?.is_file() {
        return Err(foreign("it is not a regular file".to_owned()));
    }
    let mut start = Vec::new();
    file.by_ref().take(SETUP).read_to_end(&mut start).map_err(read)?;
    match kind(&start).map_err(foreign)? {
        kind @ ImageKind::BzImage { .. } => {
            let release = setup_release(&start).ok_or_else(|| {
                foreign("its setup header names no release (the file may be damaged)".to_owned())
            })?;
            Ok((kind, release))
        }
        ImageKind::Vmlinux => {
            file.seek(SeekFrom::Start(0)).map_err(read)?;
            let release =
                banner_release(&mut Scanner::new(file)).map_err(read)?.ok_or_else(|| {
                    foreign("it is an ELF file without the text 'Linux version'".to_owned())
                })?;
            Ok((ImageKind::Vmlinux, release))
        }
    }
}

/// The kind of an image with this beginning, or what else it is.
fn kind(start: &[u8]) -> Result<ImageKind, String> {
    if start.starts_with(b"\x7fELF") {
        let machine = u16_at(start, 18);
        return match (start.get(4), machine) {
            (Some(2), Some(MACHINE_X86_64)) => Ok(ImageKind::Vmlinux),
            (Some(class), Some(machine)) => {
                Err(format!("it is an ELF file for machine {machine}, class {class}"))
            }
            _ => Err("it is too short for an ELF file".to_owned()),
        };
    }
    if start.len() >= at::HEADER_END
        && u16_at(start, at::BOOT_FLAG) == Some(0xaa55)
        && start[at::MAGIC..].starts_with(b"HdrS")
    {
        let (version, flags) = (u16_at(start, at::VERSION), u16_at(start, at::XLOADFLAGS));
        if version < Some(OLDEST_PROTOCOL) || flags.is_none_or(|flags| flags & KERNEL_64 == 0) {
            return Err("it is a bzImage without a 64-bit entry".to_owned());
        }
        // 0 stands for 4 in kernels older than any that is used here.
        let sectors = match start[at::SETUP_SECTORS] {
            0 => 4,
            sectors => u64::from(sectors),
        };
        let field = |offset| u64::from(u32_at(start, offset).unwrap_or(0));
        let payload = (sectors + 1) * 512 + field(at::PAYLOAD);
        return Ok(ImageKind::BzImage { payload, length: field(at::PAYLOAD_LENGTH) });
    }
    Err(describe(start))
}

/// What a file is that is no kernel.
fn describe(start: &[u8]) -> String {
    match start {
        [] => "it is empty",
        [0x1f, 0x8b, ..] => "it is compressed by gzip; unpack it",
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "it is compressed by xz; unpack it",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "it is compressed by zstd; unpack it",
        [b'M', b'Z', ..] => {
            "it is an EFI program without Linux's setup header, such as a unified kernel image or a \
             kernel for another processor"
        }
        [b'!', b'<', b'a', b'r', b'c', b'h', b'>', ..] => {
            "it is an archive, such as a Debian package; unpack it, and give the directory"
        }
        [b'0', b'7', b'0', b'7', b'0', ..] => "it is a cpio archive, such as an initramfs",
        _ => "it has neither Linux's setup header nor an ELF header",
    }
    .to_owned()
}

/// The release in the setup code of a bzImage: the first word of its version string.
fn setup_release(start: &[u8]) -> Option<KernelRelease> {
    let offset = usize::from(u16_at(start, at::RELEASE).filter(|offset| *offset != 0)?) + 0x200;
    first_word(start.get(offset..)?)
}

/// The release in the banner of a vmlinux. Messages may have the same text with another one behind.
fn banner_release<R: Read>(image: &mut Scanner<R>) -> std::io::Result<Option<KernelRelease>> {
    while image.find(BANNER)? {
        if let Some(release) = first_word(image.peek(128)?) {
            return Ok(Some(release));
        }
    }
    Ok(None)
}

/// The release in front of a blank and more.
fn first_word(bytes: &[u8]) -> Option<KernelRelease> {
    let end = bytes.iter().take(128).position(|byte| *byte == b' ')?;
    std::str::from_utf8(&bytes[..end]).ok()?.parse().ok()
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    let field = bytes.get(offset..offset + 2)?;
    Some(u16::from_le_bytes(field.try_into().ok()?))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let field = bytes.get(offset..offset + 4)?;
    Some(u32::from_le_bytes(field.try_into().ok()?))
}
