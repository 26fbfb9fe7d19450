//! Curves over rounds, of however many rounds, in few points.

use crate::snapshot::Series;

/// Most points of one worker's agreement.
pub(crate) const MOST_HISTORY: usize = 100;
/// Most points of a curve: as many as a wide screen has room for. Twice as many rounds make every point twice as wide.
pub(crate) const MOST_POINTS: usize = 1000;
/// A mean that can be taken together with another.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mean {
    sum: f64,
    count: u32,
}

impl Mean {
    pub(crate) fn of(value: Option<f32>) -> Self {
        value.map_or_else(Self::default, |value| Self { sum: f64::from(value), count: 1 })
    }

    fn with(self, other: Self) -> Self {
        Self { sum: self.sum + other.sum, count: self.count + other.count }
    }

    /// To five digits: more would be bytes without meaning.
    fn value(self) -> Option<f64> {
        (self.count > 0).then(|| rounded(self.sum / f64::from(self.count)))
    }
}

/// A number with five significant digits.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let power = 4 - value.abs().log10().floor() as i32;
    let scale = 10f64.powi(power.clamp(-300, 300));
    (value * scale).round() / scale
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub(crate) round: u64,
    pub(crate) seconds: f64,
    pub(crate) bytes: u64,
    pub(crate) loss: Mean,
    pub(crate) accuracy: Mean,
    pub(crate) eta: f32,
}

/// Rounds as points, each the mean of as many rounds as it takes not to have too many.
#[derive(Clone, Debug)]
pub(crate) struct Curve {
    stride: u64,
    points: Vec<Point>,
    /// Rounds in the last point.
    filled: u64,
}

impl Default for Curve {
    fn default() -> Self {
        Self { stride: 1, points: Vec::new(), filled: 0 }
    }
}

impl Curve {
    pub(crate) fn push(&mut self, point: Point) {
        match self.points.last_mut().filter(|_| self.filled < self.stride && self.filled > 0) {
            Some(last) => {
                *last = joined(last, &point);
                self.filled += 1;
            }
            None => {
                if self.points.len() == MOST_POINTS {
                    self.points =
                        self.points.chunks(2).map(|pair| joined(&pair[0], &pair[pair.len() - 1])).collect();
                    self.stride *= 2;
                }
                self.points.push(point);
                self.filled = 1;
            }
        }
    }

    /// Takes away what ends after this round.
    pub(crate) fn truncate(&mut self, round: u64) {
        self.points.retain(|point| point.round <= round);
        self.filled = 0;
    }

    /// Seconds and bytes after a round, as far as points tell.
    pub(crate) fn at(&self, round: u64) -> (f64, u64) {
        let at = self.points.partition_point(|point| point.round < round);
        let point = self.points.get(at).or(self.points.last());
        point.map_or((0.0, 0), |point| (rounded(point.seconds), point.bytes))
    }

    pub(crate) fn series(&self) -> Series {
        let points = &self.points;
        Series {
            stride: self.stride,
            round: points.iter().map(|point| point.round).collect(),
            seconds: points.iter().map(|point| (point.seconds * 1e3).round() / 1e3).collect(),
            bytes: points.iter().map(|point| point.bytes).collect(),
            loss: points.iter().map(|point| point.loss.value()).collect(),
            accuracy: points.iter().map(|point| point.accuracy.value()).collect(),
            eta: points.iter().map(|point| rounded(f64::from(point.eta))).collect(),
        }
    }
}

/// Two neighbours as one point, which ends where the second does.
fn joined(first: &Point, second: &Point) -> Point {
    Point { loss: first.loss.with(second.loss), accuracy: first.accuracy.with(second.accuracy), ..*second }
}

/// Agreement over time, in thousandths.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// How many samples make a column, as a power of two.
    doublings: u32,
    /// Samples in the last column.
    filled: u32,
    pub(crate) rounds: Vec<u64>,
    pub(crate) rows: Vec<Vec<Option<u16>>>,
}

impl History {
    pub(crate) fn push(&mut self, round: u64, agreements: &[Option<f64>]) {
        self.rows.resize(self.rows.len().max(agreements.len()), vec![None; self.rounds.len()]);
        let open = self.filled > 0 && self.filled < 1 << self.doublings;
        if !open && self.rounds.len() == MOST_HISTORY {
            self.rounds = self.rounds.chunks(2).map(|pair| pair[pair.len() - 1]).collect();
            for row in &mut self.rows {
                *row = row.chunks(2).map(|pair| averaged(pair[0], 1, pair[pair.len() - 1])).collect();
            }
            self.doublings += 1;
        }
        let samples = if open { self.filled } else { 0 };
        match self.rounds.last_mut().filter(|_| open) {
            Some(last) => *last = round,
            None => self.rounds.push(round),
        }
        for (at, row) in self.rows.iter_mut().enumerate() {
            let new = agreements.get(at).copied().flatten().map(|value| (value * 1e3).round() as u16);
            match row.last_mut().filter(|_| open) {
                Some(last) => *last = averaged(*last, samples, new),
                None => row.push(new),
            }
        }
        self.filled = samples + 1;
    }

    pub(crate) fn truncate(&mut self, round: u64) {
        let kept = self.rounds.partition_point(|&at| at <= round);
        self.rounds.truncate(kept);
        self.rows.iter_mut().for_each(|row| row.truncate(kept));
        self.filled = 0;
    }
}

/// The mean of `samples` samples, of which this was the mean, and one more.
fn averaged(mean: Option<u16>, samples: u32, new: Option<u16>) -> Option<u16> {
    match (mean, new) {
        (Some(mean), Some(new)) => {
            Some(((u32::from(mean) * samples + u32::from(new)) / (samples + 1)) as u16)
        }
        (mean, new) => new.or(mean),
    }
}
