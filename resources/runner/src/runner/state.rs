//! Steps that look at a healthy machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use regex_lite::Regex;
use steps::{Disk, DomainType, VtdMode};

use super::{Failure, FoundDisk, PROBE, Runner, Taken, require};
use crate::blocks;
use crate::boot::exists;
use crate::pci::{Function, ats_is_on, dump_lines};

/// The time in which the driver finds a disk.
const FINDS: Duration = Duration::from_secs(60);
/// The time that writing and verifying a disk may take.
const VERIFIES: Duration = Duration::from_secs(120);

/// Warnings that a server has as well: the machine is slow, the runner needs no console, and 7.x reports
/// each reset by VFIO.
const HARMLESS: [&str; 4] = [
    "hrtimer: interrupt took",
    "unable to open an initial console",
    "vfio-pci 0000:01:00.0: resetting",
    "vfio-pci 0000:01:00.0: reset done",
];

impl Runner {
    pub(super) fn vtd(&mut self, mode: VtdMode) -> Taken {
        require(exists("/sys/class/iommu/dmar0"), "there is no /sys/class/iommu/dmar0")?;
        let ecap = fs::read_to_string("/sys/class/iommu/dmar0/intel-iommu/ecap")?;
        self.show(format!("dmar0 ecap {}", ecap.trim()));
        require(
            self.log.contains("DMAR: Intel(R) Virtualization Technology for Directed I/O"),
            "the driver has not said that it uses the unit",
        )?;
        let is_scalable = self.log.contains("DMAR: Enable scalable mode");
        match mode {
            VtdMode::Scalable => require(is_scalable, "the unit is in legacy mode"),
            VtdMode::Legacy => require(!is_scalable, "the unit is in scalable mode"),
        }
    }

    pub(super) fn invalidation_policy(&mut self, policy: &str) -> Taken {
        let line = format!("DMA domain TLB invalidation policy: {policy}");
        require(self.log.contains(&line), "the kernel has not said so")
    }

    pub(super) fn cpus_online(&mut self, count: u16) -> Taken {
        let online = crate::boot::cpus();
        require(online == usize::from(count), &format!("{online} CPUs are online"))
    }

