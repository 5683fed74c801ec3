//! The messages of the Page Request Interface (`PCIe 10.4`).

use serde::Serialize;

use crate::ids::{Bdf, Iova, Pasid};

/// An ATS Page Request message (`PCIe 10.4.1`), which is posted. The function asks software to make
/// a page present. Requests form groups that are answered as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PageRequest {
    /// The function that asks.
    pub requester: Bdf,
    /// Its address space, if the message has a PASID prefix.
    pub pasid: Option<Pasid>,
    /// The function asks for execute permission; only with a PASID.
    pub execute: bool,
    /// Privileged mode; only with a PASID.
    pub privileged: bool,
    /// The page.
    pub address: Iova,
    /// The function asks for read permission.
    pub read: bool,
    /// The function asks for write permission.
    pub write: bool,
    /// L: the last request of its group.
    pub last: bool,
    /// The group: PRG Index, 9 bits.
    pub group: u16,
}

impl PageRequest {
    /// The number of PRG Indexes of a function.
    pub const GROUPS: u16 = 512;

    /// A Stop Marker (`PCIe 10.4.1.2.1`): no more requests with this PASID follow. It asks for no
    /// page.
    pub const fn stop_marker(requester: Bdf, pasid: Pasid, group: u16) -> Self {
        Self {
            requester,
            pasid: Some(pasid),
            execute: false,
            privileged: false,
            address: Iova(0),
            read: false,
            write: false,
            last: true,
            group,
        }
    }

    /// Whether this is a Stop Marker.
    pub const fn is_stop_marker(&self) -> bool {
        self.pasid.is_some() && self.last && !self.read && !self.write
    }

    /// Whether the function waits for a PRG Response: only the last request of a group gets one.
    pub const fn needs_response(&self) -> bool {
        self.last && !self.is_stop_marker()
    }
}

/// The result for a whole group of page requests (`PCIe 10.4.2.1`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, strum::EnumIter)]
#[serde(rename_all = "snake_case")]
pub enum ResponseCode {
    /// 0: the function may ask for translations again. Software has handled the group.
    Success,
    /// 1: a page does not exist, or does not grant the permission.
    InvalidRequest,
    /// 15: the function must stop making page requests.
    Failure,
}

impl ResponseCode {
    /// Decodes the low four bits of `bits`. Reserved codes are Response Failure, as a function must
    /// take them.
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 0xf {
            0 => Self::Success,
            1 => Self::InvalidRequest,
            _ => Self::Failure,
        }
    }

    /// The code in four bits.
    pub const fn into_bits(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::InvalidRequest => 1,
            Self::Failure => 0xf,
        }
    }
}

/// An ATS Page Request Group Response message (`PCIe 10.4.2`): posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PageGroupResponse {
    /// The function that sent the group.
    pub destination: Bdf,
    /// Its address space, if the message has a PASID prefix.
    pub pasid: Option<Pasid>,
    /// The group: PRG Index, 9 bits.
    pub group: u16,
    /// The result.
    pub code: ResponseCode,
}
