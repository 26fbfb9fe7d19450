//! The dense baseline: the server averages full gradients and takes the step that an optimiser makes of them.
//!
//! The optimiser's state lives at the server and its *direction* u travels, so that the update is
//! x ← x − η·(u + λ·x) as in the vote, replicas stay bit-identical and a newcomer needs nothing but x.

use std::ops::Range;

/// What the server makes of the mean gradient g.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimizer {
    /// SGD with momentum, as in PyTorch: v ← β·v + g, u = v (Sutskever et al. 2013, dampening 0).
    Sgd {
        /// β in [0, 1).
        momentum: f32,
    },
    /// Adam: m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g², u = m̂/(√v̂ + ε) with m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ)
    /// (Kingma & Ba 2015, algorithm 1; the weight decay here is decoupled).
    Adam {
        /// β₁ in [0, 1).
        beta1: f32,
        /// β₂ in [0, 1).
        beta2: f32,
        /// ε, above 0.
        epsilon: f32,
    },
}

/// The state of an [`Optimizer`] over all d coordinates.
#[derive(Clone, Debug)]
pub struct DenseState {
    optimizer: Optimizer,
    first: Vec<f32>,
    second: Vec<f32>,
}

impl DenseState {
    /// The state before the first round: zeros.
    pub fn new(optimizer: Optimizer, dimension: usize) -> Self {
        let second = if matches!(optimizer, Optimizer::Adam { .. }) { dimension } else { 0 };
        Self { optimizer, first: vec![0.0; dimension], second: vec![0.0; second] }
    }

    /// Replaces the mean gradient of the coordinates `range` by the direction u. `step` counts rounds from 1.
    ///
    /// A gradient that is not finite makes the state and the direction non-finite, as in any dense optimiser.
    ///
    /// # Panics
    /// If `range` and `gradient` differ in length, or `range` lies outside the model.
    pub fn direction(&mut self, range: Range<usize>, step: u64, gradient: &mut [f32]) {
        assert_eq!(range.len(), gradient.len(), "one gradient a coordinate");
        let first = &mut self.first[range.clone()];
        match self.optimizer {
            Optimizer::Sgd { momentum } => {
                for (g, v) in gradient.iter_mut().zip(first) {
                    *v = momentum * *v + *g;
                    *g = *v;
                }
            }
            Optimizer::Adam { beta1, beta2, epsilon } => {
                let power = i32::try_from(step).unwrap_or(i32::MAX);
                let correction1 = (1.0 - f64::from(beta1).powi(power)) as f32;
                let correction2 = (1.0 - f64::from(beta2).powi(power)) as f32;
                for ((g, m), v) in gradient.iter_mut().zip(first).zip(&mut self.second[range]) {
                    *m = beta1 * *m + (1.0 - beta1) * *g;
                    *v = beta2 * *v + (1.0 - beta2) * *g * *g;
                    *g = (*m / correction1) / ((*v / correction2).sqrt() + epsilon);
                }
            }
        }
    }
}

/// x = x − η·(u + λ·x), in that order, f32, no fused multiply-add: [`signvote_kernels::apply`] for a dense u.
///
/// Never inlined: server and worker must run the same instructions, or a diverged run's NaNs could differ in
/// their payloads, and with them the digests.
#[inline(never)]
pub(crate) fn apply_dense(x: &mut [f32], update: &[f32], eta: f32, lambda: f32) {
    for (x, u) in x.iter_mut().zip(update) {
        *x -= eta * (u + lambda * *x);
    }
}

/// Adds `values` to `sum`.
pub(crate) fn accumulate(sum: &mut [f32], values: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sgd_momentum_sums_past_gradients() {
        let mut state = DenseState::new(Optimizer::Sgd { momentum: 0.5 }, 1);
        let mut seen = vec![];
        for step in 1..=3 {
            let mut g = [1.0];
            state.direction(0..1, step, &mut g);
            seen.push(g[0]);
        }
        assert_eq!(seen, [1.0, 1.5, 1.75]);
    }

    #[test]
    fn adams_first_step_is_the_sign_of_the_gradient() {
        let optimizer = Optimizer::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
        let mut g = [3.0, -0.01, 0.0];
        DenseState::new(optimizer, 3).direction(0..3, 1, &mut g);
        for (u, sign) in g.into_iter().zip([1.0, -1.0, 0.0]) {
            assert!((u - sign).abs() < 1e-4, "{u} against {sign}");
        }
    }

    #[test]
    fn adam_agrees_with_the_published_recurrence_over_several_steps() {
        let (beta1, beta2, epsilon) = (0.9_f64, 0.999_f64, 1e-8_f64);
        let optimizer = Optimizer::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
        let mut state = DenseState::new(optimizer, 1);
        let (mut m, mut v) = (0.0, 0.0);
        for (step, gradient) in (1..).zip([0.5, -0.25, 2.0, 0.0, 1e-3]) {
            m = beta1 * m + (1.0 - beta1) * gradient;
            v = beta2 * v + (1.0 - beta2) * gradient * gradient;
            let expected = (m / (1.0 - beta1.powi(step))) / ((v / (1.0 - beta2.powi(step))).sqrt() + epsilon);
            let mut g = [gradient as f32];
            state.direction(0..1, step as u64, &mut g);
            assert!((f64::from(g[0]) - expected).abs() < 1e-4 * (1.0 + expected.abs()));
        }
    }
}
