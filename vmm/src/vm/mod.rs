//! A virtual machine: put together by [`Vm::new`], run once by [`Vm::run`].
//!
//! ```text
//!   this thread:    event loop -- signals, time limit
//!   one thread:     event loop -- timers, console input --> chipset
//!   CPU threads:    KVM_RUN, exits --> buses --> chipset
//!   any of them:    RunEnd::end --> the loops return --> CPUs are kicked --> threads are joined
//! ```

mod threads;

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use devices::chipset::{self, Chipset, ChipsetConfig};
use devices::fault::FaultMode;
use devices::stale::StaleCounts;
use iommu::Memory;
use iommu::unit::StickyRegisters;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::Error;
use crate::acpi;
use crate::boot::{self, Ram, Start};
use crate::bus::Bus;
use crate::config::{Console, VmConfig};
use crate::console::{Input, Output};
use crate::debug_console::DebugOutput;
use crate::event_loop::{Alarm, Deadlines, EventLoop, Signals, Subscriber};
use crate::exit::{Exit, RunEnd};
use crate::kvm::{Exits, Injector, KvmVm, Vcpu, VcpuSnapshot};
use crate::layout::ACPI_NVS;
use crate::machine::{Outside, SharedMachine};
use crate::memory;
use crate::storage;
use crate::sys::{RawTerminal, SignalFd};

pub(crate) use threads::GRACE;
pub use threads::{MachineThread, StuckThread};
use threads::{Threads, VcpuThreads};

