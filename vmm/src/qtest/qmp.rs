//! The commands of QEMU's monitor protocol, QMP, that its qtest programs and their library use.
//!
//! [`Monitor`] takes one command as JSON and returns the lines to send: the answer, then events. It
//! does not read, write or wait. Names and answers are those of QEMU's `qapi/*.json`.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::Session;

/// The machines that `-machine` can name, and that `query-machines` lists.
const MACHINES: [&str; 2] = ["q35", "none"];
/// The types that `qom-list-types` lists, each with its parent.
const TYPES: [(&str, &str); 4] = [
    ("qtest-accel", "accel"),
    ("edu", "device"),
    ("intel-iommu", "device"),
    ("iommu-testdev", "device"),
];

/// A command, and the function that executes it.
type Handler = (&'static str, fn(&mut Monitor, &mut Session, &Map<String, Value>) -> Answer);
/// The value of `return`, or the error.
type Answer = Result<Value, QmpError>;

/// The commands after negotiation. `query-commands` lists them.
const COMMANDS: [Handler; 9] = [
    ("qmp_capabilities", Monitor::negotiate),
    ("query-commands", Monitor::query_commands),
    ("query-version", |_, _, _| Ok(version())),
    ("query-status", |_, _, _| Ok(json!({"running": true, "status": "running"}))),
    ("query-machines", |_, _, _| Ok(machines())),
    ("query-cpu-definitions", |_, _, _| Ok(json!([]))),
    ("qom-list-types", |_, _, arguments| types(arguments)),
    ("system_reset", Monitor::system_reset),
    ("quit", Monitor::quit),
];

/// An error as QMP answers it, with QEMU's classes.
#[derive(Debug)]
struct QmpError {
    class: &'static str,
    description: String,
}

impl QmpError {
    fn generic(description: impl Into<String>) -> Self {
        Self { class: "GenericError", description: description.into() }
    }
}

/// The state of one QMP connection.
#[derive(Debug, Default)]
pub(super) struct Monitor {
    /// `qmp_capabilities` has been executed: before it there are no other commands and no events.
    is_negotiated: bool,
    /// Events to send after the answer.
    events: Vec<Value>,
    has_quit: bool,
}

impl Monitor {
    /// The first line of a connection.
    pub(super) fn greeting() -> String {
        line(&json!({"QMP": {"version": version(), "capabilities": []}}))
    }

    /// Whether `quit` has been executed.
    pub(super) fn has_quit(&self) -> bool {
        self.has_quit
    }

    /// Executes one command. Returns the answer and the events after it, each a line.
    pub(super) fn execute(&mut self, command: &Value, session: &mut Session) -> String {
        let outcome = self.dispatch(command, session);
        let mut answer = match outcome {
            Ok(value) => json!({"return": value}),
            Err(QmpError { class, description }) => {
                json!({"error": {"class": class, "desc": description}})
            }
        };
        if let (Some(id), Some(fields)) = (command.get("id"), answer.as_object_mut()) {
            fields.insert("id".to_owned(), id.clone());
        }
        line(&answer) + &self.take_events(session)
    }

    /// The answer to a text that is not JSON.
    pub(super) fn refuse(error: &serde_json::Error) -> String {
        let description = format!("JSON parse error, {error}");
        line(&json!({"error": {"class": "GenericError", "desc": description}}))
    }

    /// The events since the last call, each a line.
    pub(super) fn take_events(&mut self, session: &mut Session) -> String {
        if session.take_reset() {
            self.emit("RESET", json!({"guest": true, "reason": "guest-reset"}));
        }
        let events = std::mem::take(&mut self.events);
        if self.is_negotiated { events.iter().map(line).collect() } else { String::new() }
    }

    fn dispatch(&mut self, command: &Value, session: &mut Session) -> Answer {
        let Some(fields) = command.as_object() else {
            return Err(QmpError::generic("QMP input must be a JSON object"));
        };
        let Some(name) = fields.get("execute").and_then(Value::as_str) else {
            return Err(QmpError::generic("QMP input lacks member 'execute', a string"));
        };
        let nothing = Map::new();
        let arguments = match fields.get("arguments") {
            None => &nothing,
            Some(Value::Object(arguments)) => arguments,
            Some(_) => {
                return Err(QmpError::generic("QMP input member 'arguments' must be an object"));
            }
        };
        let not_found = |description| QmpError { class: "CommandNotFound", description };
        if self.is_negotiated == (name == "qmp_capabilities") {
            return Err(not_found(match self.is_negotiated {
                true => "Capabilities negotiation is already complete".to_owned(),
                false => "Expecting capabilities negotiation with 'qmp_capabilities'".to_owned(),
            }));
        }
        match COMMANDS.iter().find(|(known, _)| *known == name) {
            Some((_, run)) => run(self, session, arguments),
            None => Err(not_found(format!("The command {} has not been found", shorten(name)))),
        }
    }

    fn negotiate(&mut self, _: &mut Session, arguments: &Map<String, Value>) -> Answer {
        let wanted = arguments.get("enable").and_then(Value::as_array);
        if let Some(capability) = wanted.and_then(|list| list.first()) {
            return Err(QmpError::generic(format!("Capability {capability} is not available")));
        }
        self.is_negotiated = true;
        Ok(json!({}))
    }

    fn query_commands(&mut self, _: &mut Session, _: &Map<String, Value>) -> Answer {
        Ok(COMMANDS.iter().map(|(name, _)| json!({"name": name})).collect())
    }

    fn system_reset(&mut self, session: &mut Session, _: &Map<String, Value>) -> Answer {
        session.machine().reset().map_err(|error| QmpError::generic(error.to_string()))?;
        self.emit("RESET", json!({"guest": false, "reason": "host-qmp-system-reset"}));
        Ok(json!({}))
    }

    fn quit(&mut self, _: &mut Session, _: &Map<String, Value>) -> Answer {
        self.has_quit = true;
        self.emit("SHUTDOWN", json!({"guest": false, "reason": "host-qmp-quit"}));
        Ok(json!({}))
    }

    /// Appends an event with the time of this host, as QMP has it.
    fn emit(&mut self, name: &str, data: Value) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let timestamp = json!({"seconds": now.as_secs(), "microseconds": now.subsec_micros()});
        self.events.push(json!({"event": name, "data": data, "timestamp": timestamp}));
    }
}

