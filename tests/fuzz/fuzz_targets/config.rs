#![no_main]

// By its path, so that the guest and the VMM, which the crate needs, need not be built.
#[path = "../../src/fuzz/mod.rs"]
#[allow(dead_code)]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::run(body::Target::Config, bytes));
