//! Steps that do one thing, bounded in time, on a CPU that may get stuck.

use std::fs;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use steps::{Disk, DomainType, Quantity, VfioAction};

use super::{Failure, Runner, Taken, require};
use crate::boot::exists;
use crate::child::News;
use crate::pci::Function;
use crate::sys::Bar;
use crate::vfio::Holder;

/// The time after which an action counts as never done.
const LIMIT: Duration = Duration::from_secs(20);
/// After a reset Linux waits up to 65 s for the function, and then for the link.
const RESET_LIMIT: Duration = Duration::from_secs(150);

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// The interrupts of disk `disk` in the text of `/proc/interrupts`, with their names: `nvme0q1`.
fn interrupts_of(text: &str, disk: Disk) -> Vec<(u32, String)> {
    let prefix = format!("nvme{disk}q");
    let interrupt = |line: &str| {
        let (number, rest) = line.split_once(':')?;
        let name = rest.split_whitespace().next_back()?;
        let number = number.trim().parse().ok()?;
        name.starts_with(&prefix).then(|| (number, name.to_owned()))
    };
    text.lines().filter_map(interrupt).collect()
}

impl Runner {
    /// Writes to a file of sysfs on CPU 0.
    pub(super) fn bounded_write(&mut self, name: &str, path: PathBuf, text: &str) -> Taken {
        let limit = if name.starts_with("reset") { RESET_LIMIT } else { LIMIT };
        self.bounded(name, 0, limit, |_| write(&path, text))
    }

    pub(super) fn write_to_function(
        &mut self,
        name: &str,
        disk: Disk,
        file: &str,
        text: &str,
    ) -> Taken {
        let path = self.disk_file(disk, file)?;
        self.bounded_write(name, path, text)
    }

    pub(super) fn unbind(&mut self, disk: Disk) -> Taken {
        let function = self.disk(disk)?.function;
        self.bounded_write("unbind", function.file("driver/unbind"), &function.0)
    }

    pub(super) fn bind(&mut self, disk: Disk) -> Taken {
        let function = self.disk(disk)?.function;
        self.bounded_write("bind", "/sys/bus/pci/drivers_probe".into(), &function.0)?;
        require(exists(function.file("driver")), "no driver has taken the disk")
    }

    pub(super) fn reset_controller(&mut self, disk: Disk) -> Taken {
        let path = PathBuf::from(format!("/sys/class/nvme/nvme{disk}/reset_controller"));
        self.bounded_write("reset_controller", path, "1")
    }

    pub(super) fn read_config(&mut self, disk: Option<Disk>) -> Taken {
        let functions = match disk {
            Some(disk) => vec![self.disk(disk)?.function],
            None => Function::all()?,
        };
        self.bounded("config", 0, LIMIT, |evidence| {
            for function in functions {
                let space = function.dump().map_err(|error| format!("{}: {error}", function.0))?;
                let gone = space.iter().all(|byte| *byte == 0xff);
                let what = if gone { ", all ones" } else { "" };
                evidence.show(format!("{}: {} bytes{what}", function.0, space.len()));
            }
            Ok(())
        })
    }

