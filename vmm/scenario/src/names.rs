//! Refuses an expectation that names what does not exist, or that cannot fail.

use std::collections::BTreeSet;

use devices::fault::Trigger;
use iommu::event::{Emitter, Event, UnitRole};
use iommu::ids::Bdf;
use lab::text::suggestion;
use serde_json::Value;
use toml::Table;

use crate::file::{Expectation, Look, Pattern, Scenario};
use crate::fix::Release;
use crate::host::HostChoice;

/// The longest command line that the machine passes to a kernel, in bytes.
const CMDLINE_MAX: usize = 2047;

/// What is wrong with the steps of a scenario.
pub(crate) fn check_steps(scenario: &Scenario) -> Result<(), String> {
    let steps = scenario.steps.len();
    if steps > steps::MAX_STEPS {
        let most = steps::MAX_STEPS;
        return Err(format!("there are {steps} steps, and Linux passes on {most} at the most"));
    }
    let length = scenario.cmdline("").len();
    if length > CMDLINE_MAX {
        return Err(format!(
            "with its steps the command line has {length} bytes; the most are {CMDLINE_MAX}"
        ));
    }
    Ok(())
}

/// What is wrong with the trigger of a fault: what it waits for must be able to come.
pub(crate) fn check_trigger(trigger: &Trigger, scenario: &Scenario) -> Result<(), String> {
    let Trigger::Line(_, expression) = trigger else { return Ok(()) };
    if regex_lite::Regex::new(expression).is_ok_and(|regex| regex.is_match("")) {
        return Err(format!("/{expression}/ matches every line"));
    }
    let Some((_, rest)) = expression.split_once("mark ") else { return Ok(()) };
    let is_part = |next: char| next.is_ascii_alphanumeric() || "_-.".contains(next);
    let marked = rest.split(|next| !is_part(next)).next().unwrap_or_default();
    let marks = scenario.steps.iter().filter_map(|step| match &step.step {
        steps::Step::Mark(word) => Some(word.as_str()),
        _ => None,
    });
    let marks: Vec<&str> = marks.collect();
    if marks.contains(&marked) {
        return Ok(());
    }
    Err(match suggestion(marked, marks.iter().copied()) {
        Some(meant) => format!("no step is mark:{marked}; did you mean {meant}?"),
        None => format!("no step is mark:{marked}; add the step"),
    })
}

/// What is wrong with an expectation, given all else of the scenario.
pub(crate) fn check(expectation: &Expectation, scenario: &Scenario) -> Result<(), String> {
    let reason = match &expectation.look {
        Look::Event { kind, with, .. } => check_event(kind, with, scenario),
        Look::Value { name, .. } => check_value(name, scenario),
        Look::Console(pattern) => check_pattern(pattern).and_then(|()| {
            let shown = format!("Kernel command line: {}", scenario.cmdline(""));
            match pattern.0.is_match(&shown) {
                true => Err(format!(
                    "/{}/ matches the command line of the kernel, which Linux prints",
                    pattern.0
                )),
                false => Ok(()),
            }
        }),
        Look::Absent(pattern) => check_pattern(pattern),
    };
    let that = &expectation.that;
    reason.map_err(|reason| format!("'{that}': {reason}"))?;
    for kernels in &expectation.kernels {
        kernels.parse::<Release>().map_err(|reason| format!("'{that}': kernels: {reason}"))?;
    }
    if expectation.fixed.is_some() && scenario.fix.is_none() {
        return Err(format!("'{that}' asks for a fix, and there is no [fix] that says which"));
    }
    Ok(())
}

fn check_pattern(pattern: &Pattern) -> Result<(), String> {
    match pattern.0.is_match("") {
        true => Err(format!("/{}/ matches every line", pattern.0)),
        false => Ok(()),
    }
}

fn check_value(name: &str, scenario: &Scenario) -> Result<(), String> {
    let values = values(scenario);
    if values.contains(name) {
        return Ok(());
    }
    let known = values.iter().map(String::as_str);
    Err(match (suggestion(name, known), values.is_empty()) {
        (Some(meant), _) => format!("no step prints the value '{name}'; did you mean '{meant}'?"),
        (None, true) => format!("no step prints the value '{name}', or any other"),
        (None, false) => {
            let values: Vec<String> = values.into_iter().collect();
            format!("no step prints the value '{name}'; they print {}", values.join(", "))
        }
    })
}

/// The names of the values that the steps print.
fn values(scenario: &Scenario) -> BTreeSet<String> {
    let cpus = scenario.cpus.into();
    scenario.steps.iter().flat_map(|step| step.step.values(cpus)).collect()
}

