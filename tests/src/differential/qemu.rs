//! QEMU as the reference: a child process that is driven by its qtest protocol.
//!
//! Its CPU halts at once. With `-icount sleep=off` its clock jumps to the next timer instead of
//! waiting for it, so that a DMA of `edu` takes a millisecond instead of a hundred. Between scripts
//! it is reset. What it sends to its local APICs, no register shows; the trace events of its unit
//! do, which go to a file.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::Release;
use crate::repository::root;

use super::script::{Observed, Script, Step};
use super::{Mode, place};

/// Commands that are sent before their answers are read: few enough for a pipe.
const BATCH: usize = 200;
/// Reads of a busy register before the device is taken for stuck.
const MAX_POLLS: u32 = 100_000;

/// The reason for which QEMU has not run a script.
#[derive(Debug)]
pub enum QemuError {
    /// It has ended, or its pipes have.
    Io(io::Error),
    /// It has said what cannot be understood.
    Answer(String),
    /// Its clock stands still: this edu's transfer never ends, however often it is asked.
    Stuck(u8),
}

impl std::fmt::Display for QemuError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => write!(f, "QEMU has ended: {error}"),
            Self::Answer(answer) => write!(f, "QEMU says '{answer}'"),
            Self::Stuck(edu) => write!(f, "QEMU's clock stands still: edu{edu} stays busy"),
        }
    }
}

impl From<io::Error> for QemuError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A running QEMU.
#[derive(Debug)]
pub struct Qemu {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    monitor: BufReader<UnixStream>,
    traces: BufReader<File>,
    directory: PathBuf,
}

