//! The wire format and its hashes written a second time, from `docs/protocol.md` and plainly.
//!
//! Tests compare it with the crate, and hand-assemble with it what a sound peer would never send.

use signvote_election::{Layout, Terms};

pub(crate) mod kind {
    pub(crate) const HELLO: u8 = 1;
    pub(crate) const INIT: u8 = 2;
    pub(crate) const READY: u8 = 3;
    pub(crate) const REPORT: u8 = 4;
    pub(crate) const BALLOT: u8 = 5;
    pub(crate) const GRADIENT: u8 = 6;
    pub(crate) const DIGEST: u8 = 7;
    pub(crate) const BYE: u8 = 8;
    pub(crate) const SEAL: u8 = 9;
    pub(crate) const ASK: u8 = 10;
    pub(crate) const VALUES: u8 = 31;
    pub(crate) const WELCOME: u8 = 32;
    pub(crate) const REFUSED: u8 = 33;
    pub(crate) const STATE: u8 = 34;
    pub(crate) const OPEN: u8 = 35;
    pub(crate) const VERDICT: u8 = 36;
    pub(crate) const UPDATE: u8 = 37;
    pub(crate) const COMMIT: u8 = 38;
    pub(crate) const FINISH: u8 = 39;
    pub(crate) const STATISTICS: u8 = 18;
    pub(crate) const STATUS: u8 = 40;
    pub(crate) const PAUSE: u8 = 41;
    pub(crate) const WAIT: u8 = 42;
}

/// The kind of a whole frame.
pub(crate) fn kind_of(frame: &[u8]) -> u8 {
    frame[4]
}

/// A frame of these parts.
pub(crate) fn frame(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let payload = parts.concat();
    let length = u32::try_from(payload.len() + 1).unwrap();
    [&length.to_le_bytes()[..], &[kind], &payload].concat()
}

fn string(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_le_bytes()[..], text.as_bytes()].concat()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn settings(entries: &[(&str, &str)]) -> Vec<u8> {
    let count = u16::try_from(entries.len()).unwrap().to_le_bytes();
    let entries = entries.iter().flat_map(|(key, value)| [string(key), string(value)].concat());
    count.into_iter().chain(entries).collect()
}

fn layout_bytes(layout: &Layout) -> Vec<u8> {
    let mut out = u32::try_from(layout.tensors().len()).unwrap().to_le_bytes().to_vec();
    for tensor in layout.tensors() {
        out.extend(string(&tensor.name));
        out.push(u8::try_from(tensor.shape.len()).unwrap());
        out.extend(tensor.shape.iter().flat_map(|&extent| (extent as u64).to_le_bytes()));
    }
    out
}

/// The version of this page.
pub(crate) const VERSION: (u16, u16) = (4, 1);

/// A greeting, field by field.
pub(crate) struct Hello<'a> {
    pub(crate) version: (u16, u16),
    pub(crate) features: u64,
    pub(crate) run: [u8; 16],
    pub(crate) layout: [u8; 32],
    pub(crate) dimension: u64,
    pub(crate) slot: u16,
    pub(crate) name: &'a str,
    /// Round, incarnation and chain hash of the replica that it brings.
    pub(crate) position: Option<(u64, u32, [u8; 32])>,
}

impl Hello<'_> {
    /// A greeting that asks for any place, with this model.
    pub(crate) fn of(layout: &Layout) -> Self {
        Self {
            version: VERSION,
            features: 0,
            run: [0; 16],
            layout: layout_digest(layout),
            dimension: layout.dimension() as u64,
            slot: 0,
            name: "raw",
            position: None,
        }
    }

    pub(crate) fn frame(&self) -> Vec<u8> {
        let version = [self.version.0.to_le_bytes(), self.version.1.to_le_bytes()].concat();
        let (dimension, slot) = (self.dimension.to_le_bytes(), self.slot.to_le_bytes());
        let features = self.features.to_le_bytes();
        let name = string(self.name);
        let position = match self.position {
            None => vec![0],
            Some((round, incarnation, chain)) => {
                [&[1], &round.to_le_bytes()[..], &incarnation.to_le_bytes(), &chain].concat()
            }
        };
        frame(
            kind::HELLO,
            &[b"signvote", &version, &features, &self.run, &self.layout, &dimension, &slot, &name, &position],
        )
    }
}

pub(crate) fn init(layout: &Layout, entries: &[(&str, &str)]) -> Vec<u8> {
    frame(kind::INIT, &[&layout_bytes(layout), &settings(entries)])
}

pub(crate) fn values(chunk: u32, values: &[f32]) -> Vec<u8> {
    frame(kind::VALUES, &[&chunk.to_le_bytes(), &floats(values)])
}

