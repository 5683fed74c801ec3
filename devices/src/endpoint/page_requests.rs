//! The function's page requests: which groups are outstanding, and what the answers were
//! (`PCIe 10.4`).
//!
//! ```text
//!   command 8: request, L clear   group open  --+
//!   command 8: request, L set     group closed  +-- outstanding ---- PRG Response: group free
//!                                                                    Response Failure: all free, off
//!   command 9: Stop Marker        asks for nothing, is not outstanding
//! ```

use std::collections::BTreeMap;

use iommu::ats::{PageGroupResponse, PageRequest, ResponseCode};
use iommu::ids::Pasid;

use super::regs::{Command, Opcode, Registers, Status};
use crate::dma::Rights;
use crate::pcie::caps::pri::Pri;
use crate::pcie::config::ConfigSpace;
use crate::pcie::spec::pri::PriStatus;

/// Requests with one PRG Index that have no answer yet.
#[derive(Debug, Clone, Copy)]
struct Group {
    pasid: Option<Pasid>,
    requests: u32,
    /// The last request has been made.
    closed: bool,
}

/// The page request interface of a function, beyond its registers.
#[derive(Debug, Default)]
pub(super) struct PageRequester {
    /// By PRG Index, [`PageRequest::GROUPS`] at most.
    groups: BTreeMap<u16, Group>,
    /// Enable, as it was after the last configuration write.
    enabled: bool,
    /// The last PRG Response.
    last: Option<PageGroupResponse>,
    /// PRG Responses that answered a group, wraps.
    answered: u32,
}

impl PageRequester {
    /// Requests without an answer.
    pub(super) fn outstanding(&self) -> u32 {
        self.groups.values().map(|group| group.requests).sum()
    }

    /// PRG Responses that answered a group.
    pub(super) fn answered(&self) -> u32 {
        self.answered
    }

    /// The RESPONSE register.
    pub(super) fn last_response(&self) -> u32 {
        self.last.map_or(0, |response| {
            1 << 31 | u32::from(response.group) << 4 | u32::from(response.code.into_bits())
        })
    }

    /// The message that `command` asks for, and keeps track of it.
    ///
    /// # Errors
    /// Why the function may not send it now.
    pub(super) fn request(
        &mut self,
        command: Command,
        registers: &Registers,
        rights: &Rights,
        pri: Pri,
        config: &mut ConfigSpace,
    ) -> Result<PageRequest, Status> {
        if !rights.bus_master {
            return Err(Status::BusMasterOff);
        }
        if !rights.ats {
            return Err(Status::AtsOff);
        }
        if !pri.is_enabled(config) {
            return Err(Status::PageRequestsOff);
        }
        let pasid = registers.pasid(command, rights)?;
        let (requester, group) = (rights.requester, registers.group);
        if Opcode::decode(command.opcode()) == Some(Opcode::StopMarker) {
            let pasid = pasid.ok_or(Status::BadCommand)?;
            return Ok(PageRequest::stop_marker(requester, pasid, group));
        }
        if self.outstanding() >= pri.allocation(config) {
            return Err(Status::NoAllocation);
        }
        let request = PageRequest {
            requester,
            pasid,
            execute: command.execute() && rights.pasid.execute(),
            privileged: command.privileged() && rights.pasid.privileged(),
            address: registers.iova.page(),
            read: command.read(),
            write: command.write(),
            last: command.last(),
            group,
        };
        // Without permissions it would be a Stop Marker, or nothing that is defined.
        if !request.read && !request.write {
            return Err(Status::BadCommand);
        }
        self.add(&request)?;
        self.show(pri, config, |status| status);
        Ok(request)
    }

    /// A group takes requests of one PASID until the last one is made, and is not used again
    /// before it has been answered.
    fn add(&mut self, request: &PageRequest) -> Result<(), Status> {
        let fresh = Group { pasid: request.pasid, requests: 0, closed: false };
        let group = self.groups.entry(request.group).or_insert(fresh);
        if group.closed || group.pasid != request.pasid {
            return Err(Status::BadCommand);
        }
        group.requests += 1;
        group.closed = request.last;
        Ok(())
    }

    /// A PRG Response has come (`PCIe 10.4.2`).
    pub(super) fn respond(
        &mut self,
        response: PageGroupResponse,
        pri: Pri,
        config: &mut ConfigSpace,
    ) {
        // After a failure nothing is expected until software turns page requests on again.
        if pri.status(config).response_failure() && !pri.is_enabled(config) {
            return;
        }
        self.last = Some(response);
        if self.groups.get(&response.group).is_none_or(|group| group.pasid != response.pasid) {
            return self.show(pri, config, |status| status.with_unexpected_group(true));
        }
        self.groups.remove(&response.group);
        self.answered = self.answered.wrapping_add(1);
        if response.code == ResponseCode::Failure {
            self.groups.clear();
            self.enabled = false;
            pri.disable(config);
            return self.show(pri, config, |status| status.with_response_failure(true));
        }
        self.show(pri, config, |status| status);
    }

    /// Software has written configuration space, perhaps the capability.
    pub(super) fn config_written(&mut self, pri: Pri, config: &mut ConfigSpace) {
        if pri.take_reset(config) {
            self.groups.clear();
        }
        let enabled = pri.is_enabled(config);
        let news = enabled && !self.enabled;
        self.enabled = enabled;
        let kept = |status: PriStatus| match news {
            true => status.with_response_failure(false).with_unexpected_group(false),
            false => status,
        };
        self.show(pri, config, kept);
    }

    /// Brings Page Request Status up to date.
    fn show(
        &self,
        pri: Pri,
        config: &mut ConfigSpace,
        change: impl FnOnce(PriStatus) -> PriStatus,
    ) {
        let stopped = !pri.is_enabled(config) && self.groups.is_empty();
        let status = change(pri.status(config)).with_stopped(stopped);
        pri.set_status(config, status);
    }
}
