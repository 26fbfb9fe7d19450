//! Compressed gradients: what the vote is to be compared with, each at the length that it really has.
//!
//! Every compressor writes a message of bits and reads it back, and what is counted is the length of that message: nothing is taken from
//! a formula. Workers send to a server, which sends all of them the same.
//!
//! # Shapes
//!
//! A gradient is the tensors of `shapes`, one after the other, of d numbers in all. What a compressor has of a tensor (a scale, a
//! factorisation) it has of each one; lengths follow from the shapes, and are not sent.
//!
//! # What travels down
//!
//! The mean of what was decoded, in 32 bits a coordinate: a sum of different scales times small numbers has no short form of its own, and to
//! compress it again would be another algorithm, with another error. Two can do better: a mean of sparse vectors is sparse, and a mean
//! of products with a common factor has that factor.
//!
//! # NaN and infinity
//!
//! No value makes a compressor panic. Only [`Compressor::Fp16`] has codes for what is not finite; for all others such a coordinate is 0,
//! in this round, and so is an error that grew past the largest `f32`.
//!
//! # Error feedback
//!
//! With it a worker compresses p = g + e and keeps e ← p − C(p): what was left out in one round is sent in a later one. All that was
//! decoded and the last e add up to all gradients. The learning rate is not in e, as it is with the authors of EF-signSGD; that is the same
//! where it is constant.

mod bits;
mod half;
mod low_rank;
mod quantised;
mod sign;
mod sparse;

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use rand::Rng;
use rayon::prelude::*;

use self::bits::{Reader, Writer};
use crate::Error;
use crate::aggregate::Rule;
use crate::random::generator;
use crate::simulate::Bits;

/// A way to make a gradient shorter.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Compressor {
    /// The nearest binary16; of two that are equally near, the even one. Biased, by at most 2⁻¹¹ of a coordinate from 2⁻¹⁴ on. 0 and −0, NaN
    /// and infinities stay what they are; from 65,520 on a number becomes infinite, and up to 2⁻²⁵ it becomes 0.
    ///
    /// Bits: 16·d up, 32·d down.
    Fp16,
    /// ‖v‖₂·sign(vᵢ)·ξᵢ with ξᵢ one of the two multiples of 1/s around |vᵢ|/‖v‖₂, at random so that it is right on average (QSGD,
    /// Alistarh et al. 2017, section 3.1); v are 512 coordinates of a tensor, or what is left of it, as in its section 5. Unbiased. 0 is 0,
    /// always.
    ///
    /// Bits: for each v, 32 for its norm, and for each ξᵢ ≠ 0 the Elias code of its distance from the one before, one for the sign, and
    /// the Elias code of s·ξᵢ (section 3.2). It is the gamma code: the paper's recursive one is longer for most numbers below 100,
    /// and nearly all are. 32·d down.
    Qsgd {
        /// s, at least 1.
        levels: u16,
    },
    /// The same with the largest |vᵢ| in place of the norm, which adds less variance, and s·ξᵢ with its sign in ⌊log₂ 2s⌋ + 1 bits (as in
    /// the experiments of the same paper). Unbiased. 0 is 0, always.
    ///
    /// Bits: 32 for each v of 512, and 4 a coordinate where s = 4. 32·d down.
    QsgdMax {
        /// s, at least 1.
        levels: u16,
    },
    /// s·sign(gᵢ)·bᵢ with s the largest |gᵢ| of a tensor and bᵢ 1 with probability |gᵢ|/s, else 0 (TernGrad, Wen et al. 2017, equations 1
    /// to 3). Unbiased: the clipping at 2.5σ that its authors add, and which makes it biased, is left out. 0 is 0, always.
    ///
    /// Bits: for each tensor 32, and 8 for every five coordinates. 32·d down.
    TernGrad,
    /// The ⌈ratio·d⌉ coordinates of the largest size, of equals the first, as they are; with error feedback (Aji & Heafield 2017; Stich et
    /// al. 2018). Biased; ‖C(p) − p‖² ≤ (1 − k/d)·‖p‖². Where fewer are not 0, zeros are sent.
    ///
    /// Bits: the gamma code of k + 1, 5 for the parameter of a Rice code, and for each 32 and the Rice code of how many coordinates lie
    /// between it and the one before. Down the mean in the same code, of up to n·k coordinates, or all of them in 32·d where that is shorter; 1
    /// says which.
    TopK {
        /// Above 0, at most 1.
        ratio: f64,
    },
    /// ‖p‖₁/d·sign(pᵢ) for each tensor, d its coordinates; with error feedback (EF-signSGD, Karimireddy et al. 2019, algorithm 1). Biased;
    /// ‖C(p) − p‖² = ‖p‖² − ‖p‖₁²/d. The sign of 0 and −0 is +, as one bit has no third value; the error makes up for it.
    ///
    /// Bits: for each tensor 32, and 1 a coordinate. 32·d down.
    EfSign,
    /// For each tensor, the mean of all pᵢ ≥ 0 in place of those, and the mean of the others in place of them; with error feedback (1-bit
    /// SGD, Seide et al. 2014, whose means are those of columns). Biased, with the least error of all that sends signs and two numbers.
    /// 0 and −0 count as positive; a mean of none is 0.
    ///
    /// Bits: for each tensor 64, and 1 a coordinate. 32·d down.
    OneBit,
    /// P·Qᵀ for each tensor M of n × m, n its first dimension: P = mean of Mᵢ·Q, made orthonormal, and then Q = mean of Mᵢᵀ·P, with Q
    /// from the round before, N(0, 1) in the first one; with error feedback, of eᵢ = Mᵢ − P·(Mᵢᵀ·P)ᵀ (PowerSGD, Vogels et al. 2019,
    /// algorithms 1 and 2). Biased. Tensors with one dimension, or of no more numbers than their factors, are sent as they are, and
    /// the mean of those is exact. A direction that all of M is 0 in stays 0, and is drawn anew in the next round.
    ///
    /// Bits: 32·r·(n + m) for each tensor with factors, 32 for each coordinate of the others; down the same, because the mean of factors is
    /// a factor.
    PowerSgd {
        /// r, at least 1.
        rank: u16,
    },
}

