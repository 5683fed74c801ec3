//! One line of the qtest protocol, as QEMU's `system/qtest.c` documents it.
//!
//! | command | answer |
//! |---|---|
//! | `readb`, `readw`, `readl`, `readq` ADDR | `OK 0x0123456789abcdef` |
//! | `writeb`, `writew`, `writel`, `writeq` ADDR VALUE | `OK` |
//! | `read` ADDR SIZE, `b64read` ADDR SIZE | `OK 0xDATA`, `OK DATA` |
//! | `write` ADDR SIZE 0xDATA, `b64write` ADDR SIZE DATA, `memset` ADDR SIZE VALUE | `OK` |
//! | `inb`, `inw`, `inl` PORT | `OK 0x0123` |
//! | `outb`, `outw`, `outl` PORT VALUE | `OK` |
//! | `irq_intercept_in` DEVICE, `irq_intercept_out` DEVICE | `OK`, later `IRQ raise NUM` |
//! | `clock_step` \[NS\], `clock_set` NS | `OK NS` |
//! | `endianness` | `OK little` |
//! | `msi_intercept` (not QEMU's) | `OK`, later `MSI ADDR DATA` |
//! | `stale_accesses` (not QEMU's) | `OK COUNT told_success=COUNT ..` |
//!
//! Numbers are decimal, octal with a leading 0, or hexadecimal with 0x.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The most bytes that one command moves.
pub(super) const MAX_TRANSFER: u64 = 16 << 20;
/// The most bytes that one `memset` fills.
pub(super) const MAX_FILL: u64 = 1 << 30;

/// The number of bytes of an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// One, suffix `b`.
    Byte = 1,
    /// Two, suffix `w`.
    Word = 2,
    /// Four, suffix `l`.
    Long = 4,
    /// Eight, suffix `q`.
    Quad = 8,
}

/// The encoding of bytes in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// `0x` and two digits for each byte.
    Hex,
    /// Base64.
    Base64,
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// One read of memory.
    Read(Width, u64),
    /// One write of memory; what does not fit into the width is cut off.
    Write(Width, u64, u64),
    /// Reads so many bytes of memory, 16 MiB at most.
    ReadBytes(Encoding, u64, usize),
    /// Writes bytes to memory.
    WriteBytes(u64, Vec<u8>),
    /// Fills so many bytes of memory, 1 GiB at most.
    Fill(u64, u64, u8),
    /// Reads a port.
    In(Width, u16),
    /// Writes a port; what does not fit into the width is cut off.
    Out(Width, u16, u32),
    /// Tells of changes at a device's inputs.
    InterceptIn(String),
    /// Tells of changes at a device's outputs.
    InterceptOut(String),
    /// Tells of interrupt messages.
    InterceptMessages,
    /// Moves the clock by so many nanoseconds, or to the next timer.
    ClockStep(Option<u64>),
    /// Moves the clock to so many nanoseconds after the start.
    ClockSet(u64),
    /// Asks for the byte order of the machine.
    Endianness,
    /// Asks what the stale-DMA oracle has found.
    StaleAccesses,
}

/// Why a line is not a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseCommandError {
    /// There is no such command.
    #[error("Unknown command '{}'", shorten(.0))]
    Unknown(String),
    /// It has too few or too many arguments.
    #[error("wrong number of arguments; write {usage}")]
    Arguments {
        /// The command and its arguments, as it must be written.
        usage: &'static str,
    },
    /// An argument is not a number, or too large.
    #[error("'{}' is not a number here; write a decimal, 0x and hexadecimal, or 0 and octal digits, in range", shorten(.0))]
    Number(String),
    /// More bytes than a command moves.
    #[error("{size} bytes are too many for one command; at most {max} are possible")]
    Size {
        /// The number of bytes that the command asks for.
        size: u64,
        /// The highest number of bytes.
        max: u64,
    },
    /// The bytes are not written as they must be.
    #[error("invalid data; write {expected}")]
    Data {
        /// The right form.
        expected: &'static str,
    },
}

/// The first 40 characters of a word: an answer repeats no more, since the word may be long.
fn shorten(word: &str) -> &str {
    word.char_indices().nth(40).map_or(word, |(end, _)| &word[..end])
}

impl Command {
    /// Reads one line.
    ///
    /// # Errors
    /// [`ParseCommandError`] for an unknown command or invalid arguments.
    pub fn parse(line: &str) -> Result<Self, ParseCommandError> {
        let mut words = line.split_ascii_whitespace();
        let name = words.next().unwrap_or_default();
        let arguments: Vec<&str> = words.by_ref().take(4).collect();
        match name {
            "read" | "b64read" => {
                let [address, size] = take(&arguments, "read ADDR SIZE")?;
                Ok(Self::ReadBytes(encoding(name), number(address)?, length(size)?))
            }
            "write" | "b64write" => {
                let [address, size, data] = take(&arguments, "write ADDR SIZE DATA")?;
                let bytes = decode(encoding(name), length(size)?, data)?;
                Ok(Self::WriteBytes(number(address)?, bytes))
            }
            "memset" => {
                let [address, size, value] = take(&arguments, "memset ADDR SIZE VALUE")?;
                let size = checked_size(number(size)?, MAX_FILL)?;
                // As C's memset does with its argument.
                Ok(Self::Fill(number(address)?, size, number(value)? as u8))
            }
            "irq_intercept_in" => {
                let [device] = take(&arguments, "irq_intercept_in DEVICE")?;
                Ok(Self::InterceptIn(device.to_owned()))
            }
            "irq_intercept_out" => {
                let [device] = take(&arguments, "irq_intercept_out DEVICE")?;
                Ok(Self::InterceptOut(device.to_owned()))
            }
            "msi_intercept" => {
                take(&arguments, "msi_intercept").map(|[]: [&str; 0]| Self::InterceptMessages)
            }
            "clock_step" if arguments.is_empty() => Ok(Self::ClockStep(None)),
            "clock_step" => {
                let [by] = take(&arguments, "clock_step [NS]")?;
                Ok(Self::ClockStep(Some(number(by)?)))
            }
            "clock_set" => {
                let [to] = take(&arguments, "clock_set NS")?;
                Ok(Self::ClockSet(number(to)?))
            }
            "endianness" => take(&arguments, "endianness").map(|[]: [&str; 0]| Self::Endianness),
            "stale_accesses" => {
                take(&arguments, "stale_accesses").map(|[]: [&str; 0]| Self::StaleAccesses)
            }
            _ => Self::parse_access(name, &arguments),
        }
    }

