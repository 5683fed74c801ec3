//! A virtual machine: put together by [`Vm::new`], run once by [`Vm::run`].
//!
//! ```text
//!   this thread:    event loop -- timers, signals, console input
//!   CPU threads:    KVM_RUN, exits --> buses --> root complex, I/O APIC, COM1
//!   any of them:    Ending::end --> the loop returns --> CPUs are kicked --> threads are joined
//! ```

mod threads;

use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use devices::bench::Bench;
use devices::fault::FaultMode;
use devices::pcie::ConfigClient;
use devices::pcie::spec::header::{Command, INTERRUPT_LINE};
use devices::root_complex::{RootComplex, inta_pin};
use devices::topology::Topology;
use iommu::event::Tracer;
use iommu::time::Instant;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::Error;
use crate::acpi;
use crate::boot;
use crate::bus::{
    BenchPorts, Bus, DebugExit, Ecam, FwCfgPorts, Keyboard, Parts, PciPorts, PciWindow,
    PowerControl, SleepControl, UnitPage,
};
use crate::clock::Clock;
use crate::config::{Console, VmConfig};
use crate::console::{Input, Output};
use crate::console_watch::ConsoleWatch;
use crate::event_loop::{Alarm, Deadlines, EventLoop, Signals};
use crate::exit::{Ending, Exit};
use crate::fabric::Fabric;
use crate::interrupts::Interrupts;
use crate::kvm::{CpuSight, Exits, Injector, KvmVm, Vcpu};
use crate::memory;
use crate::storage;
use crate::sys::{RawTerminal, SignalFd};
use crate::uart::Uart;

use threads::{Crew, Threads};

/// Where firmware would have put BARs: at the end of the PCI memory window.
const FIRMWARE_BARS: u32 = 0xfd00_0000;

