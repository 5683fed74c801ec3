//! Options that say which policy: a preset, or a row of the user's own in a file of TOML.
//!
//! ```toml
//! [[policy]]
//! name = "patient"
//! base = "linux"          # where what is not said comes from; linux if not said
//! deadline = "5s"
//! on_timeout = "quarantine"
//! ```

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use iommu::submit::{
    Completion, IteMarks, OnIte, OnTimeout, PRESETS, ParsePolicyError, Policy, Precheck,
};
use iommu::time::Timeout;
use serde::Deserialize;
use toml::Spanned;

use crate::cli::faults::position;

/// Where policies come from.
#[derive(Debug, Clone, Default, Args)]
pub(in crate::cli) struct PoliciesArgs {
    /// TOML file with policies of your own, each a table `[[policy]]`: see docs/policies.md
    #[arg(long, value_name = "FILE")]
    policies_file: Option<PathBuf>,
}

/// One policy, and where it comes from.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct PolicyArgs {
    /// What the host does when an invalidation takes too long; see 'ghostlink policies'
    #[arg(long, value_name = "POLICY", default_value = "linux")]
    policy: String,

    #[command(flatten)]
    policies: PoliciesArgs,
}

/// Why there is no such policy.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum PoliciesError {
    /// The file cannot be read.
    #[error("cannot read the policies in '{}': {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It does not say what it should.
    #[error("'{}', {position}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Line and column.
        position: String,
        /// What is wrong.
        reason: String,
    },
    /// The command line asks for one that there is not.
    #[error("--policy: {0}")]
    Unknown(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    policy: Vec<Spanned<Row>>,
}

/// A row of the file: what is not there is as in the base.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: Spanned<String>,
    base: Option<Spanned<String>>,
    precheck: Option<Precheck>,
    deadline: Option<Timeout>,
    on_timeout: Option<OnTimeout>,
    on_ite: Option<OnIte>,
    ite_marks: Option<IteMarks>,
    completion: Option<Completion>,
    watchdog: Option<bool>,
}

/// The keys of a row.
const KEYS: [&str; 9] = [
    "name",
    "base",
    "precheck",
    "deadline",
    "on_timeout",
    "on_ite",
    "ite_marks",
    "completion",
    "watchdog",
];

impl PolicyArgs {
    /// The policy.
    pub(in crate::cli) fn into_policy(self) -> Result<Policy, PoliciesError> {
        find(&self.policy, &self.policies.own()?)
    }
}

impl PoliciesArgs {
    /// The file, if there is one.
    pub(in crate::cli) fn file(&self) -> Option<&Path> {
        self.policies_file.as_deref()
    }

    /// The policies of the file.
    pub(in crate::cli) fn own(&self) -> Result<Vec<Policy>, PoliciesError> {
        let Some(path) = &self.policies_file else { return Ok(Vec::new()) };
        let text = std::fs::read_to_string(path)
            .map_err(|source| PoliciesError::File { path: path.clone(), source })?;
        parse(&text).map_err(|(at, reason)| PoliciesError::Content {
            path: path.clone(),
            position: position(&text, at),
            reason,
        })
    }

    /// Those policies, by the names that are on the command line.
    pub(in crate::cli) fn choose(&self, names: &[String]) -> Result<Vec<Policy>, PoliciesError> {
        let own = self.own()?;
        names.iter().map(|name| find(name, &own)).collect()
    }
}

/// The policy of that name: the user's, or a preset.
fn find(name: &str, own: &[Policy]) -> Result<Policy, PoliciesError> {
    if let Some(policy) = own.iter().find(|policy| policy.name == name) {
        return Ok(policy.clone());
    }
    name.parse().map_err(|error| PoliciesError::Unknown(with_hint(&error, own)))
}

/// What is wrong, and which policy may have been meant.
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

/// The word that is most like `wanted`, if one is.
fn similar<'a>(wanted: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let rated = words.map(|word| (strsim::jaro_winkler(wanted, word), word));
    let best = rated.max_by(|(one, _), (other, _)| one.total_cmp(other))?;
    (best.0 > 0.8).then_some(best.1)
}

/// The policies in a file; or which byte is wrong, and why.
fn parse(text: &str) -> Result<Vec<Policy>, (usize, String)> {
    let file: File = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        (at, with_key_hint(&error.message().replace('\n', " ")))
    })?;
    let mut policies: Vec<Policy> = Vec::new();
    for row in file.policy {
        let row = row.into_inner();
        let at = row.name.span().start;
        let policy = row.into_policy(&policies)?;
        check_name(&policy.name, &policies).map_err(|reason| (at, reason))?;
        policies.push(policy);
    }
    Ok(policies)
}

