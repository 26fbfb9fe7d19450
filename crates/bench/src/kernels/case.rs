//! One row of the bench, and the group that it stands in.

use std::sync::Arc;
use std::time::{Duration, Instant};

use signvote_kernels::{Agreement, Decided, Packed};

use super::limit::{Stream, Way, pass};
use super::memory::{Answer, Memory, Returned, Touch, Touches, touch};
use crate::Error;

impl From<()> for Returned {
    fn from((): ()) -> Self {
        Self([0; 2])
    }
}

impl From<u64> for Returned {
    fn from(number: u64) -> Self {
        Self([number, 0])
    }
}

impl From<Packed> for Returned {
    fn from(packed: Packed) -> Self {
        Self([packed.abstained as u64, packed.non_finite as u64])
    }
}

impl From<Decided> for Returned {
    fn from(decided: Decided) -> Self {
        Self([decided.ties as u64, decided.holds as u64])
    }
}

impl From<Agreement> for Returned {
    fn from(agreement: Agreement) -> Self {
        Self([agreement.agree, agreement.disagree])
    }
}

type Run<'a> = Box<dyn FnMut(&mut Memory) -> Returned + Send + 'a>;

/// Where the right answer comes from, and with it the time that the naive form takes.
enum Reference<'a> {
    Naive(Run<'a>),
    /// An earlier row with the same answer: the naive form has nothing else to do here.
    Row(usize),
}

/// A kernel, what it moves, and its naive form.
pub(super) struct Case<'a> {
    name: String,
    reads: Vec<&'a [u8]>,
    touches: Touches,
    kernel: Run<'a>,
    reference: Reference<'a>,
    relative_to: Option<usize>,
    limit: Way,
}

fn run<'a, R: Into<Returned>>(mut run: impl FnMut(&mut Memory) -> R + Send + 'a) -> Run<'a> {
    Box::new(move |memory| run(memory).into())
}

impl<'a> Case<'a> {
    /// A kernel that reads `reads`, does to the group's memory what `touches` says, and does what `naive` does.
    pub(super) fn new<R: Into<Returned>>(
        name: impl Into<String>,
        reads: &[&'a [u8]],
        touches: Touches,
        kernel: impl FnMut(&mut Memory) -> R + Send + 'a,
        naive: impl FnMut(&mut Memory) -> R + Send + 'a,
    ) -> Self {
        let reference = Reference::Naive(run(naive));
        let (name, reads, limit) = (name.into(), reads.to_vec(), Way::Straight);
        Self { name, reads, touches, kernel: run(kernel), reference, relative_to: None, limit }
    }

    /// As [`Case::new`], with the answer of an earlier row.
    pub(super) fn same<R: Into<Returned>>(
        name: impl Into<String>,
        reads: &[&'a [u8]],
        touches: Touches,
        kernel: impl FnMut(&mut Memory) -> R + Send + 'a,
        row: usize,
    ) -> Self {
        let (name, reads, limit) = (name.into(), reads.to_vec(), Way::Straight);
        let reference = Reference::Row(row);
        Self { name, reads, touches, kernel: run(kernel), reference, relative_to: None, limit }
    }

    /// Its time is also reported as a multiple of that row's.
    pub(super) fn relative_to(mut self, row: usize) -> Self {
        self.relative_to = Some(row);
        self
    }
}

/// Cases that are measured by turns, and the memory that they use.
///
/// Rows are counted from 0. What a row leaves in memory, another may find there: only [`Group::check`] begins
/// with a state of its own.
pub struct Group<'a> {
    name: &'static str,
    voters: Option<usize>,
    threads: usize,
    memory: Memory,
    /// State that kernels change or read in memory, as it is before the first run.
    initial: Memory,
    cases: Vec<Case<'a>>,
}

/// The right answer of a row, and the times that its naive form took to find it.
pub struct Expected {
    answer: Answer,
    times: Vec<Duration>,
}

impl Expected {
    /// How long the naive form took, each time that it ran.
    #[must_use]
    pub fn times(&self) -> &[Duration] {
        &self.times
    }
}

/// A naive form runs again, in case something held it up, unless that would take longer.
const NAIVE_TIME: Duration = Duration::from_secs(1);
const NAIVE_RUNS: usize = 2;
/// How often both ways to move the bytes are tried.
const TUNING_RUNS: usize = 3;

impl<'a> Group<'a> {
    pub(super) fn new(
        name: &'static str,
        voters: Option<usize>,
        memory: Memory,
        initial: Memory,
        cases: Vec<Case<'a>>,
    ) -> Self {
        Self { name, voters, threads: 1, memory, initial, cases }
    }

    /// Measured on so many threads.
    pub(super) fn on_threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// What the rows have in common.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// How many vote, where anybody does.
    #[must_use]
    pub fn voters(&self) -> Option<usize> {
        self.voters
    }

