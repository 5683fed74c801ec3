//! Holds a PCI function by VFIO (container, group, type 1) and does with it what it is told, a word a line on
//! its standard input:
//!
//! ```text
//!   open ----> map ----> unmap          the IOMMU's domain is the container's: unmapping invalidates
//!     `------> reset                    function-level reset
//!     `------> close, or end of input   device, group and container, as the end of a process lets go of them
//! ```
//!
//! What comes of it is a line: `vfio_map_ms=3`, or `vfio_map: why not`. Nothing is done with the function
//! itself: what there is to see are the invalidations and resets that VFIO makes for it.

use std::error::Error;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use vfio_ioctls::{VfioContainer, VfioDevice};
use vm_memory::{GuestAddress, GuestMemoryMmap};

/// Where the memory is for the function: an I/O virtual address.
const IOVA: GuestAddress = GuestAddress(0x1000_0000);
/// Bytes of it: a few hundred pages, so that unmapping is a range and not a page.
const LENGTH: usize = 4 << 20;

type Outcome = Result<(), Box<dyn Error>>;

/// What the process holds. Fields are dropped in this order: device, mapped memory, container.
#[derive(Default)]
struct Held {
    device: Option<VfioDevice>,
    memory: Option<GuestMemoryMmap>,
    container: Option<Arc<VfioContainer>>,
}

impl Held {
    fn obey(&mut self, word: &str, function: &Path) -> Outcome {
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
            _ => Err("it is none of open, map, unmap, reset, close".into()),
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
        match held.obey(&word, function) {
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
