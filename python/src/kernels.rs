//! The kernels on arrays.

use pyo3::prelude::*;
use signvote_election::{DigestTree, Round, TiePolicy, hexadecimal};
use signvote_kernels::{self as kernels, AbstainOn, Ballot, Coin, Packed, Tie};

use crate::arrays::{self, Values, expect, floats, floats_mut, plane, plane_mut, slice, slice_mut};
use crate::errors::MisuseError;

/// Most ballots of one verdict: with a coin their weights, two each, have to be counted in 16 bits.
const MOST_BALLOTS: usize = 32_767;

/// Words of 64 bits that a plane of so many coordinates has.
#[pyfunction]
#[pyo3(signature = (coordinates, /))]
pub(crate) fn words(coordinates: usize) -> usize {
    kernels::words(coordinates)
}

fn abstain_on(name: &str) -> PyResult<AbstainOn> {
    match name {
        "momentum" => Ok(AbstainOn::Momentum),
        "gradient" => Ok(AbstainOn::Gradient),
        _ => Err(MisuseError::new_err(format!("abstain_on: expected momentum or gradient, got {name:?}"))),
    }
}

fn counts(packed: Packed) -> (usize, usize) {
    (packed.abstained, packed.non_finite)
}

/// Both planes of a ballot over so many coordinates.
fn check_planes(coordinates: usize, signs: usize, abstain: usize) -> PyResult<()> {
    let words = kernels::words(coordinates);
    expect("signs", "words", words, signs)?;
    expect("abstain", "words", words, abstain)
}

/// The digest of parameters, float32, by which replicas are compared: 64 hexadecimal digits.
#[pyfunction]
#[pyo3(signature = (values, /))]
pub(crate) fn digest(py: Python<'_>, values: &Bound<'_, PyAny>) -> PyResult<String> {
    let values = floats("values", values)?;
    let values = slice(&values)?;
    let digest = py.detach(|| DigestTree::new(values).root());
    Ok(hexadecimal(&digest.0))
}

/// Packs the signs of `values` (float32, float16 or bfloat16) into `signs` and `abstain`.
///
/// Returns how many coordinates abstain, and how many of those because they are not finite.
#[pyfunction]
#[pyo3(signature = (values, signs, abstain))]
pub(crate) fn pack(
    py: Python<'_>,
    values: &Bound<'_, PyAny>,
    signs: &Bound<'_, PyAny>,
    abstain: &Bound<'_, PyAny>,
) -> PyResult<(usize, usize)> {
    let values = arrays::values("values", values)?;
    let (mut signs, mut abstain) = (plane_mut("signs", signs)?, plane_mut("abstain", abstain)?);
    let (signs, abstain) = (slice_mut(&mut signs)?, slice_mut(&mut abstain)?);
    let packed = match &values {
        Values::Single(values) => {
            let values = slice(values)?;
            check_planes(values.len(), signs.len(), abstain.len())?;
            py.detach(|| kernels::pack(values, signs, abstain))
        }
        Values::Half(format, values) => {
            let (format, values) = (*format, slice(values)?);
            check_planes(values.len(), signs.len(), abstain.len())?;
            py.detach(|| kernels::pack_half(format, values, signs, abstain))
        }
    };
    Ok(counts(packed))
}

/// Moves `momentum` by `gradient` and packs its signs, in one pass: v = β·v + (1 − β)·g.
///
/// Returns how many coordinates abstain, and how many of those because they are not finite.
#[pyfunction]
#[pyo3(signature = (gradient, momentum, beta, signs, abstain, *, abstain_on = "momentum"))]
pub(crate) fn momentum_pack(
    py: Python<'_>,
    gradient: &Bound<'_, PyAny>,
    momentum: &Bound<'_, PyAny>,
    beta: f32,
    signs: &Bound<'_, PyAny>,
    abstain: &Bound<'_, PyAny>,
    abstain_on: &str,
) -> PyResult<(usize, usize)> {
    let on = self::abstain_on(abstain_on)?;
    check_beta(beta)?;
    pack_with(py, [gradient, momentum, signs, abstain], |gradient, momentum, signs, abstain| {
        kernels::momentum_pack(gradient, momentum, beta, on, signs, abstain)
    })
}

/// Packs the signs of Lion's update, c = β₁·m + (1 − β₁)·g, and then moves its momentum, m = β₂·m + (1 − β₂)·g.
///
/// Returns how many coordinates abstain, and how many of those because they are not finite.
#[pyfunction]
#[pyo3(signature = (gradient, momentum, betas, signs, abstain, *, abstain_on = "momentum"))]
pub(crate) fn lion_pack(
    py: Python<'_>,
    gradient: &Bound<'_, PyAny>,
    momentum: &Bound<'_, PyAny>,
    betas: (f32, f32),
    signs: &Bound<'_, PyAny>,
    abstain: &Bound<'_, PyAny>,
    abstain_on: &str,
) -> PyResult<(usize, usize)> {
    let on = self::abstain_on(abstain_on)?;
    check_beta(betas.0)?;
    check_beta(betas.1)?;
    pack_with(py, [gradient, momentum, signs, abstain], |gradient, momentum, signs, abstain| {
        kernels::lion_pack(gradient, momentum, betas, on, signs, abstain)
    })
}

