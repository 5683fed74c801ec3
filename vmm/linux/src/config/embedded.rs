//! A configuration inside of an image.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use flate2::read::GzDecoder;
use memchr::memmem;

use super::LONGEST;
use crate::kernel::ImageKind;
use crate::scan::Scanner;
use crate::unpack;

/// The markers before and after a built-in configuration.
const BEGIN: &[u8] = b"IKCFG_ST";
const END: &[u8] = b"IKCFG_ED";
/// The most bytes that a compressed configuration may have.
const LONGEST_ARCHIVE: usize = 1 << 20;
/// The most bytes of a compressed payload that are read.
const LONGEST_PAYLOAD: u64 = 256 << 20;

/// The text of the configuration, if the image has one.
pub(super) fn read(image: &Path, kind: ImageKind) -> Option<String> {
    let mut file = File::open(image).ok()?;
    match kind {
        ImageKind::Vmlinux => search(&mut Scanner::new(file)),
        ImageKind::BzImage { payload, length } => {
            file.seek(SeekFrom::Start(payload)).ok()?;
            let mut packed = Vec::new();
            file.take(length.min(LONGEST_PAYLOAD)).read_to_end(&mut packed).ok()?;
            search(&mut Scanner::new(unpack::decoder(&packed)?.ok()?))
        }
    }
}

fn search<R: Read>(image: &mut Scanner<R>) -> Option<String> {
    // The decoder of a damaged payload fails somewhere; what was found before that counts.
    while image.find(BEGIN).ok()? {
        let archive = image.peek(LONGEST_ARCHIVE).ok()?;
        let Some(length) = memmem::find(archive, END) else { continue };
        let mut text = String::new();
        let decoder = GzDecoder::new(&archive[..length]);
        if decoder.take(LONGEST).read_to_string(&mut text).is_ok() {
            return Some(text);
        }
    }
    None
}
