//! How a guest talks to the bench: a few I/O ports that no real machine has.
//!
//! | offset | read                 | write                                        |
//! |--------|----------------------|----------------------------------------------|
//! | 0x00   | signature "GLNK"     | -                                            |
//! | 0x04   | TSC frequency in kHz | doorbell                                     |
//! | 0x08   | number of CPUs       | metric: what the next report is about        |
//! | 0x0c   | 0                    | low half of its value                        |
//! | 0x10   | 0                    | high half of its value; completes the report |
//!
//! All accesses have 32 bits and are aligned; others read as all ones, and vanish as writes. The
//! three ports of a report are one set for all CPUs: a guest lets one CPU at a time report.

const SIGNATURE: u16 = 0x00;
const TSC_DOORBELL: u16 = 0x04;
const CPUS_METRIC: u16 = 0x08;
const VALUE_LOW: u16 = 0x0c;
const VALUE_HIGH: u16 = 0x10;

/// The reports of the built-in guest, with their numbers. Guests may report others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Metric {
    /// How the measured flush ended: 0 completed, 1 timed out, 2 stalled.
    Outcome = 1,
    /// How long it took, in nanoseconds.
    GuestStall = 2,
    /// The longest flush of the healthy neighbour, in nanoseconds.
    NeighborStall = 3,
    /// Time-outs (ITE) that the guest has handled.
    Timeouts = 4,
    /// ITESID of one of them.
    TimeoutSource = 5,
    /// Median of the healthy flushes, in nanoseconds.
    HealthyMedian = 6,
    /// The longest healthy flush, in nanoseconds.
    HealthyMaximum = 7,
    /// Wait descriptors that the guest has marked as aborted.
    WaitsAborted = 8,
    /// Flushes that the neighbour has made.
    NeighborFlushes = 9,
    /// How often the neighbour has submitted again.
    NeighborResubmissions = 10,
    /// The neighbour's worst outcome, as for [`Metric::Outcome`].
    NeighborOutcome = 11,
    /// How often the measured flush was submitted again.
    Resubmissions = 12,
    /// How long its first submission took, however that ended, in nanoseconds.
    FirstAttempt = 13,
    /// Medians of what its parts cost, in nanoseconds: an access to a port.
    Exit = 14,
    /// A read of a register of the unit.
    RegisterRead = 15,
    /// A read of a function's vendor ID.
    Presence = 16,
    /// A write of the queue's tail that brings nothing new.
    Doorbell = 17,
    /// From the start of a flush until its three descriptors are in the ring.
    Fill = 18,
    /// The write of the queue's tail for a flush, in which it is also answered.
    AnsweredDoorbell = 19,
    /// The longest flush of the victim's other CPUs, with its wait for the lock of the domain, in
    /// nanoseconds.
    CrowdStall = 20,
}

/// A complete request of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// It has rung the doorbell.
    Doorbell {
        /// With this value.
        value: u32,
    },
    /// It has measured something.
    Report {
        /// The number of the measurement, see [`Metric`].
        metric: u32,
        /// Its result.
        value: u64,
    },
}

/// The ports, and the report that is being written.
#[derive(Debug, Clone)]
pub struct Bench {
    tsc_khz: u32,
    cpus: u32,
    metric: u32,
    low: u32,
}

impl Bench {
    /// "GLNK", read as text.
    pub const SIGNATURE: u32 = u32::from_le_bytes(*b"GLNK");

    /// The ports of a machine whose time stamp counter runs at `tsc_khz` (0: unknown), with `cpus`
    /// CPUs.
    pub fn new(tsc_khz: u32, cpus: u32) -> Self {
        Self { tsc_khz, cpus, metric: 0, low: 0 }
    }

    /// The guest reads `data.len()` bytes at `offset`.
    pub fn read(&self, offset: u16, data: &mut [u8]) {
        data.fill(0xff);
        let value = match offset {
            SIGNATURE => Self::SIGNATURE,
            TSC_DOORBELL => self.tsc_khz,
            CPUS_METRIC => self.cpus,
            VALUE_LOW | VALUE_HIGH => 0,
            _ => return,
        };
        if let Ok(data) = <&mut [u8; 4]>::try_from(data) {
            *data = value.to_le_bytes();
        }
    }

    /// The guest writes `data` at `offset`; returns what it asks for, if it does.
    pub fn write(&mut self, offset: u16, data: &[u8]) -> Option<Request> {
        let value = u32::from_le_bytes(data.try_into().ok()?);
        match offset {
            TSC_DOORBELL => return Some(Request::Doorbell { value }),
            CPUS_METRIC => self.metric = value,
            VALUE_LOW => self.low = value,
            VALUE_HIGH => {
                let value = u64::from(value) << 32 | u64::from(self.low);
                return Some(Request::Report { metric: self.metric, value });
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bench() -> Bench {
        Bench::new(2_596_000, 2)
    }

    #[test]
    fn a_guest_recognises_the_bench_and_learns_about_the_machine() {
        let read = |offset| {
            let mut data = [0; 4];
            bench().read(offset, &mut data);
            u32::from_le_bytes(data)
        };
        assert_eq!([read(0), read(4), read(8)], [0x4b4e_4c47, 2_596_000, 2]);
        assert_eq!([read(0xc), read(0x10)], [0, 0]);
    }

    #[test]
    fn a_report_is_complete_with_the_high_half() {
        let mut bench = bench();
        assert_eq!(bench.write(8, &7_u32.to_le_bytes()), None);
        assert_eq!(bench.write(0xc, &0x9abc_def0_u32.to_le_bytes()), None);
        let report = Request::Report { metric: 7, value: 0x1234_5678_9abc_def0 };
        assert_eq!(bench.write(0x10, &0x1234_5678_u32.to_le_bytes()), Some(report));
    }

    #[test]
    fn the_doorbell_rings_with_its_value() {
        let rung = bench().write(4, &3_u32.to_le_bytes());
        assert_eq!(rung, Some(Request::Doorbell { value: 3 }));
    }

    proptest! {
        #[test]
        fn accesses_of_another_size_or_alignment_do_nothing(
            offset in 0_u16..0x20, mut data in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            prop_assume!(data.len() != 4 || offset % 4 != 0);
            prop_assert_eq!(bench().write(offset, &data), None);
            bench().read(offset, &mut data);
            prop_assert!(data.iter().all(|byte| *byte == 0xff));
        }
    }
}