    /// The group with its number of voters, for people.
    #[must_use]
    pub fn title(&self) -> String {
        match self.voters {
            Some(1) => format!("{}, 1 voter", self.name),
            Some(voters) => format!("{}, {voters} voters", self.name),
            None => self.name.to_owned(),
        }
    }

    /// The number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.cases.len()
    }

    /// The name of a row.
    #[must_use]
    pub fn row(&self, row: usize) -> &str {
        &self.cases[row].name
    }

    /// The earlier row whose time this one's is compared with.
    #[must_use]
    pub fn relative_to(&self, row: usize) -> Option<usize> {
        self.cases[row].relative_to
    }

    /// The bytes that a row reads and writes, counted from its slices; what is read and written counts twice.
    pub fn bytes(&mut self, row: usize) -> usize {
        streams(&self.cases[row], &mut self.memory).map(|stream| stream.bytes()).sum()
    }

    /// Runs the kernel of a row.
    pub fn kernel(&mut self, row: usize) {
        (self.cases[row].kernel)(&mut self.memory);
    }

    /// Moves the bytes of a row.
    pub fn limit(&mut self, row: usize) {
        let case = &self.cases[row];
        pass(streams(case, &mut self.memory), self.threads, case.limit);
    }

    /// Finds out which way of moving the bytes of a row is the faster one, for [`Group::limit`].
    pub fn tune_limit(&mut self, row: usize) {
        let mut best = [(Duration::MAX, Way::Straight), (Duration::MAX, Way::SideBySide)];
        for _ in 0..TUNING_RUNS {
            for (time, way) in &mut best {
                self.cases[row].limit = *way;
                let start = Instant::now();
                self.limit(row);
                *time = start.elapsed().min(*time);
            }
        }
        self.cases[row].limit = if best[1].0 < best[0].0 { best[1].1 } else { best[0].1 };
    }

    /// Whether a row has a naive form of its own, rather than that of an earlier row with the same answer.
    #[must_use]
    pub fn has_naive(&self, row: usize) -> bool {
        matches!(self.cases[row].reference, Reference::Naive(_))
    }

    /// Runs the naive form of a row, or of the one that it has the answer of.
    pub fn naive(&mut self, row: usize) {
        match &mut self.cases[row].reference {
            Reference::Naive(naive) => {
                naive(&mut self.memory);
            }
            Reference::Row(earlier) => {
                let earlier = *earlier;
                self.naive(earlier);
            }
        }
    }

    /// The right answer of every row. A naive form that is quick runs twice.
    #[must_use]
    pub fn expected(&mut self) -> Vec<Arc<Expected>> {
        let mut all: Vec<Arc<Expected>> = Vec::new();
        for case in &mut self.cases {
            all.push(match &mut case.reference {
                Reference::Row(row) => Arc::clone(&all[*row]),
                Reference::Naive(naive) => {
                    Arc::new(expected(naive, case.touches, &mut self.memory, &self.initial))
                }
            });
        }
        all
    }

    /// Runs the kernel of a row on its initial state and compares what it leaves and returns with the right
    /// answer, bit for bit.
    ///
    /// # Errors
    ///
    /// [`Error::Wrong`] if a bit differs.
    pub fn check(&mut self, row: usize, expected: &Expected) -> Result<(), Error> {
        let case = &mut self.cases[row];
        self.memory.prepare(case.touches, &self.initial);
        let returned = (case.kernel)(&mut self.memory);
        match self.memory.difference(returned, &expected.answer) {
            None => Ok(()),
            Some(difference) => {
                Err(Error::Wrong { group: self.title(), row: self.row(row).to_owned(), difference })
            }
        }
    }
}

fn expected(naive: &mut Run<'_>, touches: Touches, memory: &mut Memory, initial: &Memory) -> Expected {
    let mut times = Vec::new();
    let began = Instant::now();
    loop {
        memory.prepare(touches, initial);
        let start = Instant::now();
        let returned = naive(memory);
        times.push(start.elapsed());
        if times.len() == NAIVE_RUNS || began.elapsed() > NAIVE_TIME {
            return Expected { answer: memory.answer(touches, returned), times };
        }
    }
}

/// What a case moves.
fn streams<'m>(case: &'m Case<'_>, memory: &'m mut Memory) -> impl Iterator<Item = Stream<'m>> {
    let reads = case.reads.iter().map(|bytes| Stream::Read(bytes));
    let places = memory.places().into_iter().filter_map(|(place, bytes)| {
        Some(match touch(case.touches, place)? {
            Touch::Read => Stream::Read(bytes),
            Touch::Write => Stream::Write(bytes),
            Touch::Update => Stream::Update(bytes),
        })
    });
    reads.chain(places)
}
