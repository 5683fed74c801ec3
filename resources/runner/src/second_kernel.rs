//! The kernel that a kexec or a panic starts.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::Path;

use cpio::newc::{Builder, trailer};
use rustix::fs::MemfdFlags;

use crate::sys::{self, kexec};

/// The kernel in the initramfs of scenarios with a second kernel.
const KERNEL: &str = "/boot/vmlinuz";
/// On the kernel's command line: the number of steps that were done before the kernel was started.
const DONE: &str = "ghostlink.done=";
/// Where the modules are.
const MODULES: &str = "/lib/modules";

/// The number of steps that the first kernel has done, 0 for the first one.
pub(crate) fn steps_before(cmdline: &str) -> u32 {
    let done = cmdline.split_ascii_whitespace().filter_map(|word| word.strip_prefix(DONE));
    done.filter_map(|number| number.parse().ok()).next_back().unwrap_or(0)
}

/// The command line of a second kernel, which goes on behind step `done` with `steps`.
fn command_line(first: &str, done: u32, steps: &[String]) -> String {
    let options = first.split(" -- ").next().unwrap_or_default();
    let options = options.split_ascii_whitespace().filter(|word| !word.starts_with(DONE));
    let options: Vec<&str> = options.collect();
    format!("{} {DONE}{done} -- {}", options.join(" "), steps.join(" "))
}

/// Loads the kernel that goes on with `steps` behind step `done`, with an initramfs as this one.
pub(crate) fn load(done: u32, steps: &[String]) -> io::Result<()> {
    let first = std::fs::read_to_string("/proc/cmdline")?;
    let cmdline = command_line(first.trim(), done, steps);
    sys::load_kernel(open_kernel()?, Some(&initramfs()?), &cmdline, 0)
}

/// Loads the kernel that a panic starts. It has no initramfs: it is to get as far as its remapping
/// units.
pub(crate) fn load_for_panic() -> io::Result<()> {
    let cmdline = "console=ttyS0 nr_cpus=1 reset_devices panic=-1 mitigations=off intel_iommu=on";
    sys::load_kernel(open_kernel()?, None, cmdline, kexec::ON_CRASH | kexec::NO_INITRAMFS)
}

fn open_kernel() -> io::Result<File> {
    File::open(KERNEL).map_err(|error| io::Error::new(error.kind(), format!("{KERNEL}: {error}")))
}

/// An archive of the runner and the modules.
fn initramfs() -> io::Result<File> {
    let mut archive = File::from(rustix::fs::memfd_create(c"initramfs", MemfdFlags::CLOEXEC)?);
    for directory in ["dev", "proc", "sys", "tmp", "run", "lib", "lib/modules"] {
        add(&mut archive, directory, 0o040_755, &[])?;
    }
    add(&mut archive, "init", 0o100_755, &std::fs::read("/proc/self/exe")?)?;
    if Path::new("/modules").exists() {
        add(&mut archive, "modules", 0o100_644, &std::fs::read("/modules")?)?;
    }
    add_tree(&mut archive, Path::new(MODULES))?;
    trailer(&mut archive)?;
    archive.rewind()?;
    Ok(archive)
}

fn add_tree(archive: &mut File, directory: &Path) -> io::Result<()> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Ok(()) };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = path.to_string_lossy();
        let name = name.trim_start_matches('/');
        if entry.file_type()?.is_dir() {
            add(archive, name, 0o040_755, &[])?;
            add_tree(archive, &path)?;
        } else {
            add(archive, name, 0o100_644, &std::fs::read(&path)?)?;
        }
    }
    Ok(())
}

fn add(archive: &mut File, name: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let size = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    let mut entry = Builder::new(name).mode(mode).nlink(1).write(archive, size);
    entry.write_all(bytes)?;
    entry.finish().map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_kernel_goes_on_behind_the_step_that_starts_it() {
        let first = "console=ttyS0 quiet -- nvme kexec nvme:1 alive";
        let steps = ["nvme:1".to_owned(), "alive".to_owned()];
        let second = command_line(first, 2, &steps);
        assert_eq!(second, "console=ttyS0 quiet ghostlink.done=2 -- nvme:1 alive");
        assert_eq!((steps_before(first), steps_before(&second)), (0, 2));
        let third = command_line(&second, 3, &steps[1..]);
        assert_eq!(third, "console=ttyS0 quiet ghostlink.done=3 -- alive");
    }

    #[test]
    fn the_archive_begins_with_an_entry_of_newc() {
        let mut file = initramfs().unwrap();
        let mut start = [0; 6];
        io::Read::read_exact(&mut file, &mut start).unwrap();
        assert_eq!(&start, b"070701");
    }
}
