//! `tests/qemu-qtest`, which stands for QEMU: its clients here behave as QEMU's test library does.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};
use vmm_sys_util::tempdir::TempDir;

/// The launcher by the name from which QEMU's library reads the architecture.
fn launcher() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/qemu-system-x86_64")
}

/// A command that a shell executes, as QEMU's library has it.
fn command(arguments: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("exec {} {arguments}", launcher().display())]);
    command.env("GHOSTLINK", env!("CARGO_BIN_EXE_ghostlink"));
    command
}

/// A session at sockets that the client has made.
struct Client {
    process: Child,
    qtest: BufReader<UnixStream>,
    qmp: BufReader<UnixStream>,
    _directory: TempDir,
}

impl Client {
    fn new(arguments: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let path = |name: &str| directory.as_path().join(name);
        let listeners = ["sock", "qmp"].map(|name| UnixListener::bind(path(name)).unwrap());
        let (sock, qmp) = (path("sock"), path("qmp"));
        let arguments = format!(
            "-qtest unix:{} -qtest-log /dev/null -chardev socket,path={},id=char0 \
             -mon chardev=char0,mode=control -display none -audio none \
             -run-with exit-with-parent=on {arguments} -accel qtest",
            sock.display(),
            qmp.display(),
        );
        let mut process = command(&arguments).stderr(Stdio::piped()).spawn().unwrap();
        for listener in &listeners {
            listener.set_nonblocking(true).unwrap();
        }
        let mut accept = |listener: &UnixListener| loop {
            if let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(false).unwrap();
                return BufReader::new(stream);
            }
            if let Some(status) = process.try_wait().unwrap() {
                let lines = BufReader::new(process.stderr.take().unwrap()).lines();
                panic!("{status}: {:?}", lines.collect::<Vec<_>>());
            }
            std::thread::yield_now();
        };
        let [qtest, qmp] = listeners.each_ref().map(&mut accept);
        let mut client = Self { process, qtest, qmp, _directory: directory };
        assert_eq!(client.line("endianness"), "OK little");
        assert!(client.message()["QMP"].is_object(), "a greeting");
        assert!(client.ask("qmp_capabilities")["return"].is_object());
        client
    }

    fn line(&mut self, command: &str) -> String {
        writeln!(self.qtest.get_mut(), "{command}").unwrap();
        read_line(&mut self.qtest)
    }

    /// The value that a read command answers.
    fn read(&mut self, command: &str) -> u64 {
        let answer = self.line(command);
        let digits = answer.strip_prefix("OK 0x").unwrap_or_else(|| panic!("{command}: {answer}"));
        u64::from_str_radix(digits, 16).unwrap()
    }

    fn ask(&mut self, command: &str) -> Value {
        writeln!(self.qmp.get_mut(), "{}", json!({"execute": command})).unwrap();
        self.message()
    }

    fn message(&mut self) -> Value {
        serde_json::from_str(&read_line(&mut self.qmp)).unwrap()
    }

    /// Ends the process as QEMU's library does, which demands status 0.
    fn terminate(mut self) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let status = self.process.wait().unwrap();
        assert_eq!((status.code(), status.signal()), (Some(0), None));
    }
}

fn read_line(stream: &mut BufReader<UnixStream>) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

#[test]
fn the_probe_for_machines_gets_an_answer_and_ends_with_status_0() {
    let mut client = Client::new("-machine none");
    let machines = client.ask("query-machines");
    let names: Vec<&Value> =
        machines["return"].as_array().unwrap().iter().map(|machine| &machine["name"]).collect();
    assert!(names.contains(&&json!("q35")), "{names:?}");
    assert_eq!(client.ask("fly")["error"]["class"], "CommandNotFound");
    client.terminate();
}

/// What `iommu-intel-test` does up to its DMA, here without translation.
#[test]
fn a_test_device_is_found_enabled_and_runs_its_dma() {
    let mut client = Client::new(
        "-machine q35 -smp 1 -m 512 -net none -device intel-iommu -device iommu-testdev",
    );
    let mut found = Vec::new();
    for devfn in 0..=0xff_u32 {
        client.line(&format!("outl 0xcf8 {:#x}", 0x8000_0000 | devfn << 8));
        if client.read("inl 0xcfc") == 0x0005_1b36 {
            found.push(devfn);
        }
    }
    let [device] = found[..] else { panic!("{found:x?}") };
    assert!(device < 0x80, "{device:#x}: the lower context table of scalable mode has it");
    let config = |register: u32| 0x8000_0000 | device << 8 | register;
    client.line(&format!("outl 0xcf8 {:#x}", config(4)));
    client.line("outw 0xcfc 7");
    assert_eq!(client.read("inw 0xcfc") & 7, 7, "I/O, memory and bus mastering are on");
    client.line(&format!("outl 0xcf8 {:#x}", config(0x10)));
    client.line("outl 0xcfc 0xe0000000");
    let target = 0x1010_0567_u32;
    for (register, value) in [(0x04, target), (0x1c, target), (0x0c, 4), (0x14, 1)] {
        client.line(&format!("writel {:#x} {value:#x}", 0xe000_0000_u32 + register));
    }
    client.read("readl 0xe0000000");
    assert_eq!(client.read("readl 0xe0000010"), 0, "the result");
    assert_eq!(client.read(&format!("readl {target:#x}")), 0x1234_5678);
    assert_eq!(client.read("readl 0x1ffffffc"), 0, "the last of 512 MiB");
    client.terminate();
}

