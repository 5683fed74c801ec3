//! The unit from a driver's view: registers, a ring in memory, and messages.

mod dma;
mod errors;
mod hostile;
mod interrupts;
mod observation;
mod page_requests;
mod queue;
mod stages;
mod sticky;

use std::sync::Arc;
use std::time::Duration;

use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::ats::InvalidateCompletion;
use crate::event::{Event, Recorder};
use crate::ids::{Bdf, PAGE_SIZE};
use crate::spec::descriptor::{DeviceTlbDescriptor, IotlbDescriptor, WaitDescriptor};
use crate::spec::fault::FaultStatus;
use crate::spec::queue::{QueueAddress, QueueErrorInfo, QueueErrorRecord};
use crate::time::Timeout;

const MEMORY: usize = 16 << 20;
const RING: u64 = 0x10_0000;
const STATUS: u64 = 0x20_0000;
const ROOT: u64 = 0x30_0000;

const VICTIM: Bdf = Bdf::new(1, 0, 0);
const NEIGHBOR: Bdf = Bdf::new(2, 0, 0);
const ICT: Duration = Duration::from_secs(60);

/// A unit, its memory, and a driver.
struct Rig {
    unit: Unit,
    memory: Memory,
    recorder: Arc<Recorder>,
    now: Instant,
    /// IQT in bytes.
    tail: u32,
    ring: QueueAddress,
}

impl Rig {
    fn new() -> Self {
        Self::with(UnitConfig { ict: Timeout::After(ICT), ..UnitConfig::new(UnitRole::Guest) })
    }

    fn scalable() -> Self {
        Self::with(UnitConfig::full(UnitRole::Guest))
    }

    fn with(config: UnitConfig) -> Self {
        let recorder = Arc::new(Recorder::default());
        Self {
            unit: Unit::new(config, Tracer::to(recorder.clone())),
            memory: Memory::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap(),
            recorder,
            now: Instant::START,
            tail: 0,
            ring: QueueAddress::new().with_page(RING / PAGE_SIZE),
        }
    }

    fn read32(&self, at: u16) -> u32 {
        let mut data = [0; 4];
        self.unit.read(at.into(), &mut data);
        u32::from_le_bytes(data)
    }

    fn read64(&self, at: u16) -> u64 {
        let mut data = [0; 8];
        self.unit.read(at.into(), &mut data);
        u64::from_le_bytes(data)
    }

    fn write32(&mut self, at: u16, value: u32) {
        self.unit.write(at.into(), &value.to_le_bytes(), &self.memory, self.now);
    }

    fn write64(&mut self, at: u16, value: u64) {
        self.unit.write(at.into(), &value.to_le_bytes(), &self.memory, self.now);
    }

    fn status(&self) -> GlobalBits {
        GlobalBits::from_bits(self.read32(offset::GSTS))
    }

    fn fault_status(&self) -> FaultStatus {
        FaultStatus::from_bits(self.read32(offset::FSTS))
    }

    fn error_record(&self) -> QueueErrorRecord {
        QueueErrorRecord::from_bits(self.read64(offset::IQERCD))
    }

    /// Changes persistent bits of GCMD relative to GSTS, as a driver does.
    fn command(&mut self, change: impl FnOnce(GlobalBits) -> GlobalBits) {
        let persistent = GlobalBits::from_bits(self.read32(offset::GSTS) & 0x96ff_ffff);
        self.write32(offset::GCMD, change(persistent).into_bits());
    }

    /// Enables the queue, the root table and translation. The low bits of `root` are the table
    /// mode.
    fn enable(mut self, ring: QueueAddress, root: u64) -> Self {
        self.ring = ring.with_page(RING / PAGE_SIZE);
        self.write64(offset::IQA, self.ring.into_bits());
        self.write64(offset::RTADDR, root);
        self.command(|bits| bits.with_set_root_table(true));
        self.command(|bits| bits.with_queued_invalidation(true));
        self.command(|bits| bits.with_translation(true));
        assert!(self.status().queued_invalidation() && self.status().translation());
        self
    }

    fn enabled() -> Self {
        Self::new().enable(QueueAddress::new(), ROOT)
    }

    fn poke(&self, address: u64, value: u64) {
        self.memory.write_obj(value.to_le(), GuestAddress(address)).unwrap();
    }

    fn peek32(&self, address: u64) -> u32 {
        u32::from_le(self.memory.read_obj(GuestAddress(address)).unwrap())
    }

    /// Writes descriptors behind the tail, and leaves IQT as it is.
    fn queue(&mut self, descriptors: &[u128]) {
        for descriptor in descriptors {
            let at = GuestAddress(RING + u64::from(self.tail));
            let mut bytes = [0; 32];
            bytes[..16].copy_from_slice(&descriptor.to_le_bytes());
            let size = self.ring.descriptor_bytes();
            self.memory.write_slice(&bytes[..size as usize], at).unwrap();
            self.tail = (self.tail + size) % self.ring.bytes();
        }
    }

    fn doorbell(&mut self) {
        self.write32(offset::IQT, self.tail);
    }

    fn submit(&mut self, descriptors: &[u128]) {
        self.queue(descriptors);
        self.doorbell();
    }

    /// The slot of the head.
    fn head(&self) -> u32 {
        self.read32(offset::IQH) / self.ring.descriptor_bytes()
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.unit.poll_output()).collect()
    }

    fn requests(&mut self) -> Vec<InvalidateRequest> {
        let request = |output| match output {
            Output::Invalidate(request) => Some(request),
            _ => None,
        };
        self.outputs().into_iter().filter_map(request).collect()
    }

    fn msis(&mut self) -> Vec<Msi> {
        let msi = |output| match output {
            Output::Msi(msi) => Some(msi),
            _ => None,
        };
        self.outputs().into_iter().filter_map(msi).collect()
    }

    fn answer(&mut self, request: InvalidateRequest) {
        let completion = InvalidateCompletion {
            requester: request.destination,
            itag_vector: request.itag.bit(),
            completion_count: 1,
        };
        self.unit.handle_completion(completion, &self.memory, self.now);
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.unit.handle_timeout(self.now);
    }

    fn clear_faults(&mut self, bits: FaultStatus) {
        self.write32(offset::FSTS, bits.into_bits());
    }

    /// Sets address and data of an event, and unmasks it.
    fn route_events(&mut self, control: u16, address: u32, data: u32) {
        self.write32(control + 4, data);
        self.write32(control + 8, address);
        self.write32(control, 0);
    }

    fn count(&self, matches: impl Fn(&Event) -> bool) -> usize {
        self.recorder.events().iter().filter(|timed| matches(&timed.event)).count()
    }
}

/// The status word of waiter `n`.
const fn status_word(n: u64) -> u64 {
    STATUS + 4 * n
}

/// A wait descriptor that writes 1 to the status word of waiter `n`.
fn wait(n: u64) -> WaitDescriptor {
    WaitDescriptor::new()
        .with_status_write(true)
        .with_status_data(1)
        .with_status_dword(status_word(n) >> 2)
}

fn device_tlb(function: Bdf) -> u128 {
    DeviceTlbDescriptor::new().with_source_id(function.into_bits()).into_bits()
}

fn iotlb_global() -> u128 {
    IotlbDescriptor::new().with_granularity(1).into_bits()
}
