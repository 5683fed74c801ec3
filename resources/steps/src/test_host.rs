//! What the init of the test host and the program that has started the host send to each other, by
//! one virtio port.
//!
//! ```text
//!   init     Ready               the host can be saved
//!   program  Command             after the host has been restored
//!   init     Started             the command runs
//!   init     Pulse, Out, Err     each second, and as the command writes
//!   init     Exited              the end; or Failed, if the command could not be started
//! ```
//!
//! A frame is a byte that names its kind, the length of its body as a little-endian `u32`, and the
//! body.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

/// The name of the virtio port.
pub const PORT: &str = "control";
/// The mount tag of the files outside, which the host only reads.
pub const ROOT_TAG: &str = "root";
/// The mount tag of the current directory of the command.
pub const DIRECTORY_TAG: &str = "directory";
/// The longest body of a frame, in bytes. Linux takes commands of 2 MiB with their environment.
pub const LONGEST: usize = 4 << 20;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// All modules are loaded, and nothing outside is mounted.
    Ready,
    /// What the host is to run.
    Command(Command),
    /// The command has been started.
    Started,
    /// The host lives. It sends one each second.
    Pulse,
    /// The command has written this to its standard output.
    Out(Vec<u8>),
    /// The command has written this to its standard error.
    Err(Vec<u8>),
    /// The command has ended with this status; one that a signal has ended has 128 more than the
    /// signal's number.
    Exited(u8),
    /// The command could not be started, for this reason.
    Failed(String),
}

/// A command for the test host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Command {
    /// The program and its arguments. A program without a slash is looked for in `PATH`.
    pub arguments: Vec<OsString>,
    /// Its environment; it gets no other variable.
    pub environment: Vec<(OsString, OsString)>,
    /// Its current directory, an absolute path; the host mounts it for writing.
    pub directory: PathBuf,
    /// The time of day, since 1970.
    pub now: Duration,
    /// Random bytes for the host, which else has the same ones after each restore.
    pub seed: Vec<u8>,
}

impl Frame {
    /// Writes the frame and flushes the writer.
    ///
    /// # Errors
    ///
    /// The writer's, and `InvalidInput` if the body is longer than [`LONGEST`].
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let (kind, body) = match self {
            Self::Ready => (b'r', Vec::new()),
            Self::Command(command) => (b'c', command.encode()),
            Self::Started => (b's', Vec::new()),
            Self::Pulse => (b'p', Vec::new()),
            Self::Out(bytes) => (b'o', bytes.clone()),
            Self::Err(bytes) => (b'e', bytes.clone()),
            Self::Exited(status) => (b'x', vec![*status]),
            Self::Failed(reason) => (b'f', reason.clone().into_bytes()),
        };
        if body.len() > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, TOO_LONG));
        }
        let mut frame = vec![kind];
        put(&mut frame, &body);
        out.write_all(&frame)?;
        out.flush()
    }

    /// Reads the next frame; `None` at the end of the input.
    ///
    /// # Errors
    ///
    /// The reader's; `UnexpectedEof` within a frame; `InvalidData` if the frame has no known kind,
    /// is longer than [`LONGEST`], or has a body of another form.
    pub fn read(input: &mut impl Read) -> io::Result<Option<Self>> {
        let mut kind = [0];
        if input.read(&mut kind)? == 0 {
            return Ok(None);
        }
        let mut length = [0; 4];
        input.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, TOO_LONG));
        }
        let mut body = vec![0; length];
        input.read_exact(&mut body)?;
        Self::decode(kind[0], body)
            .map(Some)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "this is no frame"))
    }

    fn decode(kind: u8, body: Vec<u8>) -> Option<Self> {
        Some(match (kind, body.as_slice()) {
            (b'r', []) => Self::Ready,
            (b's', []) => Self::Started,
            (b'p', []) => Self::Pulse,
            (b'x', [status]) => Self::Exited(*status),
            (b'c', body) => Self::Command(Command::decode(body)?),
            (b'o', _) => Self::Out(body),
            (b'e', _) => Self::Err(body),
            (b'f', body) => Self::Failed(String::from_utf8_lossy(body).into_owned()),
            _ => return None,
        })
    }
}

const TOO_LONG: &str = "a frame is longer than 4 MiB";

