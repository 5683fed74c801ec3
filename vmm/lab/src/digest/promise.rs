//! The promise of a policy, in a sentence: its bound, and what it does against stale translations.

use iommu::submit::{OnIte, OnTimeout, Policy, Precheck, PrecheckOn};
use iommu::time::Timeout;

use crate::text::time;

/// What the policy promises to callers, and what keeps a stale translation from being used.
pub(super) fn promise(policy: &Policy, ict: Timeout) -> String {
    let wait = match (policy.deadline, ict) {
        (Timeout::After(bound), _) => {
            format!("each wait ends within {}, and then {}", time(bound), after(policy))
        }
        (Timeout::Never, Timeout::After(ict)) => {
            let ict = time(ict);
            format!(
                "no bound of its own: the unit's time-out ends a wait after {ict}, {}",
                ite(policy)
            )
        }
        (Timeout::Never, Timeout::Never) => {
            "no bound, and the unit has no time-out either".to_owned()
        }
    };
    let check = match policy.precheck {
        Precheck::None => "",
        Precheck::Disconnected => "; a device that hot-plug has marked is skipped",
        Precheck::Present => "; a device that does not answer a read is skipped",
    };
    let check_on = match policy.precheck_on {
        PrecheckOn::Every => "",
        PrecheckOn::Teardown => " on teardown, not on unmap",
    };
    let watchdog = if policy.watchdog { "; the loop resets the watchdog" } else { "" };
    format!("{wait}{check}{check_on}{watchdog}")
}

/// The action after the deadline.
fn after(policy: &Policy) -> String {
    match policy.on_timeout {
        OnTimeout::Report => "the caller gets a failure; nothing stops the device".to_owned(),
        OnTimeout::Retry(times) => {
            format!("is repeated {times} times; nothing stops the device")
        }
        OnTimeout::Quarantine => "a fence blocks the device before the caller goes on".to_owned(),
        OnTimeout::QuarantinePosted => {
            "a fence is to block the device, but the caller does not wait for it".to_owned()
        }
        OnTimeout::Remove => "the device counts as removed; nothing stops its DMA".to_owned(),
        OnTimeout::Reset => "a Function Level Reset empties the ATC".to_owned(),
        OnTimeout::DisableAts => {
            "ATS is turned off in the device for good, if the write arrives; no fence".to_owned()
        }
        OnTimeout::Crash => {
            "ATS is turned off in the device, and the caller's domain is ended".to_owned()
        }
        OnTimeout::Recover => "the caller goes on; a worker resets the device later".to_owned(),
        OnTimeout::Port(fence) => format!("the port above blocks the device: {fence}"),
    }
}

/// The action on ITE.
const fn ite(policy: &Policy) -> &'static str {
    match policy.on_ite {
        OnIte::Ignore => "which no waiter reads",
        OnIte::Clear => "after which waiters keep polling",
        OnIte::Resubmit => "after which it is submitted again",
        OnIte::Check => "after which it is submitted again unless the device is gone",
        OnIte::Quarantine => "after which the device is fenced",
        OnIte::Report => "after which the caller gets a failure",
        OnIte::RepeatWait => "after which the wait alone is repeated: success with a stale ATC",
        OnIte::DisableAts => "after which ATS is turned off in the device, and the wait repeated",
    }
}
