//! The built-in guest under KVM, with one flush observed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use devices::fault::{Fault, Point, Trigger};
use devices::root_complex::RootComplexConfig;
use iommu::event::{EventSink, Tracer, UnitRole};
use iommu::time::Timeout;
use iommu::unit::{Ordering, UnitConfig};

use super::ValidateError;
use super::direct::DirectObserver;
use super::observe::{Observation, Observer, Start};
use super::pair::{Pair, When};
use crate::host::HostChoice;
use vmm::{Console, DebugConsole, Exit, Kernel, MemorySize, Vm, VmConfig};

/// Healthy flushes before the one that is observed.
const FLUSHES: u64 = 8;
/// Time that a run may take beyond its waits, on a loaded host.
const SLACK: Duration = Duration::from_secs(60);

/// Runs the pair once.
pub(super) fn run(pair: &Pair) -> Result<Observation, ValidateError> {
    let observation = match pair.host {
        HostChoice::Direct => {
            // Both CPUs race for the ITE. By `blame=owner` it makes no difference which one finds it.
            let observer = Arc::new(DirectObserver::new(pair.patience()));
            boot(pair, observer.clone(), "blame=owner unmap=on")?;
            observer.result()
        }
        HostChoice::Forwarded(_) => {
            let observer = Arc::new(Observer::new(Start::Doorbell, pair.patience(), 0));
            boot(pair, observer.clone(), "blame=first unmap=on")?;
            observer.result()
        }
    };
    observation.ok_or(ValidateError::Unmeasured("a flush"))
}

/// Runs the guest to its end, with `words` added to its command line.
pub(super) fn boot(
    pair: &Pair,
    sink: Arc<dyn EventSink>,
    words: &str,
) -> Result<(), ValidateError> {
    let console = Arc::new(Mutex::new(Vec::new()));
    let ict = Timeout::After(pair.ict());
    let unit = UnitConfig { ict, ordering: pair.ordering, ..UnitConfig::new(UnitRole::Guest) };
    let mut root_complex = pair.host.clone().into_root_complex(unit);
    if pair.ordering == Ordering::Blocking && pair.host != HostChoice::Direct {
        // The simulation has the physical unit alone. If the guest's were blocking too, it would keep
        // what stands behind the victim's wait from the host.
        root_complex.guest_unit.ordering = Ordering::Serial;
    }
    let patience = pair.patience();
    let config = VmConfig {
        kernel: Kernel::Image { name: "the built-in guest", bytes: resources::GUEST },
        cmdline: format!(
            "test=drop flushes={FLUSHES} cpus_each={} giveup_ms={} {words}",
            pair.cpus,
            patience.as_millis()
        ),
        modules: Vec::new(),
        memory: MemorySize::default(),
        cpus: pair.devices() * pair.cpus,
        root_complex: RootComplexConfig {
            faults: fault(pair).into_iter().collect(),
            oracle: true,
            obeys: pair.obeys,
            ..root_complex
        },
        console: Console::Capture(console.clone()),
        debugcon: DebugConsole::Discard,
        tracer: Tracer::to(sink),
        time_limit: Some(2 * patience + SLACK),
    };
    match Vm::new(config)?.run()? {
        Exit::DebugExit(0) => Ok(()),
        exit @ (Exit::Signal(_) | Exit::Stopped) => Err(ValidateError::Interrupted(exit.status())),
        exit => {
            let console = console.lock().unwrap_or_else(PoisonError::into_inner);
            let console = last_lines(&String::from_utf8_lossy(&console));
            Err(ValidateError::Guest { pair: pair.to_string(), exit, console })
        }
    }
}

/// The fault with its trigger. The guest rings the bench's doorbell right before the observed flush.
fn fault(pair: &Pair) -> Option<Fault> {
    let trigger = match pair.when {
        When::Before => Trigger::Doorbell,
        When::Sent => Trigger::Count(Point::Request, FLUSHES + 1),
    };
    Some(Fault { trigger, port: None, mode: pair.mode()?, lasts: None })
}

/// The last lines of the console.
fn last_lines(text: &str) -> String {
    const LINES: usize = 8;
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
