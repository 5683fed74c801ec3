//! `ghostlink qtest`: the machine without CPUs, driven by QEMU's qtest protocol.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use devices::pcie::link::Obeys;
use devices::root_complex::RootComplexConfig;
use iommu::event::Tracer;
use vmm::qtest::{Log, Machine, MachineConfig, SIGNALS, Session, Sockets, serve, serve_sockets};
use vmm::{MemorySize, SignalFd};

use super::host::HostArgs;
use super::topology::TopologyArgs;
use super::unit::UnitArgs;
use crate::CliError;

/// Options of `ghostlink qtest`.
#[derive(Debug, Args)]
pub(super) struct QtestArgs {
    /// Wait for one client at this unix socket [default: standard input and output]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,

    /// Answer QMP at this unix socket as well: queries, reset, quit
    #[arg(long, value_name = "PATH", requires = "socket")]
    qmp: Option<PathBuf>,

    /// Connect to the sockets, at which the client listens, as QEMU's test programs do
    #[arg(long, requires = "socket")]
    connect: bool,

    /// Write the lines of the protocol and their times to this file
    #[arg(long, value_name = "FILE", requires = "socket")]
    log: Option<PathBuf>,

    /// Guest memory
    #[arg(long, value_name = "SIZE", default_value_t)]
    memory: MemorySize,

    #[command(flatten)]
    topology: TopologyArgs,

    /// 'edu' devices, from 00:0c.0 up, 0 to 8 [default: 1, or 0 with --device or --topology]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=8))]
    edus: Option<u8>,

    #[command(flatten)]
    host: HostArgs,

    #[command(flatten)]
    unit: UnitArgs,

    /// When devices drop what an Invalidate Request names: when they answer it, which is the worst that
    /// PCIe permits, or when it arrives
    #[arg(long, value_name = "at-answer|at-once", default_value_t)]
    obeys: Obeys,

    #[arg(
        long,
        help = "Find DMA by translations whose invalidation was reported complete, or has failed: \
                command 'stale_accesses', events 'stale_access', and a summary at the end"
    )]
    oracle: bool,

    /// Write events as JSON lines to this file
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
}

/// Serves one client; returns the exit status.
pub(super) fn run(args: QtestArgs) -> Result<u8, CliError> {
    let tracer = super::tracer(args.events.as_deref())?;
    let log = args.log.as_deref().map(create_log).transpose()?;
    let sockets = args.sockets();
    let mut session = Session::new(Machine::new(args.machine(tracer)?)?);
    match sockets {
        Some(sockets) => {
            let signals = SignalFd::new(&SIGNALS).map_err(CliError::Signals)?;
            let outcome = serve_sockets(&mut session, &sockets, log, &signals);
            // They stay blocked: QEMU's tests end each session by SIGTERM and demand status 0, also
            // if the session has ended just before.
            std::mem::forget(signals);
            outcome?;
        }
        None => serve(&mut session, io::stdin().lock(), io::stdout().lock())
            .map_err(CliError::Output)?,
    }
    if let Some(found) = session.machine().stale_counts() {
        eprintln!("ghostlink: {found}");
    }
    Ok(0)
}

fn create_log(path: &Path) -> Result<Log, CliError> {
    match File::create(path) {
        Ok(file) => Ok(Box::new(file)),
        Err(source) => Err(CliError::Log { path: path.to_owned(), source }),
    }
}

impl QtestArgs {
    fn sockets(&self) -> Option<Sockets> {
        let qtest = self.socket.clone()?;
        Some(Sockets { qtest, qmp: self.qmp.clone(), connect: self.connect })
    }

    fn machine(self, tracer: Tracer) -> Result<MachineConfig, CliError> {
        let root_complex = RootComplexConfig {
            topology: self.topology.into_topology(self.edus, "--edus")?,
            obeys: self.obeys,
            oracle: self.oracle,
            ..self.unit.into_root_complex(self.host.into_host()?)?
        };
        Ok(MachineConfig { memory: self.memory, root_complex, tracer })
    }
}
