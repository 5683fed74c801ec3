//! The table of remapping units: what a run's unit promises of its waits, and what it does on a
//! time-out.

use iommu::ids::Bdf;
use iommu::time::Timeout;
use iommu::unit::{IteLoses, Ordering, UnitConfig};
use serde::{Deserialize, Serialize};

/// A remapping unit with a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitRow {
    /// Its name in a [`RunId`](super::RunId).
    pub name: String,
    /// Its description, in a line.
    pub about: String,
    /// The invalidations for which a wait descriptor waits.
    #[serde(default)]
    pub ordering: Ordering,
    /// The unit's own time-out (ICT); if it is missing, the one of the comparison.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ict: Option<Timeout>,
    /// The invalidations that are lost with ITE.
    #[serde(default)]
    pub ite_loses: IteLoses,
    /// A fixed ITESID for all time-outs, such as `00:00.0` for units older than the field; if it is
    /// missing, the function whose request timed out (`VT-d 11.4.9.9`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub itesid: Option<Bdf>,
}

impl UnitRow {
    /// The unit of a run whose name has four parts.
    pub const DEFAULT: &'static str = "serial";

    /// A unit of that order, otherwise with the default settings.
    fn new(ordering: Ordering, about: &str) -> Self {
        Self {
            name: ordering.to_string(),
            about: about.to_owned(),
            ordering,
            ict: None,
            ite_loses: IteLoses::default(),
            itesid: None,
        }
    }

    /// The built-in rows.
    pub(super) fn built_in() -> Vec<Self> {
        vec![
            Self::new(Ordering::Serial, "a wait completes after everything in front of it"),
            Self::new(
                Ordering::Parallel,
                "a wait completes after what stands between it and the previous wait",
            ),
            Self::new(
                Ordering::Blocking,
                "as serial, and the unit fetches nothing behind a pending wait",
            ),
        ]
    }

    /// Gives `unit` the settings of this row.
    pub(super) fn apply(&self, unit: &mut UnitConfig) {
        let Self { ordering, ite_loses, itesid, .. } = *self;
        *unit =
            UnitConfig { ordering, ite_loses, itesid, ict: self.ict.unwrap_or(unit.ict), ..*unit };
    }
}

impl Default for UnitRow {
    /// The row [`Self::DEFAULT`].
    fn default() -> Self {
        Self::built_in().swap_remove(0)
    }
}
