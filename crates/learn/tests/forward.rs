//! The models beside PyTorch's, on the same weights: `beside_pytorch.py` has written down what those give.
#![expect(clippy::unwrap_used, reason = "a test ends by panicking")]

use signvote_learn::{BurnEngine, Engine, Examples, Model, ModelKind, Shape};

const GIVEN: &str = include_str!("forward.txt");

/// Classes of each row that are written down.
const SHOWN: usize = 12;

/// In [−1, 1), by multiplicative hashing: exact in both languages.
fn numbers(which: u32, count: usize) -> impl Iterator<Item = f32> {
    (0..count as u32).map(move |at| {
        let word = at.wrapping_mul(2_654_435_761) ^ which.wrapping_mul(2_246_822_519);
        let word = (word ^ (word >> 15)).wrapping_mul(3_266_489_917);
        (f64::from(word >> 8) / f64::from(1 << 23) - 1.0) as f32
    })
}

/// As the script fills a model.
fn weights(model: &Model) -> Vec<f32> {
    let mut x = Vec::with_capacity(model.dimension());
    for (which, tensor) in (0..).zip(model.layout().unwrap().tensors()) {
        let [first, rest @ ..] = &tensor.shape[..] else { panic!("a scalar") };
        let fan_in: usize = rest.iter().product();
        let of_norm = ["bn", "ln", "downsample.1"].iter().any(|part| tensor.name.contains(part));
        let one = if of_norm && tensor.name.ends_with("weight") { 1.0 } else { 0.0 };
        let values = numbers(which, first * fan_in);
        if rest.is_empty() {
            x.extend(values.map(|value| value * 0.1 + one));
        } else {
            let root = (fan_in as f64).sqrt() as f32;
            x.extend(values.map(|value| value / root));
        }
    }
    x
}

fn examples(shape: Shape) -> Examples {
    let mut examples = Examples::default();
    match shape {
        Shape::Tokens { length, vocabulary } => {
            examples.tokens = (0..4 * length).map(|at| (at * 31 % vocabulary) as u32).collect();
            examples.labels =
                examples.tokens.iter().map(|token| (token * 3 + 1) % vocabulary as u32).collect();
        }
        _ => {
            examples.pixels = numbers(1_000_003, 4 * shape.inputs()).map(|value| value * 2.0).collect();
            examples.labels = (0..4).map(|at| at * 7 % shape.classes() as u32).collect();
        }
    }
    examples
}

fn given(model: &str, what: &str) -> Option<Vec<f32>> {
    let line = GIVEN.lines().find_map(|line| line.strip_prefix(&format!("{model} {what} ")))?;
    Some(line.split(' ').map(|number| number.parse().unwrap()).collect())
}

fn compare(name: &str, shape: Shape) {
    let kind: ModelKind = name.parse().unwrap();
    let model = kind.model(shape).unwrap();
    beside(name, &model, &mut BurnEngine::new(&model));
    #[cfg(feature = "tch")]
    beside(name, &model, &mut signvote_learn::TchEngine::new(&model));
    #[cfg(feature = "wgpu")]
    beside_on_gpu(name, &model);
}

/// The same on a GPU, or on what takes its place: Mesa's driver for processors has no buffers beyond 128 MiB.
#[cfg(feature = "wgpu")]
fn beside_on_gpu(name: &str, model: &Model) {
    let layout = model.layout().unwrap();
    let largest = layout.ranges().map(|(_, range)| 4 * range.len()).max().unwrap();
    if largest > 128 << 20 && std::env::var_os("SIGNVOTE_REAL_GPU").is_none() {
        return eprintln!(
            "{name} on wgpu: skipped, a tensor of {largest} bytes needs a GPU (SIGNVOTE_REAL_GPU=1)"
        );
    }
    beside(name, model, &mut BurnEngine::on_gpu(model));
}

/// What the engine gives is what PyTorch gave.
fn beside(name: &str, model: &Model, engine: &mut dyn Engine) {
    let shape = model.shape();
    let (x, examples) = (weights(model), examples(shape));

    // Means of 0, variances of 1.
    let statistics = model.statistics().into_iter().flat_map(|it| {
        let value = if it.name.ends_with("running_var") { 1.0 } else { 0.0 };
        vec![value; it.shape[0]]
    });
    let logits = engine.logits(&x, &statistics.collect::<Vec<f32>>(), examples.batch()).unwrap();
    let rows = logits.chunks(shape.classes()).flat_map(|row| row.iter().take(SHOWN));
    let expected = given(name, "logits").unwrap();
    assert_eq!(expected.len(), examples.labels.len() * shape.classes().min(SHOWN), "{name}");
    for (got, expected) in rows.zip(&expected) {
        assert!((got - expected).abs() < 1e-4, "{name}: {got} instead of {expected}");
    }

    let Some(loss) = given(name, "loss") else { return };
    let mut gradient = vec![0.0; model.dimension()];
    let got = engine.gradient(&x, examples.batch(), &mut gradient).unwrap().mean_loss;
    assert!((got - loss[0]).abs() < 1e-4, "{name}: loss {got} instead of {}", loss[0]);
    let norms = given(name, "norms").unwrap();
    let layout = model.layout().unwrap();
    assert_eq!(norms.len(), layout.tensors().len());
    for ((tensor, range), expected) in layout.ranges().zip(norms) {
        let squares = gradient[range].iter().map(|&g| f64::from(g) * f64::from(g));
        let got = squares.sum::<f64>().sqrt();
        let error = (got / f64::from(expected) - 1.0).abs();
        // Rounding grows on its way back through fifty layers.
        assert!(error < 1e-2, "{name}: gradient of {} has norm {got} instead of {expected}", tensor.name);
    }
}

fn pixels(size: usize, classes: usize) -> Shape {
    Shape::Images { channels: 3, rows: size, columns: size, classes }
}

#[test]
fn resnet18_for_small_images_gives_what_pytorch_gives() {
    compare("resnet18-32", pixels(32, 10));
}

#[test]
fn resnet18_gives_what_torchvision_gives() {
    compare("resnet18", pixels(96, 1000));
}

#[test]
fn resnet50_gives_what_torchvision_gives() {
    compare("resnet50", pixels(96, 1000));
}

#[test]
fn alexnet_gives_what_torchvision_gives() {
    compare("alexnet", pixels(224, 1000));
}

#[test]
fn the_models_of_text_give_what_pytorch_gives() {
    let text = Shape::Tokens { length: 16, vocabulary: 50 };
    compare("gpt-small", text);
    compare("qrnn-small", text);
}
