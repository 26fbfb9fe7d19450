//! The run directory and its event log.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use signvote_election::Event;

use crate::Error;

/// A run's directory.
#[derive(Clone, Debug)]
pub struct RunDirectory {
    path: PathBuf,
}

impl RunDirectory {
    /// Makes the directory, with its parents, for a new run.
    ///
    /// # Errors
    /// If it holds a run already, or cannot be made.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let directory = Self { path: path.into() };
        let files = [
            (directory.config(), "config.toml"),
            (directory.events(), "events.jsonl"),
            (directory.model(), "model.safetensors"),
        ];
        if let Some((_, file)) = files.into_iter().find(|(file, _)| file.exists()) {
            return Err(Error::Occupied { path: directory.path, file });
        }
        fs::create_dir_all(&directory.path).map_err(Error::io("make", &directory.path))?;
        Ok(directory)
    }

    /// The directory that another process has made for this run.
    pub fn made_by_another(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The directory of a run that has saved a model.
    ///
    /// # Errors
    /// If there is no model in it.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let directory = Self { path: path.into() };
        if !directory.model().is_file() {
            return Err(Error::NoRun { path: directory.path, file: "model.safetensors" });
        }
        Ok(directory)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The settings.
    pub fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// The events.
    pub fn events(&self) -> PathBuf {
        self.path.join("events.jsonl")
    }

    /// The parameters.
    pub fn model(&self) -> PathBuf {
        self.path.join("model.safetensors")
    }

    /// Their average over the rounds, where the run keeps one.
    pub fn ema(&self) -> PathBuf {
        self.path.join("ema.safetensors")
    }

    /// The parameters that are evaluated: the average where there is one.
    pub fn evaluated(&self) -> PathBuf {
        let ema = self.ema();
        if ema.exists() { ema } else { self.model() }
    }

    /// Of the parameters that were evaluated, the best.
    pub fn best(&self) -> PathBuf {
        self.path.join("best.safetensors")
    }

    /// Where the workers of a run on one machine keep their checkpoints.
    pub fn workers(&self) -> PathBuf {
        self.path.join("workers")
    }

    /// Where the server of such a run keeps the average with which they go on.
    pub fn average(&self) -> PathBuf {
        self.workers().join("average.safetensors")
    }

    /// The running statistics of the parameters, as the workers have found them; see [`load_statistics`](crate::load_statistics).
    pub fn statistics(&self) -> PathBuf {
        self.path.join("statistics.safetensors")
    }

    /// What the run ended with.
    pub fn result(&self) -> PathBuf {
        self.path.join("result.json")
    }

    /// Takes away what a process that was killed has left of a file that it was writing ([`replace_file`]).
    pub fn remove_partial_files(&self) {
        let entries =
            [self.path.clone(), self.workers()].into_iter().filter_map(|path| fs::read_dir(path).ok());
        for entry in entries.flatten().flatten() {
            if entry.file_name().to_string_lossy().contains(PARTIAL) {
                // It is in nobody's way.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Names of the files that are there for a person to take away.
    pub fn files(&self) -> Vec<&'static str> {
        let mut names = vec![
            "config.toml",
            "events.jsonl",
            "result.json",
            "model.safetensors",
            "best.safetensors",
            "ema.safetensors",
            "statistics.safetensors",
        ];
        names.retain(|name| self.path.join(name).is_file());
        names
    }

    /// Where the files for TensorBoard are.
    pub fn tensorboard(&self) -> PathBuf {
        self.path.join("tensorboard")
    }

    /// The log to read.
    ///
    /// # Errors
    /// If there is none.
    pub fn event_reader(&self) -> Result<EventReader, Error> {
        let path = self.events();
        let file = File::open(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::NoRun { path: self.path.clone(), file: "events.jsonl" },
            _ => Error::io("read", &path)(error),
        })?;
        let lines = BufReader::new(file);
        Ok(EventReader { lines, path, text: Vec::new(), line: 0, events: 0, damaged: None })
    }

    /// The log to append to. What a process that was killed has left of a line is ended, so that the next one is whole.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn event_log(&self) -> Result<EventLog, Error> {
        let path = self.events();
        let open = || {
            let mut file = OpenOptions::new().create(true).append(true).read(true).open(&path)?;
            let mut last = [b'\n'];
            if file.metadata()?.len() > 0 {
                file.seek(SeekFrom::End(-1))?;
                file.read_exact(&mut last)?;
            }
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
            Ok(file)
        };
        let file = open().map_err(Error::io("open", &path))?;
        Ok(EventLog { file, path })
    }
}

