//! Gradients in pieces, against an exchange that writes down what it is handed.

use std::iter::once;

use proptest::prelude::*;
use signvote_election::{AggregateKind, ExchangeError, Position, RunId, Settings, Slot, Step, StepRule};

use super::*;

/// Five whole chunks, and one that ends in mid-word.
const DIMENSION: usize = 5 * CHUNK + 75;
const CHUNK: usize = 128;

#[derive(Clone, Debug, PartialEq)]
enum Handed {
    Report { non_finite: u64 },
    Chunk { first_word: usize, signs: Vec<u64>, abstain: Vec<u64> },
}

struct Recording {
    terms: Terms,
    handed: Vec<Handed>,
}

impl Recording {
    fn new() -> Self {
        let terms = Terms {
            run: RunId([1; 16]),
            workers: 1,
            batch: 1,
            seed: 1,
            rounds: 1,
            aggregate: AggregateKind::Vote,
            beta: 0.9,
            abstain_on: AbstainOn::Momentum,
            chunk_coordinates: CHUNK as u32,
            digest_every: 0,
            max_non_finite: 0,
            signed: false,
            step: StepRule::default(),
            settings: Settings::default(),
        };
        Self { terms, handed: vec![] }
    }

    fn chunks(&self) -> Vec<usize> {
        let chunk = |handed: &Handed| match handed {
            Handed::Chunk { first_word, .. } => Some(first_word * 64 / CHUNK),
            Handed::Report { .. } => None,
        };
        self.handed.iter().filter_map(chunk).collect()
    }
}

impl Exchange for Recording {
    fn terms(&self) -> &Terms {
        &self.terms
    }

    fn slot(&self) -> Slot {
        Slot::new(1).unwrap()
    }

    fn parameters(&self) -> &[f32] {
        unreachable!("the gradient is at hand")
    }

    fn position(&self) -> Position {
        Position::default()
    }

    fn next(&mut self) -> Result<Step, ExchangeError> {
        unreachable!("nothing is polled while a ballot is cast")
    }

    fn try_next(&mut self) -> Result<Option<Step>, ExchangeError> {
        unreachable!("nothing is polled while a ballot is cast")
    }

    fn report(&mut self, _: f32, _: u32, _: u32, non_finite: u64) -> Result<(), ExchangeError> {
        self.handed.push(Handed::Report { non_finite });
        Ok(())
    }

    fn submit_signs(
        &mut self,
        first_word: usize,
        signs: &[u64],
        abstain: &[u64],
    ) -> Result<(), ExchangeError> {
        self.handed.push(Handed::Chunk { first_word, signs: signs.to_vec(), abstain: abstain.to_vec() });
        Ok(())
    }

    fn submit_gradient(&mut self, _: usize, _: &[f32]) -> Result<(), ExchangeError> {
        unreachable!("a vote")
    }
}

const LOSS: Loss = Loss { mean_loss: 1.0, correct: 1, samples: 1 };

fn caster() -> Caster {
    Caster::new(&Recording::new().terms, Form::Signum, DIMENSION).unwrap()
}

/// Casts one ballot of these pieces, in this order.
fn cast(
    caster: &mut Caster,
    gradient: &[f32],
    pieces: impl IntoIterator<Item = Range<usize>>,
) -> (Vec<Handed>, Result<Cast, Error>) {
    let mut exchange = Recording::new();
    let mut casting = caster.cast(&mut exchange, Round(0), LOSS);
    for piece in pieces {
        casting.piece(piece.clone(), &gradient[piece]);
    }
    let cast = casting.finish();
    (exchange.handed, cast)
}

fn gradient() -> Vec<f32> {
    (0..DIMENSION).map(|i| ((i * 31 % 17) as f32 - 8.0) / 4.0).collect()
}

#[test]
fn chunks_are_cast_while_the_rest_of_the_gradient_is_still_being_computed() {
    let (mut caster, mut exchange, gradient) = (caster(), Recording::new(), gradient());
    // Last layers first, in pieces that end nowhere near the ends of chunks.
    let mut end = DIMENSION;
    let mut cast_so_far = vec![];
    let mut casting = caster.cast(&mut exchange, Round(0), LOSS);
    while end > 0 {
        let piece = end.saturating_sub(50)..end;
        casting.piece(piece.clone(), &gradient[piece.clone()]);
        end = piece.start;
        cast_so_far.push((end, casting.chunks));
    }
    casting.finish().unwrap();
    for (end, chunks) in cast_so_far {
        let whole = (0..=5).filter(|chunk| chunk * CHUNK >= end).count();
        assert_eq!(chunks, whole, "with the gradient from coordinate {end} on");
    }
    assert_eq!(exchange.chunks(), [5, 4, 3, 2, 1, 0]);
    // The report counts all and is there when the round may close.
    assert_eq!(exchange.handed[5], Handed::Report { non_finite: 0 });
    assert_eq!(exchange.handed.len(), 7);
}

#[test]
fn all_at_once_is_the_streamed_form() {
    let (handed, cast) = cast(&mut caster(), &gradient(), once(0..DIMENSION));
    assert_eq!(cast.unwrap(), Cast { non_finite: 0, first_non_finite: None });
    let Handed::Chunk { first_word: 0, .. } = handed[0] else { panic!("{handed:?}") };
    assert!(matches!(handed[5], Handed::Report { .. }), "{handed:?}");
    assert!(matches!(handed[6], Handed::Chunk { first_word: 10, .. }), "{handed:?}");
}

