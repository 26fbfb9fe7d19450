//! What a fixed range leaves out, cut off. The plotting library would move points from outside to the edge, and bend lines.
//!
//! All in places on the axes: the square from 0 to 1.

type Place = (f64, f64);

/// The parts of a line through these points that are inside.
pub(crate) fn line(points: &[Place]) -> Vec<Vec<Place>> {
    let mut parts: Vec<Vec<Place>> = Vec::new();
    let mut end = None;
    for pair in points.windows(2) {
        let Some((from, to)) = segment(pair[0], pair[1]) else { continue };
        match parts.last_mut() {
            // What left the square comes back as another part, even at the same place.
            Some(part) if end == Some(from) && from == pair[0] => part.push(to),
            _ => parts.push(vec![from, to]),
        }
        end = Some(to);
    }
    parts
}

/// The part of a segment that is inside (Liang and Barsky's algorithm): for each edge, the parameter where the segment crosses it.
fn segment(from: Place, to: Place) -> Option<(Place, Place)> {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let (mut first, mut last) = (0.0_f64, 1.0_f64);
    for (outward, room) in [(-dx, from.0), (dx, 1.0 - from.0), (-dy, from.1), (dy, 1.0 - from.1)] {
        if outward == 0.0 {
            if room < 0.0 {
                return None;
            }
        } else if outward < 0.0 {
            first = first.max(room / outward);
        } else {
            last = last.min(room / outward);
        }
    }
    let at = |part: f64| match part {
        0.0 => from,
        1.0 => to,
        _ => (from.0 + dx * part, from.1 + dy * part),
    };
    (first <= last).then(|| (at(first), at(last)))
}

/// The part of a polygon that is inside (Sutherland and Hodgman's algorithm): cut along each edge in turn.
pub(crate) fn polygon(mut corners: Vec<Place>) -> Vec<Place> {
    // How far inside a corner is, for each edge.
    let edges: [fn(Place) -> f64; 4] = [|at| at.0, |at| 1.0 - at.0, |at| at.1, |at| 1.0 - at.1];
    for inside in edges {
        let mut cut = Vec::with_capacity(corners.len() + 2);
        for (index, &corner) in corners.iter().enumerate() {
            let before = corners[(index + corners.len() - 1) % corners.len()];
            let (here, there) = (inside(corner), inside(before));
            if (here >= 0.0) != (there >= 0.0) {
                let part = there / (there - here);
                cut.push((before.0 + (corner.0 - before.0) * part, before.1 + (corner.1 - before.1) * part));
            }
            if here >= 0.0 {
                cut.push(corner);
            }
        }
        corners = cut;
    }
    corners
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_inside_is_left_alone() {
        let points = vec![(0.0, 0.0), (0.5, 1.0), (1.0, 0.25)];
        assert_eq!(line(&points), [points]);
    }

    #[test]
    fn a_line_is_cut_where_it_crosses_the_edge_and_goes_on_where_it_comes_back() {
        let parts = line(&[(0.0, 0.5), (0.5, 1.5), (1.0, 0.5), (3.0, 0.5), (3.0, 9.0)]);
        assert_eq!(parts, [vec![(0.0, 0.5), (0.25, 1.0)], vec![(0.75, 1.0), (1.0, 0.5), (1.0, 0.5)]]);
        assert!(line(&[(2.0, 0.0), (2.0, 1.0)]).is_empty());
        assert_eq!(line(&[(-1.0, 0.5), (2.0, 0.5)]), [vec![(0.0, 0.5), (1.0, 0.5)]]);
    }

    #[test]
    fn a_polygon_is_cut_along_the_edges() {
        let square = vec![(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)];
        assert_eq!(polygon(square.clone()), square);
        let cut = polygon(vec![(-1.0, -1.0), (2.0, -1.0), (2.0, 0.5), (-1.0, 0.5)]);
        let mut corners = cut.clone();
        corners.sort_by(|one, other| one.partial_cmp(other).unwrap());
        assert_eq!(corners, [(0.0, 0.0), (0.0, 0.5), (1.0, 0.0), (1.0, 0.5)]);
        assert!(polygon(vec![(2.0, 0.0), (3.0, 0.0), (3.0, 1.0)]).is_empty());
    }
}
