//! QEMU and the kernel of the host, by the scripts that unpack Debian's packages into the cache.

use std::env;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::HostError;

/// The oldest release of QEMU that is asked for: 7.2 crashes in a quarter of the runs.
const QEMU: &str = "10";
/// The series of the kernel.
const KERNEL: &str = "6.12";

/// The directory of ghostlink in the user's cache, which the scripts use as well.
pub(crate) fn cache() -> Result<PathBuf, HostError> {
    let named = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")));
    Ok(cache.ok_or(HostError::NoCache)?.join("ghostlink"))
}

/// The scripts, in a directory of the cache.
pub(crate) struct Tools {
    packages: PathBuf,
}

impl Tools {
    /// Writes the scripts to the cache, unless they are there.
    pub(crate) fn new(cache: &Path) -> Result<Self, HostError> {
        // The scripts name themselves by their path below the parent of this directory.
        let directory = cache.join("scripts").join("resources");
        let write = || {
            fs::create_dir_all(&directory)?;
            for (name, text) in resources::SCRIPTS {
                write_script(&directory.join(name), text)?;
            }
            Ok(())
        };
        write().map_err(|source| HostError::Cache { path: directory.clone(), source })?;
        Ok(Self { packages: directory.join("packages") })
    }

    /// The program of QEMU: the one that `GHOSTLINK_QEMU` names, the installed one, or Debian's.
    pub(crate) fn qemu(&self) -> Result<PathBuf, HostError> {
        self.get("QEMU", &["qemu", QEMU])
    }

    /// The directory of Debian's newest kernel of the series.
    pub(crate) fn kernel(&self) -> Result<PathBuf, HostError> {
        self.get("kernel 6.12 of Debian", &["kernel", KERNEL])
    }

    /// What the script prints, a path. It explains itself on standard error.
    fn get(&self, what: &'static str, arguments: &[&str]) -> Result<PathBuf, HostError> {
        let output = Command::new(&self.packages)
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|source| HostError::Cache { path: self.packages.clone(), source })?;
        let path = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        if !output.status.success() || path.is_empty() {
            return Err(HostError::Tool { what });
        }
        Ok(PathBuf::from(path))
    }
}

/// Writes a program, unless it is there. Another process may be starting it.
fn write_script(path: &Path, text: &str) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|present| present == text) {
        return Ok(());
    }
    let partial = path.with_extension(std::process::id().to_string());
    fs::write(&partial, text)?;
    fs::set_permissions(&partial, Permissions::from_mode(0o755))?;
    fs::rename(partial, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmm_sys_util::tempdir::TempDir;

    #[test]
    fn the_scripts_work_outside_of_the_repository_and_are_mended() {
        let cache = TempDir::new().unwrap();
        let tools = Tools::new(cache.as_path()).unwrap();
        fs::write(&tools.packages, "exit 1").unwrap();
        let tools = Tools::new(cache.as_path()).unwrap();
        let help = Command::new(&tools.packages).arg("--help").output().unwrap();
        assert!(String::from_utf8_lossy(&help.stdout).contains("Prints one path"), "{help:?}");
        let error = tools.get("kernel", &["kernel", "six"]).unwrap_err();
        assert_eq!(error.to_string(), "there is no kernel for the test host: see above");
    }
}
