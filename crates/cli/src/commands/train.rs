//! `signvote train`: one server and several workers, as processes of this machine.
//!
//! Nothing here that could not be typed: the server and the workers are this program, started with the flags
//! that a person would give them, and they speak over TCP. What this process adds is to watch them, to
//! evaluate the model after every epoch, and to end them all when one thing or another goes wrong.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use signvote_election::{Event, Round, Traffic, WorkerRecord};
use signvote_learn::{Loss, Split, load, rounds_per_epoch, sample_text, set_threads};
use signvote_observe::{RunDirectory, SavedModel, load_checkpoint, load_model, load_tensors, save_model};
use tokio::sync::mpsc;

use super::eval::{evaluate_model, finite, model_of, perplexity};
use super::server::rules;
use super::worker::{file_of_voter, previous_of};
use super::{config_text, model_so_far, print, run_directory, write_config};
use crate::exit::{Exit, Failure};
use crate::flags::{
    Aggregate, CastName, Command, IdentityFlags, RuleFlags, ServerFlags, ServingFlags, TopologyKind,
    TrainFlags, WatchFlags, WorkerFlags, to_words,
};
use crate::layers;
use crate::logs::{self, LogFlags, LogLevel};
use crate::processes::{News, Process, runtime, told_to_stop};
use crate::progress::{self, Progress};
use crate::summary::{Summary, bytes_per_round};
use crate::watch::{Plan, Watch};

/// How long processes may take to end once they have been asked to.
const PATIENCE: Duration = Duration::from_secs(15);
/// Tokens that a language model makes up at the end.
const SAMPLED: usize = 160;
/// Models that may wait for their evaluation.
const MODELS_WAITING: usize = 3;

pub(crate) fn run(flags: &TrainFlags, logs: LogFlags) -> Result<Exit, Failure> {
    if flags.print_config {
        print(&config_text(flags, "train")?);
        return Ok(Exit::Success);
    }
    let rules = &flags.rules;
    flags.learn.check()?;
    if flags.adversaries > rules.workers {
        let message = format!("--adversaries {} of only {} workers", flags.adversaries, rules.workers);
        return Err(Failure::usage(message));
    }
    let voters = flags.local.voters();
    for (flag, count) in [("workers", rules.workers), ("adversaries", flags.adversaries)] {
        if !count.is_multiple_of(voters) {
            let message = format!("--{flag} {count} is no multiple of --local {voters}, with --cast each");
            return Err(Failure::usage(message));
        }
    }
    if flags.attack.attack()?.is_some() && flags.adversaries == 0 {
        return Err(Failure::usage("--attack needs --adversaries F: how many workers lie"));
    }
    let processes = rules.workers / flags.local.voters();
    if let Some(shards) = rules.shards.filter(|&shards| shards > processes) {
        let message =
            format!("--shards {shards}: here each of {processes} processes of workers has one shard");
        return Err(Failure::usage(message));
    }
    set_threads(usize::from(flags.learn.threads))?;
    let split = load(&flags.learn.wanted())?;
    // What model or engine cannot do is told before anything is started.
    let model = flags.learn.model.model(split.train.shape())?;
    flags.learn.engine.engine(&model)?;
    if let Some(path) = &flags.learn.init {
        load_tensors(path, model.layout()?.tensors())?;
    }
    let samples = split.train.len();
    flags.local.check_data(rules.workers, rules.batch, flags.learn.data, samples)?;
    // A round takes a batch for every worker, and together these are one pass.
    let batch = rules.batch as usize * usize::from(flags.local.averaged());
    let per_epoch = rounds_per_epoch(samples, usize::from(rules.workers), batch);
    let rounds = per_epoch
        .checked_mul(flags.epochs)
        .filter(|&rounds| i64::try_from(rounds).is_ok())
        .ok_or_else(|| Failure::usage(format!("--epochs {} is too many", flags.epochs)))?;
    // The server checks its rules again; here it is for the sake of one clear line before anything is started.
    signvote_election::Server::new(rules.config(rounds, signvote_election::RunId::default())?)?;

    // A page that has no place is told before there is a directory.
    let plan = Plan::make(&flags.watch)?;
    let mut flags = flags.clone();
    let (directory, from) = match flags.resume.clone() {
        None => {
            flags.settle_rate(rounds);
            let directory = run_directory(flags.run_dir.as_deref())?;
            write_config(&directory, &flags, "train")?;
            (directory, None)
        }
        Some(path) => {
            let directory = RunDirectory::open(&path)?;
            directory.remove_partial_files();
            as_it_began(&directory, &flags)?;
            let from = newest_point(&directory, &flags)?;
            (directory, Some(from))
        }
    };
    let mut progress = Progress::new(flags.quiet, per_epoch, rounds, true);
    progress.is_text = split.test.shape().predictions() > 1;
    let watch = Watch::start(plan, &directory, flags.quiet)?;
    runtime()?.block_on(async {
        let mut run = Run {
            flags: &flags,
            logs,
            per_epoch,
            rounds,
            directory,
            split: Arc::new(split),
            progress,
            watch,
            processes: HashMap::new(),
            last_words: HashMap::new(),
            named_error: HashSet::new(),
            saved: VecDeque::new(),
            evaluating: false,
            best: None,
            facts: Facts { dimension: model.dimension(), ..Facts::default() },
            from,
        };
        run.best = run.best_so_far();
        let (sender, mut news) = mpsc::unbounded_channel();
        let outcome = run.go(&sender, &mut news).await;
        // However it went, nothing is left running, and the server has saved what it could.
        let cause = run.end_all(&mut news).await;
        run.watch.close();
        outcome.map_err(|failure| cause.unwrap_or(failure))
    })
}

