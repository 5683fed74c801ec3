//! The user's own policies: a row lists the differences from its base.

use std::num::NonZeroU16;

use iommu::submit::{
    Completion, IteMarks, LockScope, OnIte, OnTimeout, PRESETS, ParsePolicyError, Policy,
    PolicyPath, Precheck, PrecheckOn, Slots, Suspects, Units,
};
use iommu::time::Timeout;
use serde::Deserialize;
use toml::Spanned;

/// A row of the file. A missing value is as in the base.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    name: Spanned<String>,
    base: Option<Spanned<String>>,
    path: Option<PolicyPath>,
    precheck: Option<Precheck>,
    precheck_on: Option<PrecheckOn>,
    deadline: Option<Timeout>,
    other_deadline: Option<Timeout>,
    on_timeout: Option<OnTimeout>,
    on_ite: Option<OnIte>,
    ite_marks: Option<IteMarks>,
    completion: Option<Completion>,
    slots: Option<Slots>,
    #[serde(rename = "fn")]
    fenced_waits: Option<bool>,
    lock: Option<LockScope>,
    watchdog: Option<bool>,
    in_flight: Option<Spanned<u16>>,
    suspects: Option<Suspects>,
    reset_prepare: Option<bool>,
    units: Option<Units>,
}

/// The policy of that name: the user's, or a preset.
///
/// # Errors
///
/// The name is unknown; the message has the most similar name.
pub fn find(name: &str, own: &[Policy]) -> Result<Policy, String> {
    if let Some(policy) = own.iter().find(|policy| policy.name == name) {
        return Ok(policy.clone());
    }
    name.parse().map_err(|error| with_hint(&error, own))
}

/// The error, with the most similar name.
fn with_hint(error: &ParsePolicyError, own: &[Policy]) -> String {
    let ParsePolicyError::Unknown { text, .. } = error else { return error.to_string() };
    let (name, rest) = text.split_once(':').unwrap_or((text, ""));
    let names = PRESETS.iter().map(|preset| preset.name);
    let hint = similar(name, names.chain(own.iter().map(|policy| policy.name.as_str())));
    match hint {
        Some(hint) if rest.is_empty() => {
            format!("unknown policy '{text}'; did you mean '{hint}'? see 'ghostlink policies'")
        }
        Some(hint) => {
            format!(
                "unknown policy '{text}'; did you mean '{hint}:{rest}'? see 'ghostlink policies'"
            )
        }
        None => error.to_string(),
    }
}

/// The word that is most similar to `wanted`, if one is similar enough.
fn similar<'a>(wanted: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let rated = words.map(|word| (strsim::jaro_winkler(wanted, word), word));
    let best = rated.max_by(|(one, _), (other, _)| one.total_cmp(other))?;
    (best.0 > 0.8).then_some(best.1)
}

fn check_name(name: &str, others: &[Policy]) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    if name.is_empty() || !name.chars().all(is_plain) {
        return Err(format!("'{name}' is no name; use letters, digits, and -_.+"));
    }
    if PRESETS.iter().any(|preset| preset.name == name) {
        return Err(format!(
            "there is a preset '{name}'; choose another name, and base = \"{name}\""
        ));
    }
    if others.iter().any(|other| other.name == name) {
        return Err(format!("there are two policies '{name}'; choose another name for this one"));
    }
    Ok(())
}

impl Row {
    /// The policy, given those that are there already; or which byte of the file is wrong, and why.
    pub(super) fn into_policy(self, others: &[Policy]) -> Result<Policy, (usize, String)> {
        let base = match self.base {
            Some(base) => {
                find(base.get_ref(), others).map_err(|reason| (base.span().start, reason))?
            }
            None => PRESETS[0].policy(),
        };
        let in_flight = self.in_flight.map(|given| {
            NonZeroU16::new(*given.get_ref()).ok_or_else(|| {
                let reason = "in_flight is 0, so that no invalidation is ever sent; write 1 or more, or \
                              leave it out for no limit";
                (given.span().start, reason.to_owned())
            })
        });
        let in_flight = in_flight.transpose()?;
        // A row that takes the base's check away takes the check's path away too.
        let inherited_on = match self.precheck {
            Some(Precheck::None) => PrecheckOn::default(),
            _ => base.precheck_on,
        };
        let policy = Policy {
            name: self.name.get_ref().clone(),
            path: self.path.unwrap_or(base.path),
            precheck: self.precheck.unwrap_or(base.precheck),
            precheck_on: self.precheck_on.unwrap_or(inherited_on),
            deadline: self.deadline.unwrap_or(base.deadline),
            other_deadline: self.other_deadline.or(base.other_deadline),
            on_timeout: self.on_timeout.unwrap_or(base.on_timeout),
            on_ite: self.on_ite.unwrap_or(base.on_ite),
            ite_marks: self.ite_marks.unwrap_or(base.ite_marks),
            completion: self.completion.unwrap_or(base.completion),
            slots: self.slots.unwrap_or(base.slots),
            fenced_waits: self.fenced_waits.unwrap_or(base.fenced_waits),
            lock: self.lock.unwrap_or(base.lock),
            watchdog: self.watchdog.unwrap_or(base.watchdog),
            in_flight: in_flight.or(base.in_flight),
            suspects: self.suspects.unwrap_or(base.suspects),
            reset_prepare: self.reset_prepare.unwrap_or(base.reset_prepare),
            units: self.units.unwrap_or(base.units),
        };
        let at = self.name.span().start;
        policy.check().map_err(|error| (at, error.to_string()))?;
        check_name(&policy.name, others).map_err(|reason| (at, reason))?;
        Ok(policy)
    }
}
