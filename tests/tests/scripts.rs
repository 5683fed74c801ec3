//! The scripts of this repository: rules for their text, and the messages with which they fail.
//!
//! The scripts run with programs in place of apt's that know no network and note how they are called.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tests::repository::{root, texts};

/// The shell scripts, by their paths from the root.
fn scripts() -> Vec<(String, String)> {
    let mut scripts = texts();
    scripts.retain(|(path, text)| {
        let first = text.lines().next().unwrap_or_default();
        path.ends_with(".sh") || (first.starts_with("#!/") && first.ends_with("sh"))
    });
    assert!(scripts.len() > 10, "scripts are missing: {scripts:?}");
    scripts
}

/// The lines of `texts` for which `wrong` holds, for a message.
fn lines_that(texts: &[(String, String)], wrong: impl Fn(&str) -> bool) -> Vec<String> {
    let lines = texts.iter().flat_map(|(path, text)| text.lines().map(move |line| (path, line)));
    lines.filter(|(_, line)| wrong(line)).map(|(path, line)| format!("{path}: {line}")).collect()
}

#[test]
fn no_text_names_a_mirror_or_a_registry() {
    // In two pieces, as this file is one of the texts.
    let hosts = [
        ("debian", ".org"),
        ("deb.", "debian"),
        ("ftp", ".debian"),
        ("archive.", "ubuntu"),
        ("crates", ".io"),
        ("pypi", ".org"),
        ("registry.", "npmjs"),
    ]
    .map(|(start, end)| [start, end].concat());
    let named = lines_that(&texts(), |line| hosts.iter().any(|host| line.contains(host.as_str())));
    assert!(named.is_empty(), "apt and cargo have mirrors in their configuration: {named:#?}");
}

#[test]
fn no_script_has_an_address() {
    let schemes = ["http", "https", "ftp"].map(|scheme| format!("{scheme}://"));
    let named = lines_that(&scripts(), |line| schemes.iter().any(|scheme| line.contains(scheme)));
    assert!(named.is_empty(), "addresses: {named:#?}");
}

/// The one call of `apt-get install` only prints which packages a program needs.
#[test]
fn no_script_installs_or_removes_a_package() {
    let installs = |line: &str| {
        let code = line.split(" # ").next().unwrap_or_default();
        let says = ["say ", "die ", "#"].iter().any(|start| code.trim_start().starts_with(start))
            || code.contains("|| die ");
        let words: Vec<&str> = code.split_whitespace().collect();
        let has = |word: &str| words.contains(&word);
        let apt = has("apt-get") || has("apt") || has("aptitude");
        let changes = ["install", "remove", "purge", "upgrade", "dist-upgrade", "autoremove"];
        let dpkg = has("dpkg") || words.iter().any(|word| word.ends_with("/dpkg"));
        !says && (dpkg || (apt && changes.iter().any(|word| has(word)) && !has("--simulate")))
    };
    assert!(installs("    apt-get install -y qemu"), "the rule knows the command");
    assert!(installs("    dpkg -i qemu.deb"), "the rule knows the command");
    let found = lines_that(&scripts(), installs);
    assert!(found.is_empty(), "resources/packages unpacks packages: {found:#?}");
}

/// A machine for scripts: an empty cache, and programs in place of apt's.
struct Sandbox {
    directory: PathBuf,
}