    /// `readl` and its like: a verb and the letter of a width.
    fn parse_access(name: &str, arguments: &[&str]) -> Result<Self, ParseCommandError> {
        let unknown = || ParseCommandError::Unknown(name.to_owned());
        let verb = name.get(..name.len().saturating_sub(1)).ok_or_else(unknown)?;
        let width = match &name[verb.len()..] {
            "b" => Width::Byte,
            "w" => Width::Word,
            "l" => Width::Long,
            "q" => Width::Quad,
            _ => return Err(unknown()),
        };
        match (verb, width) {
            ("read", _) => {
                let [address] = take(arguments, "readb, readw, readl or readq ADDR")?;
                Ok(Self::Read(width, number(address)?))
            }
            ("write", _) => {
                let [address, value] =
                    take(arguments, "writeb, writew, writel or writeq ADDR VALUE")?;
                Ok(Self::Write(width, number(address)?, number(value)?))
            }
            ("in", Width::Byte | Width::Word | Width::Long) => {
                let [at] = take(arguments, "inb, inw or inl PORT")?;
                Ok(Self::In(width, port(at)?))
            }
            ("out", Width::Byte | Width::Word | Width::Long) => {
                let [at, value] = take(arguments, "outb, outw or outl PORT VALUE")?;
                // Ports have 32 bits at the most.
                Ok(Self::Out(width, port(at)?, number(value)? as u32))
            }
            _ => Err(unknown()),
        }
    }
}

fn take<'a, const N: usize>(
    arguments: &[&'a str],
    usage: &'static str,
) -> Result<[&'a str; N], ParseCommandError> {
    arguments.try_into().map_err(|_| ParseCommandError::Arguments { usage })
}

fn encoding(name: &str) -> Encoding {
    if name.starts_with("b64") { Encoding::Base64 } else { Encoding::Hex }
}

/// A number as C's `strtoull` with base 0 reads it, without sign.
fn number(text: &str) -> Result<u64, ParseCommandError> {
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (digits, radix) = match (hexadecimal, text.strip_prefix('0')) {
        (Some(digits), _) => (digits, 16),
        (None, Some(digits)) if !digits.is_empty() => (digits, 8),
        _ => (text, 10),
    };
    // `from_str_radix` takes a sign, which no number here has.
    let parsed = digits.chars().all(|digit| digit.is_digit(radix)).then_some(digits);
    parsed
        .and_then(|digits| u64::from_str_radix(digits, radix).ok())
        .ok_or_else(|| ParseCommandError::Number(text.to_owned()))
}

fn port(text: &str) -> Result<u16, ParseCommandError> {
    u16::try_from(number(text)?).map_err(|_| ParseCommandError::Number(text.to_owned()))
}

fn checked_size(size: u64, max: u64) -> Result<u64, ParseCommandError> {
    if size <= max { Ok(size) } else { Err(ParseCommandError::Size { size, max }) }
}

fn length(text: &str) -> Result<usize, ParseCommandError> {
    let size = checked_size(number(text)?, MAX_TRANSFER)?;
    usize::try_from(size).map_err(|_| ParseCommandError::Size { size, max: MAX_TRANSFER })
}

/// `size` bytes: as many as are written, then zeros, as QEMU has it.
fn decode(encoding: Encoding, size: usize, text: &str) -> Result<Vec<u8>, ParseCommandError> {
    let mut bytes = match encoding {
        Encoding::Hex => decode_hex(text),
        Encoding::Base64 => STANDARD
            .decode(text)
            .map_err(|_| ParseCommandError::Data { expected: "base64 with padding" }),
    }?;
    bytes.resize(size, 0);
    Ok(bytes)
}

fn decode_hex(text: &str) -> Result<Vec<u8>, ParseCommandError> {
    let wrong = ParseCommandError::Data { expected: "0x and two hexadecimal digits for each byte" };
    let digits = text.strip_prefix("0x").filter(|digits| digits.len().is_multiple_of(2));
    let nibble = |digit: u8| char::from(digit).to_digit(16);
    let bytes = digits.ok_or_else(|| wrong.clone())?.as_bytes().chunks_exact(2).map(|pair| {
        // Two nibbles make a byte.
        Some((nibble(pair[0])? << 4 | nibble(pair[1])?) as u8)
    });
    bytes.collect::<Option<_>>().ok_or(wrong)
}

/// Bytes as a line carries them.
pub(super) fn encode(encoding: Encoding, bytes: &[u8]) -> String {
    match encoding {
        Encoding::Hex => bytes.iter().fold("0x".to_owned(), |mut text, byte| {
            text.extend(
                [byte >> 4, byte & 0xf].map(|n| char::from(b"0123456789abcdef"[usize::from(n)])),
            );
            text
        }),
        Encoding::Base64 => STANDARD.encode(bytes),
    }
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
