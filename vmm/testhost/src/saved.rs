//! The saved state of the host, in the cache.

use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use linux::{GuestKernel, Initramfs};
use steps::test_host::Frame;

use crate::patience::Limit;
use crate::qemu::{Machine, Qemu, Sign};
use crate::qmp::Monitor;
use crate::tools::{Tools, cache};
use crate::{HostError, Options};

/// The modules of the host; its init loads them.
const MODULES: [&str; 3] = ["9pnet_virtio", "9p", "kvm_amd"];
/// How often the host is booted until it can be saved.
const TRIES: u32 = 3;
/// From the start of QEMU until the host is ready, which takes 10 s of processor time.
const BOOTING: Limit = Limit { used: Duration::from_secs(120), passed: Duration::from_secs(900) };
/// A state that is older is made anew, with what Debian has then; one that has not been used for as
/// long is removed.
const OLDEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// A saved state, and the machine that can be restored from it.
#[derive(Debug)]
pub(crate) struct Saved {
    directory: PathBuf,
    pub(crate) machine: Machine,
}

impl Saved {
    /// Finds a state in the cache, or makes one.
    pub(crate) fn find(options: &Options) -> Result<Self, HostError> {
        let parent = cache()?.join("testhost");
        let in_cache = |source| HostError::Cache { path: parent.clone(), source };
        fs::create_dir_all(&parent).map_err(in_cache)?;
        let directory = parent.join(key(options));
        if let Some(saved) = Self::open(&directory) {
            return Ok(saved);
        }
        // One process makes a state; the others wait for it.
        let lock = File::create(parent.join("lock")).map_err(in_cache)?;
        lock.lock().map_err(in_cache)?;
        if let Some(saved) = Self::open(&directory) {
            return Ok(saved);
        }
        clean(&parent, &directory).map_err(in_cache)?;
        Self::make(options, &directory)
    }

    /// The file with the state.
    pub(crate) fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// Removes the state.
    pub(crate) fn discard(&self) {
        // If it cannot be removed, it is there when this is run again, and so is the message.
        let _ = fs::remove_dir_all(&self.directory);
    }

    /// Opens a state, unless it is old, or of a QEMU or a kernel that has changed.
    fn open(directory: &Path) -> Option<Self> {
        let recipe = fs::read_to_string(directory.join("recipe")).ok()?;
        let mut lines = recipe.lines();
        let (qemu, kernel) = (lines.next()?.into(), lines.next()?.into());
        let machine = Machine { qemu, kernel, initramfs: directory.join("initramfs") };
        let age = fs::metadata(directory.join("recipe")).ok()?.modified().ok()?.elapsed();
        if machine_recipe(&machine) != recipe || age.unwrap_or_default() > OLDEST {
            return None;
        }
        Some(Self { directory: directory.to_owned(), machine })
    }

    /// Boots the host and saves it. The directory gets its name at the end, when it is complete.
    fn make(options: &Options, directory: &Path) -> Result<Self, HostError> {
        let in_cache = |source| HostError::Cache { path: directory.to_owned(), source };
        let cache = cache()?;
        let tools = Tools::new(&cache)?;
        let kernel = GuestKernel::find(&tools.kernel()?, None)?;
        let partial = directory.with_extension("partial");
        fs::create_dir_all(&partial).map_err(in_cache)?;
        let initramfs = partial.join("initramfs");
        fs::write(&initramfs, initramfs_of(&kernel)?).map_err(in_cache)?;
        let machine = Machine { qemu: tools.qemu()?, kernel: kernel.image, initramfs };
        (options.note)("booting the test host, once: it is saved and restored for each command");
        let mut tries = 1;
        loop {
            let (reason, log) = match boot(&machine, options, &partial.join("state")) {
                Ok(()) => break,
                Err(HostError::NotSaved { reason, log }) => (reason, log),
                Err(error) => return Err(error),
            };
            if tries == TRIES {
                return Err(HostError::NotSaved { reason, log });
            }
            (options.note)(&format!("the test host did not boot ({reason}): booting it again"));
            tries += 1;
        }
        let recipe = machine_recipe(&machine);
        fs::write(partial.join("recipe"), recipe).map_err(in_cache)?;
        fs::rename(&partial, directory).map_err(in_cache)?;
        let machine = Machine { initramfs: directory.join("initramfs"), ..machine };
        Ok(Self { directory: directory.to_owned(), machine })
    }
}

