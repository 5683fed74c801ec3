//! Our remapping unit and QEMU's run the same scripts, and must show the same; see
//! `tests::differential`.
//!
//! | Variable | Effect |
//! |---|---|
//! | `GHOSTLINK_SEED` | the seed of the fresh scripts |
//! | `GHOSTLINK_SCRIPTS` | the number of scripts of each kind |
//! | `GHOSTLINK_KIND` | only kinds with a name that contains it |
//! | `GHOSTLINK_DIFFERENCES` | different scripts after which a test ends, 1 by default |
//! | `GHOSTLINK_FULL=1` | each bit of entries and descriptors is flipped instead of every 16th |

use std::io::Write;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use tests::differential::generate::flips::{self, Structure};
use tests::differential::generate::kinds;
use tests::differential::{Difference, Mode, Ours, Qemu, QemuError, Script, compare, shrink};
use tests::{Need, Release, judge, wanted};

/// The seed of the fixed scripts.
const FIXED_SEED: u64 = 0x1234;
/// Number of fixed scripts of each kind.
const FIXED_SCRIPTS: u64 = 130;
/// Number of fresh scripts of each kind.
const FRESH_SCRIPTS: u64 = 32;

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
        let ours = Ours::new(self.mode, judge().release).run(script);
        match self.qemu.run(script) {
            Ok(qemu) => Ok(compare(script, &ours, &qemu)),
            Err(error) => {
                self.qemu = Qemu::start(self.mode, &self.directory).expect("QEMU starts again");
                Err(error)
            }
        }
    }

    /// Runs the script of `seed`; returns a message with the shrunk script if there is a difference.
    fn judge(&mut self, name: &str, seed: u64, script: &Script) -> Option<String> {
        let found = match self.difference(script) {
            Ok(found) => found?,
            Err(QemuError::Stuck(_)) => {
                self.unjudged.push(seed);
                return None;
            }
            Err(error) => return Some(format!("{name} {seed:#x}: {error}\n{}", script.body())),
        };
        let kind = found.kind();
        let small = shrink(
            script,
            |script| matches!(self.difference(script), Ok(Some(found)) if found.kind() == kind),
        );
        let last = match self.difference(&small) {
            Ok(Some(difference)) => difference.to_string(),
            _ => "it does not always differ".to_owned(),
        };
        Some(format!("{name} {seed:#x}: {found}\nshrunk: {last}\n{}", small.body()))
    }
}

/// Runs scripts of all kinds of a mode, `count` of each, and panics with the differences.
fn run(mode: Mode, seed: u64, count: u64) {
    if !wanted(Need::Judge) {
        return;
    }
    let count = variable("GHOSTLINK_SCRIPTS").unwrap_or(count);
    let release = judge().release;
    let kinds = kinds::ALL.iter().filter(|kind| kind.mode == mode);
    let only = std::env::var("GHOSTLINK_KIND").ok();
    let kinds = kinds.filter(|kind| only.as_ref().is_none_or(|only| kind.name.contains(only)));
    let (can, cannot): (Vec<&kinds::Kind>, Vec<_>) = kinds.partition(|kind| kind.needs <= release);
    if !cannot.is_empty() {
        let names: Vec<_> = cannot.iter().map(|kind| kind.name).collect();
        report(&format!(
            "not compared, as QEMU is older than 11: {} scripts ({mode:?}: {})",
            count * cannot.len() as u64,
            names.join(", ")
        ));
    }
    let scripts = can.iter().flat_map(|kind| {
        (0..count).map(move |index| {
            let seed = seed.wrapping_add(index);
            (kind.name, seed, kind.script(seed, release))
        })
    });
    let text = format!("from seed {seed:#x}");
    compare_all(mode, can.len() as u64 * count, &text, scripts);
}

