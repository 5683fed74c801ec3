//! Our remapping unit and QEMU's run the same scripts, and must show the same; see
//! `tests::differential`.
//!
//! `GHOSTLINK_SEED` replaces the seed of the fresh scripts. `GHOSTLINK_DIFFERENCES` is the number
//! of different scripts after which a test ends, 1 by default.

use std::io::Write;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use tests::differential::{
    Difference, Mode, Ours, Qemu, QemuError, Script, compare, generate, shrink,
};
use tests::{Need, Release, wanted};

/// The seed of the fixed scripts.
const FIXED_SEED: u64 = 0x1234;
/// Number of fixed scripts in each mode.
const FIXED_SCRIPTS: u64 = 700;
/// Number of fresh scripts in each mode.
const FRESH_SCRIPTS: u64 = 170;

/// A number from the environment.
fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let digits = text.strip_prefix("0x").map(|digits| u64::from_str_radix(digits, 16));
    Some(digits.unwrap_or_else(|| text.parse()).expect("the variable is a number"))
}

/// Compares scripts with QEMU, which it starts again after an error.
struct Judge {
    mode: Mode,
    directory: PathBuf,
    qemu: Qemu,
    /// Seeds of the scripts without a result, since QEMU's clock stopped.
    unjudged: Vec<u64>,
}

impl Judge {
    fn new(mode: Mode) -> Self {
        let test = std::thread::current().name().unwrap_or("differential").to_owned();
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("{test}-{}", std::process::id()));
        let qemu = Qemu::start(mode, &directory).expect("QEMU starts");
        Self { mode, directory, qemu, unjudged: Vec::new() }
    }

    fn difference(&mut self, script: &Script) -> Result<Option<Difference>, QemuError> {
        let ours = Ours::new(self.mode, tests::judge().release).run(script);
        match self.qemu.run(script) {
            Ok(qemu) => Ok(compare(script, &ours, &qemu)),
            Err(error) => {
                self.qemu = Qemu::start(self.mode, &self.directory).expect("QEMU starts again");
                Err(error)
            }
        }
    }

    /// Runs one script; returns a message with the shrunk script if there is a difference.
    fn judge(&mut self, seed: u64) -> Option<String> {
        let script = generate::script(seed, self.mode, tests::judge().release);
        let found = match self.difference(&script) {
            Ok(found) => found?,
            Err(QemuError::Stuck(_)) => {
                self.unjudged.push(seed);
                return None;
            }
            Err(error) => return Some(format!("seed {seed:#x}: {error}\n{}", script.body())),
        };
        let kind = found.kind();
        let small = shrink(
            &script,
            |script| matches!(self.difference(script), Ok(Some(found)) if found.kind() == kind),
        );
        let last = match self.difference(&small) {
            Ok(Some(difference)) => difference.to_string(),
            _ => "it does not always differ".to_owned(),
        };
        Some(format!("{:?}, seed {seed:#x}: {found}\nshrunk: {last}\n{}", self.mode, small.body()))
    }
}

/// Runs scripts with the seeds from `seed` on, and panics with the differences.
fn run(mode: Mode, seed: u64, scripts: u64) {
    if !wanted(Need::Judge) {
        return;
    }
    let limit = variable("GHOSTLINK_DIFFERENCES").unwrap_or(1);
    let mut judge = Judge::new(mode);
    let mut differences = Vec::new();
    for index in 0..scripts {
        differences.extend(judge.judge(seed.wrapping_add(index)));
        if differences.len() as u64 >= limit {
            break;
        }
    }
    let prologue = Script { groups: vec![generate::prologue()] };
    assert!(
        differences.is_empty(),
        "{} scripts differ; each begins with\n{prologue}\n{}",
        differences.len(),
        differences.join("\n")
    );
    let (judged, unjudged) = (scripts - judge.unjudged.len() as u64, &judge.unjudged);
    // QEMU's clock stops rarely; if it stops often, the error is ours.
    assert!(unjudged.len() as u64 * 100 <= scripts, "QEMU's clock stops too often: {unjudged:x?}");
    report(&format!("{judged} scripts from seed {seed:#x} agree with QEMU ({mode:?})"));
    if !unjudged.is_empty() {
        report(&format!("not judged, as QEMU's clock stopped ({mode:?}): {unjudged:x?}"));
    }
}

/// Prints a line, also if the test passes.
fn report(text: &str) {
    // The test harness hides the output of `print` and its kind.
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn run_fresh(mode: Mode) {
    let nanos = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos());
    // Any bits of the time are good.
    let seed = variable("GHOSTLINK_SEED").unwrap_or_else(|| nanos() as u64);
    run(mode, seed, FRESH_SCRIPTS);
}

#[test]
fn fixed_legacy_scripts_agree() {
    run(Mode::Legacy, FIXED_SEED, FIXED_SCRIPTS);
}

#[test]
fn fixed_remapping_scripts_agree() {
    run(Mode::Remapping, FIXED_SEED, FIXED_SCRIPTS);
}

#[test]
fn fixed_scalable_scripts_agree() {
    run(Mode::Scalable, FIXED_SEED, FIXED_SCRIPTS);
}

#[test]
fn fresh_legacy_scripts_agree() {
    run_fresh(Mode::Legacy);
}

#[test]
fn fresh_remapping_scripts_agree() {
    run_fresh(Mode::Remapping);
}

#[test]
fn fresh_scalable_scripts_agree() {
    run_fresh(Mode::Scalable);
}

#[test]
fn shrinking_leaves_what_is_needed() {
    let script = generate::script(1, Mode::Legacy, Release::Eleven);
    let step = script.groups[1].steps[0].clone();
    let small = shrink(&script, |script| script.steps().skip(1).any(|other| *other == step));
    assert_eq!(small.groups.len(), 2);
    assert_eq!(small.groups[1].steps, [step]);
}

#[test]
fn a_seed_always_gives_the_same_script() {
    for mode in Mode::ALL {
        assert_eq!(
            generate::script(7, mode, Release::Eleven),
            generate::script(7, mode, Release::Eleven)
        );
        assert_ne!(
            generate::script(7, mode, Release::Eleven),
            generate::script(8, mode, Release::Eleven)
        );
    }
}