#[test]
fn the_unit_is_as_its_options_say_and_a_reset_puts_it_back() {
    const CAP: &str = "readq 0xfed90008";
    const ECAP: &str = "readq 0xfed90010";
    let (scalable, first, second, device_tlb, remapping) = (1 << 43, 1 << 47, 1 << 46, 4, 8);
    for (options, expected) in [
        ("", remapping),
        (",device-iotlb=on,intremap=off", device_tlb),
        (",scalable-mode=on", scalable | second | remapping),
        (",scalable-mode=on,fsts=on", scalable | first | remapping),
        (",x-scalable-mode=on,x-flts=on", scalable | first | remapping),
    ] {
        let mut client = Client::new(&format!("-M q35 -device intel-iommu{options}"));
        let mask = scalable | first | second | device_tlb | remapping;
        assert_eq!(client.read(ECAP) & mask, expected, "{options}");
        assert_eq!(client.read(CAP) >> 8 & 0x1f, 0b0110, "SAGAW: 39 and 48 bits");
        client.line("writel 0xfed90038 0");
        assert!(client.ask("system_reset")["return"].is_object());
        assert_eq!(client.message()["event"], "RESET");
        assert_eq!(client.read("readl 0xfed90038"), 0x8000_0000);
        client.terminate();
    }
}

/// QEMU's library kills the process only if it can: a test program may be killed itself.
#[test]
fn it_ends_when_its_client_is_gone() {
    let Client { mut process, qtest, qmp, _directory } = Client::new("-M q35");
    drop((qtest, qmp));
    assert_eq!(process.wait().unwrap().code(), Some(0));
}

#[test]
fn options_without_a_translation_are_refused_by_name() {
    for (arguments, named) in [
        ("-M pc", "pc has no translation"),
        ("-device e1000e", "'-device e1000e'"),
        ("-device intel-iommu,aw-bits=57", "aw-bits=57"),
        ("-device intel-iommu,fsts=on", "needs scalable-mode=on"),
        ("-device intel-iommu,caching-mode=maybe", "caching-mode= takes on or off"),
        ("-device edu,dma_mask=1", "dma_mask=1"),
        ("-smp 4", "'-smp 4'"),
        ("-m 512,slots=2", "'-m 512,slots=2'"),
        ("-accel kvm", "'-accel kvm'"),
        ("-net user", "'-net user'"),
        ("-mon chardev=none", "no -chardev with this id"),
        ("-chardev socket,path=/x,id=a,server=on", "server=on"),
        ("-qtest tcp:localhost:1", "only unix:PATH"),
        ("-drive file=disk", "'-drive'"),
        ("disk.img", "'disk.img'"),
        ("-device", "needs a value"),
    ] {
        let Output { status, stderr, .. } = command(arguments).output().unwrap();
        let text = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(125), "{arguments}: {text}");
        assert!(text.contains(named) && text.lines().count() == 1, "{arguments}: {text}");
    }
}

/// The programs of a build of QEMU 11, unmodified. Each test that they have must pass.
#[test]
fn the_programs_of_qemu_pass() {
    let Some(directory) = tests::directory("QEMU_QTEST_PROGRAMS") else { return };
    let names = ["intel-iommu-test", "iommu-intel-test", "iommu-intel-inv-test"];
    let programs = names.map(|name| directory.join(name));
    let present: Vec<&PathBuf> = programs.iter().filter(|program| program.exists()).collect();
    assert!(!present.is_empty(), "there is none of {names:?} in {}", directory.display());
    for program in present {
        passes(program.as_os_str());
    }
}

fn passes(program: &OsStr) {
    let mut command = Command::new(program);
    command.env("QTEST_QEMU_BINARY", launcher());
    command.env("GHOSTLINK", env!("CARGO_BIN_EXE_ghostlink"));
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = String::from_utf8_lossy(&stdout);
    let passed = text.lines().filter(|line| line.starts_with("ok ") && !line.contains("# SKIP"));
    let plan = text.lines().find_map(|line| line.strip_prefix("1.."));
    let (passed, plan) = (passed.count(), plan.and_then(|plan| plan.parse().ok()));
    let errors = String::from_utf8_lossy(&stderr);
    assert!(status.success() && Some(passed) == plan, "{}: {text}{errors}", program.display());
}

#[test]
fn its_name_is_a_link_to_the_launcher() {
    assert_eq!(fs::read_link(launcher()).unwrap(), Path::new("qemu-qtest"));
}
