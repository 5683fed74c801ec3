//! Quantities, positions and suggestions for messages and tables.

use std::time::Duration;

/// A time with about three digits, in the unit that fits.
pub fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    // What would be rounded up to 1,000 of its unit is shown in the next one.
    match time.as_nanos() {
        0 => "0".to_owned(),
        1..1_000 => format!("{} ns", time.as_nanos()),
        1_000..9_950 => format!("{:.1} µs", seconds * 1e6),
        9_950..999_500 => format!("{:.0} µs", seconds * 1e6),
        999_500..999_950_000 => format!("{:.1} ms", seconds * 1e3),
        999_950_000..99_995_000_000 => format!("{seconds:.2} s"),
        _ => format!("{seconds:.0} s"),
    }
}

/// A time in five characters or fewer, for narrow tables: `137µs`, `1.5ms`, `90s`, `200s`. Times of a
/// day and more are wider.
pub fn short_time(time: Duration) -> String {
    let nanos = time.as_nanos();
    let (unit, base) = match nanos {
        0 => return "0".to_owned(),
        1..1_000 => ("ns", 1.0),
        1_000..999_500 => ("µs", 1e3),
        999_500..999_500_000 => ("ms", 1e6),
        _ => ("s", 1e9),
    };
    // Exact below 2^53, and rounded anyway.
    let value = nanos as f64 / base;
    if value < 9.95 && unit != "ns" {
        format!("{value:.1}{unit}")
    } else {
        format!("{value:.0}{unit}")
    }
}

/// A count in five characters or fewer: a dash for none, thousands from 100,000 on.
pub fn short_count(count: u64) -> String {
    match count {
        0 => "-".to_owned(),
        1..100_000 => count.to_string(),
        100_000..10_000_000 => format!("{}k", count / 1_000),
        _ => format!("{}M", count / 1_000_000),
    }
}

/// A number of bytes, in the unit that leaves it short.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut rest = bytes as f64; // exact below 2^53, and rounded anyway
    let mut unit = 0;
    while rest >= 1024.0 && unit + 1 < UNITS.len() {
        rest /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{rest:.1} {}", UNITS[unit]) }
}

/// Text as HTML, or as XML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A count that may be zero, which is the good case and shown as a dash.
pub fn count(count: u64) -> String {
    if count == 0 { "-".to_owned() } else { count.to_string() }
}

/// Line and column of a byte, both from 1.
pub fn position(text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.len() - before.rfind('\n').map_or(0, |end| end + 1) + 1;
    format!("line {line}, column {column}")
}

/// The word of `known` that is nearest to `word`, if one is near.
pub fn suggestion<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const NEAR: usize = 2;
    let distance = |other: &&str| strsim::damerau_levenshtein(word, other);
    let begins = |other: &&str| !word.is_empty() && other.starts_with(word);
    let (near, distance) = known
        .into_iter()
        .map(|other| (other, if begins(&other) { 1 } else { distance(&other) }))
        .min_by_key(|(_, distance)| *distance)?;
    (distance <= NEAR.min(word.len().saturating_sub(1))).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_is_suggested() {
        let known = ["deadline", "precheck", "on_timeout"];
        assert_eq!(suggestion("dedline", known), Some("deadline"));
        assert_eq!(suggestion("pre", known), Some("precheck"));
        assert_eq!(suggestion("x", known), None);
        assert_eq!(suggestion("watchdog", known), None);
    }

    #[test]
    fn quantities_are_short_and_have_their_unit() {
        let text = |nanos| time(Duration::from_nanos(nanos));
        assert_eq!(text(0), "0");
        assert_eq!(text(345), "345 ns");
        assert_eq!(text(2_345), "2.3 µs");
        assert_eq!(text(12_345), "12 µs");
        assert_eq!(text(101_340_000), "101.3 ms");
        assert_eq!(text(2_004_000_000), "2.00 s");
        assert_eq!(text(9_999), "10 µs");
        assert_eq!(text(999_950), "1.0 ms");
        assert_eq!(text(999_999_000), "1.00 s");
        assert_eq!(text(99_999_999_999), "100 s");
        assert_eq!(text(180_004_000_000), "180 s");
        let short = |nanos| short_time(Duration::from_nanos(nanos));
        assert_eq!([0, 7, 1_510, 137_000, 999_700].map(short).join(" "), "0 7ns 1.5µs 137µs 1.0ms");
        assert_eq!(
            [100_000_210, 999_700_000, 9_960_000_000, 200_004_000_000].map(short).join(" "),
            "100ms 1.0s 10s 200s"
        );
        assert_eq!([0, 99_999, 100_000, 12_345_678].map(short_count).join(" "), "- 99999 100k 12M");
        assert_eq!([0, 1023, 4096, 5 << 30].map(bytes).join(" "), "0 B 1023 B 4.0 KiB 5.0 GiB");
    }
}