/// The signals that end a run in order.
const SIGNALS: [libc::c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// A virtual machine that is ready to run.
pub struct Vm {
    config: VmConfig,
    machine: Arc<Machine>,
    vcpus: Vec<Vcpu>,
    /// Written when COM1 has room for input.
    room: EventFd,
    silence: Option<Silence>,
}

/// Tells somebody what the CPUs of a silent guest do.
type TellOfSilence = Box<dyn FnMut(&[CpuSight]) + Send>;

/// What to do when the guest says nothing, and after how long.
struct Silence {
    after: Duration,
    tell: TellOfSilence,
}

/// What all threads share.
struct Machine {
    bus: Bus,
    interrupts: Arc<Interrupts>,
    uart: Arc<Uart>,
    fabric: Arc<Fabric>,
    ending: Arc<Ending>,
    crew: Arc<Crew>,
}

/// A way to reach a machine while it runs, from any thread. Cheap to clone; harmless afterwards.
#[derive(Clone)]
pub struct VmHandle {
    fabric: Arc<Fabric>,
    ending: Arc<Ending>,
    crew: Arc<Crew>,
}

impl VmHandle {
    /// Ends the run with [`Exit::Stopped`]. Does not wait for it.
    pub fn stop(&self) {
        self.ending.end(Ok(Exit::Stopped));
    }

    /// Lets `mode` happen to port number `port`, counted from 0; nothing happens if there is none.
    pub fn inject(&self, port: usize, mode: FaultMode) {
        self.fabric.with(|root_complex, now| root_complex.inject(port, mode, now));
    }

    /// Looks at the CPUs: what each of them does at this moment. Disturbs them for some microseconds.
    pub fn look(&self) -> Vec<CpuSight> {
        self.crew.look()
    }

    /// Ends `mode` at port number `port`.
    pub fn lift(&self, port: usize, mode: FaultMode) {
        self.fabric.with(|root_complex, now| root_complex.lift(port, mode, now));
    }
}

impl Vm {
    /// Opens `/dev/kvm`, builds the machine and loads its kernel. Nothing runs yet.
    ///
    /// # Errors
    ///
    /// Everything that the user can mend is found here: see [`Error`].
    pub fn new(config: VmConfig) -> Result<Self, Error> {
        config.check()?;
        let memory = memory::allocate(config.memory)?;
        let start =
            boot::load(&memory, config.memory, &config.kernel, &config.cmdline, &config.modules)?;
        acpi::write(&memory, config.cpus, &config.root_complex)?;
        let kvm = KvmVm::new(memory.clone())?;
        let vcpus = (0..config.cpus)
            .map(|id| Vcpu::new(kvm.clone(), id, config.cpus))
            .collect::<Result<Vec<_>, _>>()?;
        let boot_cpu = vcpus.first().ok_or(Error::Cpus { cpus: config.cpus })?;
        boot_cpu.start_at(start)?;

        let mut media = storage::media(&storage::open_all(&config.root_complex.topology)?);
        let (devices, tracer) = (config.root_complex.clone(), config.tracer.clone());
        let mut root_complex = RootComplex::with_media(devices, &mut media, memory, tracer)?;
        note_wires(&mut root_complex, &config.root_complex.topology);
        if start.is_multiboot() {
            place_bars(&mut root_complex, &config.root_complex.topology);
        }
        // A guest can do without; it is told that the frequency is unknown.
        let tsc_khz = boot_cpu.tsc_khz().unwrap_or(0);
        let room =
            EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK).map_err(Error::host("make an eventfd"))?;
        let crew = Arc::new(Crew::new(&vcpus));
        let machine = Machine::new(&config, root_complex, kvm, tsc_khz, &room, crew)?;
        Ok(Self { config, machine: Arc::new(machine), vcpus, room, silence: None })
    }

    /// A way to reach the machine while it runs.
    pub fn handle(&self) -> VmHandle {
        let Machine { fabric, ending, crew, .. } = &*self.machine;
        VmHandle { fabric: fabric.clone(), ending: ending.clone(), crew: crew.clone() }
    }

    /// Calls `tell` with what the CPUs do, once, if nothing has come to the console in the first `after`
    /// of the run. The run goes on.
    pub fn on_silence(&mut self, after: Duration, tell: impl FnMut(&[CpuSight]) + Send + 'static) {
        self.silence = Some(Silence { after, tell: Box::new(tell) });
    }

    /// Runs the machine on this thread and one more for each CPU, until it ends in one way or
    /// another. All threads have ended when this returns. SIGINT, SIGTERM and SIGHUP that reach
    /// this thread end the run; a terminal is in raw mode while it lasts.
    ///
    /// # Errors
    ///
    /// A CPU cannot go on ([`Error::Guest`]), or KVM or the host refuse something.
    pub fn run(self) -> Result<Exit, Error> {
        let Self { config, machine, vcpus, room, silence } = self;
        let ending = machine.ending.clone();
        // Before the threads, which inherit that these signals do not interrupt them.
        let signals = SignalFd::new(&SIGNALS).map_err(Error::host("take the signals"))?;
        let terminal = match config.console {
            Console::Stdio => RawTerminal::enter(io::stdin().as_fd())
                .map_err(Error::host("set the terminal to raw mode"))?,
            Console::Capture(_) | Console::Channel(_) => None,
        };
        let mut events = EventLoop::new(ending.clone())?;
        events.add(Box::new(Signals { signals, ending: ending.clone() }));
        let fabric = machine.fabric.clone();
        events.add(Box::new(Deadlines { fabric, ending: ending.clone() }));
        if matches!(config.console, Console::Stdio) {
            let uart = machine.uart.clone();
            let input = Input::new(terminal.is_some(), room, uart, ending.clone())?;
            events.add(Box::new(input));
        }
        add_alarms(&mut events, &config, &machine, silence)?;

        let threads = Threads::new(machine.crew.clone(), ending.clone())?;
        for vcpu in vcpus {
            threads.start(vcpu, machine.clone())?;
        }
        events.run();
        drop(threads);
        ending.take().unwrap_or(Ok(Exit::Stopped))
    }
}