impl Compressor {
    /// Names, as [`FromStr`] reads them, with the numbers that they have without one.
    pub const NAMES: [&str; 8] =
        ["fp16", "qsgd-4", "qsgd-max-4", "terngrad", "top-k-0.01", "ef-sign", "one-bit", "power-sgd-4"];

    /// Whether what is decoded is right on average.
    pub fn is_unbiased(self) -> bool {
        matches!(self, Self::Qsgd { .. } | Self::QsgdMax { .. } | Self::TernGrad)
    }

    /// Whether workers keep what they left out.
    pub fn has_feedback(self) -> bool {
        matches!(self, Self::TopK { .. } | Self::EfSign | Self::OneBit | Self::PowerSgd { .. })
    }

    /// A round of all workers: makes one gradient of `gradients`, each compressed with the state of its worker. `draw` is the
    /// seed of the run and the round.
    ///
    /// `out` is the mean of what was decoded, computed in f64 (of PowerSGD, that of the factors). The bits up are those of the mean
    /// worker, rounded up, where messages differ in length. Results do not depend on the number of threads.
    ///
    /// # Errors
    /// [`Error::Misuse`] without workers, or where lengths differ or states are those of another compressor; nothing has changed then.
    pub fn exchange(
        self,
        shapes: &[Vec<usize>],
        gradients: &[&[f32]],
        states: &mut [State],
        draw: (u64, u64),
        out: &mut [f32],
    ) -> Result<Bits, Error> {
        self.check(shapes, gradients, states, out)?;
        states.par_iter_mut().zip(gradients).for_each(|(state, gradient)| state.load(gradient));
        let bits = match self {
            Self::PowerSgd { rank } => {
                low_rank::exchange(rank, shapes, states, draw, out).ok_or_else(cut_off)?
            }
            _ => self.exchange_codes(shapes, states, draw, out)?,
        };
        states.par_iter_mut().for_each(State::settle);
        Ok(bits)
    }

    fn check(
        self,
        shapes: &[Vec<usize>],
        gradients: &[&[f32]],
        states: &[State],
        out: &[f32],
    ) -> Result<(), Error> {
        if gradients.is_empty() {
            return Err(Error::misuse("gradients", "at least 1", 0));
        }
        let fits = match self {
            Self::Qsgd { levels: number } | Self::QsgdMax { levels: number } => number > 0,
            Self::PowerSgd { rank } => rank > 0,
            Self::TopK { ratio } => ratio > 0.0 && ratio <= 1.0,
            _ => true,
        };
        if !fits {
            return Err(Error::misuse("compressor", "a number above 0, of top-k at most 1", self));
        }
        if states.len() != gradients.len() {
            return Err(Error::misuse("states of workers", gradients.len(), states.len()));
        }
        let dimension = dimension(shapes);
        let lengths = gradients.iter().map(|gradient| gradient.len()).chain([out.len()]);
        if let Some(other) = lengths.into_iter().find(|&length| length != dimension) {
            return Err(Error::misuse("coordinates of a gradient", dimension, other));
        }
        match states.iter().find(|state| state.compressor != self || state.sent.len() != dimension) {
            None => Ok(()),
            Some(state) => {
                let of = |compressor: Self, d: usize| format!("one of {compressor} of {d} coordinates");
                let got = of(state.compressor, state.sent.len());
                Err(Error::misuse("state of a worker", of(self, dimension), got))
            }
        }
    }

