//! Labels within the plot, put where they cover least.

use crate::text;

/// A label's place: its left end, and the middle of its height.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Place {
    pub(crate) x: f64,
    pub(crate) y: f64,
}

/// What is drawn already, as points.
pub(crate) struct Drawn {
    points: Vec<(f64, f64)>,
    labels: Vec<Bounds>,
}

#[derive(Clone, Copy)]
struct Bounds {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Drawn {
    pub(crate) fn nothing() -> Self {
        Self { points: Vec::new(), labels: Vec::new() }
    }

    /// A line through these points.
    pub(crate) fn line(&mut self, points: &[(f64, f64)]) {
        self.points.extend(points.first());
        for pair in points.windows(2) {
            let ((x1, y1), (x2, y2)) = (pair[0], pair[1]);
            // Far less than a letter; what leaves the sheet is of no interest.
            let steps = ((x2 - x1).hypot(y2 - y1) / 4.0).clamp(1.0, 200.0) as usize;
            let between = |step: usize| step as f64 / steps as f64;
            self.points.extend(
                (1..=steps).map(|step| (x1 + (x2 - x1) * between(step), y1 + (y2 - y1) * between(step))),
            );
        }
    }

    /// A label is drawn there.
    pub(crate) fn label(&mut self, label: &str, size: f64, place: Place) {
        self.labels.push(bounds(label, size, place));
    }

    /// The place that covers least; the first of them if several do.
    pub(crate) fn best(&self, label: &str, size: f64, places: &[Place]) -> Option<Place> {
        let covered = |place: &Place| {
            let own = bounds(label, size, *place);
            let points = self.points.iter().filter(|point| own.holds(**point)).count();
            // Two labels in one place can neither be read.
            points + 1000 * self.labels.iter().filter(|other| own.meets(other)).count()
        };
        places.iter().copied().min_by_key(covered)
    }
}

impl Bounds {
    fn holds(&self, (x, y): (f64, f64)) -> bool {
        (self.left..=self.right).contains(&x) && (self.top..=self.bottom).contains(&y)
    }

    fn meets(&self, other: &Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }
}

fn bounds(label: &str, size: f64, place: Place) -> Bounds {
    Bounds {
        left: place.x - 3.0,
        right: place.x + text::width(label, size) + 3.0,
        top: place.y - size * 0.62,
        bottom: place.y + size * 0.62,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_goes_where_no_line_and_no_other_label_is() {
        let mut drawn = Drawn::nothing();
        drawn.line(&[(0.0, 0.0), (100.0, 0.0)]);
        let places = [0.0, 50.0, 100.0].map(|y| Place { x: 20.0, y });
        assert_eq!(drawn.best("label", 12.0, &places), Some(places[1]));
        drawn.label("other", 12.0, places[1]);
        assert_eq!(drawn.best("label", 12.0, &places), Some(places[2]));
        assert_eq!(drawn.best("label", 12.0, &[]), None);
    }
}
