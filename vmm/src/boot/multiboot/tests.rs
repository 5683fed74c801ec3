//! Images that are right, images that are wrong, and any bytes at all.

use proptest::prelude::*;

use super::*;
use crate::memory;

/// A flat image whose header is at byte 16, loaded at 1 MiB.
fn flat(flags: u32, load: u32, bss_end: u32, entry: u32) -> Vec<u8> {
    let mut image = vec![0x90; 16];
    let checksum = 0_u32.wrapping_sub(MAGIC.wrapping_add(flags));
    for word in [MAGIC, flags, checksum, load + 16, load, 0, bss_end, entry] {
        image.extend(word.to_le_bytes());
    }
    image.extend([0xf4; 64]);
    image
}

fn parsed(bytes: &[u8]) -> Result<Image, String> {
    parse(bytes).expect("it has a header")
}

fn try_load(bytes: &[u8], modules: &[Module]) -> Result<(Memory, Start), Error> {
    let size: MemorySize = "8M".parse().unwrap();
    let memory = memory::allocate(size).unwrap();
    let start = load(
        &memory,
        Ram { size, reserved: &[] },
        ("dir/image", bytes),
        &parsed(bytes).unwrap(),
        "a b",
        modules,
    )?;
    Ok((memory, start))
}

fn u32_in(memory: &Memory, address: u64) -> u32 {
    memory.read_obj(GuestAddress(address)).unwrap()
}

