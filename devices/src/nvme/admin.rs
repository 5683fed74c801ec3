//! The admin commands (`NVMe 5`).

use super::controller::Controller;
use super::memory::Memory;
use super::model::{MAX_ENTRIES, MAX_TRANSFER, QUEUES, VECTORS};
use super::prp;
use super::queue::{CompletionQueue, SubmissionQueue};
use super::spec::{
    COMMAND_SIZE_ORDER, COMPLETION_SIZE_ORDER, Command, NSID_ALL, Outcome, Status, admin,
};

impl Controller {
    /// Executes an admin command. `Ok(None)` if it stays outstanding.
    pub(super) fn admin(
        &mut self,
        command: &Command,
        memory: &mut Memory<'_>,
    ) -> Result<Option<u32>, Status> {
        // SGLs are for I/O commands only (NVMe 4.4).
        if command.head().psdt() != 0 {
            return Err(Status::InvalidField);
        }
        let outcome = match command.opcode() {
            admin::CREATE_IO_COMPLETION_QUEUE => self.create_completion_queue(command),
            admin::CREATE_IO_SUBMISSION_QUEUE => self.create_submission_queue(command),
            admin::DELETE_IO_COMPLETION_QUEUE => self.delete_completion_queue(command),
            admin::DELETE_IO_SUBMISSION_QUEUE => self.delete_submission_queue(command),
            admin::IDENTIFY => self.identify(command, memory),
            admin::GET_LOG_PAGE => self.get_log_page(command, memory),
            admin::GET_FEATURES => self.features.get(command.dword::<10>(), command.dword::<11>()),
            admin::SET_FEATURES => self.set_features(command),
            admin::ABORT => self.abort_command(command, memory),
            admin::ASYNCHRONOUS_EVENT_REQUEST => {
                return match self.events.add_request(command.identifier()) {
                    true => Ok(None),
                    false => Err(Status::EventRequestLimit),
                };
            }
            _ => Err(Status::InvalidOpcode),
        };
        outcome.map(Some)
    }

    fn create_completion_queue(&mut self, command: &Command) -> Outcome {
        let (queue, size) = new_queue(command)?;
        if self.completion[queue].is_some() {
            return Err(Status::InvalidQueueId);
        }
        let attributes = check_base(command)?;
        if self.registers.configuration.completion_entry_size() != COMPLETION_SIZE_ORDER {
            return Err(Status::InvalidField);
        }
        let vector = (attributes >> 16) as u16;
        if vector >= VECTORS {
            return Err(Status::InvalidVector);
        }
        let announced = attributes & 0b10 != 0;
        let vector = announced.then_some(vector);
        self.completion[queue] = Some(CompletionQueue::new(command.prp1(), size, vector));
        Ok(0)
    }

    fn create_submission_queue(&mut self, command: &Command) -> Outcome {
        let (queue, size) = new_queue(command)?;
        if self.submission[queue].is_some() {
            return Err(Status::InvalidQueueId);
        }
        let attributes = check_base(command)?;
        if self.registers.configuration.submission_entry_size() != COMMAND_SIZE_ORDER {
            return Err(Status::InvalidField);
        }
        let completion_queue = (attributes >> 16) as u16;
        match self.completion.get(usize::from(completion_queue)) {
            Some(Some(_)) if completion_queue != 0 => {}
            Some(None) => return Err(Status::InvalidCompletionQueue),
            _ => return Err(Status::InvalidQueueId),
        }
        let ring = SubmissionQueue::new(command.prp1(), size, completion_queue);
        self.submission[queue] = Some(ring);
        Ok(0)
    }

    fn delete_completion_queue(&mut self, command: &Command) -> Outcome {
        let queue = io_queue(command.dword::<10>() as u16)?;
        if self.completion[queue].is_none() {
            return Err(Status::InvalidQueueId);
        }
        let mut users = self.submission.iter().flatten();
        if users.any(|user| usize::from(user.completion_queue) == queue) {
            return Err(Status::InvalidQueueDeletion);
        }
        self.completion[queue] = None;
        Ok(0)
    }

