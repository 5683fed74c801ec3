//! The other processors. They are started once, and sleep until they get work.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, Ordering};

use crate::bench;
use crate::machine::time::{Ticks, poll};
use crate::machine::{apic, cpu, interrupts};

/// The page of the trampoline, below 640 KiB and otherwise unused.
const TRAMPOLINE_PAGE: u8 = 0x08;
const MAX_CPUS: usize = 8;

/// Number of processors that have passed the trampoline. `entry.s` numbers them by it.
#[unsafe(no_mangle)]
static AP_COUNT: AtomicU32 = AtomicU32::new(0);

/// Number of processors that are ready for work.
static READY: AtomicU32 = AtomicU32::new(0);
static APIC_IDS: [AtomicU8; MAX_CPUS] = [const { AtomicU8::new(0) }; MAX_CPUS];

/// Work for one processor.
pub type Work<'a> = &'a (dyn Fn() + Sync);

/// For each processor a pointer to its [`Work`], or null.
static MAILBOXES: [AtomicPtr<()>; MAX_CPUS] = [const { AtomicPtr::new(ptr::null_mut()) }; MAX_CPUS];

unsafe extern "C" {
    static ap_trampoline: u8;
    static ap_trampoline_end: u8;
}

/// Starts all processors, and returns their number with the boot processor.
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
        // Without a bench port the number is unknown.
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

/// Runs the first `work` on CPU 1, the next one on CPU 2 and so on, while `body` runs here; returns
/// when all are done. There must be so many CPUs.
pub fn beside<R>(work: &[Work<'_>], body: impl FnOnce() -> R) -> R {
    let workers = 1..=work.len();
    for (worker, work) in workers.clone().zip(work) {
        MAILBOXES[worker].store((&raw const *work).cast_mut().cast(), Ordering::Release);
        apic::send(APIC_IDS[worker].load(Ordering::Relaxed), interrupts::WAKE);
    }
    let result = body();
    // `work` borrows from the caller, so the workers must be done first.
    for worker in workers {
        while !MAILBOXES[worker].load(Ordering::Acquire).is_null() {
            core::hint::spin_loop();
        }
    }
    result
}

/// The entry of every processor but the first, called by `entry.s`.
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