    pub(super) fn read_bar(&mut self, disk: Disk) -> Taken {
        /// Version and controller status of an NVMe controller (NVMe 3.1.4).
        const REGISTERS: [(&str, usize); 2] = [("VS", 0x08), ("CSTS", 0x1c)];
        let path = self.disk_file(disk, "resource0")?;
        let file = File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let bar = match Bar::map(&file) {
            Ok(bar) => bar,
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EPERM)) => {
                return Err(Failure::Skip(format!(
                    "the kernel does not map a BAR that a driver uses ({error}); add iomem=relaxed to \
                     its command line"
                )));
            }
            Err(error) => return Err(error.into()),
        };
        self.bounded("bar", 0, LIMIT, |evidence| {
            for (name, offset) in REGISTERS {
                evidence.show(format!("{name} {:08x}", bar.read(offset)));
            }
            Ok(())
        })
    }

    pub(super) fn affinity(&mut self, disk: Disk, cpu: u16) -> Taken {
        require(usize::from(cpu) < self.cpus, &format!("there is no CPU {cpu}"))?;
        let interrupts = interrupts_of(&fs::read_to_string("/proc/interrupts")?, disk);
        require(!interrupts.is_empty(), "the disk has no interrupt")?;
        self.bounded("affinity", 0, LIMIT, |evidence| {
            let mut moved = 0;
            for (number, name) in interrupts {
                let path = PathBuf::from(format!("/proc/irq/{number}/smp_affinity_list"));
                // The kernel itself places the interrupts of queues that are bound to CPUs.
                match write(&path, &cpu.to_string()) {
                    Ok(()) => moved += 1,
                    Err(error) => evidence.show(format!("{name}: {error}")),
                }
            }
            evidence.show(format!("{moved} interrupts moved to CPU {cpu}"));
            if moved == 0 { Err("no interrupt can be moved".to_owned()) } else { Ok(()) }
        })
    }

    pub(super) fn suspend(&mut self) -> Taken {
        let test = Path::new("/sys/power/pm_test");
        if !exists(test) {
            return Err(Failure::Skip(
                "the kernel has no /sys/power/pm_test (PM_DEBUG)".to_owned(),
            ));
        }
        fs::write(test, "devices")?;
        // The kernel waits 5 s between suspend and resume.
        let result = self.bounded("suspend", 0, Duration::from_secs(120), |_| {
            write(Path::new("/sys/power/state"), "freeze")
        });
        let _ = fs::write(test, "none");
        result
    }

    pub(super) fn group_type(&mut self, domain: DomainType) -> Taken {
        let path = self.disk_file(Disk(0), "iommu_group/type")?;
        self.bounded_write("group_type", path, &domain.to_string())?;
        self.domain(Disk(0), domain)
    }

    /// Gives the disk to another driver.
    pub(super) fn give_to(&mut self, driver: &str, disk: Disk) -> Taken {
        let function = self.disk(disk)?.function;
        let bound = Path::new("/sys/bus/pci/drivers").join(driver).join(&function.0);
        let driver = driver.to_owned();
        self.on_last_cpu(RESET_LIMIT, move |_| {
            write(&function.file("driver_override"), &driver)?;
            if exists(function.file("driver")) {
                write(&function.file("driver/unbind"), &function.0)?;
            }
            write(Path::new("/sys/bus/pci/drivers_probe"), &function.0)
        })?;
        require(exists(bound), "the driver has not taken the disk")
    }

    pub(super) fn vfio_bind(&mut self) -> Taken {
        for module in ["vfio_pci", "vfio_iommu_type1"] {
            self.modules.load(module)?;
        }
        self.give_to("vfio-pci", Disk(0))?;
        self.vfio = Some(Holder::start(0, &self.disk(Disk(0))?.function)?);
        Ok(())
    }

    pub(super) fn vfio_act(&mut self, action: VfioAction) -> Taken {
        let limit = match action {
            VfioAction::Reset | VfioAction::Close => RESET_LIMIT,
            _ => LIMIT,
        };
        let Some(mut holder) = self.vfio.take() else {
            return Err("there is no process: take the step vfio:bind before".into());
        };
        holder.tell(action)?;
        let answer = self.wait_for(limit, |runner| {
            loop {
                match holder.answers().news() {
                    News::Nothing => return None,
                    News::Done(done) => return Some(Err(format!("{:?}", done.result))),
                    News::Evidence(text) => match text.split_once(' ') {
                        Some((word, millis)) if word == action.to_string() => {
                            return Some(Ok(millis.parse().unwrap_or_default()));
                        }
                        Some((word, reason)) if word == format!("!{action}") => {
                            return Some(Err(reason.to_owned()));
                        }
                        // The late answer to an earlier word.
                        _ => runner.show(format!("vfio, late: {text}")),
                    },
                }
            }
        });
        self.vfio = Some(holder);
        let name = format!("vfio_{action}_ms");
        match answer {
            Some(Ok(millis)) => {
                self.value(&name, Quantity::Number(millis));
                Ok(())
            }
            Some(Err(reason)) => Err(reason.into()),
            None => {
                self.value(&name, Quantity::Never);
                Err(format!("not done within {} s", limit.as_secs()).into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupts_of_a_disk_are_found_by_their_names() {
        let text = "\
                   CPU0       CPU1\n\
          4:          7          0  IR-IO-APIC    4-edge      ttyS0\n\
         24:         20          0  IR-PCI-MSI-0000:01:00.0    0-edge      nvme0q0\n\
         25:          0         31  IR-PCI-MSI-0000:01:00.0    1-edge      nvme0q1\n\
         26:          0         31  IR-PCI-MSI-0000:02:00.0    0-edge      nvme1q0\n\
        NMI:          0          0   Non-maskable interrupts\n";
        let named = |number, name: &str| (number, name.to_owned());
        assert_eq!(interrupts_of(text, Disk(0)), [named(24, "nvme0q0"), named(25, "nvme0q1")]);
        assert_eq!(interrupts_of(text, Disk(1)), [named(26, "nvme1q0")]);
        assert!(interrupts_of(text, Disk(2)).is_empty());
    }
}
