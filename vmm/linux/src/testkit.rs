//! Small images and files for tests.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

/// A bzImage of this release, without a payload.
pub(crate) fn bzimage(release: &str) -> Vec<u8> {
    let mut image = vec![0; 0x800];
    image[0x1f1] = 3;
    image[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x020f_u16.to_le_bytes());
    image[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
    image[0x236] = 1;
    let text = format!("{release} (user@machine) #1 SMP");
    image[0x300..0x300 + text.len()].copy_from_slice(text.as_bytes());
    image
}

/// A bzImage with this payload.
pub(crate) fn bzimage_with(release: &str, payload: &[u8]) -> Vec<u8> {
    let mut image = bzimage(release);
    image[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    image.extend_from_slice(payload);
    image
}

/// The beginning of a vmlinux of this release, with other texts that look like its banner.
pub(crate) fn vmlinux(release: &str) -> Vec<u8> {
    let mut image = vec![0; 64];
    image[..6].copy_from_slice(b"\x7fELF\x02\x01");
    image[18] = 62;
    image.extend_from_slice(b"Linux version %s (%s)\0");
    if !release.is_empty() {
        image
            .extend_from_slice(format!("Linux version {release} (user@machine) #1\n\0").as_bytes());
    }
    image
}

pub(crate) fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// Writes a file below a directory, and makes the directories that it is in.
pub(crate) fn put(directory: &Path, name: &str, bytes: &[u8]) {
    let path = directory.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}
