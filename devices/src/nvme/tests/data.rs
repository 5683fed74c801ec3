//! Reads and writes, by PRPs and SGLs.

use proptest::prelude::*;

use super::driver::{BLOCKS, DATA, Driver, LISTS, Sqe};
use crate::nvme::storage::{MemoryStorage, Storage};
use crate::pcie::Function;
use crate::pcie::reset::Reset;

const FLUSH: u8 = 0;
const WRITE: u8 = 1;
const READ: u8 = 2;
const COMPARE: u8 = 5;
const WRITE_ZEROES: u8 = 8;

fn pattern(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 3) as u8 ^ seed).collect()
}

/// PRP lists for `pages`: the first at `at`, the others at the pages of `next`.
fn put_list(driver: &mut Driver, mut at: u64, pages: &[u64], next: &[u64]) {
    let (mut pages, mut next) = (pages.iter(), next.iter());
    while let Some(page) = pages.next() {
        let entry = if at % 4096 == 4088 && pages.len() > 0 {
            let list = *next.next().expect("enough lists");
            driver.upstream.store(at, &list.to_le_bytes());
            at = list;
            page
        } else {
            page
        };
        driver.upstream.store(at, &entry.to_le_bytes());
        at += 8;
    }
}

fn descriptor(address: u64, length: u32, kind: u8) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&address.to_le_bytes());
    bytes[8..12].copy_from_slice(&length.to_le_bytes());
    bytes[15] = kind << 4;
    bytes
}

/// `sqe` with an SGL descriptor instead of PRPs.
fn with_sgl(sqe: Sqe, descriptor: [u8; 16]) -> Sqe {
    let word = |at: usize| u64::from_le_bytes(descriptor[at..at + 8].try_into().unwrap());
    sqe.prp(word(0), word(8)).dword(0, sqe.0[0] | 1 << 14)
}

#[test]
fn what_is_written_is_read_and_only_within_the_namespace() {
    let mut driver = Driver::ready();
    let data = pattern(1, 512);
    driver.upstream.store(DATA, &data);
    let last = u64::from(BLOCKS) - 1;
    assert_eq!(driver.run(1, Sqe::blocks(WRITE, last, 1)).code, 0);
    driver.upstream.store(DATA, &[0; 512]);
    assert_eq!(driver.run(1, Sqe::blocks(READ, last, 1)).code, 0);
    assert_eq!(driver.upstream.load(DATA, 512), data);
    for (opcode, first, blocks) in
        [(READ, last, 2), (WRITE, last + 1, 1), (READ, u64::MAX, 1), (WRITE_ZEROES, last, 65536)]
    {
        let seen = driver.run(1, Sqe::blocks(opcode, first, blocks));
        assert_eq!((seen.code, seen.do_not_retry), (0x80, true));
    }
    assert_eq!(driver.run(1, Sqe::blocks(READ, 0, 257)).code, 2, "more than MDTS");
    assert_eq!(driver.run(1, Sqe::blocks(READ, 0, 1).namespace(2)).code, 0xb);
    assert_eq!(driver.run(1, Sqe::new(FLUSH).namespace(!0)).code, 0);
}

#[test]
fn zeroes_are_written_and_compared() {
    let mut driver = Driver::ready();
    driver.upstream.store(DATA, &pattern(7, 1024));
    assert_eq!(driver.run(1, Sqe::blocks(WRITE, 4, 2)).code, 0);
    assert_eq!(driver.run(1, Sqe::blocks(COMPARE, 4, 2)).code, 0);
    assert_eq!(driver.run(1, Sqe::blocks(WRITE_ZEROES, 5, 600)).code, 0);
    assert_eq!(driver.run(1, Sqe::blocks(COMPARE, 4, 1)).code, 0);
    assert_eq!(driver.run(1, Sqe::blocks(COMPARE, 4, 2)).code, 0x285);
    driver.upstream.store(DATA, &[0; 1024]);
    assert_eq!(driver.run(1, Sqe::blocks(COMPARE, 603, 2)).code, 0);
}

