//! Decompression, by crates that are Rust alone. The format is known by the first bytes.

use std::io::{self, Read};

use flate2::read::GzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::StreamingDecoder;

/// Kibibytes that the dictionary of an xz archive may have. Linux's images have 32 to 64 MiB.
const XZ_MEMORY: u32 = 256 << 10;

/// The content of a compressed file; `None` if the format is none of gzip, xz and zstd.
pub(crate) fn decoder<'a>(bytes: &'a [u8]) -> Option<io::Result<Box<dyn Read + 'a>>> {
    match bytes {
        [0x1f, 0x8b, ..] => Some(Ok(Box::new(GzDecoder::new(bytes)))),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            Some(Ok(Box::new(XzReader::new_mem_limit(bytes, false, XZ_MEMORY))))
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let decoder = StreamingDecoder::new(bytes).map_err(io::Error::other);
            Some(decoder.map(|decoder| Box::new(decoder) as Box<dyn Read>))
        }
        _ => None,
    }
}
