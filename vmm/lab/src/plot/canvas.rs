//! The drawing area of a plot: an SVG whose colours the surrounding page can exchange.
//!
//! An SVG says `fill="#0072b2"`, and is right alone, on white paper. In the report a style sheet maps each
//! of the few colours to a variable (`[fill="#0072B2"] { fill: var(--link) }`), and these follow
//! the reader's light or dark theme.

use std::cell::RefCell;

use plotters::backend::SVGBackend;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea};
use plotters::element::{Circle, PathElement, Polygon, Rectangle, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, IntoFont, IntoTextStyle, RGBColor, ShapeStyle};

use crate::text::escape;

/// Result of drawing. Drawing into memory does not fail.
pub(super) type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// The meaning of a colour. No two differ by hue alone: the palette is Okabe and Ito's,
/// which people with any colour vision can read, in shades of different lightness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Ink {
    /// Text.
    Text,
    /// Text that matters less, axes.
    Muted,
    /// Lines of the grid.
    Grid,
    /// The background.
    Paper,
    /// As it should be.
    Good,
    /// A caller waits.
    Wait,
    /// A caller waits with interrupts off for longer than a lock-up detector allows.
    Stuck,
    /// A stale translation is used, or a caller has a wrong verdict.
    Unsafe,
    /// Devices and links.
    Device,
    /// Neighbours.
    Neighbor,
}

impl Ink {
    pub(crate) const ALL: [Self; 10] = [
        Self::Text,
        Self::Muted,
        Self::Grid,
        Self::Paper,
        Self::Good,
        Self::Wait,
        Self::Stuck,
        Self::Unsafe,
        Self::Device,
        Self::Neighbor,
    ];

    /// Its CSS variable, and its colours on light and on dark paper.
    pub(crate) const fn theme(self) -> (&'static str, u32, u32) {
        match self {
            Self::Text => ("--text", 0x1b1f24, 0xe6e8eb),
            Self::Muted => ("--muted", 0x59636e, 0x9aa4af),
            Self::Grid => ("--grid", 0xd9dee3, 0x353b43),
            Self::Paper => ("--paper", 0xffffff, 0x14171a),
            Self::Good => ("--good", 0x007a5a, 0x2fbf94),
            Self::Wait => ("--wait", 0xe69f00, 0xf0b840),
            Self::Stuck => ("--stuck", 0xc44e00, 0xff7f3f),
            Self::Unsafe => ("--unsafe", 0xa5327f, 0xe58cc4),
            Self::Device => ("--device", 0x0072b2, 0x56b4e9),
            Self::Neighbor => ("--neighbor", 0x4a6fa5, 0x8fa9d6),
        }
    }

    pub(super) const fn rgb(self) -> RGBColor {
        let [_, red, green, blue] = self.theme().1.to_be_bytes();
        RGBColor(red, green, blue)
    }
}

/// The style sheet's part for plots: variables for both themes, and the rules that use them.
pub(crate) fn theme_css() -> String {
    let variables = |pick: fn((&str, u32, u32)) -> u32| {
        Ink::ALL.map(|ink| format!("{}:#{:06x};", ink.theme().0, pick(ink.theme()))).concat()
    };
    let rules = Ink::ALL.map(|ink| {
        let (variable, light, _) = ink.theme();
        format!(
            "svg [fill=\"#{light:06X}\"]{{fill:var({variable})}}\
             svg [stroke=\"#{light:06X}\"]{{stroke:var({variable})}}\n"
        )
    });
    format!(
        ":root{{color-scheme:light dark;{}}}\n@media (prefers-color-scheme:dark){{:root{{{}}}}}\n{}",
        variables(|(_, light, _)| light),
        variables(|(_, _, dark)| dark),
        rules.concat()
    )
}

/// Position of a text relative to its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Left,
    Center,
    Right,
}

/// A page of pixels.
pub(super) struct Canvas<'a> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
    /// Areas with tooltips, as SVG: they lie above everything, and are invisible.
    tips: RefCell<String>,
}

