//! `ghostlink`: boots guests in front of PCIe links that vanish. See `ghostlink --help`.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(cli::main())
}
