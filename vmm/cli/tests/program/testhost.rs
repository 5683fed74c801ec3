//! `ghostlink testhost`: a command on a machine that QEMU emulates. The first test boots it, which
//! takes 10 s of processor time; each command takes some 2 s.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Output, Stdio};
use std::thread;
use std::time::Duration;

use tests::{Need, wanted};
use vmm_sys_util::tempdir::TempDir;

use crate::cli::ghostlink;

fn run(directory: &Path, arguments: &[&str]) -> Output {
    ghostlink(&[&["testhost"], arguments].concat()).current_dir(directory).output().unwrap()
}

/// The line of an error, without the notes and the log before it.
fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned()
}

#[test]
fn a_command_has_its_files_its_outputs_and_its_status() {
    if !wanted(Need::TestHost) {
        return;
    }
    let directory = TempDir::new_with_prefix("/tmp/ghostlink, test host ").unwrap();
    let directory = directory.as_path();
    fs::write(directory.join("read"), "content").unwrap();
    let script = "cat read; pwd >written; date +%s >&2; ghostlink --version >>written; exit 7";
    let output = run(directory, &["--", "sh", "-c", script]);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(output.stdout, b"content");
    let written = fs::read_to_string(directory.join("written")).unwrap();
    let expected = format!("{}\nghostlink {}\n", directory.display(), env!("CARGO_PKG_VERSION"));
    assert_eq!(written, expected);
    let inside: u64 = last_line(&output).parse().unwrap();
    let outside = fs::metadata(directory.join("written")).unwrap().modified().unwrap();
    let outside = outside.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(inside.abs_diff(outside) < 60, "the clock inside is at {inside}, outside at {outside}");
    let random = || run(directory, &["head", "-c", "16", "/dev/urandom"]).stdout;
    let first = random();
    assert_eq!(first.len(), 16);
    assert_ne!(first, random(), "each host has random numbers of its own");
}

#[test]
fn each_end_has_a_status() {
    if !wanted(Need::TestHost) {
        return;
    }
    let directory = TempDir::new().unwrap();
    for (arguments, status, message) in [
        (&["nosuch"][..], 125, "cannot start 'nosuch'"),
        (&["sh", "-c", "kill -KILL $$"], 128 + 9, ""),
        (&["--time-limit", "5s", "sleep", "1000"], 124, "5 s, its time limit"),
        (&["sh", "-c", "echo c >/proc/sysrq-trigger"], 123, "the test host crashed before"),
    ] {
        let output = run(directory.as_path(), arguments);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {output:?}");
        assert!(last_line(&output).contains(message), "{arguments:?}: {output:?}");
    }
}

#[test]
fn the_machine_ends_with_the_program_even_if_that_is_killed() {
    if !wanted(Need::TestHost) {
        return;
    }
    let directory = TempDir::new().unwrap();
    let mut program = ghostlink(&["testhost", "sh", "-c", "echo started; sleep 1000"])
        .current_dir(directory.as_path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(program.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "started\n");
    assert_eq!(machines_in(directory.as_path()), 1);
    program.kill().unwrap();
    program.wait().unwrap();
    while machines_in(directory.as_path()) != 0 {
        thread::sleep(Duration::from_millis(10));
    }
}

/// The number of processes that share this directory with a machine.
fn machines_in(directory: &Path) -> usize {
    let share = format!("local,path={},mount_tag", directory.display());
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let command_lines =
        processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    command_lines.filter(|line| String::from_utf8_lossy(line).contains(&share)).count()
}
