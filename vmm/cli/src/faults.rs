//! Options for faults, and `ghostlink faults`, which lists modes and triggers.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use devices::fault::{DELAYS, Fault, MODES, ParseFaultError, Point, Schedule, ScheduleError};
use devices::topology::Topology;
use lab::toml_file::{FileError, TomlFile};
use serde::Deserialize;
use toml::Spanned;

/// Options for faults.
#[derive(Debug, Default, Args)]
pub(super) struct FaultArgs {
    /// Inject a fault, such as at=3s,port=rp0,mode=surprise,for=500ms; may be repeated, see
    /// 'ghostlink faults'
    #[arg(long, value_name = "FAULT")]
    fault: Vec<Fault>,

    /// TOML file with faults: tables named 'fault' with the same keys
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,

    /// Short for a fault with mode=silent: at=2s or doorbell, and optionally ,port=rp1
    #[arg(long, value_name = "WHEN", value_parser = parse_drop_link)]
    drop_link: Vec<Fault>,
}

/// Unusable faults.
#[derive(Debug, thiserror::Error)]
pub(super) enum FaultsError {
    /// The file cannot be read, or is invalid.
    #[error(transparent)]
    File(#[from] FileError),
    /// A fault contradicts another one, or names an unknown port.
    #[error("{origin}: {error}")]
    Schedule {
        /// The option or the place in a file that has it.
        origin: String,
        /// The reason.
        error: ScheduleError,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    fault: Vec<Spanned<Fault>>,
}

/// A fault, with the option or the place in a file that has it.
type Written = (Fault, String);

impl FaultArgs {
    /// All faults: of the file, then of the options. They are checked as a whole against the ports of
    /// `topology`.
    pub(super) fn into_faults(self, topology: &Topology) -> Result<Vec<Fault>, FaultsError> {
        let mut written = self.faults.as_deref().map(read).transpose()?.unwrap_or_default();
        written.extend(self.fault.into_iter().map(|fault| (fault, "--fault".to_owned())));
        written.extend(self.drop_link.into_iter().map(|fault| (fault, "--drop-link".to_owned())));
        let (faults, mut origins): (Vec<Fault>, Vec<String>) = written.into_iter().unzip();
        match Schedule::new(&faults, &topology.port_infos()) {
            Ok(_) => Ok(faults),
            Err(error) => {
                let origin = origins.swap_remove(error.number - 1);
                Err(FaultsError::Schedule { origin, error })
            }
        }
    }
}

fn read(path: &Path) -> Result<Vec<Written>, FaultsError> {
    let file = TomlFile::read(path, "faults")?;
    let written = |fault: Spanned<Fault>| {
        let origin = file.origin(fault.span().start);
        (fault.into_inner(), origin)
    };
    Ok(file.parse::<File>()?.fault.into_iter().map(written).collect())
}

fn parse_drop_link(text: &str) -> Result<Fault, ParseFaultError> {
    let on =
        |part: &str| if part == "doorbell" { "on=doorbell".to_owned() } else { part.to_owned() };
    let parts: Vec<String> = text.split(',').map(on).collect();
    format!("{},mode=silent", parts.join(",")).parse()
}

/// Lists modes and triggers.
pub(super) fn list() -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "Modes, mode=MODE:")?;
    for (mode, text) in MODES {
        writeln!(out, "  {mode:17} {text}")?;
    }
    writeln!(out, "\nT of slow:T is a time or a distribution:")?;
    for (delay, text) in DELAYS {
        writeln!(out, "  {delay:17} {text}")?;
    }
    writeln!(out, "\nTriggers, one for each fault:")?;
    let triggers = [
        ("at=TIME", "this long after the start"),
        ("on=doorbell", "when the guest rings the bench's doorbell"),
        ("on=serial:/RE/", "when a line of the console matches"),
        ("on=debugcon:/RE/", "when a line of the debug console, port 0xe9, matches"),
    ];
    for (trigger, text) in triggers {
        writeln!(out, "  {trigger:22} {text}")?;
    }
    for point in Point::ALL {
        let (key, name) = point.text();
        let trigger = format!("{key}={name}:N");
        writeln!(out, "  {trigger:22} {}", point.description())?;
    }
    writeln!(
        out,
        "\nport=NAME is the port [default: the first], for=TIME the duration [default: without end]."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_form_is_a_silent_fault() {
        let fault = |text: &str| text.parse::<Fault>().unwrap();
        let short = |text| parse_drop_link(text).unwrap();
        assert_eq!(short("doorbell"), fault("on=doorbell,mode=silent"));
        assert_eq!(short("port=rp1,at=2s"), fault("at=2s,port=rp1,mode=silent"));
        assert!(parse_drop_link("now").is_err());
    }

    #[test]
    fn a_file_says_the_same_and_its_mistakes_have_a_position() {
        let directory = vmm_sys_util::tempdir::TempDir::new().unwrap();
        let path = directory.as_path().join("faults.toml");
        let read_text = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read(&path).map_err(|error| error.to_string())
        };
        let good = "[[fault]]\nafter = \"dma:12\"\nport = \"rp1\"\nmode = \"slow:1ms..2s\"\n";
        let fault: Fault = "after=dma:12,port=rp1,mode=slow:1ms..2s".parse().unwrap();
        let read_back = read_text(good).unwrap();
        assert_eq!((read_back.len(), &read_back[0].0), (1, &fault));
        for (text, expected) in [
            ("[[fault]]\nat = \"1s\"\nmodes = \"silent\"\n", "line 3, column 1: unknown field"),
            ("[[fault]]\nat = 1\nmode = \"silent\"\n", "line 2, column 6: invalid type"),
            ("[[fault]]\nat = \"1s\"\nmode = \"quiet\"\n", "there is no mode 'quiet'"),
            ("[[fautl]]\n", "line 1, column 3: unknown field"),
        ] {
            let error = read_text(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
        assert!(read(&directory.as_path().join("missing")).is_err());
        std::fs::write(
            &path,
            format!("{good}\n[[fault]]\nat = \"1s\"\nport = \"rp9\"\nmode = \"no-completion\"\n"),
        )
        .unwrap();
        let args = FaultArgs { faults: Some(path), ..FaultArgs::default() };
        let error = args.into_faults(&Topology::simple(2, 0)).unwrap_err().to_string();
        let expected =
            "line 6, column 1: fault 2 ('at=1s,port=rp9,mode=no-completion'): there is no port";
        assert!(error.contains(expected), "{error}");
    }
}
