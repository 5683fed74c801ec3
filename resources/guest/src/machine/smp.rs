//! The other processors: started once, then asleep until one gets work.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, Ordering};

use crate::bench;
use crate::machine::time::{Ticks, poll};
use crate::machine::{apic, cpu, interrupts};

/// Where the trampoline goes: a page below 640 KiB that nobody else uses.
const TRAMPOLINE_PAGE: u8 = 0x08;
const MAX_CPUS: usize = 8;

/// Processors that came through the trampoline; `entry.s` numbers them by it.
#[unsafe(no_mangle)]
static AP_COUNT: AtomicU32 = AtomicU32::new(0);

/// Those that are ready for work.
static READY: AtomicU32 = AtomicU32::new(0);
static APIC_IDS: [AtomicU8; MAX_CPUS] = [const { AtomicU8::new(0) }; MAX_CPUS];

type Work<'a> = &'a (dyn Fn() + Sync);

/// Per processor a pointer to the [`Work`] that it is to do; null when it has none.
static MAILBOXES: [AtomicPtr<()>; MAX_CPUS] = [const { AtomicPtr::new(ptr::null_mut()) }; MAX_CPUS];

unsafe extern "C" {
    static ap_trampoline: u8;
    static ap_trampoline_end: u8;
}

/// Starts all processors and says how many there are, the boot processor included.
pub fn start() -> usize {
    let expected = bench::cpus();
    if expected == Some(1) {
        return 1;
    }
    install_trampoline();
    apic::start_others(TRAMPOLINE_PAGE);
    let others = || READY.load(Ordering::Acquire);
    match expected {
        Some(cpus) => poll(Ticks::from_ms(1000), || others() + 1 >= cpus),
        // Nobody says how many will come.
        None => poll(Ticks::from_ms(50), || false),
    };
    others() as usize + 1
}

fn install_trampoline() {
    let start = &raw const ap_trampoline;
    let length = (&raw const ap_trampoline_end as usize) - start as usize;
    let page = (usize::from(TRAMPOLINE_PAGE) << 12) as *mut u8;
    // SAFETY: the page is free conventional memory: what the loader had there has been copied, and
    // no Rust object lies below 1 MiB.
    unsafe { ptr::copy_nonoverlapping(start, page, length) };
}

/// Runs `work` on CPU 1 while `body` runs here; returns when both are done. The caller has seen to it
/// that there is a CPU 1.
pub fn beside<R>(work: &(dyn Fn() + Sync), body: impl FnOnce() -> R) -> R {
    const WORKER: usize = 1;
    let work: Work<'_> = work;
    MAILBOXES[WORKER].store((&raw const work).cast_mut().cast(), Ordering::Release);
    apic::send(APIC_IDS[WORKER].load(Ordering::Relaxed), interrupts::WAKE);
    let result = body();
    // Nothing borrowed by `work` may end before the worker has.
    while !MAILBOXES[WORKER].load(Ordering::Acquire).is_null() {
        core::hint::spin_loop();
    }
    result
}

/// Where `entry.s` sends every processor but the first.
#[unsafe(no_mangle)]
extern "C" fn ap_main(cpu: u32) -> ! {
    let cpu = cpu as usize % MAX_CPUS;
    interrupts::load();
    apic::init();
    APIC_IDS[cpu].store(apic::id(), Ordering::Relaxed);
    READY.fetch_add(1, Ordering::Release);
    loop {
        let mail = MAILBOXES[cpu].load(Ordering::Acquire);
        if mail.is_null() {
            cpu::sleep_until_interrupt();
            continue;
        }
        // SAFETY: `beside` keeps the pointed-to reference alive until the mailbox is empty again.
        let work = unsafe { *mail.cast::<Work<'_>>() };
        work();
        MAILBOXES[cpu].store(ptr::null_mut(), Ordering::Release);
    }
}
