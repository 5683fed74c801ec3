//! `--host`: whose time-out a guest sees.

use std::io::Write;
use std::process::Stdio;

use crate::cli::ghostlink;

/// A Device-TLB invalidation for a function that is present and has no ATS, with a wait behind it.
/// Prints FSTS shortly before one second and at one second, then IQERCD.
const SCRIPT: &[u8] = b"writeq 0xfed90090 0x20000
writel 0xfed90018 0x4000000
writeq 0x20000 0x8000000003
writeq 0x20008 0x1000
writeq 0x20010 0x500000025
writeq 0x20018 0x28000
writeq 0xfed90088 0x20
clock_step 999999999
readl 0xfed90034
clock_step 1
readl 0xfed90034
readq 0xfed900b0
";

/// The values that the script reads on a machine with these options.
fn values(options: &[&str]) -> Vec<u64> {
    let arguments = [&["qtest", "--device", "edu,addr=10.0", "--ict", "1s"], options].concat();
    let mut command = ghostlink(&arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(SCRIPT).unwrap();
    let output = child.wait_with_output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let value = |line: &str| u64::from_str_radix(line.strip_prefix("OK 0x")?, 16).ok();
    stdout.lines().filter_map(value).collect()
}

#[test]
fn a_function_that_is_present_and_does_not_answer_is_named_by_the_unit_unless_a_host_hides_it() {
    const ITE: u64 = 0x40;
    let named = 0x80_u64 << 32;
    for (options, seen) in [
        (&[][..], vec![0, ITE, named]),
        (&["--host", "direct"], vec![0, ITE, named]),
        // Linux finds that the function is present, and submits again for ever.
        (&["--host", "forwarded"], vec![0, 0, 0]),
        (&["--policy", "pass-through"], vec![0, ITE, named]),
        (&["--unit", "itesid=00:00.0"], vec![0, ITE, 0]),
    ] {
        assert_eq!(values(options), seen, "{options:?}");
    }
}
