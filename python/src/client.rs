//! A worker of a `signvote server`, in Python.

use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use signvote_election::{
    AggregateKind, Exchange, ExchangeError, Greeting, Layout, SecretKey, Settings, Slot,
    Step as ElectionStep, TensorSpec, Terms as ElectionTerms,
};
use signvote_kernels::AbstainOn;
use signvote_net::tls::{Connector, Credentials};
use signvote_net::{Client as NetClient, Connect};

use crate::arrays::{expect, floats, floats_mut, plane, slice, slice_mut};
use crate::errors::{IdentityError, LostError, MisuseError, of_election, of_exchange};

/// How often the interpreter is asked whether somebody has pressed Ctrl-C.
const SIGNALS: Duration = Duration::from_millis(50);

/// What the workers of a run agree on: the server has handed it out.
#[pyclass(frozen, get_all, module = "signvote")]
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// The run's identity, 32 hexadecimal digits.
    run: String,
    /// Places for workers.
    workers: u16,
    /// Examples in one worker's batch.
    batch: u32,
    seed: u64,
    /// Rounds in the whole run.
    rounds: u64,
    /// β of a worker's momentum.
    momentum: f32,
    /// Which exact zeros abstain: "momentum" or "gradient".
    abstain_on: &'static str,
    /// Coordinates in a chunk.
    chunk_coordinates: u32,
}

#[pymethods]
impl Terms {
    fn __repr__(&self) -> String {
        let Self { run, workers, batch, seed, rounds, momentum, .. } = self;
        format!(
            "Terms(run={run:?}, workers={workers}, batch={batch}, seed={seed}, rounds={rounds}, momentum={momentum})"
        )
    }
}

impl From<&ElectionTerms> for Terms {
    fn from(terms: &ElectionTerms) -> Self {
        Self {
            run: terms.run.to_string(),
            workers: terms.workers,
            batch: terms.batch,
            seed: terms.seed,
            rounds: terms.rounds,
            momentum: terms.beta,
            abstain_on: match terms.abstain_on {
                AbstainOn::Momentum => "momentum",
                AbstainOn::Gradient => "gradient",
            },
            chunk_coordinates: terms.chunk_coordinates,
        }
    }
}

/// What has happened: "open" (vote now), "committed", "replaced" (the parameters are the server's now), "paused" or
/// "finished".
#[pyclass(frozen, get_all, module = "signvote")]
#[derive(Clone, Debug)]
pub(crate) struct Step {
    kind: &'static str,
    round: u64,
    /// η of a committed round.
    lr: f32,
    /// λ of a committed round.
    weight_decay: f32,
    /// Whether this worker's ballot counted in a committed round, at least in part.
    counted: bool,
    /// Why the server pauses or has finished.
    reason: String,
}

#[pymethods]
impl Step {
    fn __repr__(&self) -> String {
        format!("Step(kind={:?}, round={}, reason={:?})", self.kind, self.round, self.reason)
    }
}

impl Step {
    fn of(kind: &'static str, round: u64) -> Self {
        Self { kind, round, lr: 0.0, weight_decay: 0.0, counted: false, reason: String::new() }
    }

    /// What is of use to a training loop.
    fn from(step: ElectionStep) -> Option<Self> {
        Some(match step {
            ElectionStep::Open { round } => Self::of("open", round.0),
            ElectionStep::Committed { round, eta, lambda, counted } => {
                Self { lr: eta, weight_decay: lambda, counted, ..Self::of("committed", round.0) }
            }
            ElectionStep::Replaced { round } => Self::of("replaced", round.0),
            ElectionStep::Paused { reason } => Self { reason, ..Self::of("paused", 0) },
            ElectionStep::Finished { round, reason } => Self { reason, ..Self::of("finished", round.0) },
            _ => return None,
        })
    }
}

/// A worker's place in the run of a `signvote server`.
///
/// A connection that is lost is made again within `reconnect` seconds; replica and ballot stay, and what was missed is caught up
/// with.
#[pyclass(frozen, module = "signvote")]
pub(crate) struct Client {
    /// `None` once closed.
    client: Mutex<Option<NetClient>>,
    #[pyo3(get)]
    terms: Terms,
    /// This worker's place, from 1.
    #[pyo3(get)]
    slot: u16,
    dimension: usize,
}

