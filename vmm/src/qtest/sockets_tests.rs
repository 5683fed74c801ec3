//! Clients at sockets, as QEMU's test library and as a person with a shell have them.

use std::thread::JoinHandle;

use serde_json::Value;
use vmm_sys_util::tempdir::TempDir;

use super::*;
use crate::qtest::session::testkit::session;

/// A session at sockets that the test has made, as QEMU's test library does it.
struct Rig {
    server: JoinHandle<Result<(), SocketError>>,
    qtest: BufReader<UnixStream>,
    qmp: BufReader<UnixStream>,
    _directory: TempDir,
}

impl Rig {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let paths = ["qtest", "qmp"].map(|name| directory.as_path().join(name));
        let listeners = paths.each_ref().map(|path| UnixListener::bind(path).unwrap());
        let [qtest, qmp] = paths;
        let sockets = Sockets { qtest, qmp: Some(qmp), connect: true };
        let server = thread::spawn(move || serve_without_signals(&sockets));
        let [qtest, qmp] = listeners.map(|listener| BufReader::new(listener.accept().unwrap().0));
        let mut rig = Self { server, qtest, qmp, _directory: directory };
        assert!(rig.message()["QMP"].is_object());
        rig
    }

    fn command(&mut self, line: &str) -> String {
        writeln!(self.qtest.get_mut(), "{line}").unwrap();
        read_line(&mut self.qtest)
    }

    /// Sends a text to QMP, and returns the next message.
    fn ask(&mut self, text: &str) -> Value {
        self.qmp.get_mut().write_all(text.as_bytes()).unwrap();
        self.message()
    }

    fn message(&mut self) -> Value {
        serde_json::from_str(&read_line(&mut self.qmp)).unwrap()
    }
}

fn serve_without_signals(sockets: &Sockets) -> Result<(), SocketError> {
    serve_sockets(&mut session(), sockets, None, &SignalFd::new(&SIGNALS).unwrap())
}

fn read_line(stream: &mut BufReader<UnixStream>) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

#[test]
fn both_protocols_reach_the_same_machine() {
    let mut rig = Rig::new();
    assert_eq!(rig.command("endianness"), "OK little");
    assert_eq!(rig.ask("{'execute': 1}\n")["error"]["class"], "GenericError");
    let negotiate = r#"{"execute": "qmp_capabilities"}"#;
    assert!(rig.ask(negotiate)["return"].is_object(), "without a newline");
    rig.command("writel 0xfed90038 0");
    let reset = "\n{\"execute\":\n\"system_reset\"}\n";
    assert!(rig.ask(reset)["return"].is_object());
    assert_eq!(rig.message()["event"], "RESET");
    assert_eq!(rig.command("readl 0xfed90038"), "OK 0x0000000080000000");
    assert_eq!(rig.command("outb 0xcf9 6"), "OK");
    assert_eq!(rig.message()["data"]["reason"], "guest-reset");
    assert!(rig.ask(r#"{"execute": "quit"}"#)["return"].is_object());
    assert_eq!(rig.message()["event"], "SHUTDOWN");
    rig.server.join().unwrap().unwrap();
}

#[test]
fn a_client_that_hangs_up_ends_the_session() {
    let rig = Rig::new();
    drop(rig.qtest);
    rig.server.join().unwrap().unwrap();
    let rig = Rig::new();
    drop(rig.qmp);
    rig.server.join().unwrap().unwrap();
}

#[test]
fn a_socket_that_a_killed_process_has_left_is_replaced() {
    let directory = TempDir::new().unwrap();
    let path = directory.as_path().join("qtest");
    drop(UnixListener::bind(&path).unwrap());
    let sockets = Sockets { qtest: path.clone(), qmp: None, connect: false };
    let server = thread::spawn(move || serve_without_signals(&sockets));
    let mut stream = loop {
        match UnixStream::connect(&path) {
            Ok(stream) => break stream,
            Err(_) if !server.is_finished() => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    };
    stream.write_all(b"endianness\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "OK little\n");
    server.join().unwrap().unwrap();
    assert!(!path.exists());
}

#[test]
fn a_socket_in_use_and_one_that_is_missing_are_refused() {
    let directory = TempDir::new().unwrap();
    let path = directory.as_path().join("qtest");
    let serve = |connect| {
        let sockets = Sockets { qtest: path.clone(), qmp: None, connect };
        serve_without_signals(&sockets).unwrap_err().source.kind()
    };
    assert_eq!(serve(true), ErrorKind::NotFound);
    let _listener = UnixListener::bind(&path).unwrap();
    assert_eq!(serve(false), ErrorKind::AddrInUse);
    assert!(path.exists(), "it belongs to another process");
}

#[test]
fn the_log_has_both_directions_and_times() {
    let (reader, writer) = UnixStream::pair().unwrap();
    let (mut client, server) = UnixStream::pair().unwrap();
    let signals = SignalFd::new(&SIGNALS).unwrap();
    client.write_all(b"endianness\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    serve(&mut session(), &server, None, Some(Box::new(writer)), &signals).unwrap();
    let lines: Vec<String> = BufReader::new(reader).lines().map(Result::unwrap).collect();
    let texts: Vec<&str> = lines.iter().map(|line| line.split_once("] ").unwrap().1).collect();
    assert_eq!(texts, ["endianness", "OK little"]);
    assert!(lines[0].starts_with("[R +") && lines[1].starts_with("[S +"), "{lines:?}");
}
