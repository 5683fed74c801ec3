//! Axes: any setting of a run, by its path in the description of the run.
//!
//! `policy.deadline`, `unit.ict`, `workload.cpus`, `costs.hot_plug` and all others have the names and
//! the values that they have in files. Some have a shorter name, and two stand for several settings.

use serde_json::Value;

use crate::sim::RunSpec;
use crate::text::suggestion;

/// Shorter names.
const SHORT: [(&str, &str); 11] = [
    ("deadline", "policy.deadline"),
    ("in_flight", "policy.in_flight"),
    ("completion", "policy.completion"),
    ("on_timeout", "policy.on_timeout"),
    ("on_ite", "policy.on_ite"),
    ("precheck_on", "policy.precheck_on"),
    ("ict", "unit.ict"),
    ("mode", "fault.fault"),
    ("queue_depth", "workload.queue_depth"),
    ("hot_plug", "costs.hot_plug"),
    ("reset", "costs.reset"),
];

/// CPUs for each device.
const CPUS: &str = "cpus";
/// Devices, with as many CPUs each as before.
const DEVICES: &str = "devices";

/// Sets the axis `name` to `value` in `spec`.
///
/// # Errors
///
/// What is wrong, and what to do.
pub(super) fn set(spec: &mut RunSpec, name: &str, value: &toml::Value) -> Result<(), String> {
    match name {
        CPUS => {
            let cpus = number(name, value)?;
            let all = u32::from(spec.workload.devices) * u32::from(cpus);
            spec.workload.cpus = u16::try_from(all).map_err(|_| too_many(name, value))?;
            Ok(())
        }
        DEVICES => {
            let devices = number(name, value)?;
            let cpus = spec.workload.cpus.div_ceil(spec.workload.devices.max(1));
            let all = u32::from(devices) * u32::from(cpus);
            let workload = crate::sim::Workload {
                devices,
                cpus: u16::try_from(all).map_err(|_| too_many(name, value))?,
                ..spec.workload.clone()
            };
            let fitting = RunSpec::new(spec.policy.clone(), spec.fault.clone(), workload, 0);
            spec.unit.domain_bits = fitting.unit.domain_bits;
            spec.workload = fitting.workload;
            Ok(())
        }
        _ => set_path(spec, name, value),
    }
}

fn number(name: &str, value: &toml::Value) -> Result<u16, String> {
    let number = value.as_integer().and_then(|number| u16::try_from(number).ok());
    number.filter(|number| *number > 0).ok_or_else(|| {
        format!("{value} is no value of '{name}'; give whole numbers from 1 on, as in values = [1, 2, 4]")
    })
}

fn too_many(name: &str, value: &toml::Value) -> String {
    format!("{name} = {value} makes more than 4096 CPUs; give a smaller number")
}

fn set_path(spec: &mut RunSpec, name: &str, value: &toml::Value) -> Result<(), String> {
    let path = SHORT.iter().find(|(short, _)| *short == name).map_or(name, |(_, path)| path);
    // Numbers, text and lists into memory: that does not fail.
    let mut all = serde_json::to_value(&*spec).unwrap_or_default();
    let old = find(&mut all, path).ok_or_else(|| unknown(name, spec))?;
    *old = serde_json::to_value(value).unwrap_or_default();
    let wrong = |reason: String| format!("{value} is no value of '{name}': {reason}");
    let changed: RunSpec = serde_json::from_value(all).map_err(|e| wrong(e.to_string()))?;
    changed.policy.check().map_err(|error| wrong(error.to_string()))?;
    *spec = changed;
    Ok(())
}

fn find<'a>(all: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.').try_fold(all, |inner, key| inner.get_mut(key))
}

/// The error for a name that is no axis.
fn unknown(name: &str, spec: &RunSpec) -> String {
    let all = serde_json::to_value(spec).unwrap_or_default();
    let mut known = vec![CPUS.to_owned(), DEVICES.to_owned()];
    for (group, settings) in all.as_object().into_iter().flatten() {
        match settings.as_object() {
            Some(settings) => known.extend(settings.keys().map(|key| format!("{group}.{key}"))),
            None => known.push(group.clone()),
        }
    }
    known.extend(
        SHORT
            .iter()
            .filter(|(_, path)| known.iter().any(|name| name == path))
            .map(|(short, _)| (*short).to_owned())
            .collect::<Vec<_>>(),
    );
    match suggestion(name, known.iter().map(String::as_str)) {
        Some(meant) => format!("there is no axis '{name}'; did you mean '{meant}'?"),
        None => format!("there is no axis '{name}'; there are {}", known.join(", ")),
    }
}
