//! Holds a PCI function by VFIO (container, group, type 1). Commands are lines of standard input:
//!
//! ```text
//!   open ----> map ----> unmap          VFIO invalidates the domain of the container
//!     `------> reset                    function-level reset
//!     `------> close, or end of input   drops device, group and container, as the end of a process does
//! ```
//!
//! The answer is a line, `vfio_map_ms=3` or `vfio_map: ERROR`. The program does not use the
//! function: the invalidations and resets that VFIO makes are the subject.

use std::error::Error;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use vfio_ioctls::{VfioContainer, VfioDevice};
use vm_memory::{GuestAddress, GuestMemoryMmap};

/// The I/O virtual address of the memory.
const IOVA: GuestAddress = GuestAddress(0x1000_0000);
/// Bytes of memory: many pages, so that unmapping invalidates a range and not a page.
const LENGTH: usize = 4 << 20;

type Outcome = Result<(), Box<dyn Error>>;

/// The VFIO objects of the process. Fields drop in their order, and the container has to be last.
#[derive(Default)]
struct Held {
    device: Option<VfioDevice>,
    memory: Option<GuestMemoryMmap>,
    container: Option<Arc<VfioContainer>>,
}

impl Held {
    fn execute(&mut self, word: &str, function: &Path) -> Outcome {
        match word {
            "open" => self.open(function),
            "map" => self.map(),
            "unmap" => self.unmap(),
            "reset" => {
                self.device.as_ref().ok_or("there is no device: open it first")?.reset();
                Ok(())
            }
            "close" => {
                drop(std::mem::take(self));
                Ok(())
            }
            _ => Err("the commands are open, map, unmap, reset, close".into()),
        }
    }

    fn open(&mut self, function: &Path) -> Outcome {
        let container = Arc::new(VfioContainer::new(None)?);
        self.device = Some(VfioDevice::new(function, container.clone())?);
        self.container = Some(container);
        Ok(())
    }

    fn map(&mut self) -> Outcome {
        let memory = GuestMemoryMmap::from_ranges(&[(IOVA, LENGTH)])?;
        self.container()?.vfio_map_guest_memory(&memory)?;
        self.memory = Some(memory);
        Ok(())
    }

    fn unmap(&mut self) -> Outcome {
        let memory = self.memory.take().ok_or("nothing is mapped: map first")?;
        Ok(self.container()?.vfio_unmap_guest_memory(&memory)?)
    }

    fn container(&self) -> Result<&VfioContainer, &'static str> {
        self.container.as_deref().ok_or("there is no container: open the device first")
    }
}

fn run(function: &Path) -> io::Result<()> {
    let mut held = Held::default();
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let word = line?;
        let start = Instant::now();
        match held.execute(&word, function) {
            Ok(()) => writeln!(out, "vfio_{word}_ms={}", start.elapsed().as_millis())?,
            Err(error) => writeln!(out, "vfio_{word}: {error}")?,
        }
        out.flush()?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let Some(function) = std::env::args().nth(1) else {
        eprintln!("usage: vfio FUNCTION    such as 0000:01:00.0, bound to vfio-pci");
        return ExitCode::from(2);
    };
    match run(&PathBuf::from("/sys/bus/pci/devices").join(function)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vfio: {error}");
            ExitCode::FAILURE
        }
    }
}