fn check_event(kind: &str, with: &Table, scenario: &Scenario) -> Result<(), String> {
    let samples: Vec<(Emitter, Value)> = Event::samples()
        .iter()
        .map(|event| (event.emitter(), serde_json::to_value(event).unwrap_or_default()))
        .filter(|(_, sample)| sample["event"] == kind)
        .collect();
    let Some((emitter, sample)) = samples.first() else {
        return Err(match suggestion(kind, Event::NAMES.iter().copied()) {
            Some(meant) => format!("'{kind}' is not an event; did you mean '{meant}'?"),
            None => {
                format!("'{kind}' is not an event; the events are {}", Event::NAMES.join(", "))
            }
        });
    };
    check_emitter(kind, *emitter, scenario)?;
    let fields = sample.as_object().into_iter().flat_map(|object| object.keys());
    let mut fields: Vec<&str> =
        fields.map(String::as_str).filter(|field| *field != "event").collect();
    fields.push("segment");
    for (field, value) in with {
        if !fields.contains(&field.as_str()) {
            let all = fields.join(", ");
            return Err(match suggestion(field, fields.iter().copied()) {
                Some(meant) => {
                    format!("the event '{kind}' has no field '{field}'; did you mean '{meant}'?")
                }
                None => format!("the event '{kind}' has no field '{field}'; it has {all}"),
            });
        }
        let seen: Vec<&Value> = samples.iter().map(|(_, sample)| &sample[field]).collect();
        check_field(field, value, &seen, scenario).map_err(|reason| {
            format!("the event '{kind}' never has {field} = {value}: {reason}")
        })?;
    }
    Ok(())
}

fn check_emitter(kind: &str, emitter: Emitter, scenario: &Scenario) -> Result<(), String> {
    let faults = &scenario.root_complex.faults;
    match emitter {
        Emitter::Simulation => {
            Err(format!("the event '{kind}' is one of a simulation, and this is a machine"))
        }
        Emitter::Host if scenario.host == HostChoice::Direct => Err(format!(
            "the event '{kind}' is one of a host below the guest, and there is none: host = 'direct'"
        )),
        Emitter::Faults if faults.is_empty() => {
            Err(format!("the event '{kind}' is one of a fault, and there is no [[fault]]"))
        }
        Emitter::Faults if kind == "fault_ended" && faults.iter().all(|it| it.lasts.is_none()) => {
            Err("no fault ends by itself; give one 'for'".to_owned())
        }
        _ => Ok(()),
    }
}

/// Why a field never has this value, given the values in the samples.
fn check_field(
    field: &str,
    value: &toml::Value,
    seen: &[&Value],
    scenario: &Scenario,
) -> Result<(), String> {
    if field == "segment" {
        return match value.as_integer() {
            Some(1..) => Ok(()),
            _ => Err("it is a number from 1 up; events of segment 0 do not have it".to_owned()),
        };
    }
    let wanted = serde_json::to_value(value).unwrap_or_default();
    let same_type = |seen: &&&Value| {
        matches!(
            (seen, &wanted),
            (Value::Bool(_), Value::Bool(_))
                | (Value::Number(_), Value::Number(_))
                | (Value::String(_), Value::String(_))
        )
    };
    let Some(first) = seen.iter().find(same_type) else {
        let example = seen.first().map(|seen| seen.to_string()).unwrap_or_default();
        return Err(format!("it is such as {example}"));
    };
    let Some(text) = value.as_str().filter(|_| first.is_string()) else { return Ok(()) };
    match field {
        "function" | "port" | "requester" => check_function(text, scenario),
        "fault" => {
            let faults: Vec<String> =
                scenario.root_complex.faults.iter().map(ToString::to_string).collect();
            match faults.iter().any(|fault| fault == text) {
                true => Ok(()),
                false => Err(format!("the faults are {}", faults.join(" and "))),
            }
        }
        "unit" if text == "host" && scenario.host == HostChoice::Direct => {
            Err(format!("there is no {:?} unit: host = 'direct'", UnitRole::Host).to_lowercase())
        }
        _ => {
            let words: BTreeSet<&str> = seen.iter().filter_map(|seen| seen.as_str()).collect();
            if words.contains(text) {
                return Ok(());
            }
            let all: Vec<&str> = words.iter().copied().collect();
            Err(match suggestion(text, words) {
                Some(meant) => format!("did you mean '{meant}'?"),
                None => format!("it is one of {}", all.join(", ")),
            })
        }
    }
}

/// Functions of bus 0 are in the topology. The guest numbers the other buses.
fn check_function(text: &str, scenario: &Scenario) -> Result<(), String> {
    let function: Bdf = text.parse().map_err(|_| "it is such as 01:00.0".to_owned())?;
    if function.bus() != 0 {
        return Ok(());
    }
    let topology = &scenario.root_complex.topology;
    let ports = topology.root_ports().map(|port| port.function);
    let all: Vec<Bdf> = ports.chain(topology.integrated()).collect();
    if all.contains(&function) {
        return Ok(());
    }
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    Err(format!("on bus 0 there are {}", all.join(", ")))
}
