//! The values that a policy is made of, each with the word by which people write it.

use std::fmt;
use std::str::FromStr;

/// What is said of a word that is no value of a policy's field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no value of '{field}'; there are {known}")]
pub struct ParseFieldError {
    /// What was written.
    pub text: String,
    /// Of which field.
    pub field: &'static str,
    /// What there is.
    pub known: String,
}

impl ParseFieldError {
    fn new<T: fmt::Display>(text: &str, field: &'static str, known: &[T]) -> Self {
        let known: Vec<String> = known.iter().map(T::to_string).collect();
        Self { text: text.to_owned(), field, known: known.join(", ") }
    }
}

/// A field whose values are words.
macro_rules! words {
    (
        $(#[$doc:meta])*
        $name:ident = $field:literal {
            $($(#[$value_doc:meta])* $value:ident = $word:literal,)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub enum $name {
            $($(#[$value_doc])* $value,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$value,)*];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$value => $word,)*
                })
            }
        }

        impl FromStr for $name {
            type Err = ParseFieldError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$value),)*
                    _ => Err(ParseFieldError::new(text, $field, Self::ALL)),
                }
            }
        }

        by_text!($name);
    };
}

/// Values are serialized as they are written.
macro_rules! by_text {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

words! {
    /// What is asked before anything is submitted.
    Precheck = "precheck" {
        /// Nothing.
        #[default]
        None = "none",
        /// Has hot-plug marked the device as disconnected?
        Disconnected = "disconnected",
        /// Does its vendor ID still read over the link?
        Present = "present",
    }
}

words! {
    /// What the one who sees FSTS.ITE does about it. All but [`Self::Ignore`] clear it, so that the
    /// unit fetches on; all but that and [`Self::Clear`] submit again what it has aborted.
    OnIte = "on_ite" {
        /// Nobody looks: the unit stands still for ever.
        Ignore = "ignore",
        /// Waits that the unit has aborted are polled on.
        Clear = "clear",
        /// Nothing more.
        Resubmit = "resubmit",
        /// If the function that IQERCD names no longer answers, the one who has waited longest gives
        /// up.
        #[default]
        Check = "check",
        /// The function that IQERCD names is quarantined.
        Quarantine = "quarantine",
    }
}

words! {
    /// Which slots of the ring are taken for aborted after ITE.
    IteMarks = "ite_marks" {
        /// All that the unit has fetched.
        #[default]
        All = "all",
        /// The odd ones of them. A wait that lies in an even slot is polled on, although the unit has
        /// dropped it.
        Odd = "odd",
    }
}

words! {
    /// How a waiter recognises its own completion.
    Completion = "completion" {
        /// By the status word of its slot in the ring, which the next user of the slot inherits.
        #[default]
        Slot = "slot",
        /// By one status word that all share, and a rising number: this value or a later one.
        Sequence = "sequence",
        /// By a status word that nobody else gets before the unit is known to be done with it.
        Leak = "leak",
        /// By the status word of the CPU that waits, which is used again for its next wait.
        Cpu = "cpu",
    }
}

/// What is done when the deadline has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnTimeout {
    /// The caller is told.
    #[default]
    Report,
    /// The invalidation is submitted again, this many times, before the caller is told.
    Retry(u32),
    /// The unit is told to block the function, and the caller waits until it has: then nothing stale
    /// can be used, and the caller is told that all is well. So are all others that ask for
    /// invalidations of the function, until it is reset.
    Quarantine,
    /// As [`Self::Quarantine`], but nobody waits until the unit has.
    QuarantinePosted,
    /// The function is taken for removed: the caller is told that all is well, and so are all others
    /// that ask, until it is reset. Nothing keeps it from using what it holds.
    Remove,
    /// The function is reset by FLR, which empties its ATC. If it answers after that all is well, or
    /// else the caller is told.
    Reset,
}

impl fmt::Display for OnTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Report => f.write_str("report"),
            Self::Retry(times) => write!(f, "retry({times})"),
            Self::Quarantine => f.write_str("quarantine"),
            Self::QuarantinePosted => f.write_str("quarantine(posted)"),
            Self::Remove => f.write_str("remove"),
            Self::Reset => f.write_str("reset"),
        }
    }
}

impl FromStr for OnTimeout {
    type Err = ParseFieldError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const KNOWN: [&str; 6] =
            ["report", "retry(n)", "quarantine", "quarantine(posted)", "remove", "reset"];
        let retries = || text.strip_prefix("retry(")?.strip_suffix(')')?.parse().ok();
        match text {
            "report" => Ok(Self::Report),
            "quarantine" => Ok(Self::Quarantine),
            "quarantine(posted)" => Ok(Self::QuarantinePosted),
            "remove" => Ok(Self::Remove),
            "reset" => Ok(Self::Reset),
            _ => retries()
                .map(Self::Retry)
                .ok_or_else(|| ParseFieldError::new(text, "on_timeout", &KNOWN)),
        }
    }
}

by_text!(OnTimeout);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn survives<T>(value: T) -> bool
    where
        T: Copy + PartialEq + fmt::Display + FromStr<Err = ParseFieldError>,
    {
        value.to_string().parse() == Ok(value)
    }

    #[test]
    fn every_value_survives_being_written_and_read() {
        assert!(Precheck::ALL.iter().copied().all(survives));
        assert!(OnIte::ALL.iter().copied().all(survives));
        assert!(IteMarks::ALL.iter().copied().all(survives));
        assert!(Completion::ALL.iter().copied().all(survives));
        for value in ["report", "quarantine", "quarantine(posted)", "remove", "reset"] {
            assert_eq!(value.parse::<OnTimeout>().unwrap().to_string(), value);
        }
    }

    proptest! {
        #[test]
        fn every_number_of_retries_survives(times: u32) {
            prop_assert!(survives(OnTimeout::Retry(times)));
        }

        #[test]
        fn no_text_makes_reading_panic(text in ".*") {
            let _ = (text.parse::<OnTimeout>(), text.parse::<OnIte>());
        }
    }

    #[test]
    fn nonsense_is_refused_with_what_would_be_right() {
        let error = "retry(-1)".parse::<OnTimeout>().unwrap_err().to_string();
        assert!(error.contains("'retry(-1)'") && error.contains("retry(n)"), "{error}");
        let error = "presnt".parse::<Precheck>().unwrap_err().to_string();
        assert!(error.contains("'precheck'") && error.contains("disconnected"), "{error}");
    }
}
