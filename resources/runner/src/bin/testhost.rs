//! The first process of the test host, the machine with a complete KVM that QEMU emulates.
//!
//! It loads KVM and says that it is ready. There the machine is saved once, and restored for each
//! command. After that it mounts the files of the machine outside by 9p, runs the command, and sends
//! its output and its status. The machine outside ends QEMU.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use rustix::mount::MountFlags;
use rustix::time::{ClockId, Timespec};
use steps::test_host::{Command, DIRECTORY_TAG, Frame, PORT, ROOT_TAG};

/// The modules of the host, in this order.
const MODULES: [&str; 3] = ["9pnet_virtio", "9p", "kvm_amd"];
/// Where the files outside are mounted.
const ROOT: &str = "/mnt";
/// What a process that the command leaves behind may still write after its end.
const LAST_OUTPUT: Duration = Duration::from_millis(500);
/// The most of its output that is sent at once, in bytes.
const CHUNK: usize = 64 << 10;
/// The most frames that wait for the port; after that the command's writes block.
const QUEUE: usize = 16;
const NO_FLAGS: MountFlags = MountFlags::empty();

fn main() {
    // The kernel panics when this process ends, QEMU ends then, and outside one sees the log.
    if let Err(reason) = run() {
        eprintln!("test host: {reason}");
    }
}

fn run() -> Result<(), String> {
    let mut port = prepare()?;
    send(&mut port, &Frame::Ready)?;
    let command = match Frame::read(&mut port) {
        Ok(Some(Frame::Command(command))) => command,
        Ok(other) => return Err(format!("a command was expected, not {other:?}")),
        Err(error) => return Err(format!("cannot read the command: {error}")),
    };
    let (sender, frames) = mpsc::sync_channel(QUEUE);
    let pulse = sender.clone();
    thread::spawn(move || {
        while pulse.send(Frame::Pulse).is_ok() {
            thread::sleep(Duration::from_secs(1));
        }
    });
    thread::spawn(move || {
        let last = enter(&command).and_then(|()| execute(&command, &sender));
        rustix::fs::sync();
        let _ = sender.send(last.unwrap_or_else(Frame::Failed));
    });
    for frame in frames {
        send(&mut port, &frame)?;
        if matches!(frame, Frame::Exited(_) | Frame::Failed(_)) {
            break;
        }
    }
    // Not reached as a rule: the machine outside ends QEMU when it has the last frame.
    rustix::system::reboot(rustix::system::RebootCommand::PowerOff)
        .map_err(|error| format!("cannot power off: {error}"))
}

/// Makes the machine ready to be saved; returns the port.
fn prepare() -> Result<File, String> {
    mount("dev", "/dev", c"devtmpfs", c"", NO_FLAGS)?;
    mount("proc", "/proc", c"proc", c"", NO_FLAGS)?;
    mount("sys", "/sys", c"sysfs", c"", NO_FLAGS)?;
    let modules = Modules::read()?;
    let mut loaded = BTreeSet::new();
    for name in MODULES {
        modules.load(name, &mut loaded)?;
    }
    match fs::metadata("/dev/kvm") {
        Ok(kvm) if kvm.file_type().is_char_device() => {}
        _ => return Err("there is no /dev/kvm: this QEMU does not emulate SVM".to_owned()),
    }
    // The saved state is smaller without what the page cache holds.
    let _ = fs::write("/proc/sys/vm/drop_caches", "3");
    let path = port_named(PORT)?;
    let opened = File::options().read(true).write(true).open(&path);
    opened.map_err(|error| format!("cannot open {}: {error}", path.display()))
}

/// The device of the virtio port with this name.
fn port_named(wanted: &str) -> Result<PathBuf, String> {
    let ports = fs::read_dir("/sys/class/virtio-ports");
    let ports = ports.map_err(|error| format!("there are no virtio ports: {error}"))?;
    for port in ports.flatten() {
        let name = fs::read_to_string(port.path().join("name")).unwrap_or_default();
        if name.trim_end() == wanted {
            return Ok(Path::new("/dev").join(port.file_name()));
        }
    }
    Err(format!("there is no virtio port '{wanted}'"))
}

fn send(port: &mut File, frame: &Frame) -> Result<(), String> {
    frame.write(port).map_err(|error| format!("cannot write to the port: {error}"))
}

fn mount(
    source: &str,
    target: impl AsRef<Path>,
    kind: &CStr,
    options: &CStr,
    flags: MountFlags,
) -> Result<(), String> {
    let target = target.as_ref();
    // The files outside are read-only; there it exists.
    let _ = fs::create_dir_all(target);
    rustix::mount::mount(source, target, kind, flags, options)
        .map_err(|error| format!("cannot mount {source} at {}: {error}", target.display()))
}

/// The place of a file outside, before its root directory is this machine's.
fn inside(path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    Path::new(ROOT).join(path.strip_prefix("/").unwrap_or(path))
}

/// The modules in the initramfs: `/modules` has a line for each one, with its name, its file, and
/// the names of those that it needs.
struct Modules(String);

