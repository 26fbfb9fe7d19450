//! Aggregates what comes on stdin, a JSON object a line, for a comparison with other implementations (`tests/beside_byzfl.py`):
//! `{"rule": "median", "f": 1, "vectors": [[…], …]}` gives `[…]`.
//!
//! `rule` is the name of a rule; or `nnm` or `bucketing` (with `order` and `size`), whose result is a list of vectors; or `alie` (with
//! `z`), `ipm` (with `epsilon`): attacks, whose vectors are the honest ones. `caf` may have `directions`.

use std::io::{BufRead as _, Write as _};
use std::process::ExitCode;

use serde::Deserialize;
use signvote_byzantine::aggregate::{Rule, bucketed, caf_along, nearest_neighbour_mixing};
use signvote_byzantine::attack::{alie, ipm};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    rule: String,
    #[serde(default)]
    f: usize,
    vectors: Vec<Vec<f32>>,
    #[serde(default)]
    order: Vec<usize>,
    #[serde(default)]
    size: usize,
    #[serde(default)]
    directions: Vec<Vec<f32>>,
    #[serde(default)]
    z: f32,
    #[serde(default)]
    epsilon: f32,
}

fn main() -> ExitCode {
    match answer_all() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(2)
        }
    }
}

fn answer_all() -> Result<(), Box<dyn std::error::Error>> {
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let answer = answer(&serde_json::from_str(&line?)?)?;
        writeln!(out, "{}", serde_json::to_string(&answer)?)?;
    }
    Ok(())
}

/// One vector, or several.
fn answer(request: &Request) -> Result<Vec<Vec<f32>>, Box<dyn std::error::Error>> {
    let Request { rule, f, vectors, order, size, directions, z, epsilon } = request;
    let vectors: Vec<&[f32]> = vectors.iter().map(Vec::as_slice).collect();
    let dimension = vectors.first().map_or(0, |vector| vector.len());
    if dimension == 0 || vectors.iter().any(|vector| vector.len() != dimension) {
        return Err("vectors: expected some, equally long".into());
    }
    if order.iter().any(|&at| at >= vectors.len()) {
        return Err("order: expected places of vectors".into());
    }
    let mut out = vec![0.0; dimension];
    match rule.as_str() {
        "nnm" => return Ok(nearest_neighbour_mixing(&vectors, *f)),
        "bucketing" => return Ok(bucketed(&vectors, order, *size)),
        "alie" => alie(&vectors, *z, &mut out),
        "ipm" => ipm(&vectors, *epsilon, &mut out),
        "caf" => caf_along(directions, &vectors, *f, &mut out)?,
        name => name.parse::<Rule>()?.aggregate(&vectors, *f, &mut out)?,
    }
    Ok(vec![out])
}
