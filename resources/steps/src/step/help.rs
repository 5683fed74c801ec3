//! The syntax of each step. Error messages, the shell of the runner and a test read this table.

/// A row of the list of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Help {
    /// The form of the step, with its arguments in capital letters: `vfs:N`. Brackets are around
    /// an argument that can be left out.
    pub form: &'static str,
    /// The action of the step, and the condition of its success.
    pub about: &'static str,
}

impl Help {
    /// The first word of the form: `vfs`.
    pub fn name(&self) -> &'static str {
        self.form.split([':', '[']).next().unwrap_or(self.form)
    }
}

const fn row(form: &'static str, about: &'static str) -> Help {
    Help { form, about }
}

/// All steps. A disk without a number is disk 0.
pub const HELP: &[Help] = &[
    row("vtd:legacy|scalable", "Linux has parsed DMAR and uses the unit in this mode"),
    row("strict", "unmapping invalidates at once"),
    row("lazy", "unmapping collects invalidations"),
    row("cpus:N", "this number of CPUs is online"),
    row("nvme[:DISKS]", "the driver finds its disks, 1 without a number"),
    row("vfs:N", "N virtual functions of disk 0 are enabled, and the driver finds a disk in each"),
    row("ats[:DISK]", "ATS is on at every disk, or at that one"),
    row("domain:DISK:TYPE", "the group of the disk has a domain of type identity, DMA or DMA-FQ"),
    row("reserved[:DISK]", "memory is mapped one to one for the group of the disk"),
    row("disk[:DISK]", "makes a partition, writes to it, drops caches, reads and verifies"),
    row("same:DISK:DISK", "the first MiB of both disks is the same, and not empty"),
    row("interrupts", "the interrupts of the disks are remapped"),
    row("lspci", "prints configuration space of all functions"),
    row("config[:DISK]", "reads configuration space of all functions, or of the disk, on CPU 0"),
    row("ports", "pciehp, AER and DPC are bound to ports"),
    row("log", "the log has no warnings"),
    row("alive", "the machine starts processes, and time passes"),
    row("reads[:DISK]", "starts direct reads of the disk, on the CPU with the disk's number"),
    row("read[:DISK[:CPU]]", "one direct read of the disk on the CPU, 0 without a number"),
    row("answers[:DISK]", "a direct read of the disk succeeds within 40 s"),
    row("bar[:DISK]", "user space reads a register of the disk through its BAR, on CPU 0"),
    row("beat", "starts a heart-beat on each CPU"),
    row("stall", "prints the longest pause of each heart-beat"),
    row("mark:WORD", "says a word that a fault can wait for: on=debugcon:/mark WORD/"),
    row("gone[:DISK]", "configuration space of the disk reads as all ones"),
    row("removed[:DISK]", "the kernel removes the disk within a minute"),
    row("until:RE", "a line of the kernel's log matches within two minutes"),
    row("wait:SECONDS", "waits, at most an hour"),
    row("remove[:DISK]", "sysfs remove, on CPU 0"),
    row("unbind[:DISK]", "takes the driver from the disk, on CPU 0"),
    row("bind[:DISK]", "gives the disk to its driver, on CPU 0"),
    row("rescan", "sysfs rescan of the PCI bus, on CPU 0"),
    row("reset_function[:DISK]", "sysfs reset of the disk's function, on CPU 0"),
    row("reset_controller[:DISK]", "the driver resets the NVMe controller, on CPU 0"),
    row("affinity:DISK:CPU", "moves the disk's interrupts to that CPU, from CPU 0"),
    row("disable[:DISK]", "sets Link Disable in the port above the disk"),
    row("enable[:DISK]", "clears Link Disable in the port above the disk"),
    row("suspend", "suspends all devices and resumes them (pm_test=devices), on CPU 0"),
    row("debugfs", "prints the IOMMU's files of kernels that have them"),
    row("group_type:TYPE", "sets identity, DMA or DMA-FQ for the group of disk 0, on CPU 0"),
    row("vfio:bind", "gives disk 0 to vfio-pci, and starts a process on CPU 0 for what follows"),
    row("vfio:open", "opens container, group and device"),
    row("vfio:map", "maps 4 MiB of memory for DMA"),
    row("vfio:unmap", "unmaps them"),
    row("vfio:reset", "function-level reset by VFIO"),
    row("vfio:close", "closes everything"),
    row("vfio:release", "gives the disk back to its driver"),
    row("kdump", "loads a second kernel, which a panic starts"),
    row("kexec", "starts a second kernel at once, which takes the steps that follow"),
    row("reset:reboot|sysrq|panic", "ends the machine: reboot(2), sysrq b, a panic"),
    row("poweroff", "switches the machine off"),
];