/// Runs scripts, each with its name and seed, and panics with the differences.
fn compare_all<'a>(
    mode: Mode,
    count: u64,
    text: &str,
    scripts: impl Iterator<Item = (&'a str, u64, Script)>,
) {
    if count == 0 {
        return;
    }
    let limit = variable("GHOSTLINK_DIFFERENCES").unwrap_or(1);
    let mut judge = Judge::new(mode);
    let mut differences = Vec::new();
    for (name, seed, script) in scripts {
        differences.extend(judge.judge(name, seed, &script));
        if differences.len() as u64 >= limit {
            break;
        }
    }
    assert!(
        differences.is_empty(),
        "{} scripts differ, without what is the same in all of a kind:\n{}",
        differences.len(),
        differences.join("\n")
    );
    let (judged, unjudged) = (count - judge.unjudged.len() as u64, &judge.unjudged);
    // QEMU's clock stops rarely; if it stops often, the error is ours.
    assert!(unjudged.len() as u64 * 100 <= count, "QEMU's clock stops too often: {unjudged:x?}");
    report(&format!("{judged} scripts {text} agree with QEMU ({mode:?})"));
    if !unjudged.is_empty() {
        report(&format!("not judged, as QEMU's clock stopped ({mode:?}): {unjudged:x?}"));
    }
}

/// Runs flips of bits: all of them with `GHOSTLINK_FULL=1`, else every 16th from a fresh start.
fn flip(structure: Structure, mode: Mode) {
    if !wanted(Need::Judge) {
        return;
    }
    let release = judge().release;
    if release < Release::Eleven {
        report(&format!("not compared, as QEMU is older than 11: flips ({structure:?}, {mode:?})"));
        return;
    }
    let is_full = std::env::var_os("GHOSTLINK_FULL").is_some_and(|value| value == "1");
    let step = if is_full { 1 } else { 16 };
    let first = if is_full { 0 } else { fresh_seed() % step };
    let flips: Vec<u64> = (first..flips::count(structure, mode)).step_by(step as usize).collect();
    let flips: Vec<u64> =
        flips.into_iter().filter(|flip| !flips::is_known(structure, mode, *flip)).collect();
    let scripts = flips
        .chunks(4)
        .map(|flips| ("flips", flips[0], flips::script(structure, mode, release, flips)));
    let text = format!("with every {step}th bit of {structure:?} from {first}");
    compare_all(mode, flips.len().div_ceil(4) as u64, &text, scripts);
}

/// Prints a line, also if the test passes.
fn report(text: &str) {
    // The test harness hides the output of `print` and its kind.
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn fresh_seed() -> u64 {
    let nanos = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos());
    // Any bits of the time are good.
    variable("GHOSTLINK_SEED").unwrap_or_else(|| nanos() as u64)
}

fn run_fresh(mode: Mode) {
    run(mode, fresh_seed(), FRESH_SCRIPTS);
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
fn fixed_first_stage_scripts_agree() {
    run(Mode::FirstStage, FIXED_SEED, FIXED_SCRIPTS);
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
fn fresh_first_stage_scripts_agree() {
    run_fresh(Mode::FirstStage);
}

#[test]
fn bits_of_legacy_tables_agree() {
    flip(Structure::Tables, Mode::Legacy);
}

#[test]
fn bits_of_scalable_tables_agree() {
    flip(Structure::Tables, Mode::Scalable);
}

#[test]
fn bits_of_first_stage_tables_agree() {
    flip(Structure::Tables, Mode::FirstStage);
}

#[test]
fn bits_of_narrow_descriptors_agree() {
    flip(Structure::Descriptors, Mode::Remapping);
}

#[test]
fn bits_of_wide_descriptors_agree() {
    flip(Structure::Descriptors, Mode::FirstStage);
}

#[test]
fn bits_of_interrupt_entries_agree() {
    flip(Structure::Interrupts, Mode::Remapping);
}

#[test]
fn shrinking_leaves_what_is_needed() {
    let script = kinds::ALL[0].script(1, Release::Eleven);
    let step = script.groups[1].steps[0].clone();
    let small = shrink(&script, |script| script.steps().skip(1).any(|other| *other == step));
    assert_eq!(small.groups.len(), 2);
    assert_eq!(small.groups[1].steps, [step]);
}

#[test]
fn a_seed_always_gives_the_same_script() {
    for kind in kinds::ALL {
        assert_eq!(kind.script(7, Release::Eleven), kind.script(7, Release::Eleven));
        assert_ne!(kind.script(7, Release::Eleven), kind.script(8, Release::Eleven));
    }
}
