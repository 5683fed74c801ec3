//! Small images and files for tests.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use lzma_rust2::{XzOptions, XzWriter};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

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

pub(crate) fn gzip(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes.as_ref()).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut writer = XzWriter::new(Vec::new(), XzOptions::with_preset(1)).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

/// A module with this information: an ELF file with the section `.modinfo`.
pub(crate) fn module(info: &[&str]) -> Vec<u8> {
    const NAMES: &[u8] = b"\0.modinfo\0.shstrtab\0";
    let info: Vec<u8> = info.iter().flat_map(|text| [text.as_bytes(), b"\0"].concat()).collect();
    let mut file = vec![0; 64];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    file[16] = 1; // relocatable
    file[18] = 62;
    file[20] = 1;
    let [info_at, names_at] = [file.len(), file.len() + info.len()];
    let table = names_at + NAMES.len();
    file[40..48].copy_from_slice(&(table as u64).to_le_bytes());
    file[52] = 64;
    file[58] = 64;
    file[60] = 3;
    file[62] = 2;
    file.extend_from_slice(&info);
    file.extend_from_slice(NAMES);
    for [name, kind, at, size] in
        [[0; 4], [1, 1, info_at, info.len()], [10, 3, names_at, NAMES.len()]]
    {
        let mut header = [0; 64];
        header[0] = name as u8;
        header[4] = kind as u8;
        header[24..32].copy_from_slice(&(at as u64).to_le_bytes());
        header[32..40].copy_from_slice(&(size as u64).to_le_bytes());
        header[48] = 1;
        file.extend_from_slice(&header);
    }
    file
}

/// Writes a file below a directory, and makes the directories that it is in.
pub(crate) fn put(directory: &Path, name: &str, bytes: &[u8]) {
    let path = directory.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}