pub(crate) fn statistics(round: u64, values: &[f32]) -> Vec<u8> {
    frame(kind::STATISTICS, &[&round.to_le_bytes(), &floats(values)])
}

pub(crate) fn ready(digest: [u8; 32]) -> Vec<u8> {
    frame(kind::READY, &[&digest])
}

pub(crate) fn report(round: u64, loss: f32, correct: u32, samples: u32, non_finite: u64) -> Vec<u8> {
    let counts = [correct.to_le_bytes(), samples.to_le_bytes()].concat();
    frame(kind::REPORT, &[&round.to_le_bytes(), &loss.to_le_bytes(), &counts, &non_finite.to_le_bytes()])
}

/// A ballot or a verdict; the second plane in the shortest encoding, or in none if it is empty.
pub(crate) fn planes(kind: u8, round: u64, chunk: u32, signs: &[u64], second: &[u64]) -> Vec<u8> {
    let runs = runs(second);
    let (encoding, tail) = if runs.is_empty() {
        (0, vec![])
    } else if 2 + 4 * runs.len() <= 8 * second.len() {
        let count = u16::try_from(runs.len()).unwrap();
        let runs = runs.iter().flat_map(|&(first, length)| [first as u16, (length - 1) as u16]);
        (1, std::iter::once(count).chain(runs).flat_map(u16::to_le_bytes).collect())
    } else {
        (2, words(second))
    };
    let head = [&round.to_le_bytes()[..], &chunk.to_le_bytes(), &[encoding]].concat();
    frame(kind, &[&head, &words(signs), &tail])
}

/// A gradient or an update.
pub(crate) fn dense(kind: u8, round: u64, chunk: u32, values: &[f32]) -> Vec<u8> {
    frame(kind, &[&round.to_le_bytes(), &chunk.to_le_bytes(), &floats(values)])
}

pub(crate) fn digest_frame(round: u64, digest: [u8; 32]) -> Vec<u8> {
    frame(kind::DIGEST, &[&round.to_le_bytes(), &digest])
}

/// A question how the run stands.
pub(crate) fn ask(version: (u16, u16)) -> Vec<u8> {
    frame(kind::ASK, &[b"signvote", &version.0.to_le_bytes(), &version.1.to_le_bytes()])
}

/// A signature under a ballot.
pub(crate) fn seal(round: u64, signature: [u8; 64]) -> Vec<u8> {
    frame(kind::SEAL, &[&round.to_le_bytes(), &signature])
}

/// A refusal.
pub(crate) fn refused(later: u8, reason: &str) -> Vec<u8> {
    frame(kind::REFUSED, &[&[later], &string(reason)])
}

/// A farewell, a finish or a pause.
pub(crate) fn text(kind: u8, reason: &str) -> Vec<u8> {
    frame(kind, &[&string(reason)])
}

/// A welcome; `rest` are the bytes of β, abstention rule and so on, from [`terms_bytes`].
pub(crate) fn welcome(version: (u16, u16), slot: u16, start: u8, terms: &[u8]) -> Vec<u8> {
    welcome_with(0, version, slot, start, terms)
}

pub(crate) fn welcome_with(
    features: u64,
    version: (u16, u16),
    slot: u16,
    start: u8,
    terms: &[u8],
) -> Vec<u8> {
    let version = [version.0.to_le_bytes(), version.1.to_le_bytes()].concat();
    frame(kind::WELCOME, &[&version, &features.to_le_bytes(), &slot.to_le_bytes(), &[start], terms])
}

pub(crate) fn terms_bytes(terms: &Terms) -> Vec<u8> {
    let entries: Vec<_> = terms.settings.iter().collect();
    [
        &terms.run.0[..],
        &terms.workers.to_le_bytes(),
        &terms.batch.to_le_bytes(),
        &terms.seed.to_le_bytes(),
        &terms.rounds.to_le_bytes(),
        &[u8::from(terms.aggregate == signvote_election::AggregateKind::Mean)],
        &terms.beta.to_le_bytes(),
        &[u8::from(terms.abstain_on == signvote_kernels::AbstainOn::Gradient)],
        &terms.chunk_coordinates.to_le_bytes(),
        &terms.digest_every.to_le_bytes(),
        &terms.max_non_finite.to_le_bytes(),
        &[terms.signed, terms.step.decay_matrices, terms.step.layerwise].map(u8::from),
        &settings(&entries),
    ]
    .concat()
}

/// A state or an opening.
pub(crate) fn position(kind: u8, round: u64, incarnation: u32, chain: [u8; 32]) -> Vec<u8> {
    frame(kind, &[&round.to_le_bytes(), &incarnation.to_le_bytes(), &chain])
}