/// Boots the machine and saves its state to a file.
fn boot(machine: &Machine, options: &Options, state: &Path) -> Result<(), HostError> {
    let name = format!("ghostlink-{}-testhost", std::process::id());
    let mut arguments = machine.arguments(options, Path::new("/"));
    arguments.extend(["-qmp".into(), OsString::from(Monitor::argument(&name))]);
    let mut qemu = Qemu::start(machine, options, arguments)?;
    let reason = loop {
        match qemu.next(BOOTING) {
            Sign::Frame(Frame::Ready) => {
                match Monitor::connect(&name).and_then(|mut monitor| monitor.save(state)) {
                    Ok(()) => return Ok(()),
                    Err(error) => break format!("QEMU does not save it: {error}"),
                }
            }
            Sign::Frame(_) | Sign::None => {}
            Sign::Hung(silence) => break format!("silent for {} s", silence.as_secs()),
            Sign::End => break "QEMU has ended".to_owned(),
        }
    };
    Err(HostError::NotSaved { reason, log: qemu.end() })
}

/// The init of the host, and its modules.
fn initramfs_of(kernel: &GuestKernel) -> Result<Vec<u8>, HostError> {
    let mut initramfs = Initramfs::new();
    initramfs.file("/init", 0o755, resources::TEST_HOST_INIT);
    initramfs.modules(kernel, &MODULES)?;
    Ok(initramfs.build())
}

/// A name for what is known of the host without a look for QEMU and the kernel, which takes
/// seconds.
fn key(options: &Options) -> String {
    let mut hasher = DefaultHasher::new();
    let nowhere = PathBuf::new();
    let machine = Machine { qemu: nowhere.clone(), kernel: nowhere.clone(), initramfs: nowhere };
    machine.arguments(options, Path::new("/")).hash(&mut hasher);
    resources::TEST_HOST_INIT.hash(&mut hasher);
    resources::SCRIPTS.hash(&mut hasher);
    std::env::var_os("GHOSTLINK_QEMU").hash(&mut hasher);
    format!("{}-{}-{:016x}", options.cpus, options.memory, hasher.finish())
}

/// The files of QEMU and of the kernel, a line each, then their sizes and times.
fn machine_recipe(machine: &Machine) -> String {
    // `run/NAME` is a script that starts this file.
    let unpacked = machine.qemu.parent().and_then(Path::parent);
    let unpacked = unpacked.map(|root| root.join("usr/bin/qemu-system-x86_64"));
    let program = unpacked.filter(|program| program.exists()).unwrap_or(machine.qemu.clone());
    let (qemu, kernel) = (machine.qemu.display(), machine.kernel.display());
    format!("{qemu}\n{kernel}\n{}\n{}\n", stamp(&program), stamp(&machine.kernel))
}

fn stamp(file: &Path) -> String {
    let Ok(metadata) = fs::metadata(file) else { return "none".to_owned() };
    let modified = metadata.modified().ok();
    let modified = modified.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    format!("{} {}", metadata.len(), modified.unwrap_or_default().as_nanos())
}

/// Removes what is in the way of a new state, states that are old, and those that were not finished.
/// The caller has the lock.
fn clean(parent: &Path, new: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        let path = entry.path();
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
        let partial = path.extension().is_some_and(|extension| extension == "partial");
        if path == new || partial || age > OLDEST {
            fs::remove_dir_all(path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmm_sys_util::tempdir::TempDir;

    #[test]
    fn each_host_has_a_name_of_its_own() {
        let options = Options::default();
        let names = [
            key(&options),
            key(&Options { cpus: 2, ..options.clone() }),
            key(&Options { memory: 3072, ..options.clone() }),
        ];
        assert_eq!(key(&options), names[0]);
        assert!(names[0] != names[1] && names[1] != names[2] && names[0] != names[2], "{names:?}");
    }

    #[test]
    fn a_state_of_another_qemu_or_kernel_is_not_used() {
        let cache = TempDir::new().unwrap();
        let [qemu, kernel, directory] =
            ["qemu", "kernel", "state"].map(|name| cache.as_path().join(name));
        fs::write(&qemu, "10").unwrap();
        fs::write(&kernel, "6.12").unwrap();
        fs::create_dir(&directory).unwrap();
        assert!(Saved::open(&directory).is_none());
        let machine = Machine { qemu, kernel, initramfs: directory.join("initramfs") };
        fs::write(directory.join("recipe"), machine_recipe(&machine)).unwrap();
        assert_eq!(Saved::open(&directory).unwrap().machine, machine);
        fs::write(&machine.kernel, "6.12.1").unwrap();
        assert!(Saved::open(&directory).is_none());
    }

    #[test]
    fn cleaning_leaves_the_states_of_others() {
        let cache = TempDir::new().unwrap();
        let [other, new, partial] =
            ["other", "new", "third.partial"].map(|name| cache.as_path().join(name));
        for directory in [&other, &new, &partial] {
            fs::create_dir(directory).unwrap();
        }
        fs::write(cache.as_path().join("lock"), "").unwrap();
        clean(cache.as_path(), &new).unwrap();
        assert!(other.exists() && !new.exists() && !partial.exists());
    }
}
