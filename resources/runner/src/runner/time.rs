//! Steps that wait and measure.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;
use steps::{Disk, Quantity};

use super::{Runner, Taken};
use crate::blocks::{direct_read, direct_reader};
use crate::boot::exists;
use crate::child;
use crate::pci::ConfigSpace;
use crate::speaker::uptime;

/// The pause between two beats.
const BEAT: Duration = Duration::from_millis(20);

/// The heart-beat of a CPU: a process, and a file with the time of its last beat and its longest pause,
/// in milliseconds since the kernel's start. A pause includes the time between two beats.
pub(super) struct Heart {
    cpu: usize,
    beats: File,
}

impl Heart {
    fn start(cpu: usize) -> io::Result<Self> {
        let beats = File::from(rustix::fs::memfd_create(c"beat", MemfdFlags::CLOEXEC)?);
        beats.write_all_at(&encode(uptime(), Duration::ZERO), 0)?;
        let file = beats.try_clone()?;
        child::start(cpu, move || {
            let mut longest = Duration::ZERO;
            let mut last = uptime();
            loop {
                sleep(BEAT);
                let now = uptime();
                longest = longest.max(now - last);
                last = now;
                let _ = file.write_all_at(&encode(last, longest), 0);
            }
        })?;
        Ok(Self { cpu, beats })
    }

    /// The longest pause, the present one included.
    fn longest(&self) -> io::Result<Duration> {
        let mut bytes = [0; 16];
        self.beats.read_exact_at(&mut bytes, 0)?;
        let (last, longest) = decode(bytes);
        Ok(longest.max(uptime().saturating_sub(last)))
    }
}

fn encode(last: Duration, longest: Duration) -> [u8; 16] {
    let nanos = |time: Duration| (time.as_nanos() as u64).to_le_bytes();
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&nanos(last));
    bytes[8..].copy_from_slice(&nanos(longest));
    bytes
}

fn decode(bytes: [u8; 16]) -> (Duration, Duration) {
    let bits = u128::from_le_bytes(bytes);
    (Duration::from_nanos(bits as u64), Duration::from_nanos((bits >> 64) as u64))
}

impl Runner {
    pub(super) fn beat(&mut self) -> Taken {
        for cpu in 0..self.cpus {
            self.hearts.push(Heart::start(cpu)?);
        }
        Ok(())
    }

    pub(super) fn stall(&mut self) -> Taken {
        if self.hearts.is_empty() {
            return Err("there is no heart-beat: take the step beat before".into());
        }
        for heart in &self.hearts {
            let longest = heart.longest()?.as_millis() as u64;
            self.value(&format!("stall_cpu{}_ms", heart.cpu), Quantity::Number(longest));
        }
        Ok(())
    }

    pub(super) fn reads(&mut self, disk: Disk) -> Taken {
        let cpu = usize::from(disk.0);
        if cpu >= self.cpus {
            return Err(format!("there is no CPU {cpu}: {} are online", self.cpus).into());
        }
        child::start(cpu, move || {
            loop {
                let Ok(mut reader) = direct_reader(disk.0) else {
                    sleep(Duration::from_millis(100));
                    continue;
                };
                for block in 0..4096 {
                    if reader.read_at(block * 4096, 4096).is_err() {
                        sleep(Duration::from_millis(100));
                        break;
                    }
                }
            }
        })?;
        Ok(())
    }

    pub(super) fn read_once(&mut self, disk: Disk, cpu: u16) -> Taken {
        self.bounded("read", cpu.into(), Duration::from_secs(40), |_| {
            let read = direct_read(disk.0, 4096);
            read.map(|_| ()).map_err(|error| format!("cannot read disk {disk}: {error}"))
        })
    }

    pub(super) fn answers(&mut self, disk: Disk) -> Taken {
        let limit = Duration::from_secs(40);
        self.on_last_cpu(limit, |_| {
            let end = Instant::now() + limit;
            loop {
                match direct_read(disk.0, 4096) {
                    Ok(_) => return Ok(()),
                    Err(error) if Instant::now() > end => return Err(error.to_string()),
                    Err(_) => sleep(Duration::from_millis(100)),
                }
            }
        })
    }

    pub(super) fn gone(&mut self, disk: Disk) -> Taken {
        let function = self.disk(disk)?.function;
        let limit = Duration::from_secs(120);
        self.on_last_cpu(limit, |_| {
            let end = Instant::now() + limit;
            while Instant::now() < end {
                if function.is_absent().map_err(|error| format!("{}: {error}", function.0))? {
                    return Ok(());
                }
                sleep(Duration::from_millis(10));
            }
            Err(format!("{} still answers after {} s", function.0, limit.as_secs()))
        })
    }

    pub(super) fn removed(&mut self, disk: Disk) -> Taken {
        let directory = self.disk(disk)?.function.directory();
        let limit = Duration::from_secs(60);
        self.wait_until(limit, "the kernel has not removed the disk", |_| !exists(&directory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_are_read_as_they_are_written() {
        let (last, longest) = (Duration::from_nanos(5_000_000_007), Duration::from_millis(90));
        assert_eq!(decode(encode(last, longest)), (last, longest));
    }
}