#[pymethods]
impl Client {
    /// Joins the run of the server at `address` (host:port), and waits until a round is open.
    ///
    /// `layout` is the model: names and shapes, in order. `initial` makes the first parameters from the terms: a flat float32
    /// array. With `certs` (a directory) and `identity` (a name in it) the connection is TLS with certificates on both sides.
    /// `waiting` hears what this worker has to wait for. With `statistics` this worker says that its model has running statistics, and
    /// may be asked for them at the end: see `wants_statistics`.
    #[new]
    #[pyo3(signature = (
        address, layout, initial, *, name = None, slot = None, run = None, certs = None, identity = None,
        patience = 10.0, reconnect = 300.0, settings = Vec::new(), waiting = None,
        statistics = false,
    ))]
    #[expect(clippy::too_many_arguments, reason = "they have names in Python")]
    fn new(
        py: Python<'_>,
        address: String,
        layout: Vec<(String, Vec<usize>)>,
        initial: Py<PyAny>,
        name: Option<String>,
        slot: Option<u16>,
        run: Option<&str>,
        certs: Option<PathBuf>,
        identity: Option<&str>,
        patience: f64,
        reconnect: f64,
        settings: Vec<(String, String)>,
        waiting: Option<Py<PyAny>>,
        statistics: bool,
    ) -> PyResult<Self> {
        let tensors = layout.into_iter().map(|(name, shape)| TensorSpec { name, shape }).collect();
        let layout = Layout::new(tensors).map_err(of_election)?;
        let dimension = layout.dimension();
        let tls = connector(certs, identity)?;
        let mut told = Settings::default();
        for (key, value) in settings {
            told.insert(&key, value).map_err(of_election)?;
        }
        let greeting = Greeting {
            layout,
            settings: told,
            run: run.map(str::parse).transpose().map_err(MisuseError::new_err)?,
            slot: slot.map(place).transpose()?,
            name: name.or_else(|| identity.map(str::to_owned)).unwrap_or_else(|| "python".into()),
            key: tls.as_ref().map(|tls| SecretKey::from_seed(tls.signing_key().seed())),
            statistics,
        };
        let (patience, reconnect) = (seconds("patience", patience)?, seconds("reconnect", reconnect)?);
        let connect = Connect { address, patience, reconnect, tls };
        let client = join(py, connect, greeting, initial, waiting)?;
        let terms = client.terms();
        if terms.aggregate != AggregateKind::Vote {
            return Err(MisuseError::new_err("this run averages gradients, and Python workers vote only"));
        }
        // What workers of `signvote worker` do alike with their gradients, and these do not.
        for setting in ["form", "clip-norm", "label-smoothing"] {
            if let Some(value) = terms.settings.value(setting) {
                let message = format!(
                    "this run asks its workers for --{setting} {value}, which Python workers do not do"
                );
                return Err(MisuseError::new_err(message));
            }
        }
        let (terms, slot) = (Terms::from(terms), client.slot().number());
        Ok(Self { client: Mutex::new(Some(client)), terms, slot, dimension })
    }

    /// Coordinates of the model.
    #[getter]
    fn dimension(&self) -> usize {
        self.dimension
    }

    /// Rounds committed.
    #[getter]
    fn round(&self, py: Python<'_>) -> PyResult<u64> {
        self.with(py, |client| Ok(client.position().round.0))
    }

    /// Bytes sent to the server and received from it on the present connection.
    #[getter]
    fn bytes(&self, py: Python<'_>) -> PyResult<(u64, u64)> {
        self.with(py, |client| Ok(client.bytes()))
    }

    /// The next thing to know; None if it does not come within `timeout` seconds.
    #[pyo3(signature = (timeout = None))]
    fn next(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Step>> {
        let limit = timeout.map(|timeout| seconds("timeout", timeout)).transpose()?;
        let end = limit.and_then(|limit| Instant::now().checked_add(limit));
        loop {
            let left = end.map_or(SIGNALS, |end| end.saturating_duration_since(Instant::now()));
            match self.with(py, |client| client.next_within(left.min(SIGNALS)))? {
                Some(step) => match Step::from(step) {
                    Some(step) => return Ok(Some(step)),
                    None => continue,
                },
                None if left.is_zero() => return Ok(None),
                None => py.check_signals()?,
            }
        }
    }

    /// How the batch of the open round went; before its ballot.
    #[pyo3(signature = (loss, correct = 0, samples = 0, non_finite = 0))]
    fn report(&self, py: Python<'_>, loss: f32, correct: u32, samples: u32, non_finite: u64) -> PyResult<()> {
        self.with(py, |client| client.report(loss, correct, samples, non_finite))
    }

    /// Hands in whole chunks of the ballot, from word `first_word` of the model on.
    fn cast(
        &self,
        py: Python<'_>,
        first_word: usize,
        signs: &Bound<'_, PyAny>,
        abstain: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let (signs, abstain) = (plane("signs", signs)?, plane("abstain", abstain)?);
        let (signs, abstain) = (slice(&signs)?, slice(&abstain)?);
        expect("abstain", "words", signs.len(), abstain.len())?;
        self.with(py, |client| client.submit_signs(first_word, signs, abstain))
    }

    /// Copies the parameters, as of the last committed round, into `out`: float32, as many as the model has.
    fn parameters(&self, py: Python<'_>, out: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut out = floats_mut("out", out)?;
        let out = slice_mut(&mut out)?;
        expect("out", "coordinates", self.dimension, out.len())?;
        self.with(py, |client| {
            out.copy_from_slice(client.parameters());
            Ok(())
        })
    }

    /// Whether the run is over and its server waits for the running statistics of this worker's model.
    #[getter]
    fn wants_statistics(&self, py: Python<'_>) -> PyResult<bool> {
        self.with(py, |client| Ok(client.wants_statistics()))
    }

    /// The running statistics of the final model, float32, on this worker's data; none where it has none to give after all.
    fn submit_statistics(&self, py: Python<'_>, values: &Bound<'_, PyAny>) -> PyResult<()> {
        let values = floats("values", values)?;
        let values = slice(&values)?;
        self.with(py, |client| client.submit_statistics(values))
    }

    /// Says goodbye. After this nothing else works.
    fn close(&self, py: Python<'_>) {
        py.detach(|| drop(self.lock().take()));
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_args))]
    fn __exit__(&self, py: Python<'_>, _args: &Bound<'_, pyo3::types::PyTuple>) {
        self.close(py);
    }
}

