//! Getting a thread out of the guest.
//!
//! A signal alone can come just before the thread enters the guest, and be lost. Its handler
//! therefore sets the CPU's `immediate_exit`, at which KVM leaves the guest before entering it.

use std::ffi::c_void;
use std::thread::JoinHandle;

use libc::{c_int, siginfo_t};
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler, unblock_signal};

use super::raw;
use crate::Error;

extern "C" fn handle_kick(_: c_int, _: *mut siginfo_t, _: *mut c_void) {
    raw::request_immediate_exit();
}

/// Prepares the process for [`kick`]; call it before a thread that may be kicked is started.
pub(crate) fn prepare_kicks() -> Result<(), Error> {
    register_signal_handler(SIGRTMIN(), handle_kick)
        .map_err(Error::host("install the handler for the signal that stops CPUs"))
}

/// Makes sure that this thread gets kicks, whatever mask it has inherited.
pub(super) fn accept_kicks() -> Result<(), Error> {
    unblock_signal(SIGRTMIN()).map_err(|error| Error::Host {
        action: "unblock the signal that stops CPUs",
        source: std::io::Error::other(error.to_string()),
    })
}

/// Gets `thread` out of the guest and out of system calls that wait.
pub(crate) fn kick<T>(thread: &JoinHandle<T>) {
    // Fails only for a thread that is gone already.
    let _ = thread.kill(SIGRTMIN());
}
