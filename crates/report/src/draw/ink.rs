//! What things look like. The plotting library hands a colour down to its backend and nothing else, so a colour stands for
//! all that we need to know: what is drawn, in which colour of the palette, and with which dashes.

use std::fmt::{self, Write};

use plotters::style::RGBColor;

use crate::Series;

/// Size of titles, in units of the drawing.
pub(crate) const TITLE: f64 = 15.0;
/// Size of everything that must be read.
pub(crate) const WORDS: f64 = 13.0;
/// Size of notes.
pub(crate) const NOTES: f64 = 12.0;

/// Okabe and Ito's colours, those first that stand out on white as well as on black. The seventh is the text's own, and the
/// last, their yellow, is darker than theirs, which would not be seen on white.
const PALETTE: [&str; 8] =
    ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", FOREGROUND, "#BFAE00"];
const FOREGROUND: &str = "#1d2025";
/// The place of the text's own colour in the palette.
pub(crate) const OWN: u8 = 6;

/// Lengths of strokes and gaps, for lines of width 2. The first is solid.
const DASHES: [&str; 8] = ["", "8 3", "2 2.5", "11 3 2.5 3", "4.5 4.5", "16 5", "7 2.5 2 2.5 2 2.5", "1.5 5"];

/// Hatchings of bars, as paths in a square of [`HATCH`]. The first is none.
const HATCHES: [&str; 8] = [
    "",
    "M-2,2L2,-2M0,8L8,0M6,10L10,6",
    "M2,2h1.6M6,6h1.6",
    "M0,4H8",
    "M-2,6L2,10M0,0L8,8M6,-2L10,2",
    "M4,0V8",
    "M0,4H8M4,0V8",
    "M0,0L8,8M0,8L8,0",
];
const HATCH: u32 = 8;

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Role {
    /// The sheet behind everything.
    Paper,
    /// Grid lines without a label.
    Fine,
    Grid,
    Axis,
    Reference,
    /// The area between the ends of what varies, or under steps.
    Band,
    Line,
    /// A line of so many points that a thick one would be a band.
    Thin,
    Law,
    /// From the lowest to the highest.
    Whisker,
    Mark,
    Bar,
    Title,
    Words,
    Notes,
    /// Words over what is drawn already.
    Over,
}

const ROLES: [Role; 16] = [
    Role::Paper,
    Role::Fine,
    Role::Grid,
    Role::Axis,
    Role::Reference,
    Role::Band,
    Role::Line,
    Role::Thin,
    Role::Law,
    Role::Whisker,
    Role::Mark,
    Role::Bar,
    Role::Title,
    Role::Words,
    Role::Notes,
    Role::Over,
];

/// A role with the look of its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ink {
    role: Role,
    look: Look,
}

/// How a series is told from the others. Up to eight series differ in each; beyond, in the three together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) colour: u8,
    /// Of dashes and of hatchings.
    pub(crate) pattern: u8,
    pub(crate) marker: u8,
}

/// The looks of a plot's series. Laws have the text's colour, so that measurements get those that stand out.
pub(crate) fn looks(series: &[Series]) -> Vec<Look> {
    let mut measured = 0;
    series
        .iter()
        .enumerate()
        .map(|(index, series)| {
            let pattern = (index % 8) as u8;
            if series.law {
                return Look { colour: OWN, pattern, marker: 0 };
            }
            let (colour, turn) = (measured % 8, measured / 8);
            measured += 1;
            Look { colour: colour as u8, pattern, marker: ((colour + turn) % 8) as u8 }
        })
        .collect()
}

impl Ink {
    pub(crate) fn new(role: Role) -> Self {
        Self { role, look: Look::default() }
    }

    pub(crate) fn of(role: Role, look: Look) -> Self {
        // The marker's shape is in its coordinates already.
        Self { role, look: Look { marker: 0, ..look } }
    }

    /// The colour that stands for it on its way through the plotting library.
    pub(crate) fn colour(self) -> RGBColor {
        RGBColor(self.role as u8, self.look.colour, self.look.pattern)
    }

    /// What a colour stands for.
    pub(crate) fn decode((role, colour, pattern): (u8, u8, u8)) -> Self {
        let role = ROLES.get(usize::from(role)).copied().unwrap_or(Role::Words);
        Self { role, look: Look { colour, pattern, marker: 0 } }
    }

    /// The size of its text, if it is text.
    pub(crate) fn size(self) -> f64 {
        match self.role {
            Role::Title => TITLE,
            Role::Notes | Role::Over => NOTES,
            _ => WORDS,
        }
    }

