//! Results in KTAP, version 1: the format of the kernel's own tests.

use crate::machine::exit;
use crate::println;

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should.
    Pass,
    /// Not as it should, and why.
    Fail(&'static str),
    /// This machine lacks what it needs.
    Skip(&'static str),
}

/// So that a test can be written with `?`: an error is the reason of a failure.
impl From<Result<(), &'static str>> for Verdict {
    fn from(result: Result<(), &'static str>) -> Self {
        match result {
            Ok(()) => Self::Pass,
            Err(reason) => Self::Fail(reason),
        }
    }
}

/// Fails with a reason unless a condition holds.
pub fn ensure(condition: bool, reason: &'static str) -> Result<(), &'static str> {
    if condition { Ok(()) } else { Err(reason) }
}

/// A plan and its results so far.
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

    /// One result.
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

    /// Ends the run: passed if every result was.
    pub fn finish(self) -> ! {
        exit::exit(if self.failed == 0 { exit::PASSED } else { exit::FAILED })
    }
}