/// Appends the length and the bytes.
fn put(to: &mut Vec<u8>, bytes: &[u8]) {
    // At most LONGEST: its fields are shorter than the frame.
    to.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    to.extend(bytes);
}

/// Takes a length and as many bytes off the front.
fn take<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = from.split_first_chunk::<4>()?;
    let (bytes, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *from = rest;
    Some(bytes)
}

impl Command {
    fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend(self.now.as_secs().to_le_bytes());
        body.extend(self.now.subsec_nanos().to_le_bytes());
        put(&mut body, &self.seed);
        put(&mut body, self.directory.as_os_str().as_bytes());
        let mut environment = Vec::new();
        for (name, value) in &self.environment {
            put(&mut environment, name.as_bytes());
            put(&mut environment, value.as_bytes());
        }
        put(&mut body, &environment);
        for argument in &self.arguments {
            put(&mut body, argument.as_bytes());
        }
        body
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let os_string = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let (seconds, body) = body.split_first_chunk::<8>()?;
        let (nanoseconds, mut body) = body.split_first_chunk::<4>()?;
        let nanoseconds = u32::from_le_bytes(*nanoseconds);
        if nanoseconds >= 1_000_000_000 {
            return None;
        }
        let now = Duration::new(u64::from_le_bytes(*seconds), nanoseconds);
        let seed = take(&mut body)?.to_vec();
        let directory = PathBuf::from(os_string(take(&mut body)?));
        let mut variables = take(&mut body)?;
        let mut environment = Vec::new();
        while !variables.is_empty() {
            let name = os_string(take(&mut variables)?);
            environment.push((name, os_string(take(&mut variables)?)));
        }
        let mut arguments = Vec::new();
        while !body.is_empty() {
            arguments.push(os_string(take(&mut body)?));
        }
        Some(Self { arguments, environment, directory, now, seed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        Command {
            arguments: vec!["ghostlink".into(), "".into(), "a b\n'".into()],
            environment: vec![
                ("A".into(), "".into()),
                ("B".into(), OsString::from_vec(vec![0xff])),
            ],
            directory: "/a b".into(),
            now: Duration::new(1_800_000_000, 999_999_999),
            seed: vec![0, 1, 2],
        }
    }

    fn frames() -> Vec<Frame> {
        vec![
            Frame::Ready,
            Frame::Command(command()),
            Frame::Command(Command::default()),
            Frame::Started,
            Frame::Pulse,
            Frame::Out(vec![0, 0xff]),
            Frame::Err(Vec::new()),
            Frame::Exited(255),
            Frame::Failed("no such file".to_owned()),
        ]
    }

    fn written(frame: &Frame) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame.write(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes: Vec<u8> = frames().iter().flat_map(written).collect();
        let mut input = bytes.as_slice();
        for frame in frames() {
            assert_eq!(Frame::read(&mut input).unwrap(), Some(frame));
        }
        assert_eq!(Frame::read(&mut input).unwrap(), None);
    }

    #[test]
    fn half_a_frame_is_an_error() {
        for frame in frames() {
            let bytes = written(&frame);
            for length in 1..bytes.len() {
                let error = Frame::read(&mut &bytes[..length]).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{frame:?} {length}");
            }
        }
    }

    #[test]
    fn a_body_of_another_form_is_an_error_and_no_length_is_believed() {
        let command = written(&Frame::Command(command()));
        // Each byte of a length in the body that is made larger, or less.
        for position in 5..command.len() {
            let mut bytes = command.clone();
            bytes[position] = bytes[position].wrapping_add(0x80);
            let _ = Frame::read(&mut bytes.as_slice());
        }
        for bytes in [
            &b"q\0\0\0\0"[..],
            b"r\x01\0\0\0x",
            b"x\0\0\0\0",
            b"x\x02\0\0\0xx",
            b"c\0\0\0\0",
            b"o\xff\xff\xff\xff",
        ] {
            let error = Frame::read(&mut &bytes[..]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{bytes:?}");
        }
    }

    #[test]
    fn a_body_that_would_not_be_read_is_not_written() {
        let frame = Frame::Out(vec![0; LONGEST + 1]);
        assert_eq!(frame.write(&mut Vec::new()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