    /// Begins the group of what is drawn with it. Attributes are for those who have the file alone, on white paper; classes are
    /// for the page, whose style sheet changes what depends on the theme.
    pub(crate) fn open(self, out: &mut String, id: &str) -> fmt::Result {
        let colour = PALETTE[usize::from(self.look.colour % 8)];
        let own = self.look.colour == OWN;
        let line = if own { "class=\"own-line\" " } else { "" };
        let fill = if own { "class=\"own\" " } else { "" };
        let dashes = match DASHES[usize::from(self.look.pattern % 8)] {
            "" => String::new(),
            dashes => format!(" stroke-dasharray=\"{dashes}\""),
        };
        out.push_str("<g ");
        match self.role {
            Role::Paper => write!(out, "class=\"paper\" fill=\"#fff\""),
            Role::Fine => write!(out, "class=\"fine\" fill=\"none\" stroke=\"#eff1f4\""),
            Role::Grid => write!(out, "class=\"grid\" fill=\"none\" stroke=\"#dde1e6\""),
            Role::Axis => write!(out, "class=\"axis\" fill=\"none\" stroke=\"#7d848e\""),
            Role::Reference => write!(
                out,
                "class=\"own-line\" fill=\"none\" stroke=\"{FOREGROUND}\" stroke-width=\"1.2\" \
                 stroke-dasharray=\"3 3\""
            ),
            Role::Band => write!(out, "{fill}fill=\"{colour}\" fill-opacity=\"0.18\""),
            Role::Line => write!(
                out,
                "{line}fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-linejoin=\"round\"{dashes}"
            ),
            Role::Thin | Role::Law => {
                write!(out, "{line}fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.3\"{dashes}")
            }
            Role::Whisker => write!(out, "{line}fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.4\""),
            // An edge in the colour of the paper keeps markers apart where they meet.
            Role::Mark => write!(
                out,
                "class=\"edge{}\" fill=\"{colour}\" stroke=\"#fff\" stroke-width=\"0.8\"",
                if own { " own" } else { "" }
            ),
            Role::Bar => write!(
                out,
                "{line}fill=\"url(#{id}.hatch{}) {colour}\" stroke=\"{colour}\"",
                self.look.pattern % 8
            ),
            Role::Title => {
                write!(out, "class=\"own\" fill=\"{FOREGROUND}\" font-size=\"{TITLE}\" font-weight=\"600\"")
            }
            Role::Words => write!(out, "class=\"own\" fill=\"{FOREGROUND}\" font-size=\"{WORDS}\""),
            Role::Notes => write!(out, "class=\"notes\" fill=\"#5b626d\" font-size=\"{NOTES}\""),
            Role::Over => write!(
                out,
                "class=\"own edge\" fill=\"{FOREGROUND}\" font-size=\"{NOTES}\" stroke=\"#fff\" stroke-width=\"4\" \
                 stroke-linejoin=\"round\" paint-order=\"stroke\""
            ),
        }?;
        out.push_str(">\n");
        Ok(())
    }
}

/// The patterns that bars are filled with.
pub(crate) fn hatchings(out: &mut String, id: &str, looks: impl Iterator<Item = Look>) -> fmt::Result {
    for look in looks {
        let pattern = look.pattern % 8;
        let colour = PALETTE[usize::from(look.colour % 8)];
        let own = if look.colour == OWN { " class=\"own\"" } else { "" };
        write!(
            out,
            "<pattern id=\"{id}.hatch{pattern}\" width=\"{HATCH}\" height=\"{HATCH}\" patternUnits=\"userSpaceOnUse\">\
             <rect{own} width=\"{HATCH}\" height=\"{HATCH}\" fill=\"{colour}\"/>"
        )?;
        if pattern > 0 {
            let path = HATCHES[usize::from(pattern)];
            write!(
                out,
                "<path class=\"edge\" d=\"{path}\" fill=\"none\" stroke=\"#fff\" stroke-width=\"1.6\"/>"
            )?;
        }
        out.push_str("</pattern>\n");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn eight_series_differ_in_colour_in_dashes_and_in_markers() {
        let looks = looks(&vec![Series::default(); 8]);
        let distinct = |of: fn(&Look) -> u8| looks.iter().map(of).collect::<HashSet<_>>().len();
        assert_eq!(
            [distinct(|look| look.colour), distinct(|look| look.pattern), distinct(|look| look.marker)],
            [8; 3]
        );
        for list in [PALETTE, DASHES, HATCHES] {
            assert_eq!(list.iter().collect::<HashSet<_>>().len(), 8);
        }
    }

    #[test]
    fn more_series_differ_in_the_three_together() {
        let looks = looks(&vec![Series::default(); 64]);
        let distinct: HashSet<_> =
            looks.iter().map(|look| (look.colour, look.pattern, look.marker)).collect();
        assert_eq!(distinct.len(), 64);
    }

    #[test]
    fn an_ink_comes_through_the_library_as_a_colour() {
        for (index, role) in ROLES.into_iter().enumerate() {
            assert_eq!(role as usize, index);
            let ink = Ink::of(role, Look { colour: 5, pattern: 3, marker: 2 });
            let RGBColor(red, green, blue) = ink.colour();
            assert_eq!(Ink::decode((red, green, blue)), ink);
        }
    }
}
