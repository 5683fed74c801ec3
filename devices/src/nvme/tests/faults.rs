//! ATS, resets, and memory that cannot be reached.

use iommu::ats::{AddressType, ITag, InvalidateRequest, PageRange, RequestError};
use iommu::ids::Iova;

use super::driver::{DATA, Driver, ID, Sqe, rings};
use crate::nvme::regs;
use crate::nvme::storage::{MemoryStorage, Storage, StorageError};
use crate::pcie::reset::Reset;
use crate::pcie::spec::{header, msix};
use crate::pcie::{Function, UpstreamMessage};

const WRITE: u8 = 1;
const READ: u8 = 2;

fn requests(driver: &mut Driver) -> Vec<AddressType> {
    std::mem::take(&mut driver.upstream.requests)
        .into_iter()
        .map(|(request, _)| request.address_type)
        .collect()
}

#[test]
fn with_ats_on_everything_is_translated_by_the_atc() {
    let mut driver = Driver::ready();
    assert!(requests(&mut driver).iter().all(|request| *request == AddressType::Untranslated));
    driver.set_ats(true);
    for _ in 0..2 {
        assert_eq!(driver.run(1, Sqe::blocks(READ, 0, 9)).code, 0);
    }
    let asked = requests(&mut driver);
    assert_eq!(asked.len(), 8, "command, two pages, completion; twice");
    assert!(asked.iter().all(|request| *request == AddressType::Translated), "{asked:?}");
    assert_eq!(driver.upstream.translations.len(), 1, "one range covers all");
    driver.set_ats(false);
    driver.set_ats(true);
    assert_eq!(driver.run(1, Sqe::blocks(READ, 0, 1)).code, 0);
    assert_eq!(driver.upstream.translations.len(), 2, "the ATC was empty");
}

#[test]
fn an_invalidation_empties_the_atc_and_is_answered() {
    let mut driver = Driver::ready();
    driver.interrupts();
    driver.set_ats(true);
    assert_eq!(driver.run(1, Sqe::blocks(READ, 0, 1)).code, 0);
    driver.interrupts();
    let request = InvalidateRequest {
        destination: ID,
        itag: ITag::new(5),
        pasid: None,
        global: false,
        range: PageRange::page(Iova(DATA)),
    };
    assert!(driver.nvme.invalidate_request(request));
    driver.nvme.obey(request, Some(request), driver.now);
    let Some(UpstreamMessage::InvalidateCompletion(answer)) = driver.nvme.poll_message() else {
        panic!("no answer");
    };
    assert_eq!((answer.requester, answer.itag_vector), (ID, 1 << 5));
    driver.upstream.translations.clear();
    assert_eq!(driver.run(1, Sqe::blocks(READ, 0, 1)).code, 0);
    assert_eq!(driver.upstream.translations.len(), 1);
}

#[test]
fn a_refused_translation_request_makes_it_do_without_ats() {
    let mut driver = Driver::ready();
    driver.set_ats(true);
    driver.upstream.translation_error = Some(RequestError::UnsupportedRequest);
    assert_eq!(driver.run(1, Sqe::blocks(READ, 0, 1)).code, 0);
    driver.upstream.translation_error = None;
    requests(&mut driver);
    assert_eq!(driver.run(1, Sqe::blocks(READ, 0, 1)).code, 0);
    assert_eq!(driver.upstream.translations.len(), 1, "asked once, and no more");
    assert!(requests(&mut driver).iter().all(|request| *request == AddressType::Untranslated));
}

#[test]
fn data_that_cannot_be_reached_fails_the_command_alone() {
    let mut driver = Driver::ready();
    driver.upstream.map(0, 32, 0, true, true);
    let outside = Sqe::blocks(WRITE, 0, 1).prp(1 << 33, 0);
    let seen = driver.run(1, outside);
    assert_eq!((seen.code, seen.do_not_retry), (4, false));
    driver.set_ats(true);
    assert_eq!(driver.run(1, outside).code, 4);
    let read = Sqe::blocks(READ, 0, 1).prp(1 << 33, 0);
    assert_eq!(driver.run(1, read).code, 4, "by its translation the function knows");
    assert_eq!(driver.run(1, Sqe::blocks(READ, 0, 1)).code, 0);
}