/// Where the process of worker `number` keeps its checkpoint.
fn checkpoint_of(directory: &RunDirectory, number: u16) -> PathBuf {
    directory.workers().join(format!("{number}.safetensors"))
}

/// Settings with which a run may go on otherwise than it began: they change how it is computed, and where its data lies.
const FREE: [&str; 4] = ["checkpoint-every", "data-dir", "engine", "threads"];

/// Refuses settings other than those that the run began with: flags and variables win over its file, and would make another run of it.
fn as_it_began(directory: &RunDirectory, flags: &TrainFlags) -> Result<(), Failure> {
    let path = directory.config();
    let damaged = |reason: String| Failure::new(Exit::Data, format!("{}: {reason}", path.display()));
    let text = std::fs::read_to_string(&path).map_err(|error| damaged(error.to_string()))?;
    let began = layers::of_file_alone("train", &path.display().to_string(), &text)?;
    let Command::Train(began) = began.command else {
        return Err(damaged("it is not of a training".into()));
    };
    // As text, so that no setting is forgotten.
    let table = |flags: &TrainFlags| {
        let text = config_text(flags, "train")?;
        text.parse::<toml::Table>().map_err(|error| damaged(error.to_string()))
    };
    let (began, now) = (table(&began)?, table(flags)?);
    let mut keys = began.keys().chain(now.keys());
    let differs = |key: &&String| !FREE.contains(&key.as_str()) && began.get(*key) != now.get(*key);
    let Some(key) = keys.find(differs) else { return Ok(()) };
    let said =
        |table: &toml::Table| table.get(key).map_or_else(|| "the default".to_owned(), toml::Value::to_string);
    Err(Failure::usage(format!(
        "--resume {}: --{key} is {}, but the run began with {}: leave it out, or begin another run",
        directory.path().display(),
        said(&now),
        said(&began)
    )))
}

