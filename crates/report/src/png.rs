//! Plots as pictures, for where an SVG cannot be used.

use std::sync::Arc;

use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb::Database};

use crate::Error;

/// Pixels for one of the plot's own units.
const SCALE: f32 = 2.0;

/// Draws plots with the system's fonts, which are looked for once.
pub(crate) struct Printer {
    options: Options<'static>,
}

impl Printer {
    pub(crate) fn new() -> Result<Self, Error> {
        let mut fonts = Database::new();
        fonts.load_system_fonts();
        // Plots ask for any font without serifs; where the usual ones are missing, the first there is will do.
        let Some(first) = fonts.faces().next() else { return Err(Error::NoFonts) };
        let family = first.families.first().map(|(name, _)| name.clone()).unwrap_or_default();
        let plain = ["DejaVu Sans", "Liberation Sans", "Noto Sans", "Arial", "Helvetica"];
        let has =
            |name: &&str| fonts.faces().any(|face| face.families.iter().any(|(family, _)| family == name));
        let chosen = plain.iter().copied().find(has).map_or(family, str::to_owned);
        fonts.set_sans_serif_family(&chosen);
        let options = Options { fontdb: Arc::new(fonts), font_family: chosen, ..Options::default() };
        Ok(Self { options })
    }

    /// A plot as a PNG on white.
    pub(crate) fn png(&self, svg: &str) -> Result<Vec<u8>, String> {
        let tree = Tree::from_str(svg, &self.options).map_err(|error| error.to_string())?;
        let size = tree.size();
        let (width, height) = ((size.width() * SCALE).ceil() as u32, (size.height() * SCALE).ceil() as u32);
        let mut picture = Pixmap::new(width, height).ok_or("it has no size")?;
        picture.fill(Color::WHITE);
        resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut picture.as_mut());
        picture.encode_png().map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_becomes_a_picture_of_twice_its_size() {
        let printer = match Printer::new() {
            Ok(printer) => printer,
            // Said, not hidden: this machine cannot show it.
            Err(Error::NoFonts) => return eprintln!("skipped: no fonts"),
            Err(error) => panic!("{error}"),
        };
        let svg = r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 30 20" width="30" height="20">
            <rect x="5" y="5" width="10" height="10" fill="#0072b2"/></svg>"##;
        let png = printer.png(svg).unwrap();
        assert_eq!(png[..8], [0x89, b'P', b'N', b'G', 13, 10, 26, 10]);
        assert_eq!((png[16..20].to_vec(), png[20..24].to_vec()), (vec![0, 0, 0, 60], vec![0, 0, 0, 40]));
        let picture = Pixmap::decode_png(&png).unwrap();
        let colour = |x, y| picture.pixel(x, y).map(|it| (it.red(), it.green(), it.blue()));
        assert_eq!((colour(20, 20), colour(50, 20)), (Some((0, 0x72, 0xb2)), Some((255, 255, 255))));
        assert!(printer.png("no svg").is_err());
    }
}
