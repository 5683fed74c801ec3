//! Measures the parts of a flush. The simulation computes stalls from them.
//!
//! ```text
//!   lock, descriptors   doorbell (exit; unit, link and ATC do their work in it)   look at the status word
//!   |------ fill ------|------------------ answered doorbell ------------------|----------------------- ..
//! ```

use crate::bench::{self, Metric};
use crate::drop::rig::Rig;
use crate::machine::cpu::tsc;
use crate::machine::time::Ticks;
use crate::pci::config;
use crate::println;
use crate::vtd::{Flush, Unit, registers as reg};

/// Samples of each measurement, which reports their median.
const SAMPLES: usize = 33;

/// Measures and reports all parts. The link must be up.
pub fn measure(rig: &Rig, give_up: Ticks) -> Result<(), &'static str> {
    let unit = Unit::find().ok_or("the unit is gone")?.registers();
    let tail = unit.read32(reg::IQT);
    let victim = rig.victim.bdf();
    report(Metric::ExitNs, median(|| time(bench::probe)));
    report(Metric::RegisterReadNs, median(|| time(|| unit.read32(reg::FSTS))));
    report(Metric::PresenceNs, median(|| time(|| config::is_present(victim))));
    report(Metric::DoorbellNs, median(|| time(|| unit.write32(reg::IQT, tail))));

    let mut is_healthy = true;
    let mut flush = || {
        let flush = rig.victim.flush(&rig.queue, give_up);
        is_healthy &= flush.is_healthy();
        flush
    };
    report(Metric::FillNs, median(|| flush().filled));
    let answered = median(|| {
        let Flush { filled, rung, .. } = flush();
        Ticks(rung.0 - filled.0)
    });
    report(Metric::AnsweredDoorbellNs, answered);
    if is_healthy { Ok(()) } else { Err("a flush failed although the link is up") }
}

fn report(metric: Metric, time: Ticks) {
    println!("# {metric:?}: {time}");
    bench::report(metric, time.as_ns());
}

fn time<T>(mut access: impl FnMut() -> T) -> Ticks {
    let start = tsc();
    access();
    Ticks(tsc() - start)
}

fn median(mut sample: impl FnMut() -> Ticks) -> Ticks {
    let mut samples = [Ticks::default(); SAMPLES];
    samples.fill_with(&mut sample);
    samples.sort_unstable();
    samples[SAMPLES / 2]
}
