//! Measures the descriptors that QEMU's unit and ours process in a second, both driven by qtest:
//!
//! ```text
//! cargo build --release && cargo run --release -p tests --example qtest_speed
//! ```
//!
//! A round is a full ring: 32,766 IOTLB invalidations of a domain and a wait, by one write of the tail.
//! Both programs take turns. The time of a register read is subtracted from each round.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const UNIT: u64 = 0xfed9_0000;
const VERSION: u64 = UNIT;
const GCMD: u64 = UNIT + 0x18;
const RTADDR: u64 = UNIT + 0x20;
const IQT: u64 = UNIT + 0x88;
const IQA: u64 = UNIT + 0x90;
const QUEUE_ON: u32 = 1 << 26;
const SET_ROOT: u32 = 1 << 30;

const RING: u64 = 0x100_0000;
const SLOTS: u64 = 32_768;
const LARGEST_RING: u64 = 7;
const STATUS: u64 = 0x80_0000;
/// IOTLB invalidation, domain-selective, of domain 1.
const FLUSH: [u64; 2] = [2 | 2 << 4 | 1 << 16, 0];
const ROUNDS: u32 = 50;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A machine behind a qtest pipe.
struct Machine {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    tail: u64,
}

impl Machine {
    fn start(command: &mut Command) -> Result<Self> {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let input = child.stdin.take().ok_or("no pipe")?;
        let output = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        let mut machine = Self { child, input, output, tail: 0 };
        machine.set_up()?;
        Ok(machine)
    }

    fn command(&mut self, text: &str) -> Result<String> {
        writeln!(self.input, "{text}")?;
        let mut answer = String::new();
        self.output.read_line(&mut answer)?;
        match answer.trim_end().strip_prefix("OK") {
            Some(value) => Ok(value.trim().to_owned()),
            None => Err(format!("'{text}' is answered by '{answer}'").into()),
        }
    }

    fn set_up(&mut self) -> Result<()> {
        let flush: String = FLUSH.iter().flat_map(|qword| qword.to_le_bytes()).map(hex).collect();
        for page in 0..SLOTS / 256 {
            let at = RING + page * 4096;
            self.command(&format!("write {at:#x} 0x1000 0x{}", flush.repeat(256)))?;
        }
        self.command(&format!("writeq {RTADDR:#x} 0x0"))?;
        self.command(&format!("writel {GCMD:#x} {SET_ROOT:#x}"))?;
        self.command(&format!("writeq {IQA:#x} {:#x}", RING | LARGEST_RING))?;
        self.command(&format!("writel {GCMD:#x} {QUEUE_ON:#x}"))?;
        Ok(())
    }

    /// How long a ring takes, without the round trip.
    fn round(&mut self, number: u32) -> Result<Duration> {
        let last = (self.tail + SLOTS - 2) % SLOTS;
        let wait = u64::from(number) << 32 | 1 << 5 | 5;
        self.write_slot(last, [wait, STATUS])?;
        self.tail = (last + 1) % SLOTS;
        let tail = self.tail * 16;
        let trip = self.time(&format!("readl {VERSION:#x}"))?;
        let ring = self.time(&format!("writel {IQT:#x} {tail:#x}"))?;
        let status = self.command(&format!("readl {STATUS:#x}"))?;
        if u32::from_str_radix(status.trim_start_matches("0x"), 16)? != number {
            return Err(format!("round {number}: the wait has not completed").into());
        }
        self.write_slot(last, FLUSH)?;
        Ok(ring.saturating_sub(trip))
    }

    fn write_slot(&mut self, slot: u64, [low, high]: [u64; 2]) -> Result<()> {
        let at = RING + slot * 16;
        self.command(&format!("writeq {at:#x} {low:#x}"))?;
        self.command(&format!("writeq {:#x} {high:#x}", at + 8))?;
        Ok(())
    }

    fn time(&mut self, text: &str) -> Result<Duration> {
        let start = Instant::now();
        self.command(text)?;
        Ok(start.elapsed())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn hex(byte: u8) -> String {
    format!("{byte:02x}")
}

/// Ours is built into the same directory, one level up from the examples.
fn ghostlink() -> Result<Command> {
    let examples = std::env::current_exe()?;
    let directory = examples.parent().and_then(|path| path.parent()).ok_or("no directory")?;
    let mut command = Command::new(directory.join("ghostlink"));
    command.arg("qtest");
    Ok(command)
}

fn qemu(bios: &std::path::Path) -> Result<Command> {
    let mut image = vec![0xf4; 64 << 10];
    image[0xfff0..0xfff4].copy_from_slice(&[0xfa, 0xf4, 0xeb, 0xfd]);
    std::fs::write(bios, image)?;
    let mut command = Command::new(tests::qemu());
    command
        .args(["-M", "q35,kernel-irqchip=off", "-accel", "tcg", "-m", "256", "-display", "none"])
        .args(["-nodefaults", "-device", "intel-iommu,device-iotlb=on,intremap=off,aw-bits=48"])
        .args(["-qtest", "stdio", "-qtest-log", "none", "-bios"])
        .arg(bios);
    Ok(command)
}

fn main() -> Result<()> {
    let bios = std::env::temp_dir().join(format!("qtest-speed-{}", std::process::id()));
    let mut machines = [
        ("QEMU", Machine::start(&mut qemu(&bios)?)?),
        ("ghostlink", Machine::start(&mut ghostlink()?)?),
    ];
    std::fs::remove_file(&bios)?;
    let mut times = [Vec::new(), Vec::new()];
    for number in 1..=ROUNDS {
        for ((_, machine), times) in machines.iter_mut().zip(&mut times) {
            times.push(machine.round(number)?);
        }
    }
    let medians = times.map(|mut times| {
        times.sort();
        times[times.len() / 2]
    });
    for ((name, _), median) in machines.iter().zip(medians) {
        let each = median.as_nanos() as f64 / (SLOTS - 1) as f64;
        println!("{name:10} {each:7.1} ns a descriptor, {:6.1} million a second", 1e3 / each);
    }
    println!("ratio      {:7.1}", medians[0].as_secs_f64() / medians[1].as_secs_f64());
    Ok(())
}
