//! QEMU's command line and its process.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use steps::test_host::{DIRECTORY_TAG, Frame, PORT, ROOT_TAG};

use crate::patience::{Limit, Silence};
use crate::tail::Tail;
use crate::{HostError, Options};

/// The processor. QEMU has no AVX in a guest of its guest and raises invalid opcode there, and
/// Linux 7.3 uses AVX while it boots.
const CPU: &str = "EPYC,+svm,+npt,-xsave,-avx,-avx2,-fma,-f16c,check=off";
/// Without `no_timer_check` the kernel panics if its timer is late on a busy machine.
const CMDLINE: &str = "console=ttyS0 panic=-1 mitigations=off quiet no_timer_check";
/// Frames that wait to be taken.
const QUEUE: usize = 64;
/// How often the process is looked at while it is silent.
const LOOK: Duration = Duration::from_millis(250);

/// The machine, which must be the same when it is saved and when it is restored.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Machine {
    /// The program.
    pub(crate) qemu: PathBuf,
    /// The kernel's image.
    pub(crate) kernel: PathBuf,
    /// The initramfs, in a file.
    pub(crate) initramfs: PathBuf,
}

impl Machine {
    /// QEMU's arguments. `directory` is the one that a command may write to.
    pub(crate) fn arguments(&self, options: &Options, directory: &Path) -> Vec<OsString> {
        let (cpus, memory) = (options.cpus.to_string(), options.memory.to_string());
        let mut arguments: Vec<OsString> = [
            ["-M", "q35"],
            ["-accel", "tcg,thread=multi"],
            ["-cpu", CPU],
            ["-smp", &cpus],
            ["-m", &memory],
            ["-display", "none"],
            ["-append", CMDLINE],
            // With QEMU's own messages.
            ["-serial", "file:/proc/self/fd/2"],
            ["-device", "virtio-serial-pci"],
            ["-device", &format!("virtserialport,chardev=port,name={PORT}")],
            ["-chardev", "stdio,id=port,signal=off"],
        ]
        .iter()
        .flatten()
        .map(OsString::from)
        .collect();
        arguments.extend(["-nodefaults", "-no-reboot"].map(OsString::from));
        arguments.extend(["-kernel".into(), self.kernel.clone().into_os_string()]);
        arguments.extend(["-initrd".into(), self.initramfs.clone().into_os_string()]);
        for (path, tag, access) in
            [(Path::new("/"), ROOT_TAG, ",readonly=on"), (directory, DIRECTORY_TAG, "")]
        {
            let mut share = OsString::from("local,path=");
            share.push(escaped(path.as_os_str()));
            share.push(format!(",mount_tag={tag},security_model=none,multidevs=remap{access}"));
            arguments.extend(["-virtfs".into(), share]);
        }
        arguments
    }
}

/// A value for QEMU's options, in which two commas stand for one.
fn escaped(value: &OsStr) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut escaped = Vec::new();
    for byte in value.as_bytes() {
        escaped.extend(std::iter::repeat_n(*byte, if *byte == b',' { 2 } else { 1 }));
    }
    OsString::from_vec(escaped)
}

/// What has come from the host.
pub(crate) enum Sign {
    /// A frame.
    Frame(Frame),
    /// Nothing, for a moment.
    None,
    /// Nothing, for too long.
    Hung(Duration),
    /// QEMU has ended.
    End,
}

/// A running QEMU. It is killed when this is dropped, and when the thread that started it ends.
pub(crate) struct Qemu {
    child: Child,
    frames: Receiver<Frame>,
    silence: Silence,
    tail: Option<Tail>,
    /// Where commands go. The host sees a port that is closed if it is dropped.
    input: Option<ChildStdin>,
    writer: Option<thread::JoinHandle<ChildStdin>>,
}

impl Qemu {
    /// Starts QEMU.
    pub(crate) fn start(
        machine: &Machine,
        options: &Options,
        arguments: Vec<OsString>,
    ) -> Result<Self, HostError> {
        let mut log = None;
        if let Some(path) = &options.log {
            let file = File::options().create(true).append(true).open(path);
            log = Some(file.map_err(|source| HostError::Log { path: path.clone(), source })?);
        }
        let mut command = Command::new(&machine.qemu);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        vmm::end_with_caller(&mut command);
        let mut child = command
            .spawn()
            .map_err(|source| HostError::Qemu { path: machine.qemu.clone(), source })?;
        let tail = child.stderr.take().map(|stderr| Tail::of(stderr, log));
        let frames = receive(child.stdout.take());
        let input = child.stdin.take();
        let silence = Silence::of(child.id());
        Ok(Self { child, frames, silence, tail, input, writer: None })
    }

    /// Sends a frame, on a thread of its own: a host that hangs takes none.
    pub(crate) fn send(&mut self, frame: Frame) {
        if let Some(mut input) = self.input.take() {
            self.writer = Some(thread::spawn(move || {
                // If QEMU has ended, its other pipe says so.
                let _ = frame.write(&mut input);
                let _ = input.flush();
                input
            }));
        }
    }

    /// Waits for a sign of life for a moment.
    pub(crate) fn next(&mut self, limit: Limit) -> Sign {
        match self.frames.recv_timeout(LOOK) {
            Ok(frame) => {
                self.silence.broken();
                Sign::Frame(frame)
            }
            Err(RecvTimeoutError::Disconnected) => Sign::End,
            Err(RecvTimeoutError::Timeout) => match self.silence.exceeds(limit) {
                Some(silence) => Sign::Hung(silence),
                None => Sign::None,
            },
        }
    }

    /// Ends QEMU, and returns the last lines of its log.
    pub(crate) fn end(mut self) -> Vec<String> {
        self.kill();
        self.tail.take().map(Tail::end).unwrap_or_default()
    }

    fn kill(&mut self) {
        // Fails only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads frames on a thread of its own, which ends with QEMU, or when the frames are not taken any
/// more.
fn receive(output: Option<ChildStdout>) -> Receiver<Frame> {
    let (sender, frames) = mpsc::sync_channel(QUEUE);
    if let Some(output) = output {
        thread::spawn(move || {
            let mut output = BufReader::new(output);
            while let Ok(Some(frame)) = Frame::read(&mut output) {
                if sender.send(frame).is_err() {
                    return;
                }
            }
        });
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_commas_stays_one_value() {
        let machine = Machine { qemu: "q".into(), kernel: "k,1".into(), initramfs: "i".into() };
        let arguments = machine.arguments(&Options::default(), Path::new("/a,b"));
        let share = "local,path=/a,,b,mount_tag=directory,security_model=none,multidevs=remap";
        assert!(arguments.contains(&share.into()), "{arguments:?}");
        assert!(arguments.contains(&"k,1".into()));
    }
}