    /// A round of those that send one message.
    fn exchange_codes(
        self,
        shapes: &[Vec<usize>],
        states: &mut [State],
        (seed, round): (u64, u64),
        out: &mut [f32],
    ) -> Result<Bits, Error> {
        let lengths = states.par_iter_mut().enumerate().map(|(index, state)| {
            let mut random = generator(b"rounding of a coder ", seed, round, index as u64);
            let mut writer = Writer::default();
            self.encode(shapes, &state.sent, &mut random, &mut writer);
            let mut reader = writer.reader();
            self.decode(shapes, &mut reader, &mut state.sent)?;
            (reader.left() == 0).then_some(writer.length())
        });
        let lengths = lengths.collect::<Option<Vec<u64>>>().ok_or_else(cut_off)?;
        let decoded: Vec<&[f32]> = states.iter().map(|state| &*state.sent).collect();
        Rule::Mean.aggregate(&decoded, 0, out)?;
        let mut down = Writer::default();
        self.encode_mean(out, &mut down);
        self.decode_mean(&mut down.reader(), out).ok_or_else(cut_off)?;
        let up = lengths.iter().sum::<u64>().div_ceil(lengths.len() as u64);
        Ok(Bits { up, down: down.length() })
    }

    /// The message of a worker.
    fn encode(self, shapes: &[Vec<usize>], values: &[f32], random: &mut impl Rng, writer: &mut Writer) {
        match self {
            Self::Fp16 => return half::encode(values, writer),
            Self::TopK { ratio } => {
                return sparse::encode(values, &sparse::largest(values, kept(ratio, values.len())), writer);
            }
            _ => {}
        }
        for (_, range) in tensors(shapes) {
            let tensor = &values[range];
            match self {
                Self::Qsgd { levels } => quantised::encode_gaps(tensor, levels, random, writer),
                Self::QsgdMax { levels } => quantised::encode_fixed(tensor, levels, random, writer),
                Self::TernGrad => quantised::encode_trits(tensor, random, writer),
                Self::EfSign => sign::encode_scaled(tensor, writer),
                Self::OneBit => sign::encode_means(tensor, writer),
                Self::Fp16 | Self::TopK { .. } => unreachable!("these take all tensors at once"),
                Self::PowerSgd { .. } => unreachable!("its workers send two messages"),
            }
        }
    }

    /// `None` where the message is cut off, or has a coordinate that there is not.
    fn decode(self, shapes: &[Vec<usize>], reader: &mut Reader<'_>, out: &mut [f32]) -> Option<()> {
        match self {
            Self::Fp16 => return half::decode(reader, out),
            Self::TopK { .. } => return sparse::decode(reader, out),
            _ => {}
        }
        for (_, range) in tensors(shapes) {
            let tensor = &mut out[range];
            match self {
                Self::Qsgd { levels } => quantised::decode_gaps(reader, levels, tensor)?,
                Self::QsgdMax { levels } => quantised::decode_fixed(reader, levels, tensor)?,
                Self::TernGrad => quantised::decode_trits(reader, tensor)?,
                Self::EfSign => sign::decode_scaled(reader, tensor)?,
                Self::OneBit => sign::decode_means(reader, tensor)?,
                Self::Fp16 | Self::TopK { .. } => unreachable!("these take all tensors at once"),
                Self::PowerSgd { .. } => unreachable!("its workers send two messages"),
            }
        }
        Some(())
    }

    /// The message of the server.
    fn encode_mean(self, mean: &[f32], writer: &mut Writer) {
        if let Self::TopK { .. } = self {
            let places: Vec<usize> = (0..mean.len()).filter(|&place| mean[place] != 0.0).collect();
            let mut few = Writer::default();
            few.push(1, 1);
            sparse::encode(mean, &places, &mut few);
            if few.length() < 1 + 32 * mean.len() as u64 {
                *writer = few;
                return;
            }
            writer.push(0, 1);
        }
        mean.iter().for_each(|&value| writer.float(value));
    }

    fn decode_mean(self, reader: &mut Reader<'_>, out: &mut [f32]) -> Option<()> {
        if matches!(self, Self::TopK { .. }) && reader.take(1)? == 1 {
            return sparse::decode(reader, out);
        }
        for out in out {
            *out = reader.float()?;
        }
        Some(())
    }
}