#[test]
fn a_power_cycle_loses_only_what_was_not_flushed() {
    const FORCE_UNIT_ACCESS: u32 = 1 << 30;
    let mut driver = Driver::ready();
    for (block, dword12) in [(0, 0), (1, FORCE_UNIT_ACCESS)] {
        driver.upstream.store(DATA, &[block as u8 + 1; 512]);
        assert_eq!(driver.run(1, Sqe::blocks(WRITE, block, 1).dword(12, dword12)).code, 0);
    }
    driver.upstream.store(DATA, &[9; 512]);
    assert_eq!(driver.run(1, Sqe::blocks(WRITE, 0, 1)).code, 0);
    assert_eq!(driver.run(1, Sqe::blocks(WRITE, 2, 1)).code, 0);
    driver.nvme.reset(Reset::Hot, driver.now);
    driver.program();
    driver.enable();
    driver.create_pair(1);
    assert_eq!(driver.run(1, Sqe::blocks(READ, 2, 1)).code, 0);
    assert_eq!(driver.upstream.load(DATA, 512), [9; 512], "a reset loses nothing");
    driver.nvme.reset(Reset::Cold, driver.now);
    driver.program();
    driver.enable();
    driver.create_pair(1);
    assert_eq!(driver.run(1, Sqe::blocks(READ, 0, 3)).code, 0);
    let expected = [[1; 512], [2; 512], [0; 512]].concat();
    assert_eq!(driver.upstream.load(DATA, 1536), expected);
}

#[test]
fn without_the_write_cache_everything_is_durable_at_once() {
    let mut driver = Driver::ready();
    assert_eq!(driver.admin(Sqe::new(9).dword(10, 6)).code, 0);
    driver.upstream.store(DATA, &[3; 512]);
    assert_eq!(driver.run(1, Sqe::blocks(WRITE, 0, 1)).code, 0);
    driver.nvme.reset(Reset::Cold, driver.now);
    driver.program();
    driver.enable();
    driver.create_pair(1);
    assert_eq!(driver.run(1, Sqe::blocks(READ, 0, 1)).code, 0);
    assert_eq!(driver.upstream.load(DATA, 512), [3; 512]);
}

#[test]
fn bad_prps_are_refused() {
    let mut driver = Driver::ready();
    for (first, second, blocks, code) in [
        (DATA + 2, 0, 1, 0x13),
        (DATA, DATA + 0x1008, 9, 0x13),
        (DATA, LISTS + 4, 32, 0x13),
        (1 << 40, 0, 1, 4),
        (DATA, 1 << 40, 32, 4),
    ] {
        let seen = driver.run(1, Sqe::blocks(WRITE, 0, blocks).prp(first, second));
        assert_eq!((seen.code, seen.do_not_retry), (code, code != 4), "{first:x} {second:x}");
    }
    // The list's second entry has an offset.
    driver.upstream.store(LISTS, &(DATA + 0x1000).to_le_bytes());
    driver.upstream.store(LISTS + 8, &(DATA + 0x2010).to_le_bytes());
    let seen = driver.run(1, Sqe::blocks(READ, 0, 24).prp(DATA, LISTS));
    assert_eq!(seen.code, 0x13);
}