/// Draws on a new page; returns the SVG.
pub(super) fn draw(
    (width, height): (i32, i32),
    content: impl FnOnce(&Canvas<'_>) -> Drawn,
) -> String {
    let mut svg = String::new();
    let tips = {
        let size = (width.unsigned_abs(), height.unsigned_abs());
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let canvas = Canvas { area, tips: RefCell::default() };
        let drawn = content(&canvas).and_then(|()| canvas.area.present());
        debug_assert!(drawn.is_ok(), "memory takes everything: {drawn:?}");
        canvas.tips.take()
    };
    if let Some(end) = svg.rfind("</svg>") {
        svg.insert_str(end, &tips);
    }
    svg
}

impl Canvas<'_> {
    pub(super) fn rect(&self, from: (i32, i32), to: (i32, i32), ink: Ink) -> Drawn {
        self.shade(from, to, ink, 1.0)
    }

    /// A rectangle that what lies under it shines through.
    pub(super) fn shade(&self, from: (i32, i32), to: (i32, i32), ink: Ink, opacity: f64) -> Drawn {
        let style = ink.rgb().mix(opacity).filled();
        // The shortest spans are one pixel wide, to be visible.
        let to = (to.0.max(from.0 + 1), to.1.max(from.1 + 1));
        self.area.draw(&Rectangle::new([from, to], style))
    }

    pub(super) fn line(&self, from: (i32, i32), to: (i32, i32), ink: Ink, width: u32) -> Drawn {
        self.area.draw(&PathElement::new([from, to], stroke(ink, width)))
    }

    pub(super) fn path(&self, points: Vec<(i32, i32)>, ink: Ink, width: u32) -> Drawn {
        self.area.draw(&PathElement::new(points, stroke(ink, width)))
    }

    /// Shows `text` while the pointer is between `from` and `to`.
    pub(super) fn tip(&self, from: (i32, i32), to: (i32, i32), text: &str) {
        let (width, height) = ((to.0 - from.0).max(1), (to.1 - from.1).max(1));
        let text = escape(text);
        *self.tips.borrow_mut() += &format!(
            "<rect x=\"{}\" y=\"{}\" width=\"{width}\" height=\"{height}\" fill-opacity=\"0\">\
             <title>{text}</title></rect>\n",
            from.0, from.1
        );
    }

    /// A vertical line of dashes.
    pub(super) fn dashes(&self, x: i32, (top, bottom): (i32, i32), ink: Ink) -> Drawn {
        (top..bottom)
            .step_by(7)
            .try_for_each(|y| self.line((x, y), (x, (y + 4).min(bottom)), ink, 1))
    }

    pub(super) fn dot(&self, at: (i32, i32), radius: i32, ink: Ink) -> Drawn {
        self.area.draw(&Circle::new(at, radius, ink.rgb().filled()))
    }

    pub(super) fn ring(&self, at: (i32, i32), radius: i32, ink: Ink) -> Drawn {
        self.area.draw(&Circle::new(at, radius, stroke(ink, 2)))
    }

    /// A diamond: differs from a dot without its colour.
    pub(super) fn diamond(&self, (x, y): (i32, i32), radius: i32, ink: Ink) -> Drawn {
        let corners = vec![(x, y - radius), (x + radius, y), (x, y + radius), (x - radius, y)];
        self.area.draw(&Polygon::new(corners, ink.rgb().filled()))
    }

    /// A line of text, vertically in the middle of `at`.
    pub(super) fn text(
        &self,
        at: (i32, i32),
        anchor: Anchor,
        ink: Ink,
        size: u32,
        text: &str,
    ) -> Drawn {
        let horizontal = match anchor {
            Anchor::Left => HPos::Left,
            Anchor::Center => HPos::Center,
            Anchor::Right => HPos::Right,
        };
        // The backend writes font-size as size / 1.24.
        let font = ("sans-serif", f64::from(size) * 1.24).into_font().color(&ink.rgb());
        let style = font.pos(Pos::new(horizontal, VPos::Center)).into_text_style(&self.area);
        self.area.draw(&Text::new(text.to_owned(), at, style))
    }
}

fn stroke(ink: Ink, width: u32) -> ShapeStyle {
    ShapeStyle { color: ink.rgb().to_rgba(), filled: false, stroke_width: width }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_colour_stands_for_one_thing_in_both_themes() {
        let colours = |pick: fn((&str, u32, u32)) -> u32| {
            Ink::ALL.map(|ink| pick(ink.theme())).into_iter().collect::<HashSet<u32>>().len()
        };
        assert_eq!(colours(|(_, light, _)| light), Ink::ALL.len());
        assert_eq!(colours(|(_, _, dark)| dark), Ink::ALL.len());
    }

    #[test]
    fn what_is_drawn_is_in_colours_that_the_style_sheet_exchanges() {
        let svg = draw((10, 10), |canvas| {
            canvas.rect((0, 0), (5, 5), Ink::Good)?;
            canvas.line((0, 0), (5, 5), Ink::Wait, 1)?;
            canvas.tip((0, 0), (5, 5), "1 < 2");
            canvas.text((1, 1), Anchor::Left, Ink::Text, 12, "a < b")
        });
        let css = theme_css();
        for ink in ["fill=\"#007A5A\"", "stroke=\"#E69F00\"", "fill=\"#1B1F24\""] {
            assert!(svg.contains(ink), "{ink}: {svg}");
            assert!(css.contains(&format!("[{ink}]")), "{ink}: {css}");
        }
        assert!(svg.contains("<title>1 &lt; 2</title></rect>\n</svg>"), "{svg}");
        assert!(svg.contains("a &lt; b") && svg.contains("font-size=\"12\""), "{svg}");
    }
}
