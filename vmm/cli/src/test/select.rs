//! The scenarios that a command line names.

use std::path::Path;

use lab::text::suggestion;
use lab::toml_file::FileError;
use scenario::Scenario;

/// A scenario, and how another process finds it.
#[derive(Debug, Clone)]
pub(super) struct Selected {
    pub(super) scenario: Scenario,
    /// Its name, or the path of its file.
    pub(super) argument: String,
    /// Whether it was named, and not only matched by a pattern.
    pub(super) is_named: bool,
}

/// A name or pattern is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SelectError {
    /// The file is of no use.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is no such scenario.
    #[error("there is no scenario '{name}'{hint}; 'ghostlink test --list' lists them")]
    Unknown {
        /// The name.
        name: String,
        /// The most similar name, for the message.
        hint: String,
    },
    /// No scenario has a name like this.
    #[error("no scenario is '{0}'; 'ghostlink test --list' lists them")]
    Nothing(String),
    /// Two files have one name.
    #[error("two scenarios have the name '{0}'; rename a file")]
    Twice(String),
}

/// The scenarios that `names` name: a name, a pattern with `*`, or the path of a file. All, if there are
/// none.
pub(super) fn select(names: &[String]) -> Result<Vec<Selected>, SelectError> {
    let builtin = Scenario::all()?;
    if names.is_empty() {
        let selected = builtin.into_iter().map(|scenario| Selected::builtin(scenario, false));
        return Ok(selected.collect());
    }
    let mut selected: Vec<Selected> = Vec::new();
    for name in names {
        let found = find(name, &builtin)?;
        for new in found {
            match selected.iter().find(|old| old.scenario.name == new.scenario.name) {
                Some(old) if old.argument == new.argument => {}
                Some(_) => return Err(SelectError::Twice(new.scenario.name)),
                None => selected.push(new),
            }
        }
    }
    Ok(selected)
}

fn find(name: &str, builtin: &[Scenario]) -> Result<Vec<Selected>, SelectError> {
    if name.contains('/') || name.ends_with(".toml") {
        let scenario = Scenario::read(Path::new(name))?;
        let path = std::path::absolute(name).unwrap_or_else(|_| name.into());
        let argument = path.display().to_string();
        return Ok(vec![Selected { scenario, argument, is_named: true }]);
    }
    let is_named = !name.contains('*');
    let found: Vec<Selected> = builtin
        .iter()
        .filter(|scenario| matches(name, &scenario.name))
        .map(|scenario| Selected::builtin(scenario.clone(), is_named))
        .collect();
    if !found.is_empty() {
        return Ok(found);
    }
    if !is_named {
        return Err(SelectError::Nothing(name.to_owned()));
    }
    let known = builtin.iter().map(|scenario| scenario.name.as_str());
    let hint = suggestion(name, known).map(|meant| format!("; did you mean '{meant}'?"));
    Err(SelectError::Unknown { name: name.to_owned(), hint: hint.unwrap_or_default() })
}

impl Selected {
    fn builtin(scenario: Scenario, is_named: bool) -> Self {
        Self { argument: scenario.name.clone(), scenario, is_named }
    }
}

/// Whether the text matches a pattern in which `*` stands for any characters.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(patterns: &[&str]) -> Result<Vec<String>, String> {
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        let selected = select(&patterns).map_err(|error| error.to_string())?;
        Ok(selected.into_iter().map(|selected| selected.scenario.name).collect())
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, text, met) in [
            ("boot-*", "boot-legacy", true),
            ("boot-*", "reboot-legacy", false),
            ("*-never", "silent-strict-never", true),
            ("*-never", "silent-strict-ite", false),
            ("s*-*-never", "silent-strict-never", true),
            ("silent*", "silent", true),
            ("a*a", "a", false),
            ("boot", "boot-legacy", false),
        ] {
            assert_eq!(matches(pattern, text), met, "{pattern} {text}");
        }
    }

    #[test]
    fn names_and_patterns_choose_once_and_in_order() {
        let chosen = names(&["silent-strict-never", "silent-strict-*ite", "silent-strict-never"]);
        assert_eq!(chosen.unwrap(), ["silent-strict-never", "silent-strict-ite"]);
        assert_eq!(names(&[]).unwrap().len(), resources::SCENARIOS.len());
    }

    #[test]
    fn what_is_not_there_is_named() {
        for (name, expected) in [
            ("silent-strict-nevr", "did you mean 'silent-strict-never'?"),
            ("x*y", "no scenario is 'x*y'"),
            ("./missing.toml", "cannot read './missing.toml'"),
        ] {
            let error = names(&[name]).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
