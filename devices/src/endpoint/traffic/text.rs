//! Traffic as text, such as `write:64*4/100us@0x100000+0x10000:random:atc`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use humantime::format_duration;
use iommu::ats::Access;
use iommu::ids::Iova;
use iommu::time::parse_duration;

use super::{BUFFER_SIZE, MAX_BURST, MIN_PERIOD, Order, Traffic};

/// Why a text describes no [`Traffic`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "traffic '{text}': {reason}; write read|write:LENGTH[*BURST]/PERIOD@ADDRESS[+SPAN]\
     [:sequential|:random][:atc], as in write:64/100us@0x100000+0x10000:random"
)]
pub struct ParseTrafficError {
    text: String,
    reason: String,
}

impl FromStr for Traffic {
    type Err = ParseTrafficError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map_err(|reason| ParseTrafficError { text: text.to_owned(), reason })
    }
}

fn parse(text: &str) -> Result<Traffic, String> {
    let mut parts = text.split(':');
    let access = match parts.next() {
        Some("read") => Access::Read,
        Some("write") => Access::Write,
        _ => return Err("it is neither read nor write".to_owned()),
    };
    let requests = parts.next().ok_or("nothing says how much")?;
    let (rate, place) = requests.split_once('@').ok_or("there is no @ADDRESS")?;
    let (size, period) = rate.split_once('/').ok_or("there is no /PERIOD")?;
    let (length, burst) = size.split_once('*').unwrap_or((size, "1"));
    let (address, span) = place.split_once('+').unwrap_or((place, "0"));
    let mut traffic = Traffic {
        access,
        order: Order::Fixed,
        use_atc: false,
        address: Iova(number(address)?),
        span: number(span)?,
        length: within(length, BUFFER_SIZE as u32)?,
        burst: within(burst, MAX_BURST)?,
        period: parse_period(period)?,
    };
    for part in parts {
        match part {
            "sequential" => traffic.order = Order::Sequential,
            "random" => traffic.order = Order::Random,
            "atc" => traffic.use_atc = true,
            _ => return Err(format!("'{part}' is unknown")),
        }
    }
    if traffic.order != Order::Fixed && traffic.span < u64::from(traffic.length) {
        return Err("its span has no room for a request".to_owned());
    }
    Ok(traffic)
}

fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("'{text}' is no number"))
}

fn within(text: &str, most: u32) -> Result<u32, String> {
    let value = u32::try_from(number(text)?).ok().filter(|value| (1..=most).contains(value));
    value.ok_or_else(|| format!("'{text}' is not 1 to {most}"))
}

/// A period in whole microseconds, the unit of the register.
fn parse_period(text: &str) -> Result<Duration, String> {
    let period = parse_duration(text).map_err(|error| error.to_string())?;
    let micros = u32::try_from(period.as_micros()).ok().filter(|micros| *micros >= MIN_PERIOD);
    let micros = micros.ok_or_else(|| format!("'{text}' is not {MIN_PERIOD}us to an hour"))?;
    Ok(Duration::from_micros(micros.into()))
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { access, order, use_atc, address, span, length, burst, period } = self;
        f.write_str(if *access == Access::Write { "write" } else { "read" })?;
        write!(f, ":{length}*{burst}/{}@{:#x}+{span:#x}", format_duration(*period), address.0)?;
        f.write_str(match order {
            Order::Fixed => "",
            Order::Sequential => ":sequential",
            Order::Random => ":random",
        })?;
        f.write_str(if *use_atc { ":atc" } else { "" })
    }
}