/// Notes in the functions on bus 0 to which pins they are wired, which firmware would do.
fn note_wires(root_complex: &mut RootComplex, topology: &Topology) {
    for function in topology.integrated() {
        let pin = inta_pin(function.device());
        ConfigClient::new(root_complex, function, Instant::START).write(INTERRUPT_LINE, pin);
    }
}

/// Gives the functions on bus 0 addresses, and switches them on: a multiboot image takes that for
/// done.
fn place_bars(root_complex: &mut RootComplex, topology: &Topology) {
    for (index, function) in (0..).zip(topology.integrated()) {
        let bar = FIRMWARE_BARS + (index << 20);
        let mut function = ConfigClient::new(root_complex, function, Instant::START);
        function.set_bar0(bar);
        function.set_command(Command::new().with_memory_space(true));
    }
}

fn add_alarms(
    events: &mut EventLoop,
    config: &VmConfig,
    machine: &Machine,
    silence: Option<Silence>,
) -> Result<(), Error> {
    let ending = &machine.ending;
    if let Some(limit) = config.time_limit {
        let end = ending.clone();
        let action = move || end.end(Ok(Exit::TimeLimit));
        events.add(Box::new(Alarm::new(limit, action, ending.clone())?));
    }
    if let Some(Silence { after, mut tell }) = silence {
        let (uart, crew) = (machine.uart.clone(), machine.crew.clone());
        let action = move || {
            if !uart.has_spoken() {
                tell(&crew.look());
            }
        };
        events.add(Box::new(Alarm::new(after, action, ending.clone())?));
    }
    Ok(())
}

impl Machine {
    fn new(
        config: &VmConfig,
        root_complex: RootComplex,
        kvm: Arc<KvmVm>,
        tsc_khz: u32,
        room: &EventFd,
        crew: Arc<Crew>,
    ) -> Result<Self, Error> {
        let clock = Clock::start();
        let ending = Arc::new(Ending::new()?);
        let injector = Injector::new(kvm);
        let fabric = Arc::new(Fabric::new(root_complex, clock, injector.clone())?);
        let interrupts = Arc::new(Interrupts::new(fabric.clone(), injector, ending.clone()));
        fabric.connect(Arc::downgrade(&interrupts));
        let output = Output::new(&config.console, ending.clone());
        let watch = ConsoleWatch::new(fabric.clone())?;
        let room = room.try_clone().map_err(Error::host("clone an eventfd"))?;
        let uart = Arc::new(Uart::new(output, watch, room, interrupts.clone()));
        let tracer: &Tracer = &config.tracer;
        let bus = Bus::new(Parts {
            uart: uart.clone(),
            interrupts: interrupts.clone(),
            ecam: Ecam(fabric.clone()),
            pci_window: PciWindow(fabric.clone()),
            pci_ports: PciPorts::new(fabric.clone(), ending.clone()),
            unit: UnitPage(fabric.clone()),
            bench: BenchPorts {
                bench: Mutex::new(Bench::new(tsc_khz, config.cpus.into())),
                fabric: fabric.clone(),
                clock,
                tracer: tracer.clone(),
            },
            debug_exit: DebugExit { ending: ending.clone(), clock, tracer: tracer.clone() },
            keyboard: Keyboard(ending.clone()),
            power: PowerControl(ending.clone()),
            sleep: SleepControl(ending.clone()),
            fw_cfg: FwCfgPorts::new(config.memory, config.cpus),
        })?;
        Ok(Self { bus, interrupts, uart, fabric, ending, crew })
    }
}

impl Exits for Machine {
    fn port_read(&self, port: u16, data: &mut [u8]) {
        self.bus.port_read(port, data);
    }

    fn port_write(&self, port: u16, data: &[u8]) {
        self.bus.port_write(port, data);
    }

    fn memory_read(&self, address: u64, data: &mut [u8]) {
        self.bus.memory_read(address, data);
    }

    fn memory_write(&self, address: u64, data: &[u8]) {
        self.bus.memory_write(address, data);
    }

    fn end_of_interrupt(&self, vector: u8) {
        self.interrupts.end_of_interrupt(vector);
    }

    fn is_over(&self) -> bool {
        self.ending.is_over()
    }
}
