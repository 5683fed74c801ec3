//! Results in KTAP, version 1: the format of the kernel's own tests.

use crate::machine::exit;
use crate::println;

/// The result of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The test passed.
    Pass,
    /// The test failed, for this reason.
    Fail(&'static str),
    /// The machine lacks a device or a feature, which the reason names.
    Skip(&'static str),
}

/// For tests that use `?`: an error is the reason of a failure.
impl From<Result<(), &'static str>> for Verdict {
    fn from(result: Result<(), &'static str>) -> Self {
        match result {
            Ok(()) => Self::Pass,
            Err(reason) => Self::Fail(reason),
        }
    }
}

/// Fails with `reason` unless `condition` holds.
pub fn ensure(condition: bool, reason: &'static str) -> Result<(), &'static str> {
    if condition { Ok(()) } else { Err(reason) }
}

/// A KTAP report: the number of results and of failures so far.
pub struct Ktap {
    number: u32,
    failed: u32,
}

impl Ktap {
    /// Announces `planned` tests.
    pub fn start(planned: usize) -> Self {
        println!("KTAP version 1");
        println!("1..{planned}");
        Self { number: 0, failed: 0 }
    }

    /// Prints a result.
    pub fn result(&mut self, name: &str, verdict: Verdict) {
        self.number += 1;
        let number = self.number;
        match verdict {
            Verdict::Pass => println!("ok {number} {name}"),
            Verdict::Skip(reason) => println!("ok {number} {name} # SKIP {reason}"),
            Verdict::Fail(reason) => {
                self.failed += 1;
                println!("# {reason}");
                println!("not ok {number} {name}");
            }
        }
    }

    /// Ends the run, with [`exit::PASSED`] if no result was a failure.
    pub fn finish(self) -> ! {
        exit::exit(if self.failed == 0 { exit::PASSED } else { exit::FAILED })
    }
}
