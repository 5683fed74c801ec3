//! Every fault at every point of the protocol: whatever happens to one device, a driver that does
//! what drivers do gets it back, and the other one is never lost.

use std::time::Duration;

use iommu::spec::fault::FaultStatus;
use iommu::spec::offset;
use iommu::time::Timeout;
use iommu::unit::Ordering;

use super::super::tests::{Rig, TARGET};

const MODES: [&str; 27] = [
    "silent,for=1s",
    "ghost,for=1s",
    "disable,for=1s",
    "surprise,for=1s",
    "safe,for=1s",
    "dpc",
    "aer,for=1s",
    "no-completion,for=1s",
    "ignore-invalidate,for=1s",
    "slow:250ms,for=1s",
    "slow:1ms..90s,for=1s",
    "slow:exp:50ms,for=1s",
    "lossy:0.5,for=1s",
    "lossy:1,for=1s",
    "dup,for=1s",
    "late:2s,for=1s",
    "early,for=1s",
    "byte-swap,for=1s",
    "drop-at-next,for=1s",
    "sleep,for=1s",
    "slow-reset:1s,for=1s",
    "merge:20ms,for=1s",
    "split:8,for=1s",
    "choke:1:50ms,for=1s",
    "flap:500ms",
    "flap:500ms:keep",
    "all-ones-unit,for=1s",
];

const POINTS: [&str; 9] = [
    "at=10ms",
    "on=doorbell",
    "before=tail:2",
    "after=descriptors:3",
    "after=requests:2",
    "before=completion:2",
    "after=invalidations:1",
    "before=status:2",
    "after=dma:2",
];

/// Flushes as a driver does that submits again after ITE. Whether it comes to an end.
fn flush(rig: &mut Rig, port: u8, n: u64) -> bool {
    rig.flush(port, n);
    for _ in 0..200 {
        if rig.done(n) {
            return true;
        }
        rig.pass(Duration::from_millis(100));
        if rig.ite().is_some() {
            rig.unit(offset::FSTS, FaultStatus::new().with_timeout_error(true).into_bits());
            rig.flush(port, n);
        } else {
            // A unit that was gone may have missed it.
            rig.ring();
        }
    }
    false
}

#[test]
fn the_device_comes_back_and_its_neighbour_has_never_gone() {
    for mode in MODES {
        for point in POINTS {
            let fault = format!("{point},mode={mode}");
            let ict = Timeout::After(Duration::from_secs(1));
            let mut rig = Rig::with_faults("bounded:100ms", ict, Ordering::Serial, &[&fault]);
            rig.contain_errors(0);
            for n in 0..3 {
                rig.fill(0, n as u32);
                rig.complex.doorbell(rig.now);
                rig.flush(0, n);
                rig.pass(Duration::from_millis(20));
                assert!(flush(&mut rig, 1, 8 + n), "{fault}: the neighbour's flush {n}");
                rig.fill(1, 0x1000 + n as u32);
                assert_eq!(rig.peek(TARGET), 0x1000 + n as u32, "{fault}: the neighbour's DMA");
            }
            rig.pass(Duration::from_secs(5));
            rig.contain_errors(0);
            rig.set_up_functions();
            assert!(flush(&mut rig, 0, 16), "{fault}: no flush completes any more");
            rig.fill(0, 0xabcd);
            assert_eq!(rig.peek(TARGET), 0xabcd, "{fault}: no DMA gets through any more");
        }
    }
}
