//! The plots of the report, as SVG. Each is a function of a few numbers; [`super::report`] knows where
//! they come from.

mod axis;
mod canvas;
pub(super) mod curves;
pub(super) mod pareto;
pub(super) mod stalls;
pub(super) mod timeline;

pub(super) use canvas::{Ink, theme_css};