/// This program's version in QEMU's fields; `package` names the program.
fn version() -> Value {
    let part = |text: &str| text.parse::<u32>().unwrap_or_default();
    json!({
        "qemu": {
            "major": part(env!("CARGO_PKG_VERSION_MAJOR")),
            "minor": part(env!("CARGO_PKG_VERSION_MINOR")),
            "micro": part(env!("CARGO_PKG_VERSION_PATCH")),
        },
        "package": concat!("ghostlink ", env!("CARGO_PKG_VERSION")),
    })
}

fn machines() -> Value {
    let machine = |name: &&str| {
        json!({
            "name": name, "cpu-max": 1, "hotpluggable-cpus": false, "numa-mem-supported": false,
            "deprecated": false, "acpi": false,
        })
    };
    MACHINES.iter().map(machine).collect()
}

/// The types, or those with the parent `implements`.
fn types(arguments: &Map<String, Value>) -> Answer {
    let parent = match arguments.get("implements") {
        None => None,
        Some(Value::String(parent)) => Some(parent.as_str()),
        Some(_) => return Err(QmpError::generic("'implements' must be a string")),
    };
    let wanted = TYPES.iter().filter(|(_, of)| parent.is_none_or(|parent| parent == *of));
    Ok(wanted.map(|(name, of)| json!({"name": name, "parent": of})).collect())
}

