//! The effect of each fault, in terms that the rest of the machine knows: reasons for which a link
//! is down, events of a port, the answers of the functions below.
//!
//! Here alone a [`FaultMode`] is translated. Ports, links, functions and the explorer know the
//! fields of an [`Effect`].

use std::time::Duration;

use super::FaultMode;
use crate::pcie::link::{AnswerDelay, CompletionFault, InvalidateBehavior, LinkDownReasons};
use crate::pcie::spec::aer::Uncorrectable;

/// The error that a port contains if software has enabled DPC: [`FaultMode::Dpc`].
const DPC_ERROR: Uncorrectable = Uncorrectable::DataLinkProtocol;

/// The effect of a fault on a port, on its link, and on the functions below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Effect {
    /// Why the link is down. Reasons that software can ask for come from `port` instead.
    pub link: LinkDownReasons,
    /// After which time the fault ends by itself.
    pub lasts: Option<Duration>,
    /// The event at the port, after the link has gone down.
    pub port: Option<PortEffect>,
    /// The behavior of the functions below on Invalidate Requests.
    pub invalidate: InvalidateBehavior,
    /// The fault of the Invalidate Completions that those functions send.
    pub completion: Option<CompletionFault>,
    /// The functions below are in D3hot.
    pub sleep: bool,
    /// How long the functions below take to become ready after a reset.
    pub reset: Option<Duration>,
    /// The registers of the remapping unit that software drives are gone.
    pub unit_is_gone: bool,
}

/// An event at a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortEffect {
    /// Link Disable is set (`PCIe 7.5.3.7`).
    DisableLink,
    /// The card is pulled out (`PCIe 6.7.3`).
    PullCard,
    /// The attention button is pressed. The card is pulled out when software has powered the slot
    /// down (`PCIe 6.7.2.5`).
    PressButton,
    /// The port detects an uncorrectable error (`PCIe 6.2`).
    Detect(Uncorrectable),
}

impl FaultMode {
    /// The effect of the mode.
    pub fn effect(self) -> Effect {
        let none = Effect::default();
        let up = LinkDownReasons::new();
        match self {
            Self::Silent => Effect { link: up.with_fault(true), ..none },
            Self::Ghost => Effect { link: up.with_ghost(true), ..none },
            Self::Disable => Effect { port: Some(PortEffect::DisableLink), ..none },
            Self::Surprise => Effect { port: Some(PortEffect::PullCard), ..none },
            Self::Safe => Effect { port: Some(PortEffect::PressButton), ..none },
            Self::Dpc => Effect { port: Some(PortEffect::Detect(DPC_ERROR)), ..none },
            Self::Aer => Effect {
                link: up.with_fault(true),
                port: Some(PortEffect::Detect(Uncorrectable::SurpriseDown)),
                ..none
            },
            Self::NoCompletion => Effect { invalidate: InvalidateBehavior::NoCompletion, ..none },
            Self::IgnoreInvalidate => Effect { invalidate: InvalidateBehavior::Ignore, ..none },
            Self::EarlyCompletion => Effect { invalidate: InvalidateBehavior::KeepEntries, ..none },
            Self::ByteSwap => Effect { invalidate: InvalidateBehavior::SwapBytes, ..none },
            Self::DropAtNext => Effect { invalidate: InvalidateBehavior::DropAtNext, ..none },
            Self::Sleep => Effect { sleep: true, ..none },
            Self::SlowReset(time) => Effect { reset: Some(time), ..none },
            Self::Merge(time) => answers(CompletionFault::Merge(time)),
            Self::Split(parts) => answers(CompletionFault::Split(parts)),
            Self::Choke { depth, time } => answers(CompletionFault::Choke { depth, time }),
            Self::Slow(delay) => answers(CompletionFault::Late(delay)),
            Self::Lossy(ppm) => answers(CompletionFault::Lossy(ppm)),
            Self::Duplicate => answers(CompletionFault::Duplicate),
            Self::Late(delay) => answers(CompletionFault::Late(AnswerDelay::Fixed(delay))),
            Self::Flap { down, keep: true } => {
                Effect { link: up.with_glitch(true), lasts: Some(down), ..none }
            }
            Self::Flap { down, keep: false } => {
                Effect { link: up.with_fault(true), lasts: Some(down), ..none }
            }
            Self::AllOnesUnit => Effect { unit_is_gone: true, ..none },
        }
    }
}

fn answers(fault: CompletionFault) -> Effect {
    Effect { completion: Some(fault), ..Effect::default() }
}

impl Effect {
    /// Whether the effect is about the link, now or soon. Otherwise it is about the answers of
    /// functions, about their power or their resets, or about the unit.
    pub fn is_about_link(self) -> bool {
        !self.link.is_up() || self.port.is_some()
    }

    /// Whether the effect is about the answers of functions to Invalidate Requests.
    pub fn is_about_answers(self) -> bool {
        self.invalidate != InvalidateBehavior::Complete || self.completion.is_some()
    }

    /// Whether a TLP that is sent right after it began is lost. `contains` tells which errors the
    /// port contains.
    pub fn cuts_at_once(self, contains: impl Fn(Uncorrectable) -> bool) -> bool {
        let port_cuts = match self.port {
            Some(PortEffect::DisableLink | PortEffect::PullCard) => true,
            Some(PortEffect::Detect(error)) => contains(error),
            Some(PortEffect::PressButton) | None => false,
        };
        port_cuts || !self.link.is_up()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::MODES;

    /// Every mode, each with some parameter.
    fn modes() -> impl Iterator<Item = FaultMode> {
        MODES.iter().map(|(text, _)| {
            let text = text.replace(":T", ":1ms").replace(":P", ":0.5").replace(":N", ":2");
            text.parse().unwrap()
        })
    }

    #[test]
    fn each_mode_is_about_one_thing() {
        for mode in modes() {
            let effect = mode.effect();
            let about = [
                effect.is_about_link(),
                effect.is_about_answers(),
                effect.sleep,
                effect.reset.is_some(),
                effect.unit_is_gone,
            ];
            assert_eq!(about.iter().filter(|is| **is).count(), 1, "{mode}");
            assert_eq!(effect.lasts.is_some(), matches!(mode, FaultMode::Flap { .. }), "{mode}");
        }
    }

    #[test]
    fn a_tlp_is_lost_at_once_where_the_link_is_down_at_once() {
        for (mode, without_dpc, with_dpc) in [
            (FaultMode::Silent, true, true),
            (FaultMode::Disable, true, true),
            (FaultMode::Surprise, true, true),
            (FaultMode::Safe, false, false),
            (FaultMode::Dpc, false, true),
            (FaultMode::Aer, true, true),
            (FaultMode::NoCompletion, false, false),
            (FaultMode::AllOnesUnit, false, false),
        ] {
            let effect = mode.effect();
            assert_eq!(effect.cuts_at_once(|_| false), without_dpc, "{mode}");
            assert_eq!(effect.cuts_at_once(|_| true), with_dpc, "{mode}");
        }
    }
}
