//! The first process (`/init`) of a Linux guest. The words behind `--` on the kernel's command line
//! are steps, which it takes in their order; the crate `steps` lists them.
//!
//! It speaks to the VMM by the debug console, a port, and not by printk: its lines are heard also
//! while the kernel's console is silent. It passes on the kernel's log in the same way. Each step
//! becomes a line `ok 3 disk`, each figure a line `value NAME=VALUE`.
//!
//! With the word `shell` instead of steps it is a shell on the serial line ([`shell`]).
//!
//! Work that may lock its CPU up is done by processes pinned to CPU 0 ([`child`]). The runner itself
//! is on the last CPU.

mod blocks;
mod boot;
mod child;
mod kernel_log;
mod modules;
mod pci;
mod runner;
mod second_kernel;
mod shell;
mod speaker;
mod sys;
mod vfio;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if std::process::id() != 1 {
        if arguments == [runner::PROBE] {
            return ExitCode::SUCCESS;
        }
        eprintln!("runner: this is the first process of a guest of ghostlink; it has no other use");
        return ExitCode::from(2);
    }
    boot::prepare(&arguments);
    match runner::Runner::new() {
        Ok(mut runner) if arguments == [shell::WORD] => runner.shell(),
        Ok(mut runner) => runner.run(&arguments),
        Err(error) => eprintln!("runner: {error}"),
    }
    boot::end()
}