/// A commit, field by field.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Commit {
    pub(crate) round: u64,
    pub(crate) incarnation: u32,
    pub(crate) eta: f32,
    pub(crate) lambda: f32,
    pub(crate) next_eta: f32,
    pub(crate) voters: Vec<u64>,
    pub(crate) chain: [u8; 32],
}

impl Commit {
    pub(crate) fn frame(&self) -> Vec<u8> {
        let head = [&self.round.to_le_bytes()[..], &self.incarnation.to_le_bytes()].concat();
        let rates = [self.eta, self.lambda, self.next_eta].map(f32::to_le_bytes).concat();
        let count = u16::try_from(self.voters.len()).unwrap().to_le_bytes();
        frame(kind::COMMIT, &[&head, &rates, &count, &words(&self.voters), &self.chain])
    }

    pub(crate) fn read(frame: &[u8]) -> Self {
        assert_eq!(kind_of(frame), kind::COMMIT);
        let at = |from: usize, to: usize| &frame[5 + from..5 + to];
        let count = usize::from(u16::from_le_bytes(at(24, 26).try_into().unwrap()));
        let word = |i: usize| u64::from_le_bytes(at(26 + 8 * i, 34 + 8 * i).try_into().unwrap());
        Self {
            round: u64::from_le_bytes(at(0, 8).try_into().unwrap()),
            incarnation: u32::from_le_bytes(at(8, 12).try_into().unwrap()),
            eta: f32::from_le_bytes(at(12, 16).try_into().unwrap()),
            lambda: f32::from_le_bytes(at(16, 20).try_into().unwrap()),
            next_eta: f32::from_le_bytes(at(20, 24).try_into().unwrap()),
            voters: (0..count).map(word).collect(),
            chain: at(26 + 8 * count, 58 + 8 * count).try_into().unwrap(),
        }
    }

    /// h_{r+1} of this commit after `chain`, given the hash of every chunk.
    pub(crate) fn chain_after(&self, chain: [u8; 32], chunks: &[[u8; 32]]) -> [u8; 32] {
        let voters = [&(self.voters.len() as u64).to_le_bytes()[..], &words(&self.voters)].concat();
        hash(
            "chain link",
            &[
                &chain,
                &self.round.to_le_bytes(),
                &self.incarnation.to_le_bytes(),
                &self.eta.to_le_bytes(),
                &self.lambda.to_le_bytes(),
                &voters,
                &chunks.concat(),
            ],
        )
    }
}

/// A chunk's frame: a ballot, gradient, verdict or update as it stands on the wire.
pub(crate) struct Piece<'a> {
    pub(crate) kind: u8,
    pub(crate) round: u64,
    pub(crate) chunk: usize,
    pub(crate) body: &'a [u8],
}

impl<'a> Piece<'a> {
    /// `None` if this is no frame of a chunk.
    pub(crate) fn read(frame: &'a [u8]) -> Option<Self> {
        let pieces = [kind::BALLOT, kind::GRADIENT, kind::VERDICT, kind::UPDATE];
        let length = u32::from_le_bytes(frame.get(..4)?.try_into().unwrap()) as usize;
        if frame.len() < 17 || length != frame.len() - 4 || !pieces.contains(&frame[4]) {
            return None;
        }
        Some(Self {
            kind: frame[4],
            round: u64::from_le_bytes(frame[5..13].try_into().unwrap()),
            chunk: u32::from_le_bytes(frame[13..17].try_into().unwrap()) as usize,
            body: &frame[17..],
        })
    }

    /// −1, 0 (abstention, hold) or +1 for each coordinate; `None` if the planes are not in their one form.
    pub(crate) fn signs(&self, coordinates: usize) -> Option<Vec<i8>> {
        let bytes = coordinates.div_ceil(64) * 8;
        let (encoding, rest) = self.body.split_first()?;
        let (signs, rest) = rest.split_at_checked(bytes)?;
        let bit = |plane: &[u8], i: usize| plane[i / 8] >> (i % 8) & 1 == 1;
        let mut second = vec![false; bytes * 8];
        match encoding {
            0 if rest.is_empty() => {}
            1 => {
                let numbers: Vec<_> =
                    rest.chunks(2).map(|two| Some(u16::from_le_bytes(two.try_into().ok()?))).collect();
                let (count, runs) = numbers.split_first()?;
                if (*count)? == 0 || runs.len() != 2 * usize::from((*count)?) {
                    return None;
                }
                let mut free = 0;
                for run in runs.chunks(2) {
                    let (first, length) = (usize::from(run[0]?), usize::from(run[1]?) + 1);
                    if first < free || first + length > coordinates {
                        return None;
                    }
                    second[first..first + length].fill(true);
                    free = first + length + 1;
                }
            }
            2 if rest.len() == bytes => second = (0..bytes * 8).map(|i| bit(rest, i)).collect(),
            _ => return None,
        }
        let dirty = |i: usize| bit(signs, i) && second[i] || i >= coordinates && (bit(signs, i) || second[i]);
        if (0..bytes * 8).any(dirty) {
            return None;
        }
        let value = |i: usize| if second[i] { 0 } else { 1 - 2 * i8::from(bit(signs, i)) };
        Some((0..coordinates).map(value).collect())
    }