/// `unknown field` with the one that may have been meant.
fn with_key_hint(message: &str) -> String {
    let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
    match unknown.and_then(|unknown| similar(unknown, KEYS.into_iter().chain(["policy"]))) {
        Some(hint) => format!("{message}; did you mean `{hint}`?"),
        None => message.to_owned(),
    }
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
    fn into_policy(self, others: &[Policy]) -> Result<Policy, (usize, String)> {
        let base = match self.base {
            Some(base) => find(base.get_ref(), others).map_err(|error| {
                let reason = error.to_string();
                let reason = reason.strip_prefix("--policy: ").unwrap_or(&reason).to_owned();
                (base.span().start, reason)
            })?,
            None => PRESETS[0].policy(),
        };
        let policy = Policy {
            name: self.name.get_ref().clone(),
            precheck: self.precheck.unwrap_or(base.precheck),
            deadline: self.deadline.unwrap_or(base.deadline),
            on_timeout: self.on_timeout.unwrap_or(base.on_timeout),
            on_ite: self.on_ite.unwrap_or(base.on_ite),
            ite_marks: self.ite_marks.unwrap_or(base.ite_marks),
            completion: self.completion.unwrap_or(base.completion),
            watchdog: self.watchdog.unwrap_or(base.watchdog),
        };
        policy.check().map_err(|error| (self.name.span().start, error.to_string()))?;
        Ok(policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = r#"
[[policy]]
name = "patient"
base = "bounded:5s"
on_timeout = "retry(2)"

[[policy]]
name = "careful"
base = "patient"
completion = "leak"
watchdog = true
"#;

    #[test]
    fn rows_say_what_differs_from_their_base() {
        let policies = parse(GOOD).unwrap();
        let bounded: Policy = "bounded:5s".parse().unwrap();
        let patient = Policy { name: "patient".into(), on_timeout: OnTimeout::Retry(2), ..bounded };
        let careful = Policy {
            name: "careful".into(),
            completion: Completion::Leak,
            watchdog: true,
            ..patient.clone()
        };
        assert_eq!(policies, [patient, careful]);
    }

    #[test]
    fn mistakes_have_a_position_and_a_suggestion() {
        let with = |from: &str, to: &str| GOOD.replacen(from, to, 1);
        for (wrong, line, expected) in [
            (with("on_timeout", "on_timeuot"), 5, "did you mean `on_timeout`?"),
            (with("[[policy]]", "[[polcy]]"), 2, "did you mean `policy`?"),
            (with("retry(2)", "retri(2)"), 5, "'retri(2)' is no value of 'on_timeout'"),
            (with("bounded:5s", "bonded:5s"), 4, "did you mean 'bounded:5s'?"),
            (with("bounded:5s", "bounded:0s"), 4, "'0s' is not a duration"),
            (with("\"careful\"", "\"patient\""), 8, "there are two policies 'patient'"),
            (with("\"careful\"", "\"linux\""), 8, "there is a preset 'linux'"),
            (with("\"careful\"", "\"care:ful\""), 8, "is no name"),
            (with("base = \"bounded:5s\"", "base = \"linux\""), 3, "never passes"),
            (with("name = \"patient\"\n", ""), 2, "missing field `name`"),
            (with("\"patient\"", "patient"), 3, "string"),
            (with("watchdog = true", "watchdog = 1"), 11, "a boolean"),
        ] {
            let (at, reason) = parse(&wrong).unwrap_err();
            let at = position(&wrong, at);
            assert!(at.starts_with(&format!("line {line}, ")), "{at}: {reason}");
            assert!(reason.contains(expected) && !reason.contains('\n'), "{reason}");
        }
    }

    #[test]
    fn an_unknown_policy_is_refused_with_one_that_may_have_been_meant() {
        let own = parse(GOOD).unwrap();
        let message = |name: &str| find(name, &own).unwrap_err().to_string();
        assert!(message("linus").contains("did you mean 'linux'?"), "{}", message("linus"));
        assert!(message("carefull").contains("'careful'"), "{}", message("carefull"));
        assert!(message("quarantin:1s").contains("'quarantine:1s'"));
        assert!(message("zzz").contains("linux, "), "{}", message("zzz"));
        assert!(message("linux:1s").contains("bounded:1s"));
    }

    fn any_of<T: Copy + std::fmt::Debug>(values: &'static [T]) -> impl Strategy<Value = T> {
        prop::sample::select(values)
    }

    fn policy() -> impl Strategy<Value = Policy> {
        let deadline = (1..u64::MAX).prop_map(std::time::Duration::from_nanos);
        let on_timeout = prop_oneof![
            Just(OnTimeout::Report),
            any::<u32>().prop_map(OnTimeout::Retry),
            Just(OnTimeout::Quarantine),
            Just(OnTimeout::QuarantinePosted),
            Just(OnTimeout::Remove),
            Just(OnTimeout::Reset),
        ];
        let fields = (
            any_of(Precheck::ALL),
            deadline.prop_map(Timeout::After),
            on_timeout,
            any_of(OnIte::ALL),
            any_of(IteMarks::ALL),
            any_of(Completion::ALL),
            any::<bool>(),
        );
        ("[a-z][a-z0-9_.+-]{4,12}z", fields).prop_map(|(name, fields)| {
            let (precheck, deadline, on_timeout, on_ite, ite_marks, completion, watchdog) = fields;
            Policy { name, precheck, deadline, on_timeout, on_ite, ite_marks, completion, watchdog }
        })
    }

    proptest! {
        #[test]
        fn every_policy_survives_being_written_and_read(policy in policy()) {
            let row = toml::to_string(&policy).unwrap();
            prop_assert_eq!(parse(&format!("[[policy]]\n{row}")), Ok(vec![policy]));
        }

        #[test]
        fn no_text_makes_reading_panic(text in ".{0,200}") {
            let _ = parse(&text);
        }
    }
}