impl Sandbox {
    /// `apt_cache` and `apt_get` are the bodies of those programs.
    fn new(name: &str, apt_cache: &str, apt_get: &str) -> Self {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("scripts").join(name);
        let _ = fs::remove_dir_all(&directory);
        let sandbox = Self { directory };
        sandbox.program("apt-cache", apt_cache);
        sandbox.program("apt-get", &format!("echo \"$@\" >>{}\n{apt_get}", sandbox.path("calls")));
        sandbox.program("dpkg-deb", "exit 1");
        sandbox
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    fn program(&self, name: &str, body: &str) {
        let path = self.directory.join("bin").join(name);
        fs::create_dir_all(self.directory.join("bin")).expect("the directory is writable");
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("the directory is writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }

    /// Runs `script` with this `PATH`.
    fn run(&self, path: &str, script: &[&str]) -> Output {
        Command::new(root().join(script[0]))
            .args(&script[1..])
            .env_remove("GHOSTLINK_QEMU")
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("PATH", path)
            .output()
            .expect("the script can be started")
    }

    /// The `PATH` of this machine, after the programs of the sandbox.
    fn search_path(&self) -> String {
        format!("{}:{}", self.path("bin"), std::env::var("PATH").expect("it is set"))
    }

    /// A `PATH` with only these programs of this machine.
    fn tools(&self, names: &[&str]) -> String {
        let bin = self.directory.join("tools");
        fs::create_dir_all(&bin).expect("the directory is writable");
        for name in names {
            let program = std::env::split_paths(&std::env::var("PATH").expect("it is set"))
                .map(|directory| directory.join(name))
                .find(|path| path.exists())
                .expect("every machine has it");
            std::os::unix::fs::symlink(program, bin.join(name)).expect("the directory is writable");
        }
        bin.display().to_string()
    }

    /// Runs `script`, which fails; returns its lines on standard error without those about its
    /// progress.
    #[track_caller]
    fn fails_with(&self, path: &str, script: &[&str]) -> Vec<String> {
        let Output { status, stdout, stderr } = self.run(path, script);
        let stderr = String::from_utf8_lossy(&stderr);
        assert!(!status.success(), "{script:?} has not failed: {stderr}");
        assert!(stdout.is_empty(), "{script:?} has printed {}", String::from_utf8_lossy(&stdout));
        let progress = [": updating the lists ", ": downloading "];
        let is_error = |line: &&str| {
            !progress.iter().any(|step| line.contains(step)) || line.contains(" failed")
        };
        stderr.lines().filter(is_error).map(str::to_owned).collect()
    }

    /// Checks that `script` fails with one line, and that this line contains `message`.
    #[track_caller]
    fn one_message(&self, script: &[&str], message: &str) {
        let lines = self.fails_with(&self.search_path(), script);
        assert!(lines.len() == 1 && lines[0].contains(message), "{script:?}: {lines:#?}");
    }
}

/// apt knows busybox, and one kernel.
const KNOWS: &str = "case $* in
    *' show '*linux-image-9.98*|*' show '*busybox-static) printf 'Version: 1\\nFilename: x\\n' ;;
    *' pkgnames '*) echo linux-image-9.98.7-amd64 ;;
esac";

#[test]
fn a_kernel_that_apt_does_not_have_is_the_only_error() {
    let sandbox = Sandbox::new("no-kernel", KNOWS, "[ $2 != indextargets ] || echo mirror");
    let series = "apt offers no kernel of series 9.99";
    sandbox.one_message(&["resources/packages", "kernel", "9.99"], series);
    let source = "apt offers no package linux-source-9.99";
    sandbox.one_message(&["resources/linux/build-kernel", "9.99"], source);
}

#[test]
fn a_download_that_fails_is_the_only_error() {
    let sandbox = Sandbox::new("no-download", KNOWS, "case $* in *' download '*) exit 1 ;; esac");
    let message = "downloading linux-image-9.98.7-amd64 failed";
    sandbox.one_message(&["resources/packages", "kernel", "9.98"], message);
    sandbox.one_message(
        &["resources/packages", "tree", "busybox-static"],
        "downloading busybox-static failed",
    );
    let calls = fs::read_to_string(sandbox.path("calls")).expect("apt-get was called");
    assert!(calls.contains(" download linux-image-9.98.7-amd64"), "{calls}");
    let left: Vec<_> = fs::read_dir(sandbox.path("cache/ghostlink"))
        .expect("the scripts have made it")
        .map(|entry| entry.expect("it can be read").file_name())
        .filter(|name| name != "lock" && name != "apt-system")
        .collect();
    assert!(left.is_empty(), "this is left in the cache: {left:?}");
}

#[test]
fn without_apt_scripts_name_what_they_need() {
    let sandbox = Sandbox::new("no-apt", "", "");
    let path = sandbox.tools(&["bash", "dirname", "realpath", "mkdir", "id", "ls"]);
    let lines = sandbox.fails_with(&path, &["resources/packages", "qemu"]);
    let wanted = "gets qemu-system-x86_64; install it";
    assert!(lines.len() == 1 && lines[0].contains(wanted), "{lines:#?}");
}

#[test]
fn an_installed_qemu_is_used_without_apt() {
    let sandbox = Sandbox::new("installed", KNOWS, "");
    sandbox.program("qemu-system-x86_64", "echo QEMU emulator version 11.1.3");
    let script = ["resources/packages", "qemu", "10"];
    let Output { status, stdout, .. } = sandbox.run(&sandbox.search_path(), &script);
    assert!(status.success());
    let printed = String::from_utf8_lossy(&stdout);
    assert_eq!(printed.trim_end(), sandbox.path("bin/qemu-system-x86_64"));
    assert!(!Path::new(&sandbox.path("calls")).exists(), "apt-get was called");
}

#[test]
fn a_cache_that_has_changed_is_not_used() {
    let sandbox = Sandbox::new("changed", KNOWS, "");
    let tree = sandbox.directory.join("cache/ghostlink/busybox-static");
    fs::create_dir_all(&tree).expect("the directory is writable");
    fs::write(tree.join("SHA256SUMS"), format!("{}  busybox\n", "0".repeat(64))).expect("it is");
    fs::write(tree.join("busybox"), "changed").expect("it is");
    let path = std::env::var("PATH").expect("it is set");
    let lines = sandbox.fails_with(&path, &["resources/packages", "tree", "busybox-static"]);
    assert!(lines.last().is_some_and(|line| line.contains("has changed since")), "{lines:#?}");
}

#[test]
fn wrong_arguments_are_one_message() {
    let sandbox = Sandbox::new("arguments", KNOWS, "");
    for (script, message) in [
        (["tests/run", "--nonsense"].as_slice(), "unknown option '--nonsense'"),
        (&["resources/packages"], "unknown command ''"),
        (&["resources/packages", "complete"], "complete takes the name of a package"),
        (&["resources/packages", "tree"], "tree takes the name of a package"),
        (&["resources/packages", "tree", "nosuch"], "apt offers no package nosuch"),
        (&["resources/packages", "kernel"], "by its series (6.12) or its version"),
        (&["resources/linux/build-kernel", "--nonsense"], "unknown option '--nonsense'"),
        (&["resources/tied"], "the program is missing"),
    ] {
        sandbox.one_message(script, message);
    }
}

/// Starts `sleep` by `resources/tied` from a shell with this `PATH`, kills the shell, and waits until
/// `sleep` has ended.
#[track_caller]
fn ends_with_its_caller(path: &str) {
    let script = root().join("resources/tied");
    let mut caller = Command::new("sh")
        .args(["-c", "\"$0\" sh -c 'echo started; exec sleep 600' & wait"])
        .arg(script)
        .env("PATH", path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("there is a shell");
    let mut output = BufReader::new(caller.stdout.take().expect("it is piped"));
    let mut line = String::new();
    output.read_line(&mut line).expect("it is readable");
    assert_eq!(line, "started\n");
    caller.kill().expect("it runs");
    caller.wait().expect("it is a child");
    // The pipe has an end when all that could write to it have ended.
    let (sender, ended) = mpsc::channel();
    std::thread::spawn(move || {
        sender.send(output.read_line(&mut line).is_ok_and(|read| read == 0))
    });
    assert_eq!(ended.recv_timeout(Duration::from_secs(60)), Ok(true), "the program goes on");
}

#[test]
fn a_tied_program_ends_when_its_caller_is_killed() {
    ends_with_its_caller(&std::env::var("PATH").expect("it is set"));
}

/// As on a machine without util-linux.
#[test]
fn a_tied_program_needs_no_setpriv() {
    let sandbox = Sandbox::new("no-setpriv", "", "");
    let tools = sandbox.tools(&["sh", "sed", "sleep", "true"]);
    ends_with_its_caller(&tools);
}

/// A program that knows two scenarios, of which the first is skipped and the second fails.
const SCENARIOS: &str = "case $* in
    'test --list') printf 'skipped  a title\\nfails  another\\n' ;;
    *skipped*) printf 'KTAP version 1\\n1..1\\n  ok 1 skipped # SKIP a reason\\n' ;;
    *) echo 'not ok 1 fails' && exit 1 ;;
