//! What all workers of a run do alike with their gradients.

use signvote_election::Settings;

use crate::{Error, Form};

/// What a worker does with its gradients before they are votes, beyond the terms' β. The server hands it out, in the terms'
/// settings, and reads none of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GradientRule {
    /// How gradients become ballots; unused in a dense run.
    pub form: Form,
    /// The share ε of a label that is spread over all classes (Szegedy et al. 2016, section 7).
    pub label_smoothing: f32,
    /// The longest that a batch's gradient may be, in the Euclidean norm: a longer one is scaled down to it (Pascanu et al. 2013). In
    /// a vote it keeps one batch from ruling the momentum of the rounds that follow. 0 is no limit. The whole gradient must be there
    /// before anything of it is sent.
    pub clip_norm: f32,
}

const FORM: &str = "form";
const LABEL_SMOOTHING: &str = "label-smoothing";
const CLIP_NORM: &str = "clip-norm";

impl GradientRule {
    /// Writes down what is not the default.
    ///
    /// # Errors
    /// If there is no room for it.
    pub fn write(&self, settings: &mut Settings) -> Result<(), Error> {
        let usual = Self::default();
        let entries = [
            (FORM, self.form.to_string(), self.form != usual.form),
            (LABEL_SMOOTHING, self.label_smoothing.to_string(), self.label_smoothing != 0.0),
            (CLIP_NORM, self.clip_norm.to_string(), self.clip_norm != 0.0),
        ];
        for (key, value, told) in entries {
            if told {
                settings.insert(key, value).map_err(signvote_election::ExchangeError::from)?;
            }
        }
        Ok(())
    }

    /// Reads what was written.
    ///
    /// # Errors
    /// [`Error::Misuse`] where this is a form that this program does not have, or no number in its range.
    pub fn read(settings: &Settings) -> Result<Self, Error> {
        let number = |key, expected: &'static str, fits: fn(f32) -> bool| match settings.value(key) {
            None => Ok(0.0),
            Some(text) => match text.parse() {
                Ok(value) if fits(value) => Ok(value),
                _ => Err(Error::misuse(key, expected, text)),
            },
        };
        Ok(Self {
            form: settings.value(FORM).map_or(Ok(Form::default()), str::parse)?,
            label_smoothing: number(LABEL_SMOOTHING, "at least 0 and below 1", |it| {
                (0.0..1.0).contains(&it)
            })?,
            clip_norm: number(CLIP_NORM, "a number of at least 0", |it| it >= 0.0 && it.is_finite())?,
        })
    }

    /// Scales a gradient down to the longest that it may be. One that is not finite stays as it is.
    pub(crate) fn clip(&self, gradient: &mut [f32]) {
        let norm = gradient.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>().sqrt();
        let most = f64::from(self.clip_norm);
        if most > 0.0 && norm > most && norm.is_finite() {
            let scale = (most / norm) as f32;
            gradient.iter_mut().for_each(|g| *g *= scale);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_reads_back_and_the_usual_one_takes_no_words() {
        let rule = GradientRule { form: Form::Lion, label_smoothing: 0.1, clip_norm: 2.5 };
        let mut settings = Settings::default();
        GradientRule::default().write(&mut settings).unwrap();
        assert_eq!(
            (settings.iter().len(), GradientRule::read(&settings).unwrap()),
            (0, GradientRule::default())
        );
        rule.write(&mut settings).unwrap();
        assert_eq!(GradientRule::read(&settings).unwrap(), rule);
        for (key, value) in [(FORM, "adam"), (LABEL_SMOOTHING, "1"), (CLIP_NORM, "-1"), (CLIP_NORM, "long")] {
            let mut settings = Settings::default();
            settings.insert(key, value).unwrap();
            assert!(GradientRule::read(&settings).unwrap_err().to_string().contains(value));
        }
    }

    #[test]
    fn long_gradients_are_shortened_and_others_left() {
        let rule = GradientRule { clip_norm: 1.0, ..GradientRule::default() };
        let mut gradient = [3.0, -4.0];
        rule.clip(&mut gradient);
        assert_eq!(gradient, [0.6, -0.8]);
        rule.clip(&mut gradient);
        assert_eq!(gradient, [0.6, -0.8]);
        let mut gradient = [f32::NAN, 8.0];
        rule.clip(&mut gradient);
        assert_eq!(gradient[1], 8.0);
        let mut gradient = [3.0, -4.0];
        GradientRule::default().clip(&mut gradient);
        assert_eq!(gradient, [3.0, -4.0]);
    }
}
