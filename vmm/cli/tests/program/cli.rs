//! The program as its users see it: exit status, one line for each mistake, console.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use tests::{Need, wanted};

use crate::code::out8;
use crate::elf::elf;

/// Sends what it receives back, until it receives a `q`.
#[rustfmt::skip]
const ECHO: &[u8] = &[
    0xba, 0xfd, 0x03, 0x00, 0x00, // again: mov $0x3fd, %edx
    0xec,                         //        in %dx, %al
    0xa8, 0x01,                   //        test $1, %al
    0x74, 0xf6,                   //        jz again
    0xba, 0xf8, 0x03, 0x00, 0x00, //        mov $0x3f8, %edx
    0xec,                         //        in %dx, %al
    0xee,                         //        out %al, %dx
    0x3c, 0x71,                   //        cmp $'q', %al
    0x75, 0xeb,                   //        jne again
    0xba, 0xf4, 0x00, 0x00, 0x00, //        mov $0xf4, %edx
    0x31, 0xc0,                   //        xor %eax, %eax
    0xef,                         //        out %eax, %dx
];

/// A file that is deleted with this.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str, content: &[u8]) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let path = path.join(format!("{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The program, with nothing on its standard input.
pub(crate) fn ghostlink(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ghostlink"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn input_that_is_wrong_gives_status_2_and_one_line() {
    let foreign =
        TempFile::new("foreign", b"#!/bin/sh\necho not a kernel, whatever its length\n......");
    let large = TempFile::new("large", elf(&vec![0; 3 << 20]));
    let broken = TempFile::new("broken.toml", b"fault_records = 1\nfault_records\n");
    let strange = TempFile::new("strange.toml", b"warp = 9\n");
    for (arguments, value, right) in [
        (&["run", "--kernel", "/no/such/file"][..], "/no/such/file", "vmlinuz"),
        (&["run", "--kernel", foreign.path()], foreign.path(), "ELF"),
        (&["run", "--kernel", large.path(), "--memory", "3M"], "memory of 3M", "try 4M"),
        (&["run", "--initrd", "/no/such/initrd"], "/no/such/initrd", "cannot read"),
        (&["run", "--initrd", "/bin,/usr"], "/usr", "join"),
        (&["run", "--initrd", large.path(), "--memory", "4M"], large.path(), "--memory 8M"),
        (&["run", "--policy", "hope"], "'hope'", "bounded:<t>"),
        (&["run", "--policy", "bounded:10"], "bounded:10", "ms"),
        (&["run", "--host", "metal"], "'metal'", "direct or forwarded"),
        (&["run", "--host", "direct", "--policy", "amd"], "policy 'amd'", "'forwarded'"),
        (&["qtest", "--host", "direct", "--policy", "amd"], "policy 'amd'", "'forwarded'"),
        (&["qtest", "--host", "direct", "--policies-file", "p.toml"], "'p.toml'", "'forwarded'"),
        (&["demo", "--host", "direct", "--policy", "amd"], "policy 'amd'", "'forwarded'"),
        (&["run", "--ict", "soon"], "'soon'", "60s"),
        (&["run", "--cpus", "9"], "'9'", "1..=8"),
        (&["run", "--drop-link", "at=2s", "--fault", "at=2s,mode=ghost"], "fault 2", "contradicts"),
        (&["run", "--fault", "at=2s,mode=no-completion,port=rp7"], "'rp7'", "rp0, rp1"),
        (&["run", "--fault", "at=2s,mode=safe"], "fault 1", "attention button"),
        (&["run", "--fault", "on=serial:/(/,mode=no-completion"], "'('", "regular expression"),
        (&["run", "--faults", "/no/such.toml"], "/no/such.toml", "cannot read"),
        (&["run", "--frobnicate"], "--frobnicate", "--help"),
        (&["run", "--unit", "warp=9"], "'warp=9'", "interrupt_remapping"),
        (&["run", "--unit", "preset=best"], "'preset=best'", "server-scalable"),
        (&["run", "--unit", "fault_records=many"], "'fault_records=many'", "u8"),
        (&["run", "--unit", "pasid_bits=20"], "pasid_bits", "scalable_mode"),
        (&["run", "--unit-config", "/no/such.toml"], "/no/such.toml", "TOML file"),
        (&["run", "--unit-config", broken.path()], broken.path(), "line 2"),
        (&["run", "--unit-config", strange.path()], strange.path(), "interrupt_remapping"),
        (&["run", "--events", "/no/such/directory/e"], "/no/such/directory/e", "directory"),
    ] {
        let Output { status, stdout, stderr } = ghostlink(arguments).output().unwrap();
        let stderr = text(&stderr);
        assert_eq!(status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stdout.is_empty(), "{arguments:?}: {}", text(&stdout));
        assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
        assert!(stderr.starts_with("ghostlink: "), "{stderr}");
        assert!(stderr.contains(value) && stderr.contains(right), "{arguments:?}: {stderr}");
    }
}