esac";

#[test]
fn scenarios_are_a_collection_of_kselftest() {
    let sandbox = Sandbox::new("kselftest", KNOWS, "");
    sandbox.program("ghostlink", SCENARIOS);
    let run = |arguments: &[&str]| {
        let output = Command::new(root().join("resources/run_kselftest.sh"))
            .args(arguments)
            .env("GHOSTLINK", sandbox.path("bin/ghostlink"))
            .env("KSELFTEST_KERNEL", "/a/tree")
            .stdin(Stdio::null())
            .output()
            .expect("there is bash");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    assert_eq!(run(&["--list"]).1, "ghostlink:skipped\nghostlink:fails\n");
    let (status, printed, _) = run(&["-c", "ghostlink", "-o", "9"]);
    assert_eq!(status, Some(0));
    assert_eq!(
        printed,
        "TAP version 13\n1..2\n\
         # timeout set to 9\n# selftests: ghostlink: skipped\n\
         # KTAP version 1\n# 1..1\n#   ok 1 skipped # SKIP a reason\n\
         ok 1 selftests: ghostlink: skipped # SKIP\n\
         # timeout set to 9\n# selftests: ghostlink: fails\n# not ok 1 fails\n\
         not ok 2 selftests: ghostlink: fails # exit=1\n"
    );
    let printed = run(&["-d", "-t", "ghostlink:fails"]).1;
    assert!(printed.ends_with("test fails --kernel /a/tree\n"), "{printed}");
    for (arguments, message) in [
        (["-t", "ghostlink:nosuch"].as_slice(), "No such test 'ghostlink:nosuch'"),
        (&["-t", "net:x"], "No such test 'net:x'"),
        (&["-c", "net"], "No such collection 'net'"),
        (&["-o", "soon"], "takes seconds, not 'soon'"),
        (&["-s", "-p"], "exclude each other"),
        (&["--netns"], "unknown option '--netns'"),
    ] {
        let (status, _, error) = run(arguments);
        assert_eq!(status, Some(125), "{arguments:?}");
        assert!(error.lines().count() == 1 && error.contains(message), "{arguments:?}: {error}");
    }
}
