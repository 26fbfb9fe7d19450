//! Shapes of markers.

/// A marker's outline, in radii. The first shape is a circle, which has none.
pub(crate) fn outline(marker: u8) -> Vec<(f64, f64)> {
    let star = |corners: usize, inner: f64, turn: f64| {
        let angle = |index: usize| (index as f64 / corners as f64 + turn) * std::f64::consts::TAU;
        (0..corners)
            .map(|index| {
                let radius = if index % 2 == 1 { inner } else { 1.3 };
                (radius * angle(index).sin(), -radius * angle(index).cos())
            })
            .collect::<Vec<_>>()
    };
    let (arm, end) = (0.38, 1.2);
    let plus = [
        (-arm, -end),
        (arm, -end),
        (arm, -arm),
        (end, -arm),
        (end, arm),
        (arm, arm),
        (arm, end),
        (-arm, end),
        (-arm, arm),
        (-end, arm),
        (-end, -arm),
        (-arm, -arm),
    ];
    match marker % 8 {
        0 => Vec::new(),
        1 => vec![(-0.92, -0.92), (0.92, -0.92), (0.92, 0.92), (-0.92, 0.92)],
        2 => vec![(0.0, -1.2), (1.15, 0.9), (-1.15, 0.9)],
        3 => vec![(0.0, -1.3), (1.1, 0.0), (0.0, 1.3), (-1.1, 0.0)],
        4 => vec![(0.0, 1.2), (-1.15, -0.9), (1.15, -0.9)],
        5 => plus.into(),
        6 => {
            let turn = std::f64::consts::FRAC_1_SQRT_2;
            plus.iter().map(|(x, y)| ((x - y) * turn, (x + y) * turn)).collect()
        }
        _ => star(10, 0.55, 0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_eight_shapes_of_about_the_same_size() {
        let shapes: Vec<_> = (0..8).map(outline).collect();
        for (index, shape) in shapes.iter().enumerate() {
            assert!(shapes[..index].iter().all(|other| other != shape));
            assert!(shape.iter().all(|(x, y)| x.hypot(*y) < 1.6));
        }
    }
}
