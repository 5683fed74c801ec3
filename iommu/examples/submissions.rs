//! Runs a number of submissions, to count their instructions:
//!
//! ```text
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/examples/submissions ROUNDS
//! ```
//!
//! A round is a presence check, a submission, its Invalidate Completion and its verdict. This is not
//! a case of the example `instructions`, whose counts depend on what the program contains.

use std::hint::black_box;

use iommu::ats::{ITag, InvalidateCompletion, InvalidateRequest, PageRange};
use iommu::event::{Tracer, UnitRole};
use iommu::ids::{Bdf, Iova};
use iommu::submit::{FunctionAccess, HostSide};
use iommu::time::Instant;
use iommu::unit::UnitConfig;

/// Functions that are present.
struct Present;

impl FunctionAccess for Present {
    fn is_present(&mut self, _: Bdf) -> bool {
        true
    }

    fn is_disconnected(&self, _: Bdf) -> bool {
        false
    }
}

fn main() {
    let rounds = std::env::args().nth(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(1000);
    let policy = "present+bounded".parse().expect("a preset");
    let config = UnitConfig::new(UnitRole::Host);
    let mut host = HostSide::new(config, policy, Tracer::none()).expect("memory");
    let destination = Bdf::new(1, 0, 0);
    let (itag, range) = (ITag::new(0), PageRange::page(Iova(0x1000)));
    let request = InvalidateRequest { destination, itag, pasid: None, global: false, range };
    for round in 0..rounds {
        let now = Instant::from_nanos(round * 1000);
        host.submit(black_box(request), &mut Present, now);
        let sent = host.poll_request().expect("sent");
        let completion = InvalidateCompletion {
            requester: sent.destination,
            itag_vector: sent.itag.bit(),
            completion_count: 1,
        };
        host.handle_completion(completion, &mut Present, now);
        black_box(host.poll_verdict().expect("completed"));
    }
}
