//! The report in a browser: what a reader sees, with light and dark colours, on a desk and on a phone.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tests::{Need, browser, wanted};
use vmm_sys_util::tempdir::TempDir;

use crate::cli::ghostlink;

const PROBE: &str = include_str!("probe.js");

/// Writes a report with so many policies that their marks lie on each other, and returns its page.
fn report(directory: &Path) -> String {
    let out = directory.join("results");
    let policies = "linux,linux-7.0,bounded:100ms,quarantine:100ms,quarantine-posted:100ms,\
        late-removal:100ms,flr:100ms,amd,smmuv3,xen-4.15,xen";
    let options = [
        "compare",
        "--policies",
        policies,
        "--faults",
        "none,silent,ignore-invalidate,flap:keep",
        "--workloads",
        "victim,teardown",
        "--units",
        "serial,parallel",
        "--seeds",
        "1",
        "--format",
        "none",
    ];
    let mut command = ghostlink(&options);
    let output = command.arg("--out").arg(&out).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read_to_string(out.join("report.html")).unwrap()
}

/// A browser's window.
struct Window<'a> {
    directory: &'a Path,
    width: u32,
    is_dark: bool,
}

impl Window<'_> {
    fn command(&self, height: u32) -> Command {
        let mut command = Command::new(browser());
        let scheme = if self.is_dark { 0 } else { 1 };
        command.args(["--no-sandbox", "--disable-gpu", "--hide-scrollbars"]);
        command.arg(format!("--window-size={},{height}", self.width));
        command.arg(format!("--blink-settings=preferredColorScheme={scheme}"));
        command.arg(format!("--user-data-dir={}", self.directory.join("profile").display()));
        command.current_dir(self.directory);
        command
    }

    /// Opens a page, and returns what the probe finds in it.
    fn findings(&self, page: &str) -> Value {
        fs::write(self.directory.join("page.html"), page).unwrap();
        let output = self.command(900).args(["--dump-dom", "page.html"]).output().unwrap();
        let dom = String::from_utf8_lossy(&output.stdout);
        let found = dom.split_once("FINDINGS ").and_then(|(_, rest)| rest.split_once(" END"));
        let Some((json, _)) = found else {
            panic!("the probe has not run: {}", String::from_utf8_lossy(&output.stderr));
        };
        let json = json.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        serde_json::from_str(&json).unwrap()
    }

    /// Opens a page as a picture. The directory in `GHOSTLINK_SCREENSHOTS` keeps it, for people.
    fn screenshot(&self, page: &str) -> (u32, u32) {
        const HEIGHT: u32 = 4000;
        fs::write(self.directory.join("page.html"), page).unwrap();
        let theme = if self.is_dark { "dark" } else { "light" };
        let name = format!("report-{}-{theme}.png", self.width);
        let mut command = self.command(HEIGHT);
        let output = command.arg(format!("--screenshot={name}")).arg("page.html").output().unwrap();
        let picture = fs::read(self.directory.join(&name)).unwrap_or_else(|error| {
            panic!("{name}: {error}: {}", String::from_utf8_lossy(&output.stderr))
        });
        if let Some(kept) = std::env::var_os("GHOSTLINK_SCREENSHOTS") {
            fs::write(Path::new(&kept).join(&name), &picture).unwrap();
        }
        // The header of a PNG: signature, length and name of the first chunk, width, height.
        assert!(picture.starts_with(b"\x89PNG\r\n\x1a\n"), "{name} is no PNG");
        let number = |at: usize| u32::from_be_bytes(picture[at..at + 4].try_into().unwrap());
        assert_eq!(number(20), HEIGHT);
        (number(16), picture.len() as u32)
    }
}

#[test]
fn the_report_is_readable_in_both_themes_on_a_desk_and_on_a_phone() {
    if !wanted(Need::Browser) {
        return;
    }
    let directory = TempDir::new().unwrap();
    let page = report(directory.as_path());
    let probed = page.replace("</body>", &format!("<script>{PROBE}</script></body>"));
    assert_ne!(page, probed);
    for (width, is_dark) in [(1280, false), (1280, true), (390, false), (390, true)] {
        let window = Window { directory: directory.as_path(), width, is_dark };
        let found = window.findings(&probed);
        assert_eq!(found["faults"], Value::Array(Vec::new()), "{width} px, dark: {is_dark}");
        assert_eq!((&found["width"], &found["dark"]), (&width.into(), &is_dark.into()));
        assert_eq!(found["page_width"], width, "nothing is wider than the window");
        let paper = found["paper"][0].as_u64().unwrap();
        assert_eq!(paper < 64, is_dark, "{found}");
        // The probe has seen the page: 4 groups with a plot and 2 tables each, and more.
        let count = |key: &str| found[key].as_u64().unwrap();
        assert!(count("figures") >= 4 + 1 + 4 && count("tables") >= 8, "{found}");
        assert!(count("texts") > 1000 && count("tips") > 100, "{found}");
        let (painted, bytes) = window.screenshot(&page);
        assert_eq!(painted, width);
        assert!(bytes > 20_000, "an empty picture has a few thousand bytes, and this one {bytes}");
    }
}

/// The probe finds what it looks for.
#[test]
fn the_probe_finds_faults_of_a_page() {
    if !wanted(Need::Browser) {
        return;
    }
    let directory = TempDir::new().unwrap();
    let text =
        |at: u32, text: &str| format!("<text x=\"{at}\" y=\"20\" fill=\"#000\">{text}</text>");
    let page = format!(
        "<!DOCTYPE html><meta name=viewport content=\"width=device-width\">\
         <body style=\"background:#fff;margin:0\"><main><p style=\"color:#bbb\">pale</p>\
         <div style=\"width:900px\">wide</div><div aria-label=\"plot\"><svg width=\"200\" height=\"40\">\
         {}{}{}</svg></div><table></table></main><script>{PROBE}</script></body>",
        text(5, "one"),
        text(8, "two"),
        text(190, "beyond"),
    );
    let window = Window { directory: directory.as_path(), width: 390, is_dark: false };
    let found = window.findings(&page);
    let faults = found["faults"].to_string();
    for fault in
        ["contrast", "'one' lies on 'two'", "'beyond' is cut off", "no tooltip", "DIV ends"]
    {
        assert!(faults.contains(fault), "{fault}: {found}");
    }
}