impl Qemu {
    /// Starts one; its files go into `directory`, which is made.
    ///
    /// # Errors
    /// The action that failed.
    pub fn start(mode: Mode, directory: &Path) -> Result<Self, QemuError> {
        fs::create_dir_all(directory)?;
        let (bios, socket, trace) =
            (directory.join("bios"), directory.join("qmp"), directory.join("trace"));
        fs::write(&bios, halt())?;
        let _ = fs::remove_file(&socket);
        let traces = File::create(&trace)?;
        let judge = crate::judge();
        let unit = format!("intel-iommu,{}", mode.options(judge.release));
        // A test that is killed drops nothing.
        let mut command = Command::new(root().join("resources/tied"));
        command
            .arg(&judge.program)
            .args(["-M", "q35,kernel-irqchip=off", "-accel", "tcg", "-icount", "shift=0,sleep=off"])
            .args(["-m", "256", "-display", "none", "-nodefaults", "-bios"])
            .arg(&bios)
            .args(["-device", &unit]);
        for index in 0..place::EDUS {
            let slot = format!("edu,addr={:#x}", place::EDU_DEVICE + index);
            command.args(["-device", &slot]);
        }
        if judge.release >= Release::Eleven {
            for device in place::WRITERS {
                command.args(["-device", &format!("iommu-testdev,addr={device:#x}")]);
            }
        }
        command
            .args(["-qtest", "stdio", "-qtest-log", "none", "-qmp"])
            .arg(format!("unix:{},server=on,wait=on", socket.display()))
            .args(["-trace", "vtd_irq_generate", "-trace", "vtd_ir_remap_msi"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(traces);
        let mut child = command.spawn()?;
        let stream = connect(&socket, &mut child)?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(QemuError::Answer("no pipes".to_owned()));
        };
        let mut qemu = Self {
            child,
            input,
            output: BufReader::new(output),
            monitor: BufReader::new(stream),
            traces: BufReader::new(File::open(&trace)?),
            directory: directory.to_owned(),
        };
        qemu.monitor_until("", "QMP")?;
        qemu.monitor_until("{\"execute\":\"qmp_capabilities\"}", "return")?;
        Ok(qemu)
    }

    /// Resets the machine and runs a script on it; what each step has shown.
    ///
    /// # Errors
    /// If it has ended, by an assertion of its own perhaps. It is of no use any more then.
    pub fn run(&mut self, script: &Script) -> Result<Vec<Observed>, QemuError> {
        self.monitor_until("{\"execute\":\"system_reset\"}", "\"RESET\"")?;
        self.messages()?;
        let steps: Vec<&Step> = script.steps().collect();
        let mut observed = Vec::with_capacity(steps.len());
        let mut started = 0_u8;
        for segment in steps.chunk_by(|step, _| **step != Step::Settle) {
            for batch in segment.chunks(BATCH / 4) {
                self.batch(batch, &mut observed)?;
            }
            for step in segment {
                if let Step::Dma { edu, .. } = step {
                    started |= 1 << edu;
                }
            }
            if segment.last() == Some(&&Step::Settle) {
                for edu in (0..place::EDUS).filter(|edu| started & 1 << edu != 0) {
                    self.wait_for(edu)?;
                }
                started = 0;
                observed.push(Observed::Messages(self.messages()?));
            }
        }
        Ok(observed)
    }

    /// Sends the commands of some steps at once, and reads all answers.
    fn batch(&mut self, steps: &[&Step], observed: &mut Vec<Observed>) -> Result<(), QemuError> {
        let steps: Vec<_> = steps.iter().copied().filter(|step| **step != Step::Settle).collect();
        let mut text = String::new();
        let mut calls = Vec::new();
        for run in steps.chunk_by(|first, second| continues(first, second)) {
            let commands = match run {
                [step] => step.commands(),
                _ => vec![write_run(run)],
            };
            for command in &commands {
                text.push_str(command);
                text.push('\n');
            }
            calls.push((run, commands.len()));
        }
        self.input.write_all(text.as_bytes())?;
        for (run, commands) in calls {
            let answers = (0..commands).map(|_| self.answer()).collect::<Result<Vec<_>, _>>()?;
            match run {
                [step] => observed.push(observe(step, &answers)?),
                _ => observed.extend(run.iter().map(|_| Observed::Nothing)),
            }
        }
        Ok(())
    }

    /// Waits until an edu's transfer is done.
    fn wait_for(&mut self, edu: u8) -> Result<(), QemuError> {
        for _ in 0..MAX_POLLS {
            writeln!(self.input, "readl {:#x}", place::edu_bar(edu) + 0x98)?;
            if number(&self.answer()?)? & 1 == 0 {
                return Ok(());
            }
            std::thread::yield_now();
        }
        Err(QemuError::Stuck(edu))
    }

    fn answer(&mut self) -> Result<String, QemuError> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err(self.last_words());
        }
        let value = line.trim_end().strip_prefix("OK");
        value.map(|value| value.trim().to_owned()).ok_or(QemuError::Answer(line.clone()))
    }

    /// The reason for which QEMU has ended, as far as QEMU has printed it.
    fn last_words(&mut self) -> QemuError {
        let mut text = String::new();
        let _ = self.child.wait();
        let _ = self.traces.read_to_string(&mut text);
        let words = text.lines().find(|line| line.starts_with("qemu")).unwrap_or("no word");
        QemuError::Io(io::Error::other(words.to_owned()))
    }

    fn monitor_until(&mut self, command: &str, mark: &str) -> Result<(), QemuError> {
        if !command.is_empty() {
            writeln!(self.monitor.get_mut(), "{command}")?;
        }
        let mut line = String::new();
        while !line.contains(mark) {
            line.clear();
            if self.monitor.read_line(&mut line)? == 0 {
                return Err(self.last_words());
            }
        }
        Ok(())
    }

    /// The interrupt messages since the last time.
    fn messages(&mut self) -> Result<Vec<(u64, u32)>, QemuError> {
        let mut text = String::new();
        self.traces.read_to_string(&mut text)?;
        Ok(text.lines().filter_map(message).collect())
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // It may have ended on its own.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A firmware image whose reset vector stops the CPU: `cli; hlt; jmp` back.
fn halt() -> Vec<u8> {
    let mut image = vec![0xf4; 64 << 10];
    image[0xfff0..0xfff4].copy_from_slice(&[0xfa, 0xf4, 0xeb, 0xfd]);
    image
}

fn connect(socket: &Path, child: &mut Child) -> Result<UnixStream, QemuError> {
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(stream),
            // The socket comes when QEMU is far enough.
            Err(_) if child.try_wait()?.is_none() => std::thread::yield_now(),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether one command writes both: quad words of memory that follow each other.
fn continues(first: &Step, second: &Step) -> bool {
    let memory = place::ARENA..place::ARENA + place::ARENA_SIZE;
    matches!((first, second), (Step::WriteQuad(first, _), Step::WriteQuad(second, _))
        if first + 8 == *second && memory.contains(first) && memory.contains(second))
}

/// The command that writes a run of quad words. A command takes QEMU longer than its bytes.
fn write_run(run: &[&Step]) -> String {
    let mut start = None;
    let mut digits = String::new();
    for step in run {
        if let Step::WriteQuad(at, value) = step {
            start.get_or_insert(*at);
            digits.push_str(&format!("{:016x}", value.swap_bytes()));
        }
    }
    format!("write {:#x} {:#x} 0x{digits}", start.unwrap_or(0), 8 * run.len())
}

fn observe(step: &Step, answers: &[String]) -> Result<Observed, QemuError> {
    let numbers = || answers.iter().map(|answer| number(answer));
    let first = || numbers().next().unwrap_or(Ok(0));
    Ok(match step {
        Step::ReadLong(_, mask) => Observed::Value(first()? & u64::from(*mask)),
        Step::ReadQuad(_, mask) => Observed::Value(first()? & mask),
        Step::Record => {
            let mut words = [0; 4];
            for (word, number) in words.iter_mut().zip(numbers()) {
                // The answer to a read of 32 bits.
                *word = number? as u32;
            }
            Observed::record(words)
        }
        Step::Write { .. } => Observed::Value(numbers().next_back().unwrap_or(Ok(0))?),
        Step::Peek(..) => Observed::Bytes(bytes(answers.first().map_or("", String::as_str))?),
        _ => Observed::Nothing,
    })
}

fn number(answer: &str) -> Result<u64, QemuError> {
    let digits = answer.strip_prefix("0x");
    digits
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or_else(|| QemuError::Answer(answer.to_owned()))
}

fn bytes(answer: &str) -> Result<Vec<u8>, QemuError> {
    let digits = answer.strip_prefix("0x").unwrap_or_default().as_bytes();
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    // A loop, as there are a hundred thousand digits in a script, in a build without optimization.
    for pair in digits.chunks_exact(2) {
        match (nibble(pair[0]), nibble(pair[1])) {
            (Some(high), Some(low)) => bytes.push(high << 4 | low),
            _ => return Err(QemuError::Answer(answer.to_owned())),
        }
    }
    Ok(bytes)
}

/// The message in a trace line: the last address and data in it.
fn message(line: &str) -> Option<(u64, u32)> {
    if !line.contains("vtd_irq_generate") && !line.contains("vtd_ir_remap_msi") {
        return None;
    }
    let mut numbers = line
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter_map(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok())
        .rev();
    let data = u32::try_from(numbers.next()?).ok()?;
    Some((numbers.next()?, data))
}
