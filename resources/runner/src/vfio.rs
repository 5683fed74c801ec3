//! A process that holds disk 0 by VFIO (container, group, type 1). Words come by a pipe:
//!
//! ```text
//!   open ----> map ----> unmap          VFIO invalidates the domain of the container
//!     `------> reset                    function-level reset
//!     `------> close                    drops device, group and container, as the end of a process does
//! ```
//!
//! The process does not use the function: the invalidations and resets that VFIO makes are the
//! subject.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rustix::pipe::{PipeFlags, pipe_with};
use steps::VfioAction;
use vfio_ioctls::{VfioContainer, VfioDevice};
use vm_memory::{GuestAddress, GuestMemoryMmap};

use crate::child::{self, Work};
use crate::pci::Function;

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
    fn execute(&mut self, action: VfioAction, function: &Path) -> Outcome {
        match action {
            VfioAction::Open => self.open(function),
            VfioAction::Map => self.map(),
            VfioAction::Unmap => self.unmap(),
            VfioAction::Reset => {
                self.device.as_ref().ok_or("there is no device: vfio:open first")?.reset();
                Ok(())
            }
            VfioAction::Close => {
                drop(std::mem::take(self));
                Ok(())
            }
            VfioAction::Bind | VfioAction::Release => Err("the runner does this".into()),
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
        let memory = self.memory.take().ok_or("nothing is mapped: vfio:map first")?;
        Ok(self.container()?.vfio_unmap_guest_memory(&memory)?)
    }

    fn container(&self) -> Result<&VfioContainer, &'static str> {
        self.container.as_deref().ok_or("there is no container: vfio:open first")
    }
}

/// The process, as the runner sees it.
pub(crate) struct Holder {
    words: File,
    answers: Work,
}

impl Holder {
    /// Starts the process on `cpu`.
    pub(crate) fn start(cpu: usize, function: &Function) -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        let directory = function.directory();
        let writer = File::from(writer);
        let answers = child::work(cpu, |evidence| {
            let mut held = Held::default();
            for word in BufReader::new(File::from(reader)).lines() {
                let word = word.map_err(|error| error.to_string())?;
                let Ok(action) = word.parse() else { continue };
                let start = Instant::now();
                let result = held.execute(action, &directory);
                let millis = start.elapsed().as_millis();
                match result {
                    Ok(()) => evidence.show(format!("{action} {millis}")),
                    Err(error) => evidence.show(format!("!{action} {error}")),
                }
            }
            Ok(())
        })?;
        Ok(Self { words: writer, answers })
    }

    /// Tells the process what to do.
    pub(crate) fn tell(&mut self, action: VfioAction) -> io::Result<()> {
        self.words.write_all(format!("{action}\n").as_bytes())
    }

    /// What the process answers.
    pub(crate) fn answers(&mut self) -> &mut Work {
        &mut self.answers
    }
}
