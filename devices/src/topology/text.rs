//! The values in a description: addresses, numbers, on and off, and the syntax of an option.

use std::fmt;
use std::str::FromStr;

use serde::de::value::{Error as ValueError, MapDeserializer};
use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};

use super::DeviceSpec;

/// A device and function number in the notation of lspci: `2`, `0.1` or `1f.7`, in hexadecimal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub(super) u8);

impl Address {
    /// The function `function` (0 to 7) of device `device` (0 to 31); higher bits are cut off.
    pub const fn new(device: u8, function: u8) -> Self {
        Self(device << 3 | function & 7)
    }

    /// Device and function as one byte.
    pub const fn devfn(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}.{:x}", self.0 >> 3, self.0 & 7)
    }
}

/// Why a text is no [`Address`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no address; write device.function in hexadecimal, as in 2, 0.1 or 1f.7")]
pub struct ParseAddressError(String);

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let digits = text.strip_prefix("0x").unwrap_or(text);
            let (device, function) = digits.split_once('.').unwrap_or((digits, "0"));
            let hex = |digits: &str, max: u8| {
                let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                u8::from_str_radix(digits, 16).ok().filter(|value| plain && *value <= max)
            };
            Some(Self::new(hex(device, 0x1f)?, hex(function, 7)?))
        };
        parse().ok_or_else(|| ParseAddressError(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(Error::custom)
    }
}

/// A number, or a text with a number: decimal, or hexadecimal with `0x`.
pub(super) fn number<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    let value = deserializer.deserialize_any(Number)?;
    T::try_from(value).map_err(|_| {
        let bits = 8 * size_of::<T>();
        Error::invalid_value(Unexpected::Unsigned(value), &&*format!("a number of {bits} bits"))
    })
}

/// As [`number`], for an optional key.
pub(super) fn some_number<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    number(deserializer).map(Some)
}

struct Number;

impl Visitor<'_> for Number {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<u64, E> {
        Ok(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<u64, E> {
        value.try_into().map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        let value = match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        };
        value.map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// A value that is parsed from a text, for an optional key.
pub(super) fn some_text<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    String::deserialize(deserializer)?.parse().map(Some).map_err(Error::custom)
}

/// `true` or `false` in TOML, `on` or `off` in an option.
pub(super) fn on_off<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    deserializer.deserialize_any(OnOff)
}

/// As [`on_off`], for an optional key.
pub(super) fn some_on_off<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<bool>, D::Error> {
    on_off(deserializer).map(Some)
}

struct OnOff;

impl Visitor<'_> for OnOff {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("on or off")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<bool, E> {
        Ok(value)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
        match text {
            "on" | "true" => Ok(true),
            "off" | "false" => Ok(false),
            _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
        }
    }
}

/// Why a text describes no [`DeviceSpec`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}; see 'ghostlink devices'")]
pub struct ParseDeviceError {
    reason: String,
}

/// `TYPE,KEY=VALUE,..`, with the keys of a TOML file.
impl FromStr for DeviceSpec {
    type Err = ParseDeviceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(',');
        let mut pairs = vec![("type", parts.next().unwrap_or_default())];
        for part in parts {
            let reason = || ParseDeviceError { reason: format!("'{part}' is not KEY=VALUE") };
            pairs.push(part.split_once('=').ok_or_else(reason)?);
        }
        Self::deserialize(MapDeserializer::<_, ValueError>::new(pairs.into_iter()))
            .map_err(|error| ParseDeviceError { reason: error.to_string() })
    }
}
