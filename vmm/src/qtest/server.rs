//! The protocol over a stream: a line in, its answer out, until the stream ends.

use std::io::{self, BufRead, BufWriter, Read, Write};

use super::Session;
use super::command::MAX_TRANSFER;

/// The longest line in bytes: what a `write` of the most bytes takes, and some room.
pub const MAX_LINE: u64 = 2 * MAX_TRANSFER + 256;

/// Answers the lines of `input` until it ends.
///
/// # Errors
/// The error of reading or writing.
pub fn serve(session: &mut Session, input: impl BufRead, output: impl Write) -> io::Result<()> {
    serve_lines(input, output, |line| session.execute(line))
}

/// Answers the lines of `input` by `execute` until it ends.
pub(super) fn serve_lines(
    mut input: impl BufRead,
    output: impl Write,
    mut execute: impl FnMut(&str) -> String,
) -> io::Result<()> {
    let mut output = BufWriter::new(output);
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
            output.write_all(execute(&String::from_utf8_lossy(&line)).as_bytes())?;
        }
        output.flush()?;
    }
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
}
