//! The few commands of QEMU's monitor (QMP) that save a machine.

use std::io::{self, BufRead, BufReader, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long an answer may take, in time that passes.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at a migration.
const LOOK: Duration = Duration::from_millis(50);

/// A connection to a monitor.
pub(crate) struct Monitor(BufReader<UnixStream>);

impl Monitor {
    /// QEMU's argument for a monitor at an abstract socket, which leaves no file behind.
    pub(crate) fn argument(name: &str) -> String {
        format!("unix:{name},abstract=on,server=on,wait=off")
    }

    /// Connects.
    pub(crate) fn connect(name: &str) -> io::Result<Self> {
        let stream = UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut monitor = Self(BufReader::new(stream));
        monitor.line()?; // the greeting
        monitor.execute("qmp_capabilities", json!({}))?;
        Ok(monitor)
    }

    /// Saves the machine to a file, after which it stands still.
    pub(crate) fn save(&mut self, file: &Path) -> io::Result<()> {
        // By default a migration has the bandwidth of a network.
        self.execute("migrate-set-parameters", json!({ "max-bandwidth": 10_000_000_000_u64 }))?;
        self.execute("migrate", json!({ "uri": format!("file:{}", file.display()) }))?;
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let state = self.execute("query-migrate", json!({}))?;
            match state["status"].as_str() {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => return Err(io::Error::other(state.to_string())),
                _ => thread::sleep(LOOK),
            }
        }
        Err(io::Error::from(io::ErrorKind::TimedOut))
    }

    /// Executes a command; returns what it returns.
    fn execute(&mut self, command: &str, arguments: Value) -> io::Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        self.0.get_mut().write_all(format!("{request}\n").as_bytes())?;
        loop {
            let mut answer = self.line()?;
            if let Some(error) = answer.get("error") {
                return Err(io::Error::other(format!("{command}: {error}")));
            }
            // Others are events.
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
    }

    fn line(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&line)?)
    }
}