    /// The commands in flight from the queue are dropped without a completion.
    fn delete_submission_queue(&mut self, command: &Command) -> Outcome {
        let identifier = command.dword::<10>() as u16;
        let queue = io_queue(identifier)?;
        let deleted = self.submission[queue].take().ok_or(Status::InvalidQueueId)?;
        self.drop_commands(identifier, deleted.completion_queue);
        Ok(0)
    }

    fn identify(&mut self, command: &Command, memory: &mut Memory<'_>) -> Outcome {
        let (dword10, namespace) = (command.dword::<10>(), command.namespace());
        let (cns, first) = (dword10 as u8, (dword10 >> 16) as u16);
        let data = self.identity.structure(cns, first, namespace, &self.namespaces)?;
        send(command, &data, memory)
    }

    fn get_log_page(&mut self, command: &Command, memory: &mut Memory<'_>) -> Outcome {
        const RETAIN_EVENT: u32 = 1 << 15;
        let dword10 = command.dword::<10>();
        let (identifier, lower) = (dword10 as u8, dword10 >> 16);
        let dwords = u64::from(command.dword::<11>() & 0xffff) << 16 | u64::from(lower);
        let length = usize::try_from((dwords + 1) * 4).unwrap_or(usize::MAX);
        let offset = u64::from(command.dword::<13>()) << 32 | u64::from(command.dword::<12>());
        if length > MAX_TRANSFER || !matches!(command.namespace(), 0 | NSID_ALL) {
            return Err(Status::InvalidField);
        }
        let warnings = self.features.critical_warnings();
        let page = self.logs.page(identifier, warnings).ok_or(Status::InvalidLogPage)?;
        let offset = usize::try_from(offset).ok().filter(|offset| offset.is_multiple_of(4));
        let page = offset.and_then(|offset| page.get(offset..)).ok_or(Status::InvalidField)?;
        send(command, &page[..length.min(page.len())], memory)?;
        if dword10 & RETAIN_EVENT == 0 {
            self.events.log_page_read(identifier);
        }
        Ok(0)
    }

    fn set_features(&mut self, command: &Command) -> Outcome {
        let has_queues = self.completion.iter().skip(1).any(Option::is_some);
        let outcome = self.features.set(
            command.dword::<10>(),
            command.dword::<11>(),
            command.namespace(),
            self.namespaces.len(),
            has_queues,
        );
        if outcome.is_ok() && self.features.announces_warning() {
            self.events.raise(super::events::Event::Temperature);
        }
        outcome
    }

    /// Dword 0 is 1 if the command was not aborted.
    fn abort_command(&mut self, command: &Command, memory: &mut Memory<'_>) -> Outcome {
        let dword10 = command.dword::<10>();
        let aborted = self.abort(dword10 as u16, (dword10 >> 16) as u16, memory);
        Ok(u32::from(!aborted))
    }
}

/// The identifier and the size of the queue that `command` creates.
fn new_queue(command: &Command) -> Result<(usize, u16), Status> {
    let dword10 = command.dword::<10>();
    let queue = io_queue(dword10 as u16)?;
    let size = (dword10 >> 16) as u16;
    if size == 0 || size >= MAX_ENTRIES {
        return Err(Status::InvalidQueueSize);
    }
    Ok((queue, size + 1))
}

fn io_queue(identifier: u16) -> Result<usize, Status> {
    let queue = usize::from(identifier);
    (1..QUEUES).contains(&queue).then_some(queue).ok_or(Status::InvalidQueueId)
}

/// Command Dword 11, if the queue is physically contiguous and page aligned.
fn check_base(command: &Command) -> Result<u32, Status> {
    const CONTIGUOUS: u32 = 1;
    let attributes = command.dword::<11>();
    if attributes & CONTIGUOUS == 0 {
        return Err(Status::InvalidField);
    }
    if !command.prp1().is_multiple_of(iommu::ids::PAGE_SIZE) {
        return Err(Status::InvalidPrpOffset);
    }
    Ok(attributes)
}

fn send(command: &Command, data: &[u8], memory: &mut Memory<'_>) -> Outcome {
    let segments = prp::walk(command.prp1(), command.prp2(), data.len(), memory)?;
    memory.scatter(&segments, data)?;
    Ok(0)
}