    pub(super) fn nvme(&mut self, count: u8) -> Taken {
        self.modules.load("nvme")?;
        let last = blocks::disk(count - 1);
        self.wait_until(FINDS, &format!("there is no {last}"), |_| exists(&last))?;
        for entry in fs::read_dir("/sys/class/nvme")?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(number) = name.strip_prefix("nvme").and_then(|it| it.parse().ok()) else {
                continue;
            };
            let number: usize = number;
            let target = entry.path().join("device").canonicalize()?;
            let function = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let function = Function(function);
            let port = function.port()?;
            if self.disks.len() <= number {
                self.disks.resize(number + 1, None);
            }
            self.disks[number] = Some(FoundDisk { function, port });
        }
        Ok(())
    }

    pub(super) fn vfs(&mut self, count: u8) -> Taken {
        fs::write(self.disk_file(Disk(0), "sriov_numvfs")?, count.to_string())?;
        match count {
            0 => self.wait_until(FINDS, "a disk is left", |_| !exists("/sys/class/nvme/nvme1")),
            _ => self.nvme(count.checked_add(1).ok_or("254 virtual functions at most")?),
        }
    }

    pub(super) fn ats(&mut self, disk: Option<Disk>) -> Taken {
        let disks: Vec<FoundDisk> = match disk {
            Some(disk) => vec![self.disk(disk)?],
            None => {
                let bound = |(number, disk): (usize, &Option<FoundDisk>)| {
                    disk.clone().filter(|_| exists(format!("/sys/class/nvme/nvme{number}")))
                };
                self.disks.iter().enumerate().filter_map(bound).collect()
            }
        };
        require(!disks.is_empty(), "there is no disk: take the step nvme before")?;
        for FoundDisk { function, .. } in disks {
            let control = function.ats_control()?;
            let control = control.ok_or_else(|| format!("{}: no ATS capability", function.0))?;
            self.show(format!("{}: ATS control {control:04x}", function.0));
            require(ats_is_on(control), "ATS is off")?;
        }
        Ok(())
    }

    pub(super) fn domain(&mut self, disk: Disk, domain: DomainType) -> Taken {
        let found = fs::read_to_string(self.disk_file(disk, "iommu_group/type")?)?;
        self.show(format!("group type: {}", found.trim()));
        require(found.trim() == domain.to_string(), "it is another type")
    }

    pub(super) fn reserved(&mut self, disk: Disk) -> Taken {
        let regions = fs::read_to_string(self.disk_file(disk, "iommu_group/reserved_regions")?)?;
        regions.lines().for_each(|line| self.show(line));
        let is_direct = |line: &str| line.ends_with(" direct");
        require(regions.lines().any(is_direct), "no memory is mapped one to one")
    }

    pub(super) fn verify_disk(&mut self, disk: Disk) -> Taken {
        self.on_last_cpu(VERIFIES, |evidence| {
            let bytes = blocks::verify(disk.0)?;
            evidence.show(format!("{bytes} bytes written, read back and compared"));
            Ok(())
        })
    }

    pub(super) fn same(&mut self, first: Disk, second: Disk) -> Taken {
        self.on_last_cpu(VERIFIES, |_| {
            let read = |disk: Disk| {
                let path = blocks::disk(disk.0);
                blocks::direct_read(disk.0, 1 << 20).map_err(|error| format!("{path}: {error}"))
            };
            let (first, second) = (read(first)?, read(second)?);
            if first.iter().all(|byte| *byte == 0) {
                return Err("the first MiB is empty".to_owned());
            }
            match first.iter().zip(&second).position(|(one, other)| one != other) {
                None => Ok(()),
                Some(at) => Err(format!("the disks differ from byte {at} on")),
            }
        })
    }

    pub(super) fn interrupts(&mut self) -> Taken {
        let lines = fs::read_to_string("/proc/interrupts")?;
        let of_disks = || lines.lines().filter(|line| line.contains("nvme"));
        for line in of_disks().take(2) {
            self.show(line.split_whitespace().collect::<Vec<_>>().join(" "));
        }
        let is_remapped = |line: &str| line.contains("IR-PCI-MSI");
        require(of_disks().any(|line| line.contains("nvme0q")), "disk 0 has no interrupt")?;
        require(of_disks().all(is_remapped), "an interrupt is not remapped")
    }

    pub(super) fn lspci(&mut self) -> Taken {
        for function in Function::all()? {
            self.show(format!("lspci {} dump", function.0));
            for line in dump_lines(&function.dump()?) {
                self.show(format!("lspci {line}"));
            }
        }
        Ok(())
    }

    pub(super) fn ports(&mut self) -> Taken {
        for service in ["pciehp", "aer", "dpc"] {
            let directory = Path::new("/sys/bus/pci_express/drivers").join(service);
            let names = fs::read_dir(directory).map_err(|error| format!("{service}: {error}"))?;
            let names = names.flatten().map(|it| it.file_name().to_string_lossy().into_owned());
            let ports: BTreeSet<String> = names.filter(|name| name.contains("pcie")).collect();
            let ports: Vec<String> = ports.into_iter().collect();
            self.show(format!("{service}: {}", ports.join(" ")));
            require(!ports.is_empty(), &format!("{service} has no port"))?;
        }
        Ok(())
    }

    pub(super) fn warnings(&mut self) -> Taken {
        let harmless = |text: &str| HARMLESS.iter().any(|known| text.contains(known));
        let records = self.log.records().filter(|record| record.is_kernels && record.level <= 4);
        let warnings: Vec<String> = records
            .filter(|record| !harmless(&record.text))
            .map(|record| format!("<{}> {}", record.level, record.text))
            .collect();
        warnings.iter().for_each(|line| self.show(line));
        require(warnings.is_empty(), &format!("the log has {} warnings", warnings.len()))
    }

    pub(super) fn alive(&mut self) -> Taken {
        let start = crate::speaker::uptime();
        for _ in 0..8 {
            let mut process = Command::new("/proc/self/exe").arg(PROBE).spawn()?;
            // `pump`, which `wait_for` calls, may take the process's state first.
            let ended = self.wait_for(Duration::from_secs(20), |_| {
                let state = process.try_wait();
                matches!(state, Ok(Some(_)) | Err(_)).then_some(state)
            });
            match ended {
                Some(Ok(Some(state))) => require(state.success(), "a process has failed")?,
                Some(_) => {}
                None => return Err("a process has not ended within 20 s".into()),
            }
        }
        self.pause(Duration::from_millis(100));
        require(crate::speaker::uptime() > start, "time stands still")
    }

    pub(super) fn debugfs(&mut self) -> Taken {
        let directory = Path::new("/sys/kernel/debug/iommu/intel");
        let queue = directory.join("invalidation_queue");
        if !exists(&queue) {
            return Err(Failure::Skip(
                "the kernel has no debugfs of the IOMMU (INTEL_IOMMU_DEBUGFS)".to_owned(),
            ));
        }
        let text = fs::read_to_string(&queue)?;
        text.lines().take(12).for_each(|line| self.show(line));
        // 1 and 2 start the measurement of IOTLB and Device-TLB invalidations.
        let latency = directory.join("dmar_perf_latency");
        fs::write(&latency, "1")?;
        fs::write(&latency, "2")?;
        for block in 0..200 {
            blocks::direct_reader(0)?.read_at(block * 4096, 4096)?;
        }
        let text = fs::read_to_string(&latency)?;
        text.lines().for_each(|line| self.show(line));
        Ok(())
    }

    pub(super) fn until(&mut self, pattern: &steps::Pattern) -> Taken {
        let expression = Regex::new(pattern.as_str()).map_err(|error| error.to_string())?;
        let limit = Duration::from_secs(120);
        self.wait_until(limit, "no line of the log matches", |runner| {
            let mut records = runner.log.records();
            // The command line has the expression itself.
            records
                .any(|record| !record.text.contains("until:") && expression.is_match(&record.text))
        })
    }
}