#[test]
fn piped_input_reaches_the_guest_no_faster_than_it_reads() {
    if !wanted(Need::Kvm) {
        return;
    }
    let kernel = TempFile::new("echo-pipe", elf(ECHO));
    let input = format!("{}q", "0123456789\n".repeat(50));
    let mut command = ghostlink(&["run", "--kernel", kernel.path(), "--time-limit", "60s"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(text(&output.stdout), input);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_file_as_input_reaches_the_guest_too() {
    if !wanted(Need::Kvm) {
        return;
    }
    let kernel = TempFile::new("echo-file", elf(ECHO));
    let content = format!("{}q", "\u{1}x in a file is no command\n".repeat(10));
    let input = TempFile::new("input", content.as_bytes());
    let mut command = ghostlink(&["run", "--kernel", kernel.path(), "--time-limit", "60s"]);
    let output = command.stdin(File::open(&input.0).unwrap()).output().unwrap();
    assert_eq!(text(&output.stdout), content);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_guest_that_cannot_go_on_shows_where() {
    if !wanted(Need::Kvm) {
        return;
    }
    let kernel = TempFile::new("ud2", elf(&[0x0f, 0x0b]));
    let arguments = ["run", "--kernel", kernel.path(), "--no-reboot"];
    let output = ghostlink(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    let stderr = text(&output.stderr);
    assert!(
        stderr.starts_with("ghostlink: CPU 0 cannot go on: triple fault at 0x100000, bytes 0f 0b")
    );
    assert!(stderr.contains("rip 0000000000100000"), "{stderr}");
}

#[test]
fn events_are_written_as_json_lines() {
    if !wanted(Need::Kvm) {
        return;
    }
    // mov $5, %eax; mov $0xf4, %edx; out %eax, %dx
    let code = [0xb8, 5, 0, 0, 0, 0xba, 0xf4, 0, 0, 0, 0xef];
    let (kernel, events) = (TempFile::new("exit", elf(&code)), TempFile::new("events", b""));
    let arguments = ["run", "--kernel", kernel.path(), "--events", events.path()];
    assert_eq!(ghostlink(&arguments).status().unwrap().code(), Some(11));
    let lines = std::fs::read_to_string(&events.0).unwrap();
    let event: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!((&event["event"], &event["value"]), (&"guest_exit".into(), &5.into()));
}

#[test]
fn signals_end_the_guest_in_order() {
    if !wanted(Need::Kvm) {
        return;
    }
    for (signal, status) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let mut command = ghostlink(&["run", "--cmdline", "test=idle", "--time-limit", "60s"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        // The first line of the guest shows that it is running.
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        let kill = format!("kill -{signal} {}", child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(status), "SIG{signal}");
    }
}

#[test]
fn a_guest_that_resets_itself_starts_anew_unless_told_otherwise() {
    if !wanted(Need::Kvm) {
        return;
    }
    // By the port, and by a triple fault (ud2), which says where.
    let port = ("resets", out8(0xcf9, 6), 0, "the guest has reset itself");
    let fault = ("faults", vec![0x0f, 0x0b], 4, "CPU 0 cannot go on: triple fault");
    for (name, reset, status, says) in [port, fault] {
        let kernel = TempFile::new(name, elf(&[out8(0x3f8, b'x'), reset].concat()));
        starts_anew_unless_told_otherwise(&kernel, status, says);
    }
}

fn starts_anew_unless_told_otherwise(kernel: &TempFile, status: i32, says: &str) {
    let once = ghostlink(&["run", "--kernel", kernel.path(), "--no-reboot"]).output().unwrap();
    assert_eq!((once.status.code(), text(&once.stdout).as_str()), (Some(status), "x"));
    let mut again = ghostlink(&["run", "--kernel", kernel.path(), "--time-limit", "60s"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut started = [0; 2];
    again.stdout.take().unwrap().read_exact(&mut started).unwrap();
    assert_eq!(&started, b"xx");
    again.kill().unwrap();
    let said = again.wait_with_output().unwrap().stderr;
    assert!(text(&said).starts_with(&format!("ghostlink: {says}")), "{}", text(&said));
}

/// `mov $0x5e4, %edx; again: out %eax, %dx; jmp again`: rings the doorbell for ever.
const DOORBELLS: [u8; 8] = [0xba, 0xe4, 0x05, 0x00, 0x00, 0xef, 0xeb, 0xfd];

#[test]
fn a_run_ends_though_nothing_reads_its_events() {
    if !wanted(Need::Kvm) {
        return;
    }
    let kernel = TempFile::new("doorbells", elf(&DOORBELLS));
    for (signal, limit) in [(None, "1s"), (Some("TERM"), "600s"), (Some("INT"), "600s")] {
        let pipe = TempFile::new("events-pipe", b"");
        std::fs::remove_file(&pipe.0).unwrap();
        assert!(Command::new("mkfifo").arg(&pipe.0).status().unwrap().success());
        // Opening it for both directions does not wait for another process. It is never read.
        let _reader = File::options().read(true).write(true).open(&pipe.0).unwrap();
        let arguments = ["run", "--kernel", kernel.path(), "--events", pipe.path()];
        let mut command = ghostlink(&[&arguments[..], &["--time-limit", limit]].concat());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let kill = format!("sleep 120; kill -KILL {}", child.id());
        let mut watchdog = Command::new("sh").args(["-c", &kill]).spawn().unwrap();
        if let Some(signal) = signal {
            while !sleeps(child.id(), "cpu0") {
                std::thread::yield_now();
            }
            let kill = format!("kill -{signal} {}", child.id());
            assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        }
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(4), "{signal:?}: {said}");
        watchdog.kill().unwrap();
        watchdog.wait().unwrap();
        assert!(said.contains("CPU 0 (last exit: write to port 0x5e4)"), "{signal:?}: {said}");
    }
}

/// Whether the thread `name` of a process waits for something. The thread of a CPU that rings the
/// doorbell does so in the write to the pipe alone.
fn sleeps(process: u32, name: &str) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else { return false };
    let sleeping = format!("({name}) S ");
    threads.flatten().any(|thread| {
        std::fs::read_to_string(thread.path().join("stat"))
            .is_ok_and(|stat| stat.contains(&sleeping))
    })
}
