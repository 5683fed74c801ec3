//! The function's page requests: the groups that are outstanding, and their responses (`PCIe
//! 10.4`).
//!
//! ```text
//!   command 8: request, L clear   group open  --+
//!   command 8: request, L set     group closed  +-- outstanding ---- PRG Response: group free
//!                                                                    Response Failure: all free, off
//!   command 9: Stop Marker        is not outstanding: it has no response
//! ```

use std::collections::BTreeMap;

use iommu::ats::{PageGroupResponse, PageRequest, ResponseCode};
use iommu::ids::Pasid;

use super::regs::{Command, Opcode, Registers, Status};
use crate::dma::Rights;
use crate::pcie::caps::pri::Pri;
use crate::pcie::config::ConfigSpace;
use crate::pcie::spec::pri::PriStatus;

/// Requests with one PRG Index that have no response yet.
#[derive(Debug, Clone, Copy)]
struct Group {
    pasid: Option<Pasid>,
    requests: u32,
    /// The last request has been made.
    closed: bool,
}

/// The Page Request Interface of a function, without its capability.
#[derive(Debug, Default)]
pub(super) struct PageRequester {
    /// Outstanding groups by PRG Index, [`PageRequest::GROUPS`] at most.
    groups: BTreeMap<u16, Group>,
    /// Page Request Control.Enable, after the last configuration write.
    enabled: bool,
    /// The last PRG Response.
    last: Option<PageGroupResponse>,
    /// Responses for outstanding groups, wraps.
    answered: u32,
}

impl PageRequester {
    /// Requests without a response.
    pub(super) fn outstanding(&self) -> u32 {
        self.groups.values().map(|group| group.requests).sum()
    }

    /// PRG Responses that answered a group.
    pub(super) fn answered(&self) -> u32 {
        self.answered
    }

    /// The value of the RESPONSE register.
    pub(super) fn last_response(&self) -> u32 {
        self.last.map_or(0, |response| {
            1 << 31 | u32::from(response.group) << 4 | u32::from(response.code.into_bits())
        })
    }

    /// The message for `command`; a request is outstanding from now on.
    ///
    /// # Errors
    /// Why the function may not send the message now.
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
        // A request without permissions would be a Stop Marker, or undefined.
        if !request.read && !request.write {
            return Err(Status::BadCommand);
        }
        self.add(&request)?;
        self.update_status(pri, config, |status| status);
        Ok(request)
    }

    /// A group has requests of one PASID, up to the last one. Its PRG Index is free again after the
    /// response.
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

    /// Receives a PRG Response (`PCIe 10.4.2`).
    pub(super) fn respond(
        &mut self,
        response: PageGroupResponse,
        pri: Pri,
        config: &mut ConfigSpace,
    ) {
        // After a Response Failure the function ignores responses until software enables page
        // requests again.
        if pri.status(config).response_failure() && !pri.is_enabled(config) {
            return;
        }
        self.last = Some(response);
        if self.groups.get(&response.group).is_none_or(|group| group.pasid != response.pasid) {
            return self.update_status(pri, config, |status| status.with_unexpected_group(true));
        }
        self.groups.remove(&response.group);
        self.answered = self.answered.wrapping_add(1);
        if response.code == ResponseCode::Failure {
            self.groups.clear();
            self.enabled = false;
            pri.disable(config);
            return self.update_status(pri, config, |status| status.with_response_failure(true));
        }
        self.update_status(pri, config, |status| status);
    }

    /// Carries out what software has written to configuration space.
    pub(super) fn config_written(&mut self, pri: Pri, config: &mut ConfigSpace) {
        if pri.take_reset(config) {
            self.groups.clear();
        }
        let enabled = pri.is_enabled(config);
        let newly_enabled = enabled && !self.enabled;
        self.enabled = enabled;
        let kept = |status: PriStatus| match newly_enabled {
            true => status.with_response_failure(false).with_unexpected_group(false),
            false => status,
        };
        self.update_status(pri, config, kept);
    }

    /// Updates Page Request Status.
    fn update_status(
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