/// Runs a kernel that packs a gradient with a momentum: over gradient, momentum, signs and abstentions.
fn pack_with(
    py: Python<'_>,
    [gradient, momentum, signs, abstain]: [&Bound<'_, PyAny>; 4],
    kernel: impl FnOnce(&[f32], &mut [f32], &mut [u64], &mut [u64]) -> Packed + Send,
) -> PyResult<(usize, usize)> {
    let (gradient, mut momentum) = (floats("gradient", gradient)?, floats_mut("momentum", momentum)?);
    let (mut signs, mut abstain) = (plane_mut("signs", signs)?, plane_mut("abstain", abstain)?);
    let (gradient, momentum) = (slice(&gradient)?, slice_mut(&mut momentum)?);
    let (signs, abstain) = (slice_mut(&mut signs)?, slice_mut(&mut abstain)?);
    expect("momentum", "coordinates", gradient.len(), momentum.len())?;
    check_planes(gradient.len(), signs.len(), abstain.len())?;
    Ok(counts(py.detach(|| kernel(gradient, momentum, signs, abstain))))
}

fn check_beta(beta: f32) -> PyResult<()> {
    match (0.0..1.0).contains(&beta) {
        true => Ok(()),
        false => Err(MisuseError::new_err(format!("a β must be at least 0 and below 1, got {beta}"))),
    }
}

/// The coins of a round for coordinates that consist of parts, each with a number of its own and so many coordinates: into `out`,
/// from word `first_word` of all of them on. What a part's coins are does not depend on where it lies.
#[pyfunction]
#[pyo3(signature = (parts, out, *, seed, step, first_word = 0))]
pub(crate) fn coins(
    py: Python<'_>,
    parts: Vec<(u32, usize)>,
    out: &Bound<'_, PyAny>,
    seed: u64,
    step: u64,
    first_word: usize,
) -> PyResult<()> {
    let Tie::Coin(Coin { key, .. }) = TiePolicy::Coin.at(seed, Round(step), 0) else { return Ok(()) };
    let mut out = plane_mut("out", out)?;
    let out = slice_mut(&mut out)?;
    py.detach(|| throw(key, &parts, first_word, out));
    Ok(())
}

fn throw(key: u64, parts: &[(u32, usize)], first_word: usize, out: &mut [u64]) {
    const BITS: usize = u64::BITS as usize;
    out.fill(0);
    let (start, end) = (first_word * BITS, (first_word + out.len()) * BITS);
    let mut begins = 0;
    for &(number, coordinates) in parts {
        let ends = begins + coordinates;
        let within = start.max(begins)..end.min(ends);
        if !within.is_empty() {
            for word in (within.start - begins) / BITS..(within.end - begins).div_ceil(BITS) {
                let coins = kernels::coin_word(key, (u64::from(number) << 32) + word as u64);
                // Where this word's bits lie: across two words of `out`, as a rule, and cut off at a part's end.
                let at = begins + word * BITS;
                let whole = (ends - at).min(BITS);
                let coins = if whole < BITS { coins & ((1 << whole) - 1) } else { coins };
                for (word, bits) in [
                    (at / BITS, coins << (at % BITS)),
                    (at / BITS + 1, (coins >> 1) >> (BITS - 1 - at % BITS)),
                ] {
                    if let Some(target) = word.checked_sub(first_word).and_then(|word| out.get_mut(word)) {
                        *target |= bits;
                    }
                }
            }
        }
        begins = ends;
    }
}

/// The majority of `ballots`, coordinate by coordinate, into `signs` and `hold`: each ballot is its signs and its
/// abstentions, or None for none. Returns how many coordinates are held.
///
/// A tie becomes what `tie` says; for "coin", `coins` is a plane of them: see `coins()`.
#[pyfunction]
#[pyo3(signature = (ballots, coordinates, signs, hold, *, tie = "hold", coins = None, min_voters = 0))]
#[expect(clippy::too_many_arguments, reason = "they have names in Python")]
pub(crate) fn decide(
    py: Python<'_>,
    ballots: Vec<(Bound<'_, PyAny>, Option<Bound<'_, PyAny>>)>,
    coordinates: usize,
    signs: &Bound<'_, PyAny>,
    hold: &Bound<'_, PyAny>,
    tie: &str,
    coins: Option<&Bound<'_, PyAny>>,
    min_voters: u16,
) -> PyResult<usize> {
    let tie = match (tie, coins) {
        ("coin", Some(_)) | ("hold", None) => Tie::Hold,
        ("positive", None) => Tie::Positive,
        ("coin", None) => return Err(MisuseError::new_err("tie: for a coin there have to be coins=")),
        ("hold" | "positive", Some(_)) => {
            return Err(MisuseError::new_err(format!("tie: there are coins=, and {tie}")));
        }
        _ => return Err(MisuseError::new_err(format!("tie: expected coin, hold or positive, got {tie:?}"))),
    };
    if ballots.len() > MOST_BALLOTS {
        return Err(MisuseError::new_err(format!("at most {MOST_BALLOTS} ballots, got {}", ballots.len())));
    }
    let lent = ballots.iter().map(|(signs, abstain)| {
        let abstain = abstain.as_ref().map(|it| plane("a ballot's abstentions", it)).transpose()?;
        Ok((plane("a ballot's signs", signs)?, abstain))
    });
    let lent = lent.collect::<PyResult<Vec<_>>>()?;
    let coins = coins.map(|it| plane("coins", it)).transpose()?;
    let words = kernels::words(coordinates);
    let slices = lent.iter().map(|(signs, abstain)| {
        let (signs, abstain) = (slice(signs)?, abstain.as_ref().map(slice).transpose()?);
        expect("a ballot's signs", "words", words, signs.len())?;
        expect("a ballot's abstentions", "words", words, abstain.map_or(words, <[u64]>::len))?;
        Ok(Ballot::new(signs, abstain))
    });
    let mut slices = slices.collect::<PyResult<Vec<_>>>()?;
    let (mut signs, mut hold) = (plane_mut("signs", signs)?, plane_mut("hold", hold)?);
    let (signs, hold) = (slice_mut(&mut signs)?, slice_mut(&mut hold)?);
    expect("signs", "words", words, signs.len())?;
    expect("hold", "words", words, hold.len())?;
    let Some(coins) = &coins else {
        let decide = || kernels::decide(&slices, coordinates, tie, u32::from(min_voters), signs, hold);
        return Ok(py.detach(decide).holds);
    };
    let coins = slice(coins)?;
    expect("coins", "words", words, coins.len())?;
    // A coin that weighs half a vote turns ties and nothing else.
    let mut weights = vec![2; slices.len()];
    weights.push(1);
    slices.push(Ballot::new(coins, None));
    let least = 2 * u32::from(min_voters.max(1));
    let decide = || kernels::decide_weighted(&slices, &weights, coordinates, tie, least, signs, hold);
    Ok(py.detach(decide).holds)
}

/// Planes and values that belong together, `None` for a plane that is all zero.
fn check_verdict(coordinates: usize, signs: &[u64], hold: Option<&[u64]>) -> PyResult<()> {
    let words = kernels::words(coordinates);
    expect("signs", "words", words, signs.len())?;
    expect("hold", "words", words, hold.map_or(words, <[u64]>::len))
}

/// Writes a ballot or a verdict as float32: +1, −1, and 0 where it abstains or holds.
#[pyfunction]
#[pyo3(signature = (signs, hold, out))]
pub(crate) fn unpack(
    py: Python<'_>,
    signs: &Bound<'_, PyAny>,
    hold: Option<&Bound<'_, PyAny>>,
    out: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let signs = plane("signs", signs)?;
    let hold = hold.map(|it| plane("hold", it)).transpose()?;
    let mut out = floats_mut("out", out)?;
    let (signs, hold, out) = (slice(&signs)?, hold.as_ref().map(slice).transpose()?, slice_mut(&mut out)?);
    check_verdict(out.len(), signs, hold)?;
    py.detach(|| kernels::unpack(signs, hold, out));
    Ok(())
}

/// Moves `x` by a verdict: x = x − η·(s + λ·x).
#[pyfunction]
#[pyo3(signature = (x, signs, hold, lr, weight_decay = 0.0))]
pub(crate) fn apply(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    signs: &Bound<'_, PyAny>,
    hold: Option<&Bound<'_, PyAny>>,
    lr: f32,
    weight_decay: f32,
) -> PyResult<()> {
    let mut x = floats_mut("x", x)?;
    let signs = plane("signs", signs)?;
    let hold = hold.map(|it| plane("hold", it)).transpose()?;
    let (x, signs, hold) = (slice_mut(&mut x)?, slice(&signs)?, hold.as_ref().map(slice).transpose()?);
    check_verdict(x.len(), signs, hold)?;
    py.detach(|| kernels::apply(x, signs, hold, lr, weight_decay));
    Ok(())
}