/// The signals that end a run in order.
const SIGNALS: [libc::c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// A virtual machine that is ready to run.
pub struct Vm {
    config: VmConfig,
    memory: Memory,
    machine: Arc<SharedMachine>,
    run_end: Arc<RunEnd>,
    vcpu_threads: Arc<VcpuThreads>,
    vcpus: Vec<Vcpu>,
    /// Written when COM1 has room for input.
    room: EventFd,
    silence: Option<Silence>,
}

/// Reports the state of the CPUs of a silent guest.
type TellOfSilence = Box<dyn FnMut(&[VcpuSnapshot]) + Send>;

/// The report of a guest that prints nothing, and the time after which it is made.
struct Silence {
    after: Duration,
    tell: TellOfSilence,
}

/// A way to reach a machine while it runs, from any thread. Cheap to clone; harmless afterwards.
#[derive(Clone)]
pub struct VmHandle {
    memory: Memory,
    machine: Arc<SharedMachine>,
    run_end: Arc<RunEnd>,
    vcpu_threads: Arc<VcpuThreads>,
}

impl VmHandle {
    /// Ends the run with [`Exit::Stopped`]. Does not wait for it.
    pub fn stop(&self) {
        self.run_end.end(Ok(Exit::Stopped));
    }

    /// Lets `mode` happen to port number `port`, counted from 0; nothing happens if there is none.
    pub fn inject(&self, port: usize, mode: FaultMode) {
        self.machine.with(|chipset, now| chipset.inject(port, mode, now));
    }

    /// The state of each CPU at this moment. Disturbs the CPUs for some microseconds.
    pub fn snapshot(&self) -> Vec<VcpuSnapshot> {
        self.vcpu_threads.snapshot()
    }

    /// What the stale-DMA oracle has found so far, if the machine has one. Also after the run, but not
    /// after [`Error::Stuck`]: a thread may hold the machine's lock then.
    pub fn stale_counts(&self) -> Option<StaleCounts> {
        self.machine.with(|chipset, _| chipset.stale_counts())
    }

    /// The remapping units' registers that outlast the guest's reset, for the root complex of the
    /// next machine. Also after the run, but not after [`Error::Stuck`].
    pub fn sticky_registers(&self) -> Vec<StickyRegisters> {
        self.machine.with(|chipset, _| chipset.sticky_registers())
    }

    /// The machine that sleeps, after [`Exit::Sleep`]; `None` for one that cannot sleep.
    pub fn suspended(&self) -> Option<Suspended> {
        let chipset = self.machine.with(|chipset, now| chipset.suspend(now))?;
        Some(Suspended { memory: self.memory.clone(), chipset })
    }

    /// Ends `mode` at port number `port`.
    pub fn lift(&self, port: usize, mode: FaultMode) {
        self.machine.with(|chipset, now| chipset.lift(port, mode, now));
    }
}

/// A machine that sleeps (S3): its RAM, and the clock that wakes it up.
#[derive(Debug)]
pub struct Suspended {
    memory: Memory,
    chipset: chipset::Suspended,
}

impl Suspended {
    /// The time after which the machine wakes up; `None` if nothing wakes it up.
    pub fn wake_after(&self) -> Option<Duration> {
        self.chipset.wake_after()
    }
}

impl Vm {
    /// Opens `/dev/kvm`, builds the machine and loads its kernel. Nothing runs yet.
    ///
    /// # Errors
    ///
    /// All errors that the user can mend are found here: see [`Error`].
    pub fn new(config: VmConfig) -> Result<Self, Error> {
        config.check()?;
        let memory = memory::allocate(config.memory)?;
        let reserved = config.reserved_memory();
        let ram = Ram { size: config.memory, reserved: &reserved };
        let start = boot::load(&memory, ram, &config.kernel, &config.cmdline, &config.modules)?;
        let ranges = memory::ranges(config.memory);
        acpi::write(&memory, &ranges, config.cpus, &config.root_complex)?;
        Self::build(config, memory, start, None)
    }

    /// Builds a machine that wakes up: RAM is as it was, and the first CPU starts in real mode at the
    /// waking vector that software has put into FACS (`ACPI 16.3`). All else is as after a reset. The
    /// caller has waited for [`Suspended::wake_after`].
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub fn resume(config: VmConfig, suspended: Suspended) -> Result<Self, Error> {
        let Suspended { memory, chipset } = suspended;
        let at = GuestAddress(ACPI_NVS.start + acpi::WAKING_VECTOR);
        let vector = memory.read_obj::<u32>(at).map_err(|error| Error::Host {
            action: "read the waking vector",
            source: io::Error::other(error),
        })?;
        let start = Start::Real { vector: u32::from_le(vector) };
        Self::build(config, memory, start, Some(chipset))
    }

    /// A machine whose memory has all that the first CPU needs.
    fn build(
        config: VmConfig,
        memory: Memory,
        start: Start,
        suspended: Option<chipset::Suspended>,
    ) -> Result<Self, Error> {
        let kvm = KvmVm::new(memory.clone())?;
        let vcpus = (0..config.cpus)
            .map(|id| Vcpu::new(kvm.clone(), id, config.cpus))
            .collect::<Result<Vec<_>, _>>()?;
        let boot_cpu = vcpus.first().ok_or(Error::Cpus { cpus: config.cpus })?;
        boot_cpu.start_at(start)?;

        let mut chipset = build_chipset(&config, memory.clone(), boot_cpu)?;
        chipset.set_up(&config.root_complex.topology);
        let wakes = suspended.is_some();
        if let Some(suspended) = suspended {
            chipset.resume(suspended);
        }
        if start.is_multiboot() || wakes {
            chipset.place_bars(&config.root_complex.topology);
            if config.root_complex.topology.pc_testdev {
                chipset.route_isa_interrupts();
                boot_cpu.enable_local_apic()?;
            }
        }
        let run_end = Arc::new(RunEnd::new()?);
        let room =
            EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK).map_err(Error::host("make an eventfd"))?;
        let outside = Outside {
            interrupts: Box::new(Injector::new(kvm)),
            console: Output::new(&config.console, run_end.clone()),
            debugcon: DebugOutput::new(config.debugcon.clone(), run_end.clone()),
            room: room.try_clone().map_err(Error::host("clone an eventfd"))?,
            run_end: run_end.clone(),
        };
        let machine = Arc::new(SharedMachine::new(chipset, outside)?);
        let vcpu_threads = Arc::new(VcpuThreads::new(&vcpus));
        Ok(Self { config, memory, machine, run_end, vcpu_threads, vcpus, room, silence: None })
    }

    /// A way to reach the machine while it runs.
    pub fn handle(&self) -> VmHandle {
        let Self { memory, machine, run_end, vcpu_threads, .. } = self;
        VmHandle {
            memory: memory.clone(),
            machine: machine.clone(),
            run_end: run_end.clone(),
            vcpu_threads: vcpu_threads.clone(),
        }
    }

    /// Calls `tell` with what the CPUs do, once, if nothing has come to a console in the first `after`
    /// of the run. The run goes on.
    pub fn on_silence(
        &mut self,
        after: Duration,
        tell: impl FnMut(&[VcpuSnapshot]) + Send + 'static,
    ) {
        self.silence = Some(Silence { after, tell: Box::new(tell) });
    }

    /// Runs the machine, with a thread for each CPU and one for the devices, until it ends in one way
    /// or another. All threads have ended when this returns, but for those that [`Error::Stuck`] names.
    /// SIGINT, SIGTERM and SIGHUP that reach this thread end the run; a terminal is in raw mode while
    /// it lasts.
    ///
    /// # Errors
    ///
    /// A CPU cannot go on ([`Error::Guest`]), a thread does not come back from the monitor
    /// ([`Error::Stuck`]), or KVM or the host refuse something.
    pub fn run(self) -> Result<Exit, Error> {
        let Self { config, machine, run_end, vcpu_threads, vcpus, room, silence, .. } = self;
        // Before the threads, which inherit that these signals do not interrupt them.
        let signals = SignalFd::new(&SIGNALS).map_err(Error::host("take the signals"))?;
        let mut supervisor = EventLoop::new(run_end.clone())?;
        supervisor.add(Box::new(Signals { signals, run_end: run_end.clone() }));
        if let Some(limit) = config.time_limit {
            let end = run_end.clone();
            let action = move || end.end(Ok(Exit::TimeLimit));
            supervisor.add(Box::new(Alarm::new(limit, action, run_end.clone())?));
        }

        let mut devices = EventLoop::new(run_end.clone())?;
        devices.add(Box::new(Deadlines { machine: machine.clone(), run_end: run_end.clone() }));
        let terminal = match config.console {
            Console::Stdio => RawTerminal::enter(io::stdin().as_fd())
                .map_err(Error::host("set the terminal to raw mode"))?,
            Console::Capture(_) | Console::Channel(_) => None,
        };
        if matches!(config.console, Console::Stdio) {
            let input = Input::new(terminal.is_some(), room, machine.clone(), run_end.clone())?;
            devices.add(Box::new(input));
        }
        if let Some(silence) = silence {
            let (machine, vcpus) = (machine.clone(), vcpu_threads.clone());
            devices.add(silence.into_alarm(machine, vcpus, run_end.clone())?);
        }

        let exits = Arc::new(VcpuExits {
            bus: Bus::new(&machine)?,
            machine: machine.clone(),
            run_end: run_end.clone(),
        });
        let mut threads = Threads::new(vcpu_threads, run_end.clone())?;
        for vcpu in vcpus {
            threads.start_vcpu(vcpu, exits.clone())?;
        }
        // After the CPUs, all of which a report of a silent guest names.
        threads.start_devices(devices)?;
        supervisor.run();
        let stuck = threads.stop();
        if stuck.is_empty() {
            machine.end_debug_line();
            return run_end.take().unwrap_or(Ok(Exit::Stopped));
        }
        let outcome = run_end.take().unwrap_or(Ok(Exit::Stopped));
        Err(Error::Stuck { outcome: Box::new(outcome), threads: stuck })
    }
}