/// The first 40 characters: an answer repeats no more of a name, which may be long.
fn shorten(name: &str) -> &str {
    name.char_indices().nth(40).map_or(name, |(end, _)| &name[..end])
}

/// One message: QMP's lines end with carriage return and line feed.
fn line(message: &Value) -> String {
    format!("{message}\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qtest::session::testkit::session;

    /// The messages that answer `commands` on one connection.
    fn run(commands: &[Value]) -> Vec<Value> {
        let (mut monitor, mut session) = (Monitor::default(), session());
        let lines: String =
            commands.iter().map(|command| monitor.execute(command, &mut session)).collect();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The answer to `command` after negotiation.
    fn answer(command: Value) -> Value {
        run(&[json!({"execute": "qmp_capabilities"}), command]).swap_remove(1)
    }

    #[test]
    fn the_greeting_names_the_program() {
        let greeting: Value = serde_json::from_str(&Monitor::greeting()).unwrap();
        let package = greeting["QMP"]["version"]["package"].as_str().unwrap();
        assert!(package.starts_with("ghostlink "), "{package}");
        assert_eq!(greeting["QMP"]["capabilities"], json!([]));
    }

    #[test]
    fn negotiation_comes_first_and_once() {
        let negotiate = json!({"execute": "qmp_capabilities", "id": 7});
        let status = json!({"execute": "query-status"});
        let answers = run(&[status.clone(), negotiate.clone(), status, negotiate]);
        assert_eq!(answers[0]["error"]["class"], "CommandNotFound");
        assert_eq!(answers[1], json!({"return": {}, "id": 7}));
        assert_eq!(answers[2]["return"]["running"], true);
        assert_eq!(answers[3]["error"]["class"], "CommandNotFound");
        let oob = json!({"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}});
        let error = run(&[oob]).swap_remove(0);
        assert!(error["error"]["desc"].as_str().unwrap().contains("oob"), "{error}");
    }

    #[test]
    fn machines_and_types_are_what_the_launcher_takes() {
        let machines = answer(json!({"execute": "query-machines"}));
        assert_eq!(machines["return"][0]["name"], "q35");
        let accels = json!({"execute": "qom-list-types",
            "arguments": {"implements": "accel", "abstract": false}});
        assert_eq!(answer(accels)["return"], json!([{"name": "qtest-accel", "parent": "accel"}]));
    }

    #[test]
    fn a_reset_is_answered_and_then_told_of() {
        let (mut monitor, mut session) = (Monitor::default(), session());
        monitor.execute(&json!({"execute": "qmp_capabilities"}), &mut session);
        session.execute("writel 0xfed90038 0x12345678");
        let lines = monitor.execute(&json!({"execute": "system_reset"}), &mut session);
        let messages: Vec<Value> =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(messages[0], json!({"return": {}}));
        assert_eq!(messages[1]["event"], "RESET");
        assert_eq!(messages[1]["data"]["guest"], false);
        assert_eq!(session.execute("readl 0xfed90038"), "OK 0x0000000080000000\n");

        session.execute("outb 0xcf9 6");
        let event: Value = serde_json::from_str(&monitor.take_events(&mut session)).unwrap();
        assert_eq!(event["data"], json!({"guest": true, "reason": "guest-reset"}));
        assert_eq!(monitor.take_events(&mut session), "");
    }

    #[test]
    fn mistakes_are_answered() {
        for (command, told) in [
            (json!([1]), "must be a JSON object"),
            (json!({"run": "quit"}), "lacks member 'execute'"),
            (json!({"execute": "quit", "arguments": 3}), "must be an object"),
            (json!({"execute": "fly"}), "The command fly has not been found"),
            (json!({"execute": "x".repeat(100_000)}), "has not been found"),
        ] {
            let error = answer(command);
            let text = error["error"]["desc"].as_str().unwrap();
            assert!(text.contains(told) && text.len() < 100, "{text}");
        }
    }
}
