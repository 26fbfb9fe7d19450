//! A model's ballots tallied as they come, chunk by chunk, as a server does it.

use signvote_kernels::{Ballot, Coin, Decided, StreamTally, Tie, words};

/// Coordinates of a chunk of a ballot as it travels.
pub(super) const CHUNK: usize = 65_536;

/// The key of the coins.
const COIN_KEY: u64 = 1;

/// What becomes of ties, from that word of the model on.
pub(super) fn coin(first_word: usize) -> Tie {
    Tie::Coin(Coin { key: COIN_KEY, first_word: first_word as u64 })
}

/// Tallies for the chunks of a model, each used for one chunk after another.
pub(super) struct Tallies {
    coordinates: usize,
    whole: StreamTally,
    /// For the last chunk, if it is shorter.
    last: StreamTally,
}

impl Tallies {
    pub(super) fn new(coordinates: usize, voters: usize) -> Self {
        let last = StreamTally::new(coordinates % CHUNK, voters);
        Self { coordinates, whole: StreamTally::new(CHUNK, voters), last }
    }
}

/// Tallies all chunks, one after another, from batches of that many ballots without abstentions. The last batch is
/// handed in with the question for the verdict, as whoever knows that nobody else will come can.
pub(super) fn stream(
    ballots: &[Ballot<'_>],
    batch: usize,
    tallies: &mut Tallies,
    signs: &mut [u64],
    hold: &mut [u64],
) -> Decided {
    let mut decided = Decided::default();
    let mut part = Vec::with_capacity(batch);
    for start in (0..tallies.coordinates).step_by(CHUNK) {
        let coordinates = usize::min(CHUNK, tallies.coordinates - start);
        let tally = if coordinates == CHUNK { &mut tallies.whole } else { &mut tallies.last };
        let first = words(start);
        let range = first..first + words(coordinates);
        let mut batches = ballots.chunks(batch).peekable();
        while let Some(ballots) = batches.next() {
            part.clear();
            part.extend(ballots.iter().map(|ballot| Ballot::new(&ballot.signs[range.clone()], None)));
            if batches.peek().is_some() {
                tally.add_all(&part);
            }
        }
        let chunk = tally.close(&part, coin(first), 1, &mut signs[range.clone()], &mut hold[range]);
        decided.ties += chunk.ties;
        decided.holds += chunk.holds;
    }
    decided
}