#[test]
fn bad_sgls_are_refused() {
    let mut driver = Driver::ready();
    let run = |driver: &mut Driver, first, list: &[[u8; 16]]| {
        driver.upstream.store(LISTS, &list.concat());
        driver.run(1, with_sgl(Sqe::blocks(READ, 0, 2), first)).code
    };
    let block = |length| descriptor(DATA, length, 0);
    let last = |length| descriptor(LISTS, length, 3);
    assert_eq!(run(&mut driver, block(1024), &[]), 0);
    assert_eq!(run(&mut driver, block(1023), &[]), 0xf, "too short");
    assert_eq!(run(&mut driver, block(1025), &[]), 0xf, "too long");
    assert_eq!(run(&mut driver, descriptor(DATA, 1024, 1), &[]), 0x11, "a bit bucket");
    assert_eq!(run(&mut driver, last(32), &[block(512), block(512)]), 0);
    assert_eq!(run(&mut driver, last(0), &[]), 0xd);
    assert_eq!(run(&mut driver, last(24), &[block(1024)]), 0xd);
    assert_eq!(run(&mut driver, last(32), &[block(1024), last(16)]), 0xd, "it is the last");
    let segment = descriptor(LISTS, 32, 2);
    assert_eq!(run(&mut driver, segment, &[block(512), block(512)]), 0xd, "it is not");
    assert_eq!(run(&mut driver, last(16 * 257), &[]), 0xe);
    let ring = descriptor(LISTS, 16, 2);
    assert_eq!(run(&mut driver, ring, &[ring]), 0xe, "a loop ends");
    assert_eq!(run(&mut driver, descriptor(1 << 40, 16, 3), &[]), 4);
    let both = Sqe::blocks(READ, 0, 2).dword(0, 3 << 14 | u32::from(READ));
    assert_eq!(driver.run(1, both).code, 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Random pages, the first with an offset, and a list with an offset in its page.
    #[test]
    fn any_prps_move_the_same_bytes(
        blocks in 1_u32..=64, offset in 0_u64..1024, list_at in 1_u64..=512, seed: u8,
    ) {
        let mut driver = Driver::ready();
        let (length, offset) = (blocks as usize * 512, offset * 4);
        let count = (offset as usize + length).div_ceil(4096);
        // Every second page, descending.
        let pages: Vec<u64> = (0..count as u64).map(|at| DATA + (40 - at) * 0x2000).collect();
        let list = LISTS + 4096 - list_at * 8;
        put_list(&mut driver, list, &pages[1..], &[LISTS + 0x2000]);
        let second = if count == 2 { pages[1] } else { list };
        let data = pattern(seed, length);
        let pieces = || pages.iter().scan(0, |done, page| {
            let start = if *done == 0 { offset } else { 0 };
            let piece = (length - *done).min(4096 - start as usize);
            *done += piece;
            Some((page + start, *done - piece, piece))
        });
        for (at, done, piece) in pieces() {
            driver.upstream.store(at, &data[done..done + piece]);
        }
        let run = |driver: &mut Driver, opcode| {
            driver.run(1, Sqe::blocks(opcode, 5, blocks).prp(pages[0] + offset, second)).code
        };
        prop_assert_eq!(run(&mut driver, WRITE), 0);
        for (at, _, piece) in pieces() {
            driver.upstream.store(at, &vec![0xee; piece]);
        }
        prop_assert_eq!(run(&mut driver, READ), 0);
        for (at, done, piece) in pieces() {
            prop_assert_eq!(&driver.upstream.load(at, piece), &data[done..done + piece]);
        }
    }

    /// Data Blocks of random length, in segments of random length.
    #[test]
    fn any_sgl_moves_the_same_bytes(
        cuts in prop::collection::vec(1_usize..4096, 0..12), per_segment in 1_usize..5, seed: u8,
    ) {
        const LENGTH: usize = 8192;
        let mut driver = Driver::ready();
        let (mut pieces, mut done) = (Vec::new(), 0);
        for cut in cuts.into_iter().chain([LENGTH]) {
            let piece = cut.min(LENGTH - done);
            pieces.push((DATA + pieces.len() as u64 * 0x3001, piece));
            done += piece;
        }
        let data = pattern(seed, LENGTH);
        let mut rest = &data[..];
        for (at, piece) in &pieces {
            driver.upstream.store(*at, &rest[..*piece]);
            rest = &rest[*piece..];
        }
        let segments: Vec<_> = pieces.chunks(per_segment).collect();
        let pointer = |index: usize| {
            let is_last = index + 1 == segments.len();
            let count = segments[index].len() + usize::from(!is_last);
            descriptor(LISTS + index as u64 * 0x100, count as u32 * 16, if is_last { 3 } else { 2 })
        };
        for (index, segment) in segments.iter().enumerate() {
            let blocks = segment.iter().map(|(at, piece)| descriptor(*at, *piece as u32, 0));
            let next = (index + 1 < segments.len()).then(|| pointer(index + 1));
            let list: Vec<[u8; 16]> = blocks.chain(next).collect();
            driver.upstream.store(LISTS + index as u64 * 0x100, &list.concat());
        }
        let sgl = with_sgl(Sqe::blocks(WRITE, 0, 16), pointer(0));
        prop_assert_eq!(driver.run(1, sgl).code, 0);
        for (at, piece) in &pieces {
            driver.upstream.store(*at, &vec![0xee; *piece]);
        }
        let sgl = with_sgl(Sqe::blocks(READ, 0, 16), pointer(0));
        prop_assert_eq!(driver.run(1, sgl).code, 0);
        let read: Vec<u8> =
            pieces.iter().flat_map(|(at, piece)| driver.upstream.load(*at, *piece)).collect();
        prop_assert_eq!(read, data);
    }
}

#[test]
fn namespaces_are_told_apart() {
    let media =
        [2048, 64, 8].map(|blocks| -> Box<dyn Storage> { Box::new(MemoryStorage::new(blocks)) });
    let mut driver = Driver::with(media.into());
    driver.enable();
    driver.create_pair(1);
    let identify = |namespace, cns| Sqe::new(6).namespace(namespace).dword(10, cns);
    let list = driver.admin_data(identify(0, 2), 16);
    assert_eq!(list, [1_u32, 2, 3, 0].map(u32::to_le_bytes).concat());
    assert_eq!(driver.admin_data(identify(2, 2), 8), [3_u32, 0].map(u32::to_le_bytes).concat());
    assert_eq!(driver.admin_data(identify(0, 1), 520)[516..], 3_u32.to_le_bytes());
    let ids = [1, 2, 3].map(|namespace| {
        let data = driver.admin_data(identify(namespace, 0), 128);
        (u64::from_le_bytes(*data.first_chunk().unwrap()), data[120..].to_vec())
    });
    assert_eq!(ids.each_ref().map(|(blocks, _)| *blocks), [2048, 64, 8]);
    assert!(ids[0].1 != ids[1].1 && ids[1].1 != ids[2].1, "each has an EUI-64 of its own");

    for namespace in 1..=3_u8 {
        driver.upstream.store(DATA, &[namespace; 512]);
        let write = Sqe::blocks(WRITE, 7, 1).namespace(namespace.into());
        assert_eq!(driver.run(1, write).code, 0);
    }
    assert_eq!(driver.run(1, Sqe::blocks(WRITE, 8, 1).namespace(3)).code, 0x080, "its end");
    for namespace in [0, 4, u32::MAX] {
        assert_eq!(driver.run(1, Sqe::blocks(READ, 0, 1).namespace(namespace)).code, 0x00b);
    }
    assert_eq!(driver.run(1, Sqe::new(0).namespace(4)).code, 0x00b);
    assert_eq!(driver.run(1, Sqe::new(0).namespace(2)).code, 0, "only this one is durable now");
    driver.nvme.reset(Reset::Cold, driver.now);
    driver.program();
    driver.enable();
    driver.create_pair(1);
    for (namespace, byte) in [(1, 0), (2, 2), (3, 0)] {
        assert_eq!(driver.run(1, Sqe::blocks(READ, 7, 1).namespace(namespace)).code, 0);
        assert_eq!(driver.upstream.load(DATA, 512), [byte; 512], "namespace {namespace}");
    }
}