/// The newest round that every worker has kept a checkpoint of, made the newest of all; gives that of the first.
fn newest_point(directory: &RunDirectory, flags: &TrainFlags) -> Result<PathBuf, Failure> {
    let path = directory.path().display();
    let nothing = |why: String| Failure::new(Exit::Data, format!("--resume {path}: {why}"));
    if flags.rules.aggregate == Aggregate::Mean {
        return Err(nothing("a mean cannot be resumed: its optimiser's state is not saved".into()));
    }
    if directory.result().exists() {
        return Err(nothing("that run is over".into()));
    }
    let voters = flags.local.voters();
    let files = (1..=flags.rules.workers).map(|number| match voters {
        1 => checkpoint_of(directory, number),
        voters => {
            let process = (number - 1) / voters * voters + 1;
            file_of_voter(&checkpoint_of(directory, process), number - process + 1)
        }
    });
    let mut common: Option<Vec<Round>> = None;
    let mut kept = Vec::new();
    for newest in files {
        let mut rounds = Vec::new();
        for file in [newest.clone(), previous_of(&newest)] {
            // One that is damaged is none: there is another.
            if let Ok(Some(checkpoint)) = load_checkpoint(&file) {
                rounds.push((checkpoint.standing.round, file));
            }
        }
        let has = |round: &Round| rounds.iter().any(|(kept, _)| kept == round);
        common = Some(match common {
            None => rounds.iter().map(|(round, _)| *round).collect(),
            Some(common) => common.into_iter().filter(has).collect(),
        });
        kept.push((newest, rounds));
    }
    let round = common.unwrap_or_default().into_iter().max();
    let round = round.ok_or_else(|| nothing("its workers have kept no round that is the same".into()))?;
    let mut first = None;
    for (newest, rounds) in kept {
        for (_, file) in rounds.into_iter().filter(|(kept, file)| *kept == round && *file != newest) {
            std::fs::rename(&file, &newest).map_err(|error| nothing(error.to_string()))?;
        }
        first.get_or_insert(newest);
    }
    first.ok_or_else(|| nothing("it has no workers".into()))
}

/// A process of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Name {
    Server,
    Worker(u16),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => f.write_str("the server"),
            Self::Worker(number) => write!(f, "worker {number}"),
        }
    }
}

/// What the events have told so far.
#[derive(Debug, Default)]
struct Facts {
    dimension: usize,
    started: Option<Instant>,
    /// The first round of this part of the run.
    first: u64,
    last_commit: Option<Instant>,
    committed: u64,
    traffic: Vec<Traffic>,
    finished: Option<Finished>,
    /// The newest evaluation.
    evaluated: Option<(Round, Loss)>,
}

#[derive(Debug)]
struct Finished {
    reason: String,
    round: Round,
    digest: String,
    replicas_identical: bool,
    replicas: usize,
    workers: Vec<WorkerRecord>,
}

struct Run<'a> {
    flags: &'a TrainFlags,
    logs: LogFlags,
    per_epoch: u64,
    rounds: u64,
    directory: RunDirectory,
    split: Arc<Split>,
    progress: Progress,
    watch: Watch,
    /// Those that have not ended.
    processes: HashMap<Name, Process>,
    /// The last line that each said on stderr.
    last_words: HashMap<Name, String>,
    /// Those whose last words are an error that they named.
    named_error: HashSet<Name>,
    /// Models that wait to be evaluated, oldest first.
    saved: VecDeque<SavedModel>,
    evaluating: bool,
    /// Of the evaluated models' scores, the highest.
    best: Option<f64>,
    facts: Facts,
    /// The checkpoint that the run goes on from: a worker's, and those of all others are of the same round.
    from: Option<PathBuf>,
}

type Evaluated = Result<(SavedModel, Loss), Failure>;

type Sender = mpsc::UnboundedSender<(Name, News)>;
type Receiver = mpsc::UnboundedReceiver<(Name, News)>;

