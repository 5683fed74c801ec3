//! What `VT-d 6.5.2.12` promises of wait descriptors, on units of every order.

use proptest::prelude::*;

use super::*;

/// A step of a script.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A Device-TLB invalidation of this function.
    DeviceTlb(Bdf),
    /// A wait descriptor, with the Fence flag or without.
    Wait(bool),
    /// The answer to one of the outstanding requests.
    Answer(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        prop_oneof![Just(VICTIM), Just(NEIGHBOR)].prop_map(Step::DeviceTlb),
        any::<bool>().prop_map(Step::Wait),
        (0_usize..4).prop_map(Step::Answer),
    ]
}

/// A unit, and what a test knows of its descriptors.
struct Script {
    rig: Rig,
    outstanding: Vec<(usize, InvalidateRequest)>,
    /// The epoch of each request in the order of submission, and whether it was answered.
    requests: Vec<(usize, bool)>,
    sent: usize,
    /// Whether each wait has the Fence flag.
    waits: Vec<bool>,
}

impl Script {
    fn new(ordering: Ordering) -> Self {
        let config = UnitConfig { ordering, ..UnitConfig::new(UnitRole::Guest) };
        let rig = Rig::with(config).enable(QueueAddress::new(), ROOT);
        Self { rig, outstanding: Vec::new(), requests: Vec::new(), sent: 0, waits: Vec::new() }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::DeviceTlb(function) => {
                self.requests.push((self.waits.len(), false));
                self.rig.submit(&[device_tlb(function)]);
            }
            Step::Wait(fence) => {
                let number = self.waits.len() as u64;
                self.waits.push(fence);
                self.rig.submit(&[wait(number).with_fence(fence).into_bits()]);
            }
            Step::Answer(nth) if nth < self.outstanding.len() => {
                let (index, request) = self.outstanding.remove(nth);
                self.requests[index].1 = true;
                self.rig.answer(request);
            }
            Step::Answer(_) => {}
        }
        for request in self.rig.requests() {
            self.outstanding.push((self.sent, request));
            self.sent += 1;
        }
    }

    fn done(&self, wait: usize) -> bool {
        self.rig.peek32(status_word(wait as u64)) == 1
    }

    fn state(&self) -> (u32, usize, Vec<bool>) {
        let done = (0..self.waits.len()).map(|wait| self.done(wait)).collect();
        (self.rig.head(), self.sent, done)
    }

    /// Whether each wait that is done covers at least the requests of its own epoch, and nothing has
    /// been sent behind a wait with FN that is not.
    fn keeps_promises(&self) -> bool {
        let covered = |(epoch, answered): &(usize, bool)| {
            *epoch >= self.waits.len() || !self.done(*epoch) || *answered
        };
        let fenced = |(epoch, _): &(usize, bool)| {
            (0..*epoch).all(|wait| !self.waits[wait] || self.done(wait))
        };
        self.requests.iter().all(covered) && self.requests[..self.sent].iter().all(fenced)
    }
}

proptest! {
    #[test]
    fn every_order_keeps_what_the_specification_promises(
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let [mut serial, mut parallel, mut blocking] = Ordering::ALL.map(Script::new);
        let mut fenced = Script::new(Ordering::Serial);
        for step in steps {
            for script in [&mut serial, &mut parallel, &mut blocking] {
                script.run(step);
                prop_assert!(script.keeps_promises());
            }
            // A blocking unit is a serial one whose waits all have FN.
            fenced.run(match step {
                Step::Wait(_) => Step::Wait(true),
                other => other,
            });
            prop_assert_eq!(blocking.state(), fenced.state());
        }
    }
}
