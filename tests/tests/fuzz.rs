//! Replays the corpora of the fuzz targets.

use std::fs;
use std::path::PathBuf;

use tests::fuzz::{Target, run};

fn corpus(target: Target) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name())
}

#[test]
fn every_input_of_every_corpus_runs_to_its_end() {
    for target in Target::ALL {
        let directory = corpus(target);
        let entries = fs::read_dir(&directory)
            .unwrap_or_else(|error| panic!("no corpus in {}: {error}", directory.display()));
        let mut inputs = 0;
        for entry in entries {
            run(target, &fs::read(entry.unwrap().path()).unwrap());
            inputs += 1;
        }
        assert!(inputs > 0, "the corpus of {} is empty", target.name());
    }
}

#[test]
fn inputs_that_end_early_are_taken() {
    for target in Target::ALL {
        for length in 0..200 {
            run(target, &vec![0xff; length]);
            run(target, &vec![length as u8; length]);
        }
    }
}