impl Modules {
    fn read() -> Result<Self, String> {
        fs::read_to_string("/modules")
            .map(Self)
            .map_err(|error| format!("cannot read /modules: {error}"))
    }

    /// Loads a module after those that it needs. One without a line is built in.
    fn load(&self, name: &str, loaded: &mut BTreeSet<String>) -> Result<(), String> {
        let line = self.0.lines().find(|line| line.split(' ').next() == Some(name));
        let Some((file, needed)) = line.and_then(|line| {
            let mut words = line.split(' ').skip(1);
            Some((words.next()?, words))
        }) else {
            return Ok(());
        };
        if !loaded.insert(name.to_owned()) {
            return Ok(());
        }
        for other in needed {
            self.load(other, loaded)?;
        }
        let module = fs::read(file).map_err(|error| format!("cannot read {file}: {error}"))?;
        match rustix::system::init_module(&module, c"") {
            Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
            Err(error) => Err(format!("cannot load the module {name}: {error}")),
        }
    }
}

/// Mixes `seed` into the kernel's random numbers, at once: what is only written there is used at the
/// kernel's next turn, up to a minute later.
fn add_randomness(seed: &[u8]) -> io::Result<()> {
    const RNDRESEEDCRNG: libc::Ioctl = 0x5207;
    let mut random = File::options().write(true).open("/dev/urandom")?;
    random.write_all(seed)?;
    // SAFETY: this request has no argument.
    #[allow(unsafe_code)]
    match unsafe { libc::ioctl(random.as_raw_fd(), RNDRESEEDCRNG) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets the clock, and makes the files outside the root directory.
fn enter(command: &Command) -> Result<(), String> {
    let now = Timespec {
        tv_sec: command.now.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: command.now.subsec_nanos().into(),
    };
    rustix::time::clock_settime(ClockId::Realtime, now)
        .map_err(|error| format!("cannot set the clock: {error}"))?;
    add_randomness(&command.seed).map_err(|error| format!("cannot seed /dev/urandom: {error}"))?;
    let outside = |cache: &str| {
        let options = format!("trans=virtio,version=9p2000.L,msize=512000,cache={cache}");
        CString::new(options).map_err(|error| error.to_string())
    };
    mount(ROOT_TAG, ROOT, c"9p", &outside("loose")?, MountFlags::RDONLY)?;
    mount(DIRECTORY_TAG, inside(&command.directory), c"9p", &outside("mmap")?, NO_FLAGS)?;
    for directory in ["/dev", "/proc", "/sys"] {
        rustix::mount::mount_move(directory, inside(directory))
            .map_err(|error| format!("cannot move {directory}: {error}"))?;
    }
    mount("run", inside("/run"), c"tmpfs", c"", NO_FLAGS)?;
    for directory in ["/run/tmp", "/dev/shm"] {
        fs::create_dir_all(inside(directory))
            .map_err(|error| format!("cannot make {directory}: {error}"))?;
    }
    mount("shm", inside("/dev/shm"), c"tmpfs", c"", NO_FLAGS)?;
    std::os::unix::fs::chroot(ROOT).map_err(|error| format!("cannot change the root: {error}"))?;
    std::env::set_current_dir(&command.directory)
        .map_err(|error| format!("cannot enter '{}': {error}", command.directory.display()))
}

/// Runs the command, and sends its output. Returns the last frame.
fn execute(command: &Command, frames: &SyncSender<Frame>) -> Result<Frame, String> {
    let Some((program, arguments)) = command.arguments.split_first() else {
        return Err("the command is empty".to_owned());
    };
    let mut child = std::process::Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(command.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start '{}': {error}", program.display()))?;
    let _ = frames.send(Frame::Started);
    let ends = forward(&mut child, frames);
    let status = child.wait().map_err(|error| format!("cannot wait for the command: {error}"))?;
    // Both outputs end with the command, unless a process that it leaves behind holds them.
    for _ in 0..2 {
        let _ = ends.recv_timeout(LAST_OUTPUT);
    }
    let status = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(Frame::Exited(u8::try_from(status).unwrap_or(u8::MAX)))
}

/// Starts a thread for each output of the command; what is returned receives when one has ended.
fn forward(child: &mut Child, frames: &SyncSender<Frame>) -> Receiver<()> {
    let (end, ends) = mpsc::channel();
    if let Some(output) = child.stdout.take() {
        let (end, frames) = (end.clone(), frames.clone());
        thread::spawn(move || {
            copy(output, &frames, Frame::Out);
            let _ = end.send(());
        });
    }
    if let Some(output) = child.stderr.take() {
        let (end, frames) = (end, frames.clone());
        thread::spawn(move || {
            copy(output, &frames, Frame::Err);
            let _ = end.send(());
        });
    }
    ends
}

fn copy(mut from: impl Read, frames: &SyncSender<Frame>, frame: fn(Vec<u8>) -> Frame) {
    let mut buffer = vec![0; CHUNK];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => {
                if frames.send(frame(buffer[..length].to_vec())).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
