//! A machine around a few bytes of code.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use devices::root_complex::RootComplexConfig;
use iommu::event::{Recorder, Tracer, UnitRole};
use iommu::unit::UnitConfig;
use vmm::{Console, DebugConsole, Error, Exit, Kernel, MemorySize, Vm, VmConfig};

use crate::elf::elf;

/// Whether a test that needs `/dev/kvm` is to run; `false` if the environment says that it is to be
/// skipped.
pub(crate) fn kvm_wanted() -> bool {
    if std::env::var_os("GHOSTLINK_NO_KVM").is_some_and(|value| value == "1") {
        let test = std::thread::current();
        let name = test.name().unwrap_or("?");
        // Not by a macro of the print family, whose output the test harness keeps to itself; and in
        // one piece, so that nothing gets in between.
        let line = format!("skipped: {name} (GHOSTLINK_NO_KVM=1)\n");
        let _ = io::stderr().write_all(line.as_bytes());
        return false;
    }
    let opened = std::fs::File::options().read(true).write(true).open("/dev/kvm");
    assert!(opened.is_ok(), "this test needs /dev/kvm; set GHOSTLINK_NO_KVM=1 to skip it");
    true
}

/// A machine that runs `code`, and what comes out of it.
pub(crate) struct Guest {
    pub(crate) config: VmConfig,
    pub(crate) console: Arc<Mutex<Vec<u8>>>,
    pub(crate) debugcon: Arc<Mutex<Vec<u8>>>,
    pub(crate) events: Arc<Recorder>,
}

impl Guest {
    /// A machine of one CPU and little memory that enters `code` in long mode.
    pub(crate) fn new(code: &[u8]) -> Self {
        let console = Arc::new(Mutex::new(Vec::new()));
        let debugcon = Arc::new(Mutex::new(Vec::new()));
        let events = Arc::new(Recorder::default());
        let root_complex = RootComplexConfig::direct(UnitConfig::new(UnitRole::Guest));
        let config = VmConfig {
            kernel: Kernel::Image { name: "test", bytes: elf(code) },
            cmdline: String::new(),
            modules: Vec::new(),
            memory: MemorySize::MIN,
            cpus: 1,
            root_complex,
            console: Console::Capture(console.clone()),
            debugcon: DebugConsole::Capture(debugcon.clone()),
            tracer: Tracer::to(events.clone()),
            time_limit: None,
        };
        Self { config, console, debugcon, events }
    }

    /// Runs it to its end.
    pub(crate) fn run(&self) -> Result<Exit, Error> {
        Vm::new(self.config.clone())?.run()
    }

    /// Runs it to its end, or fails the test: a run that hangs must not hang all tests.
    pub(crate) fn run_within(&self, limit: Duration) -> Result<Exit, Error> {
        let vm = Vm::new(self.config.clone())?;
        let (ended, end) = mpsc::channel();
        std::thread::spawn(move || ended.send(vm.run()));
        end.recv_timeout(limit).expect("the run does not end")
    }

    /// The guest's output on COM1 so far.
    pub(crate) fn printed(&self) -> String {
        String::from_utf8_lossy(&self.console.lock().unwrap()).into_owned()
    }
}
