//! Tables, and the colours of shaded cells.

/// A table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Above it.
    pub title: String,
    /// Names of the columns.
    pub header: Vec<String>,
    /// Each as long as the header; the first cell names its row.
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows.
    pub fn new<N: Into<String>>(title: impl Into<String>, header: impl IntoIterator<Item = N>) -> Self {
        let header = header.into_iter().map(Into::into).collect();
        Self { title: title.into(), header, rows: Vec::new() }
    }

    /// The table with one more row.
    #[must_use]
    pub fn row<C: Into<Cell>>(mut self, cells: impl IntoIterator<Item = C>) -> Self {
        self.rows.push(cells.into_iter().map(Into::into).collect());
        self
    }

    /// Whether a column's cells are numbers, which are aligned to the right. Empty cells and dashes are of any kind.
    pub(crate) fn numeric(&self, column: usize) -> bool {
        let mut texts =
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.text.trim()).peekable();
        texts.peek().is_some() && texts.all(|text| matches!(text, "" | "-" | "–" | "—") || is_number(text))
    }
}

/// A cell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cell {
    /// What is in it.
    pub text: String,
    /// From 0, nearly white, to 1, dark blue: for tables that are read as maps. What is outside counts as the nearer end,
    /// and NaN as no shade.
    pub shade: Option<f64>,
}

impl Cell {
    /// A cell with a shade.
    pub fn shaded(text: impl Into<String>, shade: f64) -> Self {
        Self { text: text.into(), shade: Some(shade) }
    }

    /// Background and text as CSS colours, if the cell has a shade.
    pub(crate) fn colours(&self) -> Option<(String, &'static str)> {
        let shade = self.shade.filter(|shade| !shade.is_nan())?.clamp(0.0, 1.0);
        let background = blend(shade);
        let text = if contrast(background, DARK) >= contrast(background, LIGHT) { "#000" } else { "#fff" };
        Some((format!("#{:02x}{:02x}{:02x}", background[0], background[1], background[2]), text))
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self { text: text.into(), shade: None }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, shade: None }
    }
}

/// Begins with a digit, after a sign or the like. Units, `±` and `%` may follow.
fn is_number(text: &str) -> bool {
    text.trim_start_matches(['-', '−', '+', '<', '>', '≤', '≥', '~', '≈', ' '])
        .starts_with(|first: char| first.is_ascii_digit())
}

// Pure black: with any other, shades in the middle would leave less than 4.5.
const DARK: [u8; 3] = [0; 3];
const LIGHT: [u8; 3] = [0xff; 3];
/// One hue, so that order is seen with any colour vision and in print.
const SHADES: [[u8; 3]; 4] = [[0xf1, 0xf6, 0xfb], [0xb5, 0xd4, 0xe9], [0x4a, 0x97, 0xc9], [0x08, 0x3a, 0x7a]];

fn blend(shade: f64) -> [u8; 3] {
    let place = shade * (SHADES.len() - 1) as f64;
    let below = (place as usize).min(SHADES.len() - 2);
    let part = place - below as f64;
    let mix = |index: usize| {
        let [from, to] = [SHADES[below][index], SHADES[below + 1][index]].map(f64::from);
        (from + (to - from) * part).round() as u8
    };
    [mix(0), mix(1), mix(2)]
}

/// Contrast ratio of WCAG 2, (L₁ + 0.05) / (L₂ + 0.05) of the relative luminances, lighter over darker: 1 to 21.
fn contrast(one: [u8; 3], other: [u8; 3]) -> f64 {
    let [one, other] = [one, other].map(|colour| {
        let [red, green, blue] = colour.map(|channel| {
            let channel = f64::from(channel) / 255.0;
            if channel <= 0.04045 { channel / 12.92 } else { ((channel + 0.055) / 1.055).powf(2.4) }
        });
        0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05
    });
    one.max(other) / one.min(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_on_any_shade_has_the_contrast_that_wcag_asks_for() {
        for step in 0..=1000 {
            let background = blend(f64::from(step) / 1000.0);
            let best = contrast(background, DARK).max(contrast(background, LIGHT));
            assert!(best >= 4.5, "{step}: {best}");
        }
    }

    #[test]
    fn shades_outside_are_clamped_and_nan_is_none() {
        assert_eq!(Cell::shaded("", -3.0).colours(), Cell::shaded("", 0.0).colours());
        assert_eq!(Cell::shaded("", f64::INFINITY).colours(), Cell::shaded("", 1.0).colours());
        assert_eq!(Cell::shaded("", f64::NAN).colours(), None);
        assert_eq!(Cell::from("x").colours(), None);
    }

    #[test]
    fn columns_of_numbers_are_told_from_columns_of_words() {
        let table = Table::new("", ["", "a", "b", "c", "d"])
            .row(["x", "87.3%", "−3 ± 1", "", "7 of 9"])
            .row(["y", "—", "≈ 4", "", "none"]);
        let numeric: Vec<_> = (0..6).map(|column| table.numeric(column)).collect();
        assert_eq!(numeric, [false, true, true, true, false, false]);
    }
}