impl Client {
    fn lock(&self) -> MutexGuard<'_, Option<NetClient>> {
        // A panic in another call has been reported there; what it left is no worse than a lost connection.
        self.client.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Does something with the client, and lets other threads of Python go on meanwhile.
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        act: impl FnOnce(&mut NetClient) -> Result<T, ExchangeError> + Send,
    ) -> PyResult<T> {
        let outcome = py.detach(|| self.lock().as_mut().map(act));
        outcome.ok_or_else(|| MisuseError::new_err("this client is closed"))?.map_err(of_exchange)
    }
}

/// Joins in a thread of its own, so that Ctrl-C is heard meanwhile. The thread is then left behind: it keeps its place until a
/// round is open or the process ends, and says goodbye.
fn join(
    py: Python<'_>,
    connect: Connect,
    greeting: Greeting,
    initial: Py<PyAny>,
    waiting: Option<Py<PyAny>>,
) -> PyResult<NetClient> {
    let dimension = greeting.layout.dimension();
    let raised = Arc::new(Mutex::new(None));
    let (joined, outcome) = mpsc::channel();
    let noted = Arc::clone(&raised);
    let note = move |error: PyErr| {
        if let Ok(mut first) = noted.lock() {
            first.get_or_insert(error);
        }
    };
    let thread = std::thread::Builder::new().name("signvote-join".into()).spawn(move || {
        let first = |terms: &ElectionTerms| {
            let made = Python::attach(|py| -> PyResult<Vec<f32>> {
                let made = initial.call1(py, (Terms::from(terms),))?;
                let made = floats("the initial parameters", made.bind(py))?;
                let made = slice(&made)?;
                expect("the initial parameters", "coordinates", dimension, made.len())?;
                Ok(made.to_vec())
            });
            // Of another length than asked for, they end the attempt; the exception says why.
            made.unwrap_or_else(|error| {
                note(error);
                Vec::new()
            })
        };
        let wait = |reason: &str| {
            if let Some(waiting) = &waiting {
                // What it raises concerns nobody else.
                let _ = Python::attach(|py| waiting.call1(py, (reason,)).map(drop));
            }
        };
        let _ = joined.send(NetClient::connect(&connect, greeting, None, first, wait));
    });
    thread.map_err(|error| LostError::new_err(format!("cannot start a thread: {error}")))?;
    // Another thread may run this one's code while it is detached, as far as types go.
    let outcome = Mutex::new(outcome);
    let wait = || match outcome.lock() {
        Ok(outcome) => outcome.recv_timeout(SIGNALS),
        Err(_) => Err(RecvTimeoutError::Disconnected),
    };
    loop {
        match py.detach(wait) {
            Ok(client) => {
                let first = raised.lock().ok().and_then(|mut first| first.take());
                return first.map_or_else(|| client.map_err(of_exchange), Err);
            }
            Err(RecvTimeoutError::Timeout) => py.check_signals()?,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(LostError::new_err("the thread that joins has ended"));
            }
        }
    }
}

fn connector(certs: Option<PathBuf>, identity: Option<&str>) -> PyResult<Option<Connector>> {
    let wrong = |error: signvote_net::Error| IdentityError::new_err(error.to_string());
    match (certs, identity) {
        (None, None) => Ok(None),
        (Some(certs), Some(identity)) => {
            let credentials = Credentials::load(&certs, identity).map_err(wrong)?;
            Ok(Some(Connector::new(&credentials).map_err(wrong)?))
        }
        _ => Err(MisuseError::new_err("certs= and identity= belong together: a directory, and a name in it")),
    }
}

fn place(number: u16) -> PyResult<Slot> {
    Slot::new(number).ok_or_else(|| MisuseError::new_err("slot: places count from 1"))
}

fn seconds(what: &str, value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value)
        .map_err(|_| MisuseError::new_err(format!("{what}: expected seconds, got {value}")))
}
