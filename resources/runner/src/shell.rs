//! A shell on the serial line: each step is a command.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::process::Command;

use steps::{HELP, Message, Stamped, Step};

use crate::boot::exists;
use crate::speaker::uptime;

/// The word on the kernel's command line that starts it.
pub(crate) const WORD: &str = "shell";
/// The interrupt of the serial line.
const INTERRUPT: u32 = 4;
/// A shell that the initramfs may have.
const BUSYBOX: &str = "/bin/busybox";
/// The most bytes of a file that `cat` prints.
const MAX_PRINTED: u64 = 1 << 20;

/// What a line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// Nothing.
    Nothing,
    /// The list of commands.
    Help,
    /// The names in a directory.
    List(String),
    /// The text of a file.
    Print(String),
    /// Text into a file.
    Write {
        /// The text, with a line feed.
        text: String,
        /// The file.
        path: String,
    },
    /// The kernel's log.
    Log,
    /// busybox's shell.
    Busybox,
    /// The end of the machine.
    Exit,
    /// A step.
    Step(Step),
}

impl Request {
    /// Parses a line.
    ///
    /// # Errors
    /// What is wrong, and how it is written.
    pub(crate) fn parse(line: &str) -> Result<Self, String> {
        let line = line.trim();
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        match word {
            "" => Ok(Self::Nothing),
            "help" => Ok(Self::Help),
            "ls" => Ok(Self::List(if rest.is_empty() { "/" } else { rest }.to_owned())),
            "cat" if rest.is_empty() => Err("write cat FILE".to_owned()),
            "cat" => Ok(Self::Print(rest.to_owned())),
            "echo" => match rest.rsplit_once('>') {
                Some((text, path)) if !path.trim().is_empty() => Ok(Self::Write {
                    text: format!("{}\n", text.trim()),
                    path: path.trim().to_owned(),
                }),
                _ => Err("write echo TEXT >FILE".to_owned()),
            },
            "dmesg" => Ok(Self::Log),
            "sh" => Ok(Self::Busybox),
            "exit" => Ok(Self::Exit),
            _ if !rest.is_empty() => {
                Err(format!("'{line}' is not a command; steps are one word; 'help' lists all"))
            }
            _ => match word.parse() {
                Ok(step) => Ok(Self::Step(step)),
                Err(steps::ParseStepError::Name(name)) => {
                    Err(format!("'{name}' is not a command; 'help' lists all"))
                }
                Err(error) => Err(error.to_string()),
            },
        }
    }
}

/// The list of commands.
fn help() -> String {
    let further = [
        ("ls [DIRECTORY]", "names in a directory"),
        ("cat FILE", "text of a file"),
        ("echo TEXT >FILE", "writes to a file, such as one of sysfs"),
        ("dmesg", "the kernel's log"),
        ("sh", "busybox's shell, if the machine outside has a static busybox"),
        ("exit", "ends the machine, as Ctrl-A x does"),
    ];
    let steps = HELP.iter().map(|help| (help.form, help.about));
    let rows = steps.chain(further);
    rows.map(|(form, about)| format!("  {form:25} {about}\n")).collect()
}

/// The serial line.
pub(crate) struct Terminal {
    input: BufReader<File>,
    output: File,
}

impl Terminal {
    /// Opens the kernel's console.
    pub(crate) fn open() -> io::Result<Self> {
        let output = File::options().read(true).write(true).open("/dev/ttyS0")?;
        Ok(Self { input: BufReader::new(output.try_clone()?), output })
    }

    /// The output alone.
    pub(crate) fn output(&self) -> io::Result<File> {
        self.output.try_clone()
    }

    fn print(&mut self, text: &str) {
        // Nothing can be done for a reader who is gone.
        let _ = self.output.write_all(text.as_bytes());
    }

    /// Reads a line; `None` at the end of input.
    fn read_line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        match self.input.read_until(b'\n', &mut line) {
            Ok(length) if length > 0 => Some(String::from_utf8_lossy(&line).into_owned()),
            _ => None,
        }
    }
}

/// How a message looks on the terminal. Records of the log are not repeated: the kernel prints them
/// there itself.
pub(crate) fn message_text(message: &Message) -> Option<String> {
    match message {
        Message::Log { .. } | Message::Step { .. } | Message::Plan { .. } => None,
        Message::Result { outcome, .. } => Some(match outcome {
            steps::Outcome::Ok => "ok\n".to_owned(),
            steps::Outcome::NotOk => "failed\n".to_owned(),
            steps::Outcome::Skip(reason) => format!("skipped: {reason}\n"),
        }),
        Message::Evidence(text) => Some(format!("{text}\n")),
        Message::Value { name, quantity } => Some(format!("{}={quantity}\n", name.as_str())),
        other => Some(format!("{}\n", Stamped { at: uptime(), message: other.clone() })),
    }
}

