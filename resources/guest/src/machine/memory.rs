//! Memory that devices access: whole pages, zero at first, that are allocated once and never freed.
//!
//! The machine maps memory one to one, so an address is the same for processor and device. Words
//! are atomics because a device or another processor may write them at any time.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Bytes in a page.
pub const PAGE_SIZE: u64 = 4096;

const WORDS: usize = 512;
const FRAMES: usize = 160;

#[repr(C, align(4096))]
struct Frame([AtomicU64; WORDS]);

static FRAME_POOL: [Frame; FRAMES] =
    [const { Frame([const { AtomicU64::new(0) }; WORDS]) }; FRAMES];
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Consecutive pages.
#[derive(Clone, Copy)]
pub struct Pages(&'static [Frame]);

impl Pages {
    /// `count` fresh pages.
    ///
    /// # Panics
    /// If the pool is empty, which is an error in this program.
    pub fn new(count: usize) -> Self {
        let first = NEXT.fetch_add(count, Ordering::Relaxed);
        assert!(first + count <= FRAMES, "out of pages");
        Self(&FRAME_POOL[first..first + count])
    }

    /// One fresh page.
    pub fn one() -> Self {
        Self::new(1)
    }

    /// The allocated page at `address`; `None` if there is none.
    pub fn at(address: u64) -> Option<Self> {
        let offset = address.checked_sub(FRAME_POOL.as_ptr() as u64)?;
        let index = usize::try_from(offset / PAGE_SIZE).ok()?;
        let taken = NEXT.load(Ordering::Relaxed).min(FRAMES);
        let is_page = offset.is_multiple_of(PAGE_SIZE) && index < taken;
        is_page.then(|| Self(&FRAME_POOL[index..=index]))
    }

    /// Its address, for the processor and for devices.
    pub fn address(self) -> u64 {
        self.0.as_ptr() as u64
    }

    /// The 64-bit word number `index`.
    pub fn word(self, index: usize) -> &'static AtomicU64 {
        &self.0[index / WORDS].0[index % WORDS]
    }

    /// Reads a word.
    pub fn read(self, index: usize) -> u64 {
        self.word(index).load(Ordering::Acquire)
    }

    /// Writes a word.
    pub fn write(self, index: usize, value: u64) {
        self.word(index).store(value, Ordering::Release);
    }

    /// Writes `value` to every word of page number `page`, by one string instruction: where the
    /// host emulates instructions, that is much faster than a loop.
    pub fn fill_page(self, page: usize, value: u64) {
        let first = self.0[page].0.as_ptr();
        // SAFETY: these are `WORDS` consecutive atomics, which may be written at any time; the
        // direction flag is clear wherever Rust runs.
        unsafe {
            asm!(
                "rep stosq",
                inout("rdi") first => _,
                inout("rcx") WORDS => _,
                in("rax") value,
                options(nostack, preserves_flags)
            );
        }
    }

    /// Whether every word of page number `page` is `value`.
    pub fn page_is(self, page: usize, value: u64) -> bool {
        let first = self.0[page].0.as_ptr();
        let equal: u8;
        // SAFETY: reads `WORDS` atomics in a row, as above.
        unsafe {
            asm!(
                "repe scasq",
                "sete {equal}",
                equal = out(reg_byte) equal,
                inout("rdi") first => _,
                inout("rcx") WORDS => _,
                in("rax") value,
                options(nostack, readonly)
            );
        }
        equal != 0
    }
}