/// An append-only log of events. Each line is one write in append mode, so that the server and the process
/// that evaluates its model may write to the same log.
#[derive(Debug)]
pub struct EventLog {
    file: File,
    path: PathBuf,
}

/// What the name of a file that is being written has behind its own.
const PARTIAL: &str = "partial-";

/// Reads a run's events, oldest first, also while they are written.
#[derive(Debug)]
pub struct EventReader {
    lines: BufReader<File>,
    path: PathBuf,
    /// What there is of a line that is not whole yet.
    text: Vec<u8>,
    /// Whole lines so far.
    line: u64,
    /// Those of them that are events.
    events: u64,
    /// The first that is none.
    damaged: Option<(u64, String)>,
}

impl EventReader {
    /// Hands every event that has been written since the last call to `take`, with the time when it happened, in seconds since 1970.
    /// A line that is no event, because a process was killed over it or another version wrote it, is passed over.
    ///
    /// # Errors
    /// If the log cannot be read, or there are lines in it and none of them is an event.
    pub fn read(&mut self, mut take: impl FnMut(f64, Event)) -> Result<(), Error> {
        loop {
            self.lines.read_until(b'\n', &mut self.text).map_err(Error::io("read", &self.path))?;
            if !self.text.ends_with(b"\n") {
                break;
            }
            self.line += 1;
            match serde_json::from_slice(&self.text) {
                Ok(ReadLine { time, event }) => {
                    self.events += 1;
                    take(time, event);
                }
                Err(error) => {
                    self.damaged.get_or_insert_with(|| (self.line, error.to_string()));
                }
            }
            self.text.clear();
        }
        match self.damaged() {
            Some(error) if self.events == 0 => Err(error),
            _ => Ok(()),
        }
    }

    /// What is wrong with the first line that was passed over.
    pub fn damaged(&self) -> Option<Error> {
        let (line, reason) = self.damaged.clone()?;
        Some(Error::NoEvent { path: self.path.clone(), line, reason })
    }
}

#[derive(Serialize)]
struct Line<'a> {
    /// Seconds since 1970, UTC.
    time: f64,
    #[serde(flatten)]
    event: &'a Event,
}

#[derive(Deserialize)]
struct ReadLine {
    time: f64,
    #[serde(flatten)]
    event: Event,
}

/// Seconds since 1970, UTC.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

impl EventLog {
    /// Appends one event.
    ///
    /// # Errors
    /// If the line cannot be written whole; what reached the disk of it is taken off again.
    pub fn append(&mut self, event: &Event) -> Result<(), Error> {
        let mut line = serde_json::to_string(&Line { time: now(), event })
            .map_err(|error| Error::io("write", &self.path)(error.into()))?;
        line.push('\n');
        let length = self.file.metadata().map_or(0, |metadata| metadata.len());
        self.file.write_all(line.as_bytes()).map_err(|error| {
            // A torn line would make the log unreadable. It is cut off only if it is the last thing in the file:
            // another process may have appended in the meantime. If cutting fails, the error is told all the same.
            let torn = self.file.metadata().is_ok_and(|now| now.len() < length + line.len() as u64);
            let _ = torn.then(|| self.file.set_len(length));
            Error::io("write", &self.path)(error)
        })
    }
}

