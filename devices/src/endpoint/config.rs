//! The features of a function, as a topology describes it.

use super::VirtualFunctions;
use super::traffic::Traffic;
use crate::dma::atc::Geometry;
use crate::pcie::caps::ats::AtsFeatures;

/// The features of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointConfig {
    /// It has an ATC, and the ATS capability.
    pub ats: bool,
    /// The features of its ATC.
    pub ats_features: AtsFeatures,
    /// It has the PRI capability.
    pub pri: bool,
    /// It has the PASID capability.
    pub pasid: bool,
    /// Size and associativity of its ATC.
    pub atc: Geometry,
    /// Traffic that it sends as soon as bus mastering is enabled.
    pub traffic: Option<Traffic>,
    /// It claims Immediate Readiness.
    pub immediate_readiness: bool,
    /// Device Serial Number.
    pub serial: u64,
    /// The device has other functions.
    pub is_multi_function: bool,
    /// It is function 0, which has the capabilities of the device's link.
    pub is_function_0: bool,
    /// ARI Next Function Number, 0 in the last function; `None` without ARI.
    pub next_function: Option<u8>,
    /// Its virtual functions, for [`PhysicalFunction`](crate::pcie::PhysicalFunction).
    pub virtual_functions: Option<VirtualFunctions>,
}

/// ATS, page requests and PASIDs, in a device with one function.
impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            ats: true,
            ats_features: AtsFeatures::default(),
            pri: true,
            pasid: true,
            atc: Geometry::default(),
            traffic: None,
            immediate_readiness: false,
            serial: 0,
            is_multi_function: false,
            is_function_0: true,
            next_function: None,
            virtual_functions: None,
        }
    }
}
