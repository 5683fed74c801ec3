//! The system calls and instructions that need unsafe code.
#![allow(unsafe_code)]

use std::arch::asm;
use std::ffi::{CString, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::null_mut;

use rustix::mm::{MapFlags, ProtFlags};

/// Lets this process and its children use `count` I/O ports from `first` on.
pub(crate) fn allow_ports(first: u16, count: u16) -> io::Result<()> {
    // SAFETY: the call changes the permission bitmap of this thread, and no memory.
    check(unsafe { libc::ioperm(first.into(), count.into(), 1) }.into())
}

/// Writes `bytes` to a port, one after the other. [`allow_ports`] must have allowed the port, or this
/// process gets SIGSEGV.
///
/// Each byte is an exit for the VMM, as it is with `rep outsb`. KVM has a short path for this
/// instruction, and emulates that one: on the test host a byte took 2 ms by it.
pub(crate) fn write_port(port: u16, bytes: &[u8]) {
    for byte in bytes {
        // SAFETY: the instruction writes an I/O port, whose device is outside of this program's memory.
        unsafe {
            asm!(
                "out dx, al",
                in("dx") port,
                in("al") *byte,
                options(nomem, nostack, preserves_flags),
            );
        }
    }
}

/// A process after [`fork`].
pub(crate) enum Forked {
    /// This is the new process.
    Child,
    /// This is the old process.
    Parent,
}

/// Makes a copy of this process, which has one thread.
pub(crate) fn fork() -> io::Result<Forked> {
    // SAFETY: the runner starts no threads, so that no other thread can hold a lock that the child
    // would wait for.
    match unsafe { libc::fork() } {
        0 => Ok(Forked::Child),
        pid => check(pid.into()).map(|()| Forked::Parent),
    }
}

/// Tells the kernel to read the partition table of a block device again.
pub(crate) fn reread_partitions(disk: impl AsFd) -> io::Result<()> {
    const BLKRRPART: libc::Ioctl = 0x125f;
    // SAFETY: this request has no argument.
    check(unsafe { libc::ioctl(disk.as_fd().as_raw_fd(), BLKRRPART) }.into())
}

/// Bits of `kexec_file_load`.
pub(crate) mod kexec {
    /// The kernel starts when the running one panics.
    pub(crate) const ON_CRASH: u64 = 2;
    /// There is no initramfs.
    pub(crate) const NO_INITRAMFS: u64 = 4;
}

/// Loads the kernel that the next kexec or panic starts.
pub(crate) fn load_kernel(
    kernel: impl AsFd,
    initramfs: Option<&dyn AsRawFd>,
    cmdline: &str,
    flags: u64,
) -> io::Result<()> {
    let cmdline = CString::new(cmdline)?;
    let length = cmdline.as_bytes_with_nul().len();
    let initramfs = initramfs.map_or(-1, |file| file.as_raw_fd());
    // SAFETY: the kernel reads `length` bytes at `cmdline`, which lives until the call returns.
    check(unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            kernel.as_fd().as_raw_fd(),
            initramfs,
            length,
            cmdline.as_ptr(),
            flags,
        )
    })
}

/// The first page of a BAR.
pub(crate) struct Bar(*const c_void);

impl Bar {
    const SIZE: usize = 4096;

    /// Maps `file`, a file `resource0` of sysfs. It stays mapped until the process ends.
    ///
    /// # Errors
    /// EINVAL and EPERM: the kernel does not map a BAR that a driver uses.
    pub(crate) fn map(file: impl AsFd) -> io::Result<Self> {
        let (prot, flags) = (ProtFlags::READ, MapFlags::SHARED);
        // SAFETY: the kernel chooses an address at which nothing is mapped.
        let page = unsafe { rustix::mm::mmap(null_mut(), Self::SIZE, prot, flags, file, 0)? };
        Ok(Self(page))
    }

    /// Reads the register at `offset`, a multiple of 4 in the first page.
    pub(crate) fn read(&self, offset: usize) -> u32 {
        assert!(offset.is_multiple_of(4) && offset < Self::SIZE, "a register of the first page");
        // SAFETY: the register is in the page that `self` has mapped, aligned, and all bits are valid
        // for a u32.
        unsafe { self.0.cast::<u32>().byte_add(offset).read_volatile() }
    }
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