/// Reads commands until the end. `take` takes a step, `log` returns the kernel's log.
pub(crate) fn run(
    mut terminal: Terminal,
    last_cpu: usize,
    mut take: impl FnMut(&Step, &str),
    mut log: impl FnMut() -> String,
) {
    // A stuck CPU 0 would take no key. Fails where the kernel has placed it itself.
    let _ = fs::write(format!("/proc/irq/{INTERRUPT}/smp_affinity_list"), last_cpu.to_string());
    terminal.print("Each step of a scenario is a command; 'help' lists all; Ctrl-A x ends.\n");
    loop {
        terminal.print("> ");
        let Some(line) = terminal.read_line() else { return };
        let result = match Request::parse(&line) {
            Ok(Request::Nothing) => Ok(String::new()),
            Ok(Request::Exit) => return,
            Ok(Request::Help) => Ok(help()),
            Ok(Request::Log) => Ok(log()),
            Ok(Request::List(path)) => list(&path).map_err(|error| format!("{path}: {error}")),
            Ok(Request::Print(path)) => print(&path).map_err(|error| format!("{path}: {error}")),
            Ok(Request::Write { text, path }) => match fs::write(&path, text) {
                Ok(()) => Ok(String::new()),
                Err(error) => Err(format!("{path}: {error}")),
            },
            Ok(Request::Busybox) => busybox(&terminal),
            Ok(Request::Step(step)) => {
                take(&step, line.trim());
                Ok(String::new())
            }
            Err(reason) => Err(reason),
        };
        match result {
            Ok(text) => terminal.print(&text),
            Err(reason) => terminal.print(&format!("{reason}\n")),
        }
    }
}

fn list(path: &str) -> io::Result<String> {
    let entry = |entry: io::Result<fs::DirEntry>| {
        entry.map(|entry| format!("{}\n", entry.file_name().to_string_lossy()))
    };
    let mut names: Vec<String> = fs::read_dir(path)?.map(entry).collect::<io::Result<_>>()?;
    names.sort_unstable();
    Ok(names.concat())
}

fn print(path: &str) -> io::Result<String> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(File::open(path)?, MAX_PRINTED), &mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn busybox(terminal: &Terminal) -> Result<String, String> {
    if !exists(BUSYBOX) {
        return Err("there is no busybox: the machine outside has no static one".to_owned());
    }
    let start = || {
        let (input, output) = (terminal.output()?, terminal.output()?);
        let mut command = Command::new(BUSYBOX);
        command.arg("sh").stdin(input).stderr(output.try_clone()?).stdout(output).status()
    };
    start().map(|_| String::new()).map_err(|error| format!("{BUSYBOX}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_commands_steps_or_refused_with_what_is_right() {
        let parse = |line| Request::parse(line).unwrap();
        assert_eq!(parse("  \r\n"), Request::Nothing);
        assert_eq!(parse("ls"), Request::List("/".to_owned()));
        assert_eq!(parse("cat /proc/cmdline\n"), Request::Print("/proc/cmdline".to_owned()));
        let write = Request::Write { text: "1 > 0\n".to_owned(), path: "/x".to_owned() };
        assert_eq!(parse("echo 1 > 0 > /x"), write);
        assert_eq!(parse("wait:3"), Request::Step(Step::Wait(3)));
        for (line, remedy) in [
            ("cat", "write cat FILE"),
            ("echo x", "write echo TEXT >FILE"),
            ("echo x >", "write echo TEXT >FILE"),
            ("disk 1", "'help' lists all"),
            ("dsk", "'help' lists all"),
            ("disk:x", "write disk[:DISK]"),
        ] {
            let error = Request::parse(line).unwrap_err();
            assert!(error.contains(remedy), "{line}: {error}");
        }
        let help = help();
        assert!(help.contains("affinity:DISK:CPU") && help.contains("echo TEXT >FILE"), "{help}");
    }

    #[test]
    fn files_and_directories_are_printed_or_the_error_is() {
        assert!(list("/proc/self").unwrap().contains("cmdline\n"));
        assert!(print("/proc/self/status").unwrap().contains("Name:"));
        assert!(print("/no/such/file").is_err() && list("/no/such").is_err());
        // A file without end.
        assert_eq!(print("/dev/zero").unwrap().len() as u64, MAX_PRINTED);
    }
}
