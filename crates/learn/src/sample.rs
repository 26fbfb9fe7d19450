//! Text that a language model makes up.

use crate::random::{stream, unit};
use crate::{Dataset, Engine, Error, Examples, Shape};

/// What logits are divided by before one is drawn from their softmax: below 1, the likely becomes likelier.
const TEMPERATURE: f64 = 0.8;

/// `count` tokens that go on from the first window of `data`, each drawn from what the model at the point `x` expects next: the
/// end of that window, and what was made up. `None` of models of images.
///
/// # Errors
/// Those of [`Engine::logits`] and [`Dataset::fill`].
pub fn sample_text(
    engine: &mut dyn Engine,
    x: &[f32],
    data: &Dataset,
    count: usize,
    seed: u64,
) -> Result<Option<(String, String)>, Error> {
    let Shape::Tokens { length, vocabulary } = data.shape() else { return Ok(None) };
    let mut examples = Examples::default();
    data.fill(&[0], None, &mut examples)?;
    let prompt = data.spell(&examples.tokens[length - length.min(32)..]).unwrap_or_default();
    let mut random = stream("signvote-learn 2026 sampled text v1", &seed.to_le_bytes());
    let mut made_up = Vec::with_capacity(count);
    for _ in 0..count {
        let logits = engine.logits(x, &[], examples.batch())?;
        let last = &logits[(length - 1) * vocabulary..];
        let largest = last.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |z: &f32| (f64::from(z - largest) / TEMPERATURE).exp();
        let mut at = f64::from(unit(&mut random)) * last.iter().map(weight).sum::<f64>();
        let drawn = last.iter().position(|z| {
            at -= weight(z);
            at < 0.0
        });
        // Of a diverged model nothing is drawn.
        let token = drawn.unwrap_or(0) as u32;
        made_up.push(token);
        examples.tokens.rotate_left(1);
        examples.tokens[length - 1] = token;
    }
    Ok(data.spell(&made_up).map(|text| (prompt, text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BurnEngine, DataSource, ModelKind, load};

    #[test]
    fn what_is_made_up_is_a_function_of_the_seed_and_follows_the_logits() {
        let data = load(&DataSource::Shakespeare.into()).unwrap().test;
        let model = ModelKind::QrnnSmall.model(data.shape()).unwrap();
        let (mut engine, mut x) = (BurnEngine::new(&model), vec![0.0; model.dimension()]);
        let mut sample = |x: &[f32], seed| sample_text(&mut engine, x, &data, 20, seed).unwrap().unwrap();
        assert_eq!(sample(&x, 1), sample(&x, 1));
        assert_ne!(sample(&x, 1).1, sample(&x, 2).1);
        // The bias of the output alone decides where all else is 0.
        let last = x.len() - 256 + usize::from(b'e');
        x[last] = 50.0;
        let (prompt, text) = sample(&x, 1);
        assert_eq!((prompt.len(), text.as_str()), (32, "eeeeeeeeeeeeeeeeeeee"));

        let images = load(&DataSource::default().into()).unwrap().test;
        let mlp = ModelKind::Mlp.usual();
        let none = sample_text(&mut BurnEngine::new(&mlp), &mlp.initial(1), &images, 3, 1).unwrap();
        assert!(none.is_none());
    }
}