fn text_in(memory: &Memory, address: u64, length: usize) -> String {
    let mut bytes = vec![0; length];
    memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_flat_image_is_told_about_the_machine() {
    let image = flat(HAS_ADDRESSES, 0x10_0000, 0x20_0000, 0x10_0030);
    let (memory, start) = try_load(&image, &[]).unwrap();
    assert_eq!(start, Start::Flat { entry: 0x10_0030, info: 0x7000, magic: 0x2bad_b002 });
    assert_eq!(u32_in(&memory, 0x10_0010), MAGIC);
    let info = |offset: u64| u32_in(&memory, 0x7000 + offset);
    assert_eq!(info(0), 0b100_1101);
    assert_eq!((info(4), info(8)), (639, 7 << 10));
    assert_eq!(text_in(&memory, info(16).into(), 10), "image a b\0");
    assert_eq!(info(20), 0, "no modules");
    let map = info(48).into();
    assert_eq!((u32_in(&memory, map), u32_in(&memory, map + 20)), (20, 1), "size, RAM");
    assert_eq!(info(44) % 24, 0);
}

#[test]
fn an_image_may_lie_below_1_mib_and_its_modules_above() {
    let directory = vmm_sys_util::tempdir::TempDir::new().unwrap();
    let path = directory.as_path().join("env");
    std::fs::write(&path, "x").unwrap();
    let module = Module::File { path, string: String::new() };
    let image = flat(HAS_ADDRESSES, 0x8000, 0xe000, 0x8030);
    let (memory, start) = try_load(&image, &[module]).unwrap();
    assert_eq!(start, Start::Flat { entry: 0x8030, info: 0x7000, magic: 0x2bad_b002 });
    assert_eq!(u32_in(&memory, 0x8010), MAGIC);
    assert_eq!(u32_in(&memory, u32_in(&memory, 0x7000 + 24).into()), 0x10_0000);
}

#[test]
fn modules_lie_behind_the_image_with_their_strings() {
    let directory = vmm_sys_util::tempdir::TempDir::new().unwrap();
    let path = directory.as_path().join("env");
    std::fs::write(&path, "NR_CPUS=1\n").unwrap();
    let module = Module::File { path: path.clone(), string: "env x=1".to_owned() };
    let image = flat(HAS_ADDRESSES, 0x10_0000, 0x20_0001, 0x10_0030);
    let (memory, _) = try_load(&image, std::slice::from_ref(&module)).unwrap();
    let list = u64::from(u32_in(&memory, 0x7000 + 24));
    let [start, end, string] = [0, 4, 8].map(|at| u32_in(&memory, list + at));
    assert_eq!((start, end), (0x20_1000, 0x20_100a));
    assert_eq!(text_in(&memory, start.into(), 10), "NR_CPUS=1\n");
    assert_eq!(text_in(&memory, string.into(), 8), "env x=1\0");
    std::fs::write(&path, vec![0; 7 << 20]).unwrap();
    let error = try_load(&image, &[module]).unwrap_err().to_string();
    assert!(error.starts_with("memory of 8M is too small for"), "{error}");
    let missing = Module::File { path: "/no/such".into(), string: String::new() };
    assert!(matches!(try_load(&image, &[missing]), Err(Error::ModuleFile { .. })));
    let bytes = |size| Module::Bytes { name: "env x".to_owned(), bytes: vec![7; size].into() };
    let (memory, _) = try_load(&image, &[bytes(5)]).unwrap();
    let list = u64::from(u32_in(&memory, 0x7000 + 24));
    assert_eq!(u32_in(&memory, u32_in(&memory, list).into()), 0x0707_0707);
    assert_eq!(text_in(&memory, u32_in(&memory, list + 8).into(), 6), "env x\0");
    let error = try_load(&image, &[bytes(7 << 20)]).unwrap_err().to_string();
    assert!(error.starts_with("memory of 8M is too small for 'env x'"), "{error}");
}

#[test]
fn images_that_are_wrong_say_what_is() {
    for (image, reason) in [
        (flat(HAS_ADDRESSES | 1 << 2, 0x10_0000, 0, 0x10_0030), "flags 0x10004"),
        (flat(0, 0x10_0000, 0, 0x10_0030), "no ELF32 file"),
        (flat(HAS_ADDRESSES, 0x10_0000, 0x1000, 0x10_0030), "contradict"),
    ] {
        let error = parsed(&image).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
    let mut broken = flat(HAS_ADDRESSES, 0x10_0000, 0, 0x10_0030);
    broken[24] ^= 1;
    assert!(parsed(&broken).unwrap_err().contains("checksum"));
    assert!(parsed(&broken[..22]).unwrap_err().contains("cut off"));
    for (load, bss_end, entry, reason) in [
        (0x6fc0, 0, 0x6ff0, "loaded at 0x6fc0"),
        (0x400, 0, 0x430, "loaded at 0x400"),
        (0x1_0000, 0x2_0001, 0x1_0030, "loaded at 0x10000"),
        (0x9_fbc0, 0, 0x9_fbf0, "loaded at 0x9fbc0"),
        (0xf_0000, 0, 0xf_0030, "loaded at 0xf0000"),
        (0x10_0000, 0x7fff_0000, 0x10_0030, "too small"),
        (0x10_0000, 0, 0x30_0000, "entry point 0x300000"),
    ] {
        let error = try_load(&flat(HAS_ADDRESSES, load, bss_end, entry), &[]).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
    assert_eq!(parse(b"\x7fELF"), None);
    assert_eq!(parse(b""), None);
}

proptest! {
    #[test]
    fn no_bytes_break_the_parser(
        mut bytes in prop::collection::vec(any::<u8>(), 0..300),
        at in 0_usize..40, flags in prop::sample::select(vec![0, 3, HAS_ADDRESSES]), elf: bool,
    ) {
        let at = at * 4;
        if elf && bytes.len() > 60 {
            bytes[..6].copy_from_slice(b"\x7fELF\x01\x01");
            (bytes[18], bytes[19]) = (3, 0);
        }
        if bytes.len() >= at + 12 {
            let checksum = 0_u32.wrapping_sub(MAGIC.wrapping_add(flags));
            for (index, word) in [MAGIC, flags, checksum].into_iter().enumerate() {
                bytes[at + 4 * index..][..4].copy_from_slice(&word.to_le_bytes());
            }
        }
        if let Some(Ok(image)) = parse(&bytes) {
            let size: MemorySize = "2M".parse().unwrap();
            let memory = memory::allocate(size).unwrap();
            let _ = load(&memory, Ram { size, reserved: &[] }, ("image", &bytes), &image, "", &[]);
        }
    }
}