impl Silence {
    fn into_alarm(
        self,
        machine: Arc<SharedMachine>,
        vcpus: Arc<VcpuThreads>,
        run_end: Arc<RunEnd>,
    ) -> Result<Subscriber, Error> {
        let Self { after, mut tell } = self;
        let action = move || {
            if !machine.has_spoken() {
                tell(&vcpus.snapshot());
            }
        };
        Ok(Box::new(Alarm::new(after, action, run_end)?))
    }
}

fn build_chipset(config: &VmConfig, memory: Memory, boot_cpu: &Vcpu) -> Result<Chipset, Error> {
    let mut media = storage::media(&storage::open_all(&config.root_complex.topology)?);
    let chipset = ChipsetConfig {
        root_complex: config.root_complex.clone(),
        memory: config.memory.bytes(),
        cpus: config.cpus,
        // A guest can do without; it is told that the frequency is unknown.
        tsc_khz: boot_cpu.tsc_khz().unwrap_or(0),
    };
    Ok(Chipset::new(chipset, &mut media, memory, config.tracer.clone())?)
}

/// The devices that answer the CPUs' exits.
struct VcpuExits {
    bus: Bus,
    machine: Arc<SharedMachine>,
    run_end: Arc<RunEnd>,
}

impl Exits for VcpuExits {
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
        self.machine.end_of_interrupt(vector);
    }

    fn is_over(&self) -> bool {
        self.run_end.is_over()
    }
}
