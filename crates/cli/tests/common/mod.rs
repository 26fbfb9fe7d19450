//! The real program as a test runs it: started in a directory of its own, awaited with a deadline, and ended
//! with the test, however that ends.
#![allow(dead_code, reason = "every test file uses another part of it")]

#[cfg(target_os = "linux")]
pub(crate) mod family;
#[cfg(target_os = "linux")]
pub(crate) mod hosts;
pub(crate) mod proxy;
pub(crate) mod random;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take: far beyond what it does take on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// Parameters of the mlp.
pub(crate) const DIMENSION: u64 = 784 * 256 + 256 + 256 * 10 + 10;

/// The program, to be run in `directory` with the words of `line`, blind to the settings of whoever runs the tests.
pub(crate) fn signvote(directory: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_signvote"));
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("SIGNVOTE_") {
            command.env_remove(variable);
        }
    }
    command.current_dir(directory).args(line.split_whitespace());
    command
}

/// Runs the program until it ends.
pub(crate) fn run(directory: &Path, line: &str) -> Ended {
    Process::start(directory, line).ended()
}

/// The result of a `train --json` that must succeed.
pub(crate) fn train(directory: &Path, flags: &str) -> Value {
    run(directory, &format!("train --json {flags}")).succeeded().json()
}

/// Bytes that look like an image: a gradient from a colour of the class.
pub(crate) fn pixel(class: usize, at: usize) -> u8 {
    (at * 7 + class * 83 + (at * at) % 41) as u8
}

/// Files of CIFAR-10's form in `cifar`, with 20 images to train on and 12 to test.
pub(crate) fn cifar(here: &Path) {
    let directory = here.join("cifar");
    std::fs::create_dir(&directory).expect("a directory");
    let records = |count: usize| -> Vec<u8> {
        let record = |number: usize| {
            let class = number % 10;
            std::iter::once(class as u8).chain((0..3072).map(move |at| pixel(class, at)))
        };
        (0..count).flat_map(record).collect()
    };
    for number in 1..=5 {
        std::fs::write(directory.join(format!("data_batch_{number}.bin")), records(4)).expect("a file");
    }
    std::fs::write(directory.join("test_batch.bin"), records(12)).expect("a file");
}

/// A server on a free port, with `--print-events`, and its address.
pub(crate) fn serve(directory: &Path, flags: &str) -> (Process, String) {
    let mut server = Process::start(
        directory,
        &format!("server --listen 127.0.0.1:0 --print-events --run-dir run {flags}"),
    );
    let listening = server.event("listening");
    (server, text(&listening["address"]))
}

/// A worker of the server at `address`.
pub(crate) fn join(directory: &Path, address: &str, flags: &str) -> Process {
    Process::start(directory, &format!("worker --quiet --connect {address} {flags}"))
}

/// Runs a server with `workers` workers to the end: everyone succeeds, and all replicas are the same.
pub(crate) fn run_by_hand(directory: &Path, workers: usize, rules: &str, learn: &str) -> Ended {
    let (server, address) = serve(directory, &format!("--workers {workers} {rules}"));
    let workers: Vec<_> = (0..workers).map(|_| join(directory, &address, learn)).collect();
    let count = workers.len();
    for worker in workers {
        worker.ended().succeeded();
    }
    let ended = server.ended().succeeded();
    let finished = ended.event("finished");
    assert_eq!(finished["replicas_identical"], true, "{rules}: {finished}");
    assert_eq!(finished["replicas"], count, "{rules}: {finished}");
    ended
}

/// The bytes of a run's model.
pub(crate) fn model(run_directory: &Path) -> Vec<u8> {
    let path = run_directory.join("model.safetensors");
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every event in a run's log.
pub(crate) fn log(run_directory: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run_directory.join("events.jsonl")).expect("a log");
    text.lines().map(|line| serde_json::from_str(line).expect("an event is a line of JSON")).collect()
}

/// The names in a directory, sorted.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A directory for one test, and its path.
pub(crate) fn directory() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().to_owned();
    (directory, path)
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

pub(crate) fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// The agreement of every worker.
pub(crate) fn agreement(result: &Value) -> Vec<f64> {
    result["agreement"].as_array().expect("a list").iter().map(number).collect()
}

