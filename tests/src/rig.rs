//! The built-in guest in a machine that a test configures.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use devices::fault::FaultMode;
use devices::root_complex::{Host, RootComplexConfig};
use devices::topology::{DeviceSpec, Topology};
use iommu::event::{Event, Tracer, UnitRole};
use iommu::time::Timeout;
use iommu::unit::{Ordering, UnitConfig};
use vmm::{Console, DebugConsole, Error, Exit, Kernel, MemorySize, Vm, VmConfig, VmHandle};

use crate::need::{Need, wanted};
use crate::run::Run;
use crate::watch::Watch;

/// The time after which a machine counts as hung. All tests take much less, on any host.
const HANGS: Duration = Duration::from_secs(300);

/// A machine that is being configured.
///
/// The defaults are two CPUs, units in legacy mode and serial order that never raise ITE by
/// themselves, the host's policy `linux`, and no faults.
#[derive(Debug)]
pub struct Rig {
    /// The configuration of the machine.
    pub config: VmConfig,
    watch: Arc<Watch>,
    console: Arc<Mutex<Vec<u8>>>,
}

impl Rig {
    /// A machine with this command line; `None` if tests with KVM are skipped.
    ///
    /// # Panics
    ///
    /// If there is no KVM, and `GHOSTLINK_NO_KVM` does not skip the tests that need it.
    pub fn new(cmdline: &str) -> Option<Self> {
        if !wanted(Need::Kvm) {
            return None;
        }
        let watch = Arc::new(Watch::default());
        let console = Arc::new(Mutex::new(Vec::new()));
        let policy = "linux".parse().expect("a preset has this name");
        let config = VmConfig {
            kernel: Kernel::Image { name: "the built-in guest", bytes: resources::GUEST },
            cmdline: cmdline.to_owned(),
            modules: Vec::new(),
            memory: MemorySize::default(),
            cpus: 2,
            root_complex: RootComplexConfig::forwarded(policy, UnitConfig::new(UnitRole::Host)),
            console: Console::Capture(console.clone()),
            debugcon: DebugConsole::Discard,
            tracer: Tracer::to(watch.clone()),
            time_limit: Some(HANGS),
        };
        Some(Self { config, watch, console })
    }

    /// With this many CPUs.
    pub fn cpus(mut self, cpus: u8) -> Self {
        self.config.cpus = cpus;
        self
    }

    /// With this policy of the host, as the command line takes it.
    pub fn policy(mut self, text: &str) -> Self {
        let text = text.parse().expect("the test names a policy");
        match &mut self.config.root_complex.host {
            Host::Direct => panic!("a policy is the host's, and there is none"),
            Host::Forwarded { policy, .. } => *policy = text,
        }
        self
    }

    /// Without a host: the guest's unit is the physical one. Say this first.
    pub fn direct(mut self) -> Self {
        self.config.root_complex = RootComplexConfig::direct(UnitConfig {
            ict: Timeout::Never,
            ..UnitConfig::new(UnitRole::Guest)
        });
        self
    }

    /// With a physical unit that raises ITE after this time.
    pub fn ict(mut self, time: Duration) -> Self {
        let RootComplexConfig { guest_unit, host, .. } = &mut self.config.root_complex;
        let physical = match host {
            Host::Direct => guest_unit,
            Host::Forwarded { unit, .. } => unit,
        };
        physical.ict = Timeout::After(time);
        self
    }

    /// With all units in this order.
    pub fn ordering(mut self, ordering: Ordering) -> Self {
        for unit in self.units() {
            unit.ordering = ordering;
        }
        self
    }

    fn units(&mut self) -> impl Iterator<Item = &mut UnitConfig> {
        let RootComplexConfig { guest_unit, host, .. } = &mut self.config.root_complex;
        let physical = match host {
            Host::Direct => None,
            Host::Forwarded { unit, .. } => Some(unit),
        };
        std::iter::once(guest_unit).chain(physical)
    }

    /// With units that have all features, scalable mode included, or only legacy mode.
    pub fn scalable(mut self, scalable: bool) -> Self {
        let built = if scalable { UnitConfig::full } else { UnitConfig::new };
        for unit in self.units() {
            *unit = UnitConfig { ict: unit.ict, ordering: unit.ordering, ..built(unit.role) };
        }
        self
    }

    /// With these ports and functions instead, as `--device` takes them.
    pub fn devices(mut self, texts: &[&str]) -> Self {
        let parse = |text: &&str| text.parse().expect("the test describes a device");
        let devices: Vec<DeviceSpec> = texts.iter().map(parse).collect();
        self.config.root_complex.topology =
            Topology::new(&devices).expect("the devices fit together");
        self
    }

    /// With a fault, as `--fault` takes it.
    pub fn fault(mut self, text: &str) -> Self {
        let fault = text.parse().expect("the test says what goes wrong");
        self.config.root_complex.faults.push(fault);
        self
    }

    /// Runs the machine to its end.
    pub fn run(self) -> Run {
        self.start().join()
    }

    /// Starts the machine on a thread of its own.
    ///
    /// # Panics
    ///
    /// If it cannot be built.
    pub fn start(self) -> Machine {
        let Self { config, watch, console } = self;
        let vm = Vm::new(config).expect("the machine can be built");
        let handle = vm.handle();
        let closing = Closing(watch.clone());
        let run = move || {
            let _closing = closing;
            vm.run()
        };
        Machine { handle, watch, console, thread: thread::spawn(run) }
    }
}

/// Closes the log however the machine ends.
struct Closing(Arc<Watch>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A machine that runs.
pub struct Machine {
    handle: VmHandle,
    watch: Arc<Watch>,
    console: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<Result<Exit, Error>>,
}

impl Machine {
    /// Waits for `times` events for which `wanted` holds.
    ///
    /// # Panics
    ///
    /// If the machine ends, or hangs, before.
    #[track_caller]
    pub fn wait_for(&self, times: usize, wanted: impl Fn(&Event) -> bool) {
        assert!(self.watch.wait_for(times, wanted, HANGS), "the expected events did not come");
    }

    /// Injects a fault at the port with this number.
    pub fn inject(&self, port: usize, mode: FaultMode) {
        self.handle.inject(port, mode);
    }

    /// Ends a fault at the port with this number.
    pub fn lift(&self, port: usize, mode: FaultMode) {
        self.handle.lift(port, mode);
    }

    /// Ends the run.
    pub fn stop(&self) {
        self.handle.stop();
    }

    /// Waits for the end of the run.
    ///
    /// # Panics
    ///
    /// If the VMM panicked.
    pub fn join(self) -> Run {
        let exit = self.thread.join().expect("the VMM does not panic");
        let console = self.console.lock().unwrap_or_else(PoisonError::into_inner);
        let console = String::from_utf8_lossy(&console).into_owned();
        Run { exit, events: self.watch.take(), console }
    }
}
