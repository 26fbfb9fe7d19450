//! What one gradient takes: `step ENGINE MODEL BATCH THREADS STEPS` prints the median of so many, in milliseconds, the most memory
//! that the process has had, and the loss, by which `step.py` beside this sees that PyTorch does the same work.
//!
//! `cargo run --release -p signvote-learn --example step -- burn resnet18-32 32 2 10`
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement, which prints and may end where it fails"
)]

use std::time::Instant;

use signvote_learn::{Batch, EngineKind, Inputs, ModelKind, Shape, set_threads};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [engine, model, batch, threads, steps] = &words[..] else {
        println!("step ENGINE MODEL BATCH THREADS STEPS");
        return;
    };
    set_threads(threads.parse().unwrap()).unwrap();
    let kind: ModelKind = model.parse().unwrap();
    let (model, batch): (_, usize) = (kind.usual(), batch.parse().unwrap());
    let mut engine = engine.parse::<EngineKind>().unwrap().engine(&model).unwrap();
    let shape = model.shape();
    let labels: Vec<u32> = (0..batch * shape.predictions()).map(|at| (at % shape.classes()) as u32).collect();
    let pixels: Vec<f32> =
        (0..batch * shape.inputs()).map(|at| ((at * 37 % 101) as f32 - 50.0) / 50.0).collect();
    let tokens: Vec<u32> = (0..pixels.len()).map(|at| (at * 37 % 101) as u32).collect();
    let inputs = match shape {
        Shape::Images { .. } => Inputs::Pixels(&pixels),
        _ => Inputs::Tokens(&tokens),
    };
    let (x, mut gradient) = (model.initial(1), vec![0.0; model.dimension()]);
    let mut times = Vec::new();
    let mut loss = f32::NAN;
    for _ in 0..steps.parse::<usize>().unwrap() {
        let began = Instant::now();
        loss =
            engine.gradient(&x, Batch { inputs, labels: &labels, seed: 1 }, &mut gradient).unwrap().mean_loss;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let peak = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak =
        peak.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("unknown").trim().to_owned();
    println!("{:.2} ms, {peak}, loss {loss:.4}", times[times.len() / 2]);
}
