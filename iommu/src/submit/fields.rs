//! The fields of a policy. Files and the command line write each value as a word.

use std::fmt;
use std::str::FromStr;

/// The error for a word that is not a value of a policy's field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a value of '{field}'; the values are {known}")]
pub struct ParseFieldError {
    /// The word.
    pub text: String,
    /// The name of the field.
    pub field: &'static str,
    /// The values of the field, separated by commas.
    pub known: String,
}

impl ParseFieldError {
    fn new<T: fmt::Display>(text: &str, field: &'static str, known: &[T]) -> Self {
        let known: Vec<String> = known.iter().map(T::to_string).collect();
        Self { text: text.to_owned(), field, known: known.join(", ") }
    }
}

/// Defines an enum whose values are words.
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
            /// All values.
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

/// Serializes a type as its text.
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
    /// The check of a function before an invalidation is submitted.
    Precheck = "precheck" {
        /// There is no check.
        #[default]
        None = "none",
        /// Skip the function if hot-plug has marked it as disconnected.
        Disconnected = "disconnected",
        /// Skip the function if its vendor ID does not read over the link.
        Present = "present",
    }
}

words! {
    /// The action of a waiter that reads FSTS.ITE as set. While ITE is set, the unit does not
    /// fetch.
    OnIte = "on_ite" {
        /// Leave ITE set.
        Ignore = "ignore",
        /// Clear ITE. Waiters keep polling, although the unit has aborted their waits.
        Clear = "clear",
        /// Clear ITE, and submit again what the unit has aborted.
        Resubmit = "resubmit",
        /// As [`Self::Resubmit`]. If the function in IQERCD.ITESID does not answer, the waiter that
        /// has polled longest gives up.
        #[default]
        Check = "check",
        /// As [`Self::Resubmit`], and put the function in IQERCD.ITESID in quarantine.
        Quarantine = "quarantine",
        /// As [`Self::Resubmit`], but the wait for the function in IQERCD.ITESID ends with a
        /// failure, whether the function answers or not. Of several waits it is the oldest. If
        /// ITESID is 0, it is the oldest of all.
        Report = "report",
    }
}

words! {
    /// The ring slots that software marks as aborted after ITE.
    IteMarks = "ite_marks" {
        /// All slots that the unit has fetched.
        #[default]
        All = "all",
        /// The odd slots that the unit has fetched. A waiter with an even slot keeps polling,
        /// although the unit has aborted its wait.
        Odd = "odd",
    }
}

words! {
    /// How a waiter recognizes its completion.
    Completion = "completion" {
        /// By the status word of its ring slot, which the next user of the slot gets too.
        #[default]
        Slot = "slot",
        /// By one status word for all, which holds a rising number: the waiter's own, or a later
        /// one.
        Sequence = "sequence",
        /// By a status word that is not used again before the unit has completed or aborted the
        /// wait.
        Leak = "leak",
        /// By the status word of the CPU that waits, which its next wait uses again.
        Cpu = "cpu",
    }
}

words! {
    /// The functions against which a waiter acts whose deadline has passed.
    Suspects = "suspects" {
        /// All functions of its submission.
        #[default]
        Every = "every",
        /// As [`Self::Every`], but only if no older wait of another function is without a completion.
        /// Otherwise the unit may stand at that one, and the waiter ends with a failure.
        Oldest = "oldest",
    }
}

/// The submitter's action when the deadline passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnTimeout {
    /// End the wait with a failure.
    #[default]
    Report,
    /// Submit the invalidation again, at most this many times, and then end with a failure.
    Retry(u32),
    /// Make the unit block the function, and end the wait with success when it does: no stale
    /// translation can be used then. Until the function is reset, all invalidations for it end with
    /// success.
    Quarantine,
    /// As [`Self::Quarantine`], but end the wait before the unit blocks the function.
    QuarantinePosted,
    /// Treat the function as removed, and end the wait with success. Until the function is reset,
    /// all invalidations for it end with success. Nothing stops the function from using stale
    /// translations.
    Remove,
    /// Reset the function by FLR, which empties its ATC. If the function answers after that, end
    /// the wait with success, otherwise with a failure.
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
    fn a_value_is_parsed_from_its_word() {
        assert!(Precheck::ALL.iter().copied().all(survives));
        assert!(OnIte::ALL.iter().copied().all(survives));
        assert!(IteMarks::ALL.iter().copied().all(survives));
        assert!(Completion::ALL.iter().copied().all(survives));
        assert!(Suspects::ALL.iter().copied().all(survives));
        for value in ["report", "quarantine", "quarantine(posted)", "remove", "reset"] {
            assert_eq!(value.parse::<OnTimeout>().unwrap().to_string(), value);
        }
    }

    proptest! {
        #[test]
        fn a_number_of_retries_is_parsed_from_its_word(times: u32) {
            prop_assert!(survives(OnTimeout::Retry(times)));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = (text.parse::<OnTimeout>(), text.parse::<OnIte>());
        }
    }

    #[test]
    fn an_invalid_word_is_named_with_the_valid_ones() {
        let error = "retry(-1)".parse::<OnTimeout>().unwrap_err().to_string();
        assert!(error.contains("'retry(-1)'") && error.contains("retry(n)"), "{error}");
        let error = "presnt".parse::<Precheck>().unwrap_err().to_string();
        assert!(error.contains("'precheck'") && error.contains("disconnected"), "{error}");
    }
}