/// Writes a file whole or not at all: `write` fills a temporary file beside it, which then takes its name.
///
/// # Errors
/// If the disk is full or refuses; the old file is then still there, and the temporary one is not.
pub fn replace_file(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<(), Error> {
    let temporary = path.with_added_extension(format!("{PARTIAL}{}", std::process::id()));
    let written = File::create(&temporary).and_then(|file| {
        let mut buffered = std::io::BufWriter::new(file);
        write(&mut buffered)?;
        buffered.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
    });
    written.and_then(|()| fs::rename(&temporary, path)).map_err(|error| {
        let _ = fs::remove_file(&temporary);
        Error::io("write", path)(error)
    })
}

#[cfg(test)]
mod tests {
    use signvote_election::Round;

    use super::*;

    #[test]
    fn a_directory_takes_one_run() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("a/b");
        let directory = RunDirectory::create(&path).unwrap();
        assert!(matches!(RunDirectory::open(&path), Err(Error::NoRun { .. })));
        directory.event_log().unwrap();
        assert!(matches!(RunDirectory::create(&path), Err(Error::Occupied { .. })));
    }

    #[test]
    fn events_are_lines_that_read_back() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = RunDirectory::create(temporary.path()).unwrap();
        let event = Event::Saved { round: Round(3), path: "here\nthere".into() };
        let mut log = directory.event_log().unwrap();
        log.append(&event).unwrap();
        log.append(&event).unwrap();
        let text = fs::read_to_string(directory.events()).unwrap();
        assert_eq!(text.lines().count(), 2);
        for line in text.lines() {
            assert_eq!(serde_json::from_str::<Event>(line).unwrap(), event);
            assert!(serde_json::from_str::<serde_json::Value>(line).unwrap()["time"].as_f64() > Some(1.7e9));
        }
    }

    #[test]
    fn events_are_read_up_to_a_line_that_is_not_whole() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = RunDirectory::create(temporary.path()).unwrap();
        let read = |events: &mut EventReader| {
            let mut rounds = Vec::new();
            events.read(|_, event| match event {
                Event::DurableAgain { round } => rounds.push(round.0),
                other => panic!("{other:?}"),
            })?;
            Ok::<_, Error>(rounds)
        };
        assert!(matches!(directory.event_reader(), Err(Error::NoRun { .. })));
        let mut log = directory.event_log().unwrap();
        for round in 1..3 {
            log.append(&Event::DurableAgain { round: Round(round) }).unwrap();
        }
        let append = |text: &str| {
            let file = OpenOptions::new().append(true).open(directory.events());
            file.unwrap().write_all(text.as_bytes()).unwrap();
        };
        append("{\"time\":1.0,\"event\":\"durable_a");
        let mut events = directory.event_reader().unwrap();
        assert_eq!(read(&mut events).unwrap(), [1, 2]);
        assert_eq!(read(&mut events).unwrap(), [0; 0]);
        append("gain\",\"round\":3}\n");
        assert_eq!(read(&mut events).unwrap(), [3]);
        assert!(events.damaged().is_none());
        append("{}\n");
        assert_eq!(read(&mut events).unwrap(), [0; 0]);
        assert!(events.damaged().unwrap().to_string().contains("line 4 of"));
        // What is left of a line does not spoil the next one.
        append("{\"time\":1.0,\"ev");
        directory.event_log().unwrap().append(&Event::DurableAgain { round: Round(5) }).unwrap();
        assert_eq!(read(&mut events).unwrap(), [5]);
        fs::write(directory.events(), "{}\n").unwrap();
        assert!(matches!(read(&mut directory.event_reader().unwrap()), Err(Error::NoEvent { line: 1, .. })));
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_partial_one() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("file");
        replace_file(&path, |out| out.write_all(b"old")).unwrap();
        let full = |out: &mut dyn Write| {
            out.write_all(b"new, but")?;
            Err(std::io::ErrorKind::StorageFull.into())
        };
        assert!(replace_file(&path, full).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 1);
    }

    #[test]
    fn files_that_differ_in_their_extension_alone_are_written_at_the_same_time() {
        let temporary = tempfile::tempdir().unwrap();
        let [one, two] = ["file.1", "file.2"].map(|name| temporary.path().join(name));
        replace_file(&one, |out| {
            replace_file(&two, |out| out.write_all(b"two")).unwrap();
            out.write_all(b"one")
        })
        .unwrap();
        assert_eq!([one, two].map(|path| fs::read(path).unwrap()), [b"one", b"two"]);
    }
}