/// Asks again until it is so: for what reports nothing when it changes.
pub(crate) fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !so() {
        assert!(Instant::now() < until, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Sends a signal by its name. The shell has the command built in; not every system has a program for it.
#[cfg(unix)]
pub(crate) fn signal(name: &str, pid: u32) {
    let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {pid}")).status().expect("a shell");
    assert!(sent.success(), "kill -{name} {pid}: {sent}");
}

/// A running program. It is killed when this is dropped.
pub(crate) struct Process {
    line: String,
    child: Child,
    out: Lines,
    err: Lines,
}

impl Process {
    /// Starts the program in `directory` with the words of `line`.
    pub(crate) fn start(directory: &Path, line: &str) -> Self {
        Self::spawn(signvote(directory, line))
    }

    /// Starts a command that may have more to it than words.
    pub(crate) fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        let line = words.join(" ");
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
        let out = Lines::of(child.stdout.take().expect("piped"));
        let err = Lines::of(child.stderr.take().expect("piped"));
        Self { line, child, out, err }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the next event of this name on stdout.
    pub(crate) fn event(&mut self, name: &str) -> Value {
        self.event_where(name, |_| true)
    }

    /// Waits for the next event of this name for which `fits` holds.
    pub(crate) fn event_where(&mut self, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let found = self.out.find(|line| {
            serde_json::from_str(line).ok().filter(|event: &Value| event["event"] == name && fits(event))
        });
        found.unwrap_or_else(|| self.despair(&format!("no event {name}")))
    }

    /// How many events of this name have been waited for or passed by for which `fits` holds.
    pub(crate) fn seen(&self, name: &str, fits: impl Fn(&Value) -> bool) -> usize {
        let events = self.out.seen.iter().filter_map(|line| serde_json::from_str(line).ok());
        events.filter(|event: &Value| event["event"] == name && fits(event)).count()
    }

    /// Waits until so many rounds are committed.
    pub(crate) fn rounds(&mut self, count: u64) {
        self.event_where("committed", |event| event["round"].as_u64() >= Some(count - 1));
    }

    /// Waits for a line on stderr that contains `words`.
    pub(crate) fn says(&mut self, words: &str) -> String {
        let found = self.err.find(|line| line.contains(words).then(|| line.to_owned()));
        found.unwrap_or_else(|| self.despair(&format!("nothing with {words:?} on stderr")))
    }

    /// Ends it without a chance to say anything.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("a process of ours");
    }

    /// Waits for the end.
    pub(crate) fn ended(mut self) -> Ended {
        let until = Instant::now() + DEADLINE;
        let status = loop {
            // Whoever writes more than a pipe holds ends only if somebody reads: the threads do.
            match self.child.try_wait().expect("a process of ours") {
                Some(status) => break status,
                None if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
                None => self.despair("it did not end"),
            }
        };
        self.out.find(|_| None::<()>);
        self.err.find(|_| None::<()>);
        let take = |lines: &mut Lines| std::mem::take(&mut lines.seen);
        Ended {
            line: std::mem::take(&mut self.line),
            code: status.code(),
            out: take(&mut self.out),
            err: take(&mut self.err),
        }
    }

    fn despair(&self, why: &str) -> ! {
        let Self { line, out, err, .. } = self;
        panic!("signvote {line}: {why}\nstdout: {:#?}\nstderr: {:#?}", out.seen, err.seen);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ended already, or ending now: either is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What comes out of a pipe, read by a thread so that nobody who writes is held up.
struct Lines {
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { lines, seen: Vec::new() }
    }

    /// The first of the lines to come that `fits` makes something of; `None` if there is none until the end of the
    /// stream or the deadline.
    fn find<T>(&mut self, fits: impl Fn(&str) -> Option<T>) -> Option<T> {
        let until = Instant::now() + DEADLINE;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let found = fits(&line);
                    self.seen.push(line);
                    if found.is_some() {
                        return found;
                    }
                }
                Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => return None,
            }
        }
    }
}

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) line: String,
    /// `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) out: Vec<String>,
    pub(crate) err: Vec<String>,
}

impl Ended {
    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }

    /// It ended with this code, and with one line for it on stderr, which contains all of `words`.
    #[track_caller]
    pub(crate) fn failed(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        let errors: Vec<_> = self.err.iter().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "one line says what is wrong: {self:#?}");
        assert_eq!(self.err.last(), Some(errors[0]), "and it is the last one: {self:#?}");
        for word in words {
            assert!(errors[0].contains(word), "{word:?} is not in {:?}", errors[0]);
        }
        self
    }

    /// As [`Self::failed`], and it said nothing else at all.
    #[track_caller]
    pub(crate) fn failed_at_once(self, code: i32, words: &[&str]) -> Self {
        let ended = self.failed(code, words);
        assert_eq!(ended.err.len(), 1, "{ended:#?}");
        assert!(ended.out.is_empty(), "{ended:#?}");
        ended
    }

    /// The JSON object in the last line of stdout.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let last = self.out.last().unwrap_or_else(|| panic!("nothing on stdout: {self:#?}"));
        let value: Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last}"));
        assert!(value.is_object(), "{last}");
        value
    }

    /// The events of `--print-events`.
    pub(crate) fn events(&self) -> impl Iterator<Item = Value> + '_ {
        self.out.iter().map(|line| serde_json::from_str(line).expect("an event is a line of JSON"))
    }

    /// The last event of this name.
    #[track_caller]
    pub(crate) fn event(&self, name: &str) -> Value {
        let found = self.events().filter(|event| event["event"] == name).last();
        found.unwrap_or_else(|| panic!("no event {name}: {self:#?}"))
    }
}