    /// The floats; `None` if there are not so many.
    pub(crate) fn floats(&self, coordinates: usize) -> Option<Vec<f32>> {
        let value = |four: &[u8]| f32::from_le_bytes(four.try_into().unwrap());
        (self.body.len() == 4 * coordinates).then(|| self.body.chunks(4).map(value).collect())
    }
}

/// First coordinate and length of every run of ones.
fn runs(plane: &[u64]) -> Vec<(usize, usize)> {
    let bit = |i: &usize| plane[i / 64] >> (i % 64) & 1 == 1;
    let mut runs: Vec<(usize, usize)> = vec![];
    for i in (0..plane.len() * 64).filter(bit) {
        match runs.last_mut() {
            Some((first, length)) if *first + *length == i => *length += 1,
            _ => runs.push((i, 1)),
        }
    }
    runs
}

/// −1, 0 and +1 as signs and second plane.
pub(crate) fn to_planes(values: &[i8]) -> (Vec<u64>, Vec<u64>) {
    let plane = |wanted: i8| {
        let mut words = vec![0_u64; values.len().div_ceil(64)];
        let bits = values.iter().enumerate().filter(|&(_, &value)| value == wanted);
        bits.for_each(|(i, _)| words[i / 64] |= 1 << (i % 64));
        words
    };
    (plane(-1), plane(0))
}

fn hash(context: &str, parts: &[&[u8]]) -> [u8; 32] {
    blake3::derive_key(&format!("signvote 2026-11 {context}"), &parts.concat())
}

pub(crate) fn layout_digest(layout: &Layout) -> [u8; 32] {
    hash("layout", &[&layout_bytes(layout)])
}

/// Digest of a replica.
pub(crate) fn digest(x: &[f32]) -> [u8; 32] {
    let leaf =
        |(i, values): (usize, &[f32])| hash("digest leaf", &[&(i as u64).to_le_bytes(), &floats(values)]);
    let mut level: Vec<_> = x.chunks(65_536).enumerate().map(leaf).collect();
    while level.len() > 1 {
        let node = |pair: &[[u8; 32]]| match pair {
            [left, right] => hash("digest node", &[left, right]),
            _ => pair[0],
        };
        level = level.chunks(2).map(node).collect();
    }
    hash("digest root", &[&(x.len() as u64).to_le_bytes(), &level[0]])
}

/// h₀.
pub(crate) fn chain_start(run: [u8; 16], layout: &Layout, x0: &[f32]) -> [u8; 32] {
    hash("chain start", &[&run, &layout_digest(layout), &digest(x0)])
}

/// Hash of one chunk's verdict.
pub(crate) fn verdict_hash(values: &[i8]) -> [u8; 32] {
    let (signs, hold) = to_planes(values);
    match hold.iter().any(|&word| word != 0) {
        true => hash("chunk verdict", &[&words(&signs), &words(&hold), &[1]]),
        false => hash("chunk verdict", &[&words(&signs), &[0]]),
    }
}

/// Hash of one chunk's dense update.
pub(crate) fn update_hash(update: &[f32]) -> [u8; 32] {
    hash("chunk update", &[&floats(update)])
}

/// Hash of one chunk of a ballot.
pub(crate) fn ballot_chunk_hash(signs: &[u64], abstain: &[u64]) -> [u8; 32] {
    if abstain.iter().all(|&word| word == 0) {
        return hash("ballot chunk", &[&words(signs), &[0]]);
    }
    hash("ballot chunk", &[&words(signs), &words(abstain), &[1]])
}

/// What is signed under a whole ballot.
pub(crate) fn sealed(run: [u8; 16], incarnation: u32, round: u64, chunks: &[[u8; 32]]) -> Vec<u8> {
    let root = hash("ballot root", &[&chunks.concat()]);
    [&b"signvote ballot 2\0"[..], &run, &incarnation.to_le_bytes(), &round.to_le_bytes(), &root].concat()
}

/// The coin of a coordinate in a round: −1 or +1.
pub(crate) fn coin(seed: u64, round: u64, coordinate: usize) -> i8 {
    let key = blake3::hash(&[seed.to_le_bytes(), round.to_le_bytes()].concat());
    let key = u64::from_le_bytes(key.as_bytes()[..8].try_into().unwrap());
    let mut z = key.wrapping_add((coordinate as u64 / 64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    1 - 2 * i8::from(z >> (coordinate % 64) & 1 == 1)
}