#[test]
fn a_queue_that_cannot_be_reached_is_fatal_until_a_reset() {
    let mut driver = Driver::ready();
    driver.place(1, Sqe::blocks(READ, 0, 1));
    let mappings = std::mem::take(&mut driver.upstream.mappings);
    driver.ring(1, false, 1);
    assert_eq!(driver.register(regs::CSTS), 0b11);
    driver.upstream.mappings = mappings;
    driver.submit(0, Sqe::new(6).dword(10, 1));
    driver.settle();
    assert!(driver.peek(0).is_none(), "nothing happens any more");
    driver.write(regs::CC, &[0; 4]);
    driver.enable();
    assert_eq!(driver.admin(Sqe::new(6).dword(10, 1)).code, 0);
}

#[test]
fn a_completion_that_has_no_translation_is_fatal() {
    let mut driver = Driver::ready();
    driver.set_ats(true);
    let completions = rings(1).1;
    driver.submit(1, Sqe::blocks(READ, 0, 1));
    driver.upstream.map(completions, 12, completions, true, false);
    driver.upstream.map(DATA, 12, DATA, true, true);
    let request = InvalidateRequest {
        destination: ID,
        itag: ITag::new(0),
        pasid: None,
        global: false,
        range: PageRange::ALL,
    };
    assert!(driver.nvme.invalidate_request(request));
    driver.nvme.obey(request, Some(request), driver.now);
    driver.settle();
    assert_eq!(driver.register(regs::CSTS), 0b11);
}

#[test]
fn resets_bring_back_the_state_of_power_on_and_keep_the_data() {
    let function_level: fn(&mut Driver) = |driver| {
        assert!(driver.function().initiate_flr());
    };
    let conventional: fn(&mut Driver) = |driver| driver.nvme.reset(Reset::Hot, driver.now);
    for reset in [function_level, conventional] {
        let mut driver = Driver::ready();
        driver.set_ats(true);
        driver.upstream.store(DATA, &[7; 512]);
        assert_eq!(driver.run(1, Sqe::blocks(WRITE, 0, 1)).code, 0);
        driver.submit(1, Sqe::blocks(READ, 0, 1));
        reset(&mut driver);
        assert_eq!(driver.nvme.poll_timeout(), None);
        assert!(driver.interrupts().is_empty());
        assert_eq!(driver.config::<2>(header::COMMAND), [0, 0]);
        assert!(!driver.ats().enable());
        let msix = driver.msix();
        assert_eq!(driver.config::<2>(msix + msix::CONTROL), [8, 0], "MSI-X is off");
        driver.program();
        assert_eq!(driver.register(regs::CC) | driver.register(regs::CSTS), 0);
        assert_eq!(driver.register(regs::ASQ), 0);
        driver.enable();
        driver.create_pair(1);
        requests(&mut driver);
        driver.upstream.store(DATA, &[0; 512]);
        assert_eq!(driver.run(1, Sqe::blocks(READ, 0, 1)).code, 0);
        assert_eq!(driver.upstream.load(DATA, 512), [7; 512]);
        assert!(requests(&mut driver).iter().all(|request| *request == AddressType::Untranslated));
    }
}

/// A medium that fails all operations.
#[derive(Debug)]
struct Broken(MemoryStorage);

impl Storage for Broken {
    fn blocks(&self) -> u64 {
        self.0.blocks()
    }
    fn read(&mut self, _offset: u64, _data: &mut [u8]) -> Result<(), StorageError> {
        Err(StorageError::Medium("head crash".into()))
    }
    fn write(&mut self, _offset: u64, _data: &[u8]) -> Result<(), StorageError> {
        Err(StorageError::Medium("head crash".into()))
    }
    fn flush(&mut self) -> Result<(), StorageError> {
        Err(StorageError::Medium("head crash".into()))
    }
}

#[test]
fn a_medium_that_fails_is_a_media_error() {
    let mut driver = Driver::with(vec![Box::new(Broken(MemoryStorage::new(16)))]);
    driver.enable();
    driver.create_pair(1);
    for (opcode, code) in [(WRITE, 0x280), (READ, 0x281), (0, 0x280), (8, 0x280), (5, 0x281)] {
        assert_eq!(driver.run(1, Sqe::blocks(opcode, 0, 1)).code, code);
    }
    let smart = driver.admin_data(Sqe::new(2).dword(10, 0x7f_0002), 512);
    assert_eq!(smart[160], 5);
}