#[test]
fn pieces_that_are_not_every_coordinate_once_are_refused() {
    let gradient = vec![1.0; DIMENSION + 1];
    let d = DIMENSION;
    for (pieces, expected) in [
        (vec![0..100, 99..d], "it gave coordinates 99..715, or some of them, twice"),
        (vec![200..300, 300..400, 250..251], "it gave coordinates 250..251, or some of them, twice"),
        (vec![0..d, 0..d], "it gave coordinates 0..715, or some of them, twice"),
        (Vec::from_iter(once(0..d + 1)), "it gave 716 values for coordinates 0..716 of 715"),
        (Vec::from_iter(once(3..d)), "it ended its backward pass after 712 of 715 coordinates"),
        (vec![], "it ended its backward pass after 0 of 715 coordinates"),
    ] {
        let (_, cast) = cast(&mut caster(), &gradient, pieces);
        assert_eq!(cast.unwrap_err().to_string(), format!("compute engine: {expected}"));
    }
    let (mut caster, mut exchange) = (caster(), Recording::new());
    let mut casting = caster.cast(&mut exchange, Round(0), LOSS);
    casting.piece(0..3, &[1.0; 2]);
    assert_eq!(
        casting.finish().unwrap_err().to_string(),
        "compute engine: it gave 2 values for coordinates 0..3 of 715"
    );
}

#[test]
fn a_ballot_that_was_given_up_leaves_nothing_in_the_next_one() {
    let (mut caster, gradient) = (caster(), gradient());
    let (_, given_up) = cast(&mut caster, &vec![9.0; DIMENSION], [20..140, 150..160]);
    given_up.unwrap_err();
    // No chunk was whole: not even the momentum has moved.
    assert_eq!(caster.momentum(), vec![0.0; DIMENSION]);
    let (handed, voted) = cast(&mut caster, &gradient, once(0..DIMENSION));
    voted.unwrap();
    assert_eq!(handed, cast(&mut self::caster(), &gradient, once(0..DIMENSION)).0);
}

/// Cuts, and the order in which the pieces between them come.
fn pieces() -> impl Strategy<Value = Vec<Range<usize>>> {
    let cuts = proptest::collection::btree_set(1..DIMENSION, 0..40);
    let cut = |cuts: std::collections::BTreeSet<usize>| {
        let starts = [0].into_iter().chain(cuts.iter().copied());
        let ends = cuts.iter().copied().chain([DIMENSION]);
        starts.zip(ends).map(|(start, end)| start..end).collect::<Vec<_>>()
    };
    cuts.prop_map(cut).prop_shuffle()
}

proptest! {
    #[test]
    fn the_ballot_is_the_same_whatever_the_pieces_and_their_order(
        rounds in proptest::collection::vec((pieces(), any::<u64>()), 1..4),
        broken in proptest::collection::vec(0..DIMENSION, 0..3),
    ) {
        let (mut in_pieces, mut at_once) = (caster(), caster());
        for (pieces, salt) in rounds {
            let mut gradient: Vec<f32> = (0..DIMENSION as u64)
                .map(|i| ((i.wrapping_mul(salt | 1) >> 7) % 5) as f32 - 2.0)
                .collect();
            broken.iter().for_each(|&at| gradient[at] = f32::NAN);
            let (mut handed, voted) = cast(&mut in_pieces, &gradient, pieces);
            let (expected, expected_vote) = cast(&mut at_once, &gradient, once(0..DIMENSION));
            let voted = voted.unwrap();
            prop_assert_eq!(voted, expected_vote.unwrap());
            prop_assert_eq!(voted.first_non_finite, broken.iter().min().copied());
            let last_but_one = matches!(handed[5], Handed::Report { .. });
            prop_assert!(last_but_one, "the report comes before the last chunk: {:?}", handed);
            handed.sort_by_key(|handed| match handed {
                Handed::Report { .. } => 9,
                // The report comes before the last chunk.
                Handed::Chunk { first_word: 10, .. } => 10,
                Handed::Chunk { first_word, .. } => *first_word,
            });
            prop_assert_eq!(handed, expected);
            let bits = |caster: &Caster| caster.momentum().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&in_pieces), bits(&at_once));
        }
    }

    #[test]
    fn coverage_knows_what_is_there(pieces in pieces(), again in 0..DIMENSION) {
        let (mut coverage, mut known) = (Coverage::default(), [false; DIMENSION + 1]);
        for piece in pieces {
            let joined = coverage.add(piece.clone()).unwrap();
            known[piece].fill(true);
            prop_assert!(known[joined.clone()].iter().all(|&known| known));
            prop_assert!(!known[joined.end] && (joined.start == 0 || !known[joined.start - 1]));
            prop_assert_eq!(coverage.count(), known.iter().filter(|&&known| known).count());
            if known[again] {
                prop_assert_eq!(coverage.add(again..again + 1), None);
            }
        }
        prop_assert_eq!(coverage.0, Vec::from_iter(once(0..DIMENSION)));
    }
}