impl Run<'_> {
    async fn go(&mut self, sender: &Sender, news: &mut Receiver) -> Result<Exit, Failure> {
        let (evaluations, mut evaluated) = mpsc::unbounded_channel();
        let mut stop = std::pin::pin!(told_to_stop(false));
        if self.checkpoint_every() > 0 {
            let path = self.directory.workers();
            std::fs::create_dir_all(&path)
                .map_err(|e| Failure::new(Exit::Files, format!("cannot make {}: {e}", path.display())))?;
        }
        let words = self.server_words()?;
        self.processes.insert(Name::Server, Process::start(&words, Name::Server, sender)?);
        loop {
            tokio::select! {
                Some((name, what)) = news.recv() => match what {
                    News::Out(line) => match self.event(&line)? {
                        Event::Listening { address, quorum, .. } => {
                            self.say_rules(quorum);
                            self.start_workers(&address, sender)?;
                        }
                        Event::Saved { .. } => {
                            // Read now: the next epoch's model will take the file's place.
                            self.saved.push_back(load_model(&self.directory.evaluated())?);
                            self.evaluate_next(&evaluations);
                        }
                        _ => {}
                    },
                    News::Err(line) => self.heard(name, &line),
                    News::Ended(code) => {
                        self.processes.remove(&name);
                        if let Some(failure) = self.ended(name, code) {
                            return Err(failure);
                        }
                    }
                },
                Some(outcome) = evaluated.recv() => {
                    self.evaluating = false;
                    let (model, loss) = outcome?;
                    self.evaluation(&model, loss)?;
                    self.evaluate_next(&evaluations);
                }
                reason = &mut stop => {
                    self.end_all(news).await.map_or(Ok(()), Err)?;
                    return Err(self.interrupted(&reason));
                }
            }
            if self.processes.is_empty() && !self.evaluating {
                return self.result();
            }
        }
    }

    fn server_words(&self) -> Result<Vec<String>, Failure> {
        let server = ServerFlags {
            config: None,
            listen: "127.0.0.1:0".into(),
            resume: None,
            serving: ServingFlags::of_train(),
            rounds: self.rounds,
            save_every: self.per_epoch,
            run_dir: None,
            restore: None,
            average_every: 0,
            watch: WatchFlags::default(),
            quiet: false,
            print_events: false,
            lifeline: false,
            rules: self.rules_of_server(),
        };
        let mut words = vec!["server".to_owned()];
        words.extend(to_words(&server)?);
        words.extend(self.logs.to_words());
        words.push(format!("--run-dir={}", self.directory.path().display()));
        words.push("--print-events".to_owned());
        words.push(format!("--average-every={}", self.checkpoint_every()));
        words.extend(self.from.iter().map(|path| format!("--restore={}", path.display())));
        Ok(words)
    }

    /// Rounds from one point that the run can go on from to the next; 0: there is none, as in a mean, the state of whose optimiser is
    /// nowhere but in the server's memory.
    fn checkpoint_every(&self) -> u64 {
        match self.flags.rules.aggregate {
            Aggregate::Vote => self.flags.checkpoint_every.unwrap_or(self.per_epoch),
            Aggregate::Mean => 0,
        }
    }

    /// The rules as told; a process has one shard, however many vote in it.
    fn rules_of_server(&self) -> RuleFlags {
        let mut rules = self.flags.rules.clone();
        if rules.topology == TopologyKind::Sharded {
            rules.shards.get_or_insert(rules.workers / self.flags.local.voters());
        }
        rules
    }

    fn start_workers(&mut self, address: &str, news: &Sender) -> Result<(), Failure> {
        let local = &self.flags.local;
        let every = self.checkpoint_every();
        let keeps = every > 0;
        // A process takes as many places as it casts ballots, from this one on.
        for number in (1..=self.flags.rules.workers).step_by(usize::from(local.voters())) {
            let mut attack = self.flags.attack.clone();
            attack.attack = (number <= self.flags.adversaries)
                .then(|| attack.attack.unwrap_or(signvote_byzantine::Attack::SignFlip));
            let worker = WorkerFlags {
                config: None,
                connect: address.to_owned(),
                patience: 10.0,
                // The server lives and dies with this process.
                reconnect: 0.0,
                checkpoint: keeps.then(|| checkpoint_of(&self.directory, number)),
                checkpoint_every: every.max(1),
                checkpoint_previous: false,
                identity: IdentityFlags { tls: None, identity: None },
                shard_listen: (self.flags.rules.topology == TopologyKind::Sharded)
                    .then(|| "127.0.0.1:0".to_owned()),
                shard_address: None,
                insecure: false,
                slot: Some(number),
                run: None,
                name: Some(format!("worker-{number}")),
                quiet: true,
                lifeline: false,
                learn: self.flags.learn.clone(),
                local: local.clone(),
                attack,
            };
            let mut words = vec!["worker".to_owned()];
            words.extend(to_words(&worker)?);
            words.extend(self.logs.to_words());
            words.push("--quiet".to_owned());
            words.push("--checkpoint-previous".to_owned());
            let name = Name::Worker(number);
            self.processes.insert(name, Process::start(&words, name, news)?);
        }
        Ok(())
    }

    fn say_rules(&self, quorum: usize) {
        let TrainFlags { learn, local, rules: shared, adversaries, epochs, .. } = self.flags;
        let workers = shared.workers;
        self.progress.say(&format!(
            "training {} on {}: {workers} workers, {epochs} epoch{} of {} rounds; files in {}",
            learn.model,
            learn.data,
            if *epochs == 1 { "" } else { "s" },
            self.per_epoch,
            self.directory.path().display()
        ));
        self.progress.say(&shared.rate_in_words(self.rounds));
        if local.local > 1 {
            let l = local.local;
            self.progress.say(&match local.cast {
                CastName::Together => format!("each worker is {l} local ones, who vote together"),
                CastName::Each => format!("{} processes of {l} workers, who vote each", workers / l),
            });
        }
        self.progress.say(&rules(shared.aggregate, quorum, usize::from(workers)));
        if *adversaries > 0 {
            let attack = self.attack().unwrap_or_default();
            self.progress.say(&format!("workers 1 to {adversaries} lie: {attack}"));
        }
    }

    fn attack(&self) -> Option<String> {
        let attack = self.flags.attack.attack.unwrap_or(signvote_byzantine::Attack::SignFlip);
        (self.flags.adversaries > 0).then(|| attack.to_string())
    }

    /// Takes in an event of the server, and returns it.
    fn event(&mut self, line: &str) -> Result<Event, Failure> {
        let event: Event = serde_json::from_str(line)
            .map_err(|error| Failure::internal("the server said what is no event", &error))?;
        self.progress.event(&event);
        self.watch.take(&event);
        let facts = &mut self.facts;
        match &event {
            Event::Started { .. } => facts.started = Some(Instant::now()),
            Event::Resumed { round, reason, .. } => {
                (facts.started, facts.first) = (Some(Instant::now()), round.0);
                self.progress.say(&format!("goes on at round {round} {reason}"));
            }
            Event::Committed { round, .. } => {
                facts.committed = round.0 + 1;
                facts.last_commit = Some(Instant::now());
            }
            Event::Traffic { workers, .. } => facts.traffic.clone_from(workers),
            Event::Finished { round, reason, digest, replicas_identical, replicas, workers } => {
                facts.finished = Some(Finished {
                    reason: reason.clone(),
                    round: *round,
                    digest: digest.clone(),
                    replicas_identical: *replicas_identical,
                    replicas: *replicas,
                    workers: workers.clone(),
                });
            }
            _ => {}
        }
        Ok(event)
    }

    /// Evaluates the oldest model that waits, one at a time: evaluation must not crowd out the training. If it
    /// falls far behind, epochs go without.
    fn evaluate_next(&mut self, done: &mpsc::UnboundedSender<Evaluated>) {
        while self.saved.len() > MODELS_WAITING {
            if let Some(skipped) = self.saved.pop_front() {
                self.progress.epoch_line(skipped.round.0, None);
            }
        }
        if self.evaluating {
            return;
        }
        let Some(model) = self.saved.pop_front() else { return };
        self.evaluating = true;
        let (split, directory, done) = (Arc::clone(&self.split), self.directory.clone(), done.clone());
        let kind = self.flags.learn.engine;
        tokio::task::spawn_blocking(move || {
            let outcome = evaluate_model(&directory, &model, &split, kind).map(|loss| (model, loss));
            // Nobody listens any more once the run has failed.
            let _ = done.send(outcome);
        });
    }

    fn evaluation(&mut self, model: &SavedModel, loss: Loss) -> Result<(), Failure> {
        let round = model.round;
        if self.facts.evaluated.is_none_or(|(newest, _)| newest <= round) {
            self.facts.evaluated = Some((round, loss));
        }
        let event =
            Event::Evaluated { round, test_loss: finite(loss.mean_loss), test_accuracy: loss.accuracy() };
        logs::event(&event, true);
        self.progress.event(&event);
        self.watch.take(&event);
        let score = self.score(finite(loss.mean_loss), loss.accuracy());
        if score > self.best {
            let SavedModel { layout, x, config, settings, .. } = model;
            save_model(&self.directory.best(), layout, x, round, config, settings)?;
            self.best = score;
        }
        // Opened here and not at the start: the log is the server's, which takes its presence for a run's.
        Ok(self.directory.event_log()?.append(&event)?)
    }

    /// How good a model is: of images by its accuracy, of text by its loss. `None` if it has diverged.
    fn score(&self, loss: Option<f32>, accuracy: f64) -> Option<f64> {
        if self.split.test.shape().predictions() > 1 {
            loss.map(|loss| -f64::from(loss))
        } else {
            Some(accuracy)
        }
    }

    /// The best score that the events of an earlier part of the run tell.
    fn best_so_far(&self) -> Option<f64> {
        let events = std::fs::read_to_string(self.directory.events()).ok()?;
        let scores = events.lines().filter_map(|line| match serde_json::from_str(line).ok()? {
            Event::Evaluated { test_loss, test_accuracy, .. } => self.score(test_loss, test_accuracy),
            _ => None,
        });
        scores.max_by(f64::total_cmp)
    }

    /// What the end of a process means for the run: nothing, or its end.
    fn ended(&mut self, name: Name, code: Option<i32>) -> Option<Failure> {
        let finished = self.facts.finished.is_some();
        if code == Some(0) || (finished && name != Name::Server) {
            return None;
        }
        let how = match code {
            Some(_) => Exit::of_child(code),
            None => Exit::Internal,
        };
        let words = self.last_words.get(&name).cloned().unwrap_or_else(|| match code {
            Some(code) => format!("it ended with code {code}"),
            None => "it was killed".into(),
        });
        let Name::Worker(_) = name else {
            return Some(Failure::new(how, format!("the server ended: {words}")));
        };
        if self.facts.started.is_none() {
            return Some(Failure::new(how, format!("{name} could not start: {words}")));
        }
        let processes = self.processes.keys().filter(|name| **name != Name::Server).count();
        let left = processes * usize::from(self.flags.local.voters());
        let quorum = usize::from(self.flags.rules.quorum());
        if left >= quorum {
            self.progress.say(&format!("{name} ended: {words}; {left} workers go on"));
            tracing::info!(process = %name, reason = words, left, "a process ended");
            return None;
        }
        let round = self.facts.committed;
        let message = format!(
            "only {left} of {} workers are left in round {round}, and a round needs {quorum}: {name}: {words}; \
             the model so far is in {}",
            self.flags.rules.workers,
            self.directory.path().display()
        );
        let exit = if how == Exit::Diverged { how } else { Exit::Workers };
        Some(Failure::new(exit, message))
    }

    /// Remembers what a process says on stderr: its error if it names one, else its last line. A line of its log, which
    /// was asked for, goes to this process's stderr as it is.
    fn heard(&mut self, name: Name, line: &str) {
        if self.logs.of_children() != LogLevel::Off && logs::is_log_line(line) {
            progress::line(line);
            if let Some(error) = logs::failure_in(line) {
                self.last_words.insert(name, error);
                self.named_error.insert(name);
            }
            return;
        }
        match line.strip_prefix("error: ") {
            Some(error) => {
                self.last_words.insert(name, error.to_owned());
                self.named_error.insert(name);
            }
            None if !self.named_error.contains(&name) => {
                self.last_words.insert(name, line.to_owned());
            }
            None => {}
        }
    }

    /// Ends every process in order: the server saves what is committed, then the workers hear that it is over.
    /// Returns how the server failed, if it did so by itself.
    async fn end_all(&mut self, news: &mut Receiver) -> Option<Failure> {
        self.progress.ending();
        if let Some(server) = self.processes.get_mut(&Name::Server) {
            server.ask_to_stop();
        } else {
            self.processes.values_mut().for_each(Process::ask_to_stop);
        }
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut killed = false;
        let mut failure = None;
        while !self.processes.is_empty() {
            match tokio::time::timeout_at(deadline, news.recv()).await {
                Ok(Some((name, News::Ended(code)))) => {
                    self.processes.remove(&name);
                    if name == Name::Server {
                        let as_asked = killed || code == Some(Exit::Interrupted as i32);
                        failure = if as_asked { None } else { self.ended(name, code) };
                        self.processes.values_mut().for_each(Process::ask_to_stop);
                    }
                }
                Ok(Some((_, News::Out(line)))) => {
                    // Only what the server has committed matters now.
                    let _ = self.event(&line);
                }
                Ok(Some((name, News::Err(line)))) => self.heard(name, &line),
                Ok(None) => break,
                Err(_) if killed => break,
                Err(_) => {
                    killed = true;
                    self.processes.values().for_each(Process::kill);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        failure
    }

    fn interrupted(&self, reason: &str) -> Failure {
        let round = self.facts.committed;
        let model = model_so_far(&self.directory);
        let path = self.directory.path().display();
        let next = match newest_point(&self.directory, self.flags) {
            Ok(_) => format!("; to go on: signvote train --resume {path}"),
            Err(_) => String::new(),
        };
        Failure::new(Exit::Interrupted, format!("{reason} after {round} rounds; {model}{next}"))
    }

    /// The result, once everything has ended.
    fn result(&mut self) -> Result<Exit, Failure> {
        let (Some(finished), Some((_, loss))) = (self.facts.finished.take(), self.facts.evaluated) else {
            return Err(Failure::new(Exit::Internal, "the run ended without a result"));
        };
        if finished.round.0 < self.rounds {
            let message = format!(
                "the run ended after {} of {} rounds: {}",
                finished.round, self.rounds, finished.reason
            );
            return Err(Failure::new(Exit::Workers, message));
        }
        let summary = Summary { sample: self.sample()?, ..self.summary(&finished, loss) };
        let json = serde_json::to_string(&summary)
            .map_err(|error| Failure::internal("cannot write the result", &error))?;
        signvote_observe::replace_file(&self.directory.result(), |out| writeln!(out, "{json}"))?;
        // It is over: nobody goes on from here.
        let _ = std::fs::remove_dir_all(self.directory.workers());
        self.watch.leave_screen();
        if self.flags.json {
            self.progress.say(summary.table().trim_end());
            print(&json);
        } else {
            print(&summary.table());
        }
        Ok(Exit::Success)
    }

    fn summary(&self, finished: &Finished, loss: Loss) -> Summary {
        let flags = self.flags;
        let (up, down) = bytes_per_round(&self.facts.traffic, &finished.workers);
        let dense = self.facts.dimension as u64 * 4;
        let wall = self.facts.started.zip(self.facts.last_commit);
        Summary {
            test_accuracy: loss.accuracy(),
            test_loss: finite(loss.mean_loss),
            train_loss: self.progress.train_loss,
            epochs: flags.epochs,
            rounds: finished.round.0,
            timed: finished.round.0 - self.facts.first,
            dimension: self.facts.dimension,
            workers: flags.rules.workers,
            local: flags.local.local,
            cast: flags.local.cast,
            adversaries: flags.adversaries,
            attack: self.attack(),
            aggregate: format!("{:?}", flags.rules.aggregate).to_lowercase(),
            model: flags.learn.model.to_string(),
            data: flags.learn.data.to_string(),
            seed: flags.rules.seed,
            bytes_up_per_round: up,
            bytes_down_per_round: down,
            dense_bytes_per_round: dense,
            ratio_up: dense as f64 / up,
            ratio_down: dense as f64 / down,
            join_bytes: self.facts.traffic.iter().map(|row| row.join_up_bytes + row.join_down_bytes).sum(),
            wall_seconds: wall.map_or(0.0, |(start, end)| (end - start).as_secs_f64()),
            agreement: finished.workers.iter().map(|worker| worker.agreement).collect(),
            replicas_identical: finished.replicas_identical,
            replicas: finished.replicas,
            digest: finished.digest.clone(),
            run_dir: self.directory.path().to_owned(),
            perplexity: perplexity(&self.split, loss),
            sample: None,
            test_samples: loss.samples,
        }
    }

    /// What a language model makes up.
    fn sample(&self) -> Result<Option<String>, Failure> {
        if self.split.test.shape().predictions() == 1 {
            return Ok(None);
        }
        let saved = load_model(&self.directory.evaluated())?;
        let mut engine = self.flags.learn.engine.engine(&model_of(&self.directory, &saved, &self.split)?)?;
        let seed = self.flags.rules.seed;
        let made_up = sample_text(&mut *engine, &saved.x, &self.split.test, SAMPLED, seed)?;
        Ok(made_up.map(|(prompt, text)| format!("…{prompt}|{text}")))
    }
}