/// What a worker has from round to round.
#[derive(Clone, Debug)]
pub struct State {
    compressor: Compressor,
    /// e; empty without feedback.
    error: Vec<f32>,
    /// p, and then what was decoded of it.
    sent: Vec<f32>,
    /// Q of every tensor, in PowerSGD; empty of tensors without.
    factors: Vec<Vec<f32>>,
}

impl State {
    /// A worker before its first round.
    pub fn new(compressor: Compressor, shapes: &[Vec<usize>]) -> Self {
        let dimension = dimension(shapes);
        let factors = match compressor {
            Compressor::PowerSgd { rank } => low_rank::factors(shapes, rank),
            _ => Vec::new(),
        };
        let error = vec![0.0; if compressor.has_feedback() { dimension } else { 0 }];
        Self { compressor, error, sent: vec![0.0; dimension], factors }
    }

    /// e: what was left out so far; empty without feedback.
    pub fn error(&self) -> &[f32] {
        &self.error
    }

    /// What was decoded of this worker's last message.
    pub fn decoded(&self) -> &[f32] {
        &self.sent
    }

    fn load(&mut self, gradient: &[f32]) {
        self.sent.copy_from_slice(gradient);
        if self.compressor == Compressor::Fp16 {
            return;
        }
        let finite = |value: f32| if value.is_finite() { value } else { 0.0 };
        self.sent.iter_mut().for_each(|value| *value = finite(*value));
        for (error, sent) in self.error.iter_mut().zip(&mut self.sent) {
            *sent = finite(*sent + *error);
            *error = *sent;
        }
    }

    fn settle(&mut self) {
        self.error.iter_mut().zip(&self.sent).for_each(|(error, sent)| *error -= sent);
    }
}

/// k of top-k.
fn kept(ratio: f64, dimension: usize) -> usize {
    // 0.07 · 100 is a little more than 7.
    ((ratio * dimension as f64 * (1.0 - 1e-12)).ceil() as usize).min(dimension)
}

fn dimension(shapes: &[Vec<usize>]) -> usize {
    tensors(shapes).last().map_or(0, |(_, range)| range.end)
}

/// Every tensor's shape and coordinates.
fn tensors(shapes: &[Vec<usize>]) -> impl Iterator<Item = (&Vec<usize>, Range<usize>)> {
    let mut start = 0;
    shapes.iter().map(move |shape| {
        let range = start..start + shape.iter().product::<usize>();
        start = range.end;
        (shape, range)
    })
}

fn cut_off() -> Error {
    Error::misuse("message", "all of it", "a part")
}

impl FromStr for Compressor {
    type Err = Error;

    /// Reads a name; without its number it has that of [`NAMES`](Self::NAMES).
    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "fp16" => return Ok(Self::Fp16),
            "terngrad" => return Ok(Self::TernGrad),
            "ef-sign" => return Ok(Self::EfSign),
            "one-bit" => return Ok(Self::OneBit),
            _ => {}
        }
        let number = |name: &str, default: f64| {
            let rest = text.strip_prefix(name)?;
            if rest.is_empty() { Some(default) } else { rest.strip_prefix('-')?.parse::<f64>().ok() }
        };
        let whole = |name: &str| {
            let value = number(name, 4.0)?;
            (value.fract() == 0.0 && (1.0..=f64::from(u16::MAX)).contains(&value)).then_some(value as u16)
        };
        let gaps = whole("qsgd").map(|levels| Self::Qsgd { levels });
        let fixed = || whole("qsgd-max").map(|levels| Self::QsgdMax { levels });
        let factors = || whole("power-sgd").map(|rank| Self::PowerSgd { rank });
        let few = || number("top-k", 0.01).filter(|&ratio| ratio > 0.0 && ratio <= 1.0);
        gaps.or_else(fixed)
            .or_else(factors)
            .or_else(|| few().map(|ratio| Self::TopK { ratio }))
            .ok_or_else(|| Error::misuse("compressor", Self::NAMES.join(", "), text))
    }
}

impl fmt::Display for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fp16 => f.write_str("fp16"),
            Self::Qsgd { levels } => write!(f, "qsgd-{levels}"),
            Self::QsgdMax { levels } => write!(f, "qsgd-max-{levels}"),
            Self::TernGrad => f.write_str("terngrad"),
            Self::TopK { ratio } => write!(f, "top-k-{ratio}"),
            Self::EfSign => f.write_str("ef-sign"),
            Self::OneBit => f.write_str("one-bit"),
            Self::PowerSgd { rank } => write!(f, "power-sgd-{rank}"),
        }
    }
}

#[cfg(test)]
mod tests;
