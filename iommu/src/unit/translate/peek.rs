//! A look at the tables that leaves no trace: no cache is used or filled, no accessed or dirty bit
//! is set, and no fault is recorded.

use super::context::{self, ContextEntry};
use super::first_stage::{FirstStageWalk, NOTHING, Request};
use super::pasid::{self, FirstStage, Stage};
use super::second_stage::Walk;
use super::shard::Context;
use super::update::Updates;
use super::{Mapping, Translator};
use crate::Memory;
use crate::ats::{Access, PageRange};
use crate::ids::{Bdf, DomainId, Gpa, Iova, Pasid};
use crate::spec::control::TableMode;

/// What the tables hold for an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableEntry {
    /// The domain of the translation.
    pub domain: DomainId,
    /// The PASID that tags the translation in the IOTLB, if first-stage tables have a part in it.
    pub pasid: Option<Pasid>,
    /// The page.
    pub range: PageRange,
    /// The address after translation.
    pub output: Gpa,
    /// Reads are permitted.
    pub read: bool,
    /// Writes are permitted.
    pub write: bool,
}

impl TableEntry {
    /// Whether the tables let this access reach `output`.
    pub const fn permits(&self, access: Access, output: Gpa) -> bool {
        let granted = match access {
            Access::Read => self.read,
            Access::Write => self.write,
        };
        granted && self.output.0 == output.0
    }
}

impl Translator {
    /// What the tables hold now for `address`: without permissions if they map nothing there. `None`
    /// if they lead to no domain, or the unit translates nothing.
    pub fn peek(
        &self,
        requester: Bdf,
        pasid: Option<Pasid>,
        address: Iova,
        memory: &Memory,
    ) -> Option<TableEntry> {
        let context = self.peek_context(requester, pasid, memory)?;
        let mapping = self.peek_mapping(&context, address, memory).unwrap_or(NOTHING);
        let tag = match context.stage {
            Stage::Second { .. } => None,
            _ => context.pasid,
        };
        Some(TableEntry {
            domain: context.domain,
            pasid: tag,
            range: PageRange::containing(address, mapping.order),
            output: mapping.output,
            read: mapping.read,
            write: mapping.write,
        })
    }

    fn peek_context(
        &self,
        requester: Bdf,
        pasid: Option<Pasid>,
        memory: &Memory,
    ) -> Option<Context> {
        let (config, tables) = (&self.config, self.tables());
        if !tables.enabled {
            return None;
        }
        match tables.mode(config) {
            TableMode::Legacy => {
                let entry = context::read_legacy(config, tables.root, requester, memory).ok()?;
                match entry {
                    ContextEntry::Legacy { context, .. } if pasid.is_none() => Some(context),
                    _ => None,
                }
            }
            TableMode::Scalable => {
                let entry = context::read_scalable(config, tables.root, requester, memory).ok()?;
                let pasid = entry.choose_pasid(config, pasid).ok()?;
                pasid::read(config, &entry, pasid, memory).ok()
            }
            TableMode::Invalid => None,
        }
    }

    fn peek_mapping(&self, context: &Context, address: Iova, memory: &Memory) -> Option<Mapping> {
        const PASS_THROUGH_ORDER: u8 = 30;
        let config = &self.config;
        let second = |root, levels| Walk { config, memory, root, levels, dirty: false };
        let first = |tables: FirstStage, second| {
            // With the permissions of a privileged request, where the tables distinguish them.
            let request = Request {
                address: address.0,
                write: false,
                privileged: context.supervisor,
                translation: false,
            };
            let fault_disable = true;
            let walk =
                FirstStageWalk { config, memory, tables, second, fault_disable, updates: false };
            walk.run(&request, &mut Updates::default()).ok().map(|(mapping, _)| mapping)
        };
        match context.stage {
            Stage::PassThrough => Some(Mapping {
                output: Gpa(address.0),
                order: PASS_THROUGH_ORDER,
                read: true,
                write: true,
                dirty: true,
            }),
            Stage::Second { root, levels, .. } => second(root, levels)
                .run(address.0, false, &mut Updates::default())
                .ok()
                .map(|(mapping, _)| mapping),
            Stage::First(tables) => first(tables, None),
            Stage::Nested { first: tables, root, levels, .. } => {
                first(tables, Some(second(root, levels)))
            }
        }
    }
}
