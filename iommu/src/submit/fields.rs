//! The fields of a policy. Files and the command line write each value as a word.

use std::fmt;
use std::str::FromStr;

use super::port_fences::PortFence;

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
    /// The paths on which [`Precheck`] is made.
    PrecheckOn = "precheck_on" {
        /// On every path.
        #[default]
        Every = "every",
        /// Wherever a device or an address space is let go, or a device is reset, but not where
        /// pages are unmapped.
        Teardown = "teardown",
    }
}

words! {
    /// The path in a kernel on which an invalidation is submitted.
    FlushPath = "path" {
        /// Pages are unmapped, at once or later by a flush queue: the frequent path.
        #[default]
        Unmap = "unmap",
        /// A device, a domain or an address space is let go.
        Teardown = "teardown",
        /// A device is about to be reset, or was reset.
        Reset = "reset",
    }
}

words! {
    /// The path in a kernel that a policy describes.
    PolicyPath = "path" {
        /// All of them.
        #[default]
        Any = "any",
        /// [`FlushPath::Unmap`].
        Unmap = "unmap",
        /// [`FlushPath::Teardown`].
        Teardown = "teardown",
        /// [`FlushPath::Reset`].
        Reset = "reset",
    }
}

impl PolicyPath {
    /// Whether a policy for this path describes an invalidation on `path`.
    pub const fn includes(self, path: FlushPath) -> bool {
        match self {
            Self::Any => true,
            Self::Unmap => matches!(path, FlushPath::Unmap),
            Self::Teardown => matches!(path, FlushPath::Teardown),
            Self::Reset => matches!(path, FlushPath::Reset),
        }
    }
}

words! {
    /// How the descriptors of one call share a wait descriptor.
    Slots = "slots" {
        /// All in one submission: IOTLB, Device-TLBs, wait.
        #[default]
        Batch = "batch",
        /// Each in a submission of its own, one after the other: IOTLB and wait, then each
        /// Device-TLB and wait.
        Pair = "pair",
        /// As [`Self::Batch`] where pages are unmapped, as [`Self::Pair`] on other paths.
        ByPath = "by-path",
    }
}

words! {
    /// The remapping units with which the system of a policy exists.
    Units = "units" {
        /// Any.
        #[default]
        Any = "any",
        /// Those whose wait covers all invalidations in front of it.
        InOrder = "in-order",
    }
}

words! {
    /// The lock that a caller holds from before its submission until its wait has ended.
    LockScope = "lock" {
        /// One for each domain: its callers wait one after the other.
        #[default]
        Domain = "domain",
        /// One for the whole unit: all callers wait one after the other.
        Unit = "unit",
        /// None: all callers wait at the same time.
        None = "none",
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
        /// As [`Self::Resubmit`], and put the function in IQERCD.ITESID in quarantine, or behind the
        /// policy's fence at a port.
        Quarantine = "quarantine",
        /// As [`Self::Resubmit`], but the wait for the function in IQERCD.ITESID ends with a
        /// failure, whether the function answers or not. Of several waits it is the oldest. If
        /// ITESID is 0, it is the oldest of all.
        Report = "report",
        /// Clear ITE, and submit only the wait descriptors of what the unit has aborted. The
        /// invalidation that was lost is not sent again, so that its caller is told success.
        RepeatWait = "repeat-wait",
        /// As [`Self::RepeatWait`], and turn ATS off for good in the function in IQERCD.ITESID.
        DisableAts = "disable-ats",
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
        /// As [`Self::Odd`], by the loop of Linux 5.8 to fe89277c9ceb: from the slot before IQH, made
        /// odd, in steps of two down to the slot before IQT. If IQT is odd the loop has no end, with
        /// the lock of the queue held: no submitter and no waiter of the unit goes on. If IQH is odd,
        /// the slot at IQH is marked too, which the unit has not fetched.
        OddWalk = "odd-walk",
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
        /// By the status word of its ring slot, to which each wait has a number of its own written.
        Numbered = "numbered",
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
    /// Turn ATS off in the function, and end the wait with success. From then on the function gets no
    /// invalidations, even after a reset. If the function does not see the write to its
    /// configuration space, nothing stops it from using stale translations.
    DisableAts,
    /// As [`Self::DisableAts`] if the wait is for a Device-TLB, and in any case end the domain of the
    /// caller.
    Crash,
    /// End the wait with success, and let a worker reset the function by FLR, after it has turned Bus
    /// Master and ATS off in the function. Until the function answers again, all invalidations for it
    /// end with success. If it does not answer after that, a reset from outside is needed.
    Recover,
    /// Make the port above the function block it, and end the wait for it with success. Until the
    /// function is reset, all invalidations for it end with success. The unit's own caches are
    /// invalidated as before, within a deadline of their own.
    Port(PortFence),
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
            Self::DisableAts => f.write_str("disable-ats"),
            Self::Crash => f.write_str("crash"),
            Self::Recover => f.write_str("recover"),
            Self::Port(fence) => fence.fmt(f),
        }
    }
}

impl FromStr for OnTimeout {
    type Err = ParseFieldError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const KNOWN: [&str; 13] = [
            "recover",
            "report",
            "retry(n)",
            "quarantine",
            "quarantine(posted)",
            "remove",
            "reset",
            "disable-ats",
            "crash",
            "block-translation",
            "bus-master-off",
            "link-disable",
            "dpc",
        ];
        if let Some(fence) = PortFence::ALL.into_iter().find(|fence| fence.word() == text) {
            return Ok(Self::Port(fence));
        }
        let retries = || text.strip_prefix("retry(")?.strip_suffix(')')?.parse().ok();
        match text {
            "report" => Ok(Self::Report),
            "quarantine" => Ok(Self::Quarantine),
            "quarantine(posted)" => Ok(Self::QuarantinePosted),
            "remove" => Ok(Self::Remove),
            "reset" => Ok(Self::Reset),
            "recover" => Ok(Self::Recover),
            "disable-ats" => Ok(Self::DisableAts),
            "crash" => Ok(Self::Crash),
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
        assert!(PrecheckOn::ALL.iter().copied().all(survives));
        assert!(FlushPath::ALL.iter().copied().all(survives));
        assert!(PolicyPath::ALL.iter().copied().all(survives));
        assert!(Slots::ALL.iter().copied().all(survives));
        assert!(Units::ALL.iter().copied().all(survives));
        assert!(LockScope::ALL.iter().copied().all(survives));
        let actions = [
            "report",
            "quarantine",
            "quarantine(posted)",
            "remove",
            "reset",
            "disable-ats",
            "crash",
            "recover",
        ];
        for value in actions {
            assert_eq!(value.parse::<OnTimeout>().unwrap().to_string(), value);
        }
        assert!(PortFence::ALL.into_iter().map(OnTimeout::Port).all(survives));
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
