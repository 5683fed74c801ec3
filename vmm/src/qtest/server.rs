//! The protocol over a stream: a line in, its answer out, until the stream ends.

use std::fs;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::Session;
use super::command::MAX_TRANSFER;

/// The longest line in bytes: what a `write` of the most bytes takes, and some room.
pub const MAX_LINE: u64 = 2 * MAX_TRANSFER + 256;

/// Answers the lines of `input` until it ends.
///
/// # Errors
/// The error of reading or writing.
pub fn serve(session: &mut Session, input: impl BufRead, output: impl Write) -> io::Result<()> {
    let (mut input, mut output) = (input, BufWriter::new(output));
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return output.flush();
        }
        if line.last() != Some(&b'\n') && line.len() as u64 == MAX_LINE {
            input.skip_until(b'\n')?;
            writeln!(output, "FAIL the line is too long; {MAX_LINE} bytes are possible")?;
        } else {
            output.write_all(session.execute(&String::from_utf8_lossy(&line)).as_bytes())?;
        }
        output.flush()?;
    }
}

/// Waits for one client at a unix socket that is made at `path`, and answers it until it hangs up.
/// The socket is removed again.
///
/// # Errors
/// The error of making the socket, or of the traffic on it.
pub fn serve_socket(session: &mut Session, path: &Path) -> io::Result<()> {
    let listener = UnixListener::bind(path)?;
    let outcome = listener
        .accept()
        .and_then(|(stream, _)| serve(session, BufReader::new(stream.try_clone()?), stream));
    // The socket has served: it does not matter if it is gone.
    let _ = fs::remove_file(path);
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qtest::session::testkit::session;

    fn answers(input: &[u8]) -> String {
        let mut output = Vec::new();
        serve(&mut session(), input, &mut output).unwrap();
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn each_line_has_its_answer() {
        assert_eq!(
            answers(b"writel 0x1000 7\nreadb 0x1000\nendianness"),
            "OK\nOK 0x0000000000000007\nOK little\n"
        );
    }

    #[test]
    fn garbage_is_answered_and_the_next_line_is_read() {
        let long = vec![b'x'; usize::try_from(MAX_LINE).unwrap() + 10];
        let input = [long.as_slice(), b"\n\xff\xfe\n\0\nendianness\n"].concat();
        let answers = answers(&input);
        let lines: Vec<&str> = answers.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[0].starts_with("FAIL the line is too long"), "{}", lines[0]);
        assert!(lines[1..3].iter().all(|line| line.starts_with("FAIL Unknown command")));
        assert_eq!(lines[3], "OK little");
    }

    #[test]
    fn a_client_at_a_socket_is_served_until_it_hangs_up() {
        let directory = vmm_sys_util::tempdir::TempDir::new().unwrap();
        let path = directory.as_path().join("qtest");
        let server = {
            let path = path.clone();
            std::thread::spawn(move || serve_socket(&mut session(), &path))
        };
        let mut stream = loop {
            match std::os::unix::net::UnixStream::connect(&path) {
                Ok(stream) => break stream,
                Err(_) if !server.is_finished() => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        };
        stream.write_all(b"endianness\n").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "OK little\n");
        server.join().unwrap().unwrap();
        assert!(!path.exists());
    }
}
