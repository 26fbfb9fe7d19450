//! Text as tokens, in windows: bytes, or words with a vocabulary of their own.

use std::collections::HashMap;
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;

use flate2::read::GzDecoder;

use super::{Content, Dataset, Missing, Split};
use crate::{Error, Shape};

const TRAIN: &[u8] = include_bytes!("../../../../data/shakespeare/train.txt.gz");
const VALID: &[u8] = include_bytes!("../../../../data/shakespeare/valid.txt.gz");

/// What stands for the end of a line, and for a word that training did not have.
const LINE_END: &str = "<eos>";
const UNKNOWN: &str = "<unk>";

/// Parts of a text that count as its labels.
const PARTS: usize = 10;

pub(super) struct Text {
    tokens: Vec<u32>,
    length: usize,
    /// `None`: tokens are bytes.
    words: Option<Arc<[String]>>,
}

impl Text {
    pub(super) fn fill(&self, indices: &[usize], tokens: &mut Vec<u32>, labels: &mut Vec<u32>) {
        for &index in indices {
            let start = index * self.length;
            tokens.extend_from_slice(&self.tokens[start..start + self.length]);
            labels.extend_from_slice(&self.tokens[start + 1..start + self.length + 1]);
        }
    }

    pub(super) fn spell(&self, tokens: &[u32]) -> String {
        match &self.words {
            None => {
                let bytes: Vec<u8> = tokens.iter().map(|&token| token as u8).collect();
                String::from_utf8_lossy(&bytes).into_owned()
            }
            Some(words) => {
                let word = |&token: &u32| match words.get(token as usize).map(String::as_str) {
                    Some(LINE_END) => "\n",
                    Some(word) => word,
                    None => UNKNOWN,
                };
                tokens.iter().map(word).collect::<Vec<_>>().join(" ")
            }
        }
    }
}

/// Windows of `length` tokens and the one after each, none of which overlap; the rest of the text is left out.
fn dataset(tokens: Vec<u32>, length: usize, words: Option<Arc<[String]>>) -> Result<Dataset, Error> {
    if length == 0 || tokens.len() <= length {
        let expected = format!("from 1 to {}, one less than the text has", tokens.len().saturating_sub(1));
        return Err(Error::misuse("tokens in a window", expected, length));
    }
    let windows = (tokens.len() - 1) / length;
    let labels = (0..windows).map(|window| (window * PARTS / windows) as u16).collect();
    let vocabulary = words.as_ref().map_or(256, |words| words.len());
    let shape = Shape::Tokens { length, vocabulary };
    Ok(Dataset { content: Content::Text(Arc::new(Text { tokens, length, words })), labels, shape })
}

pub(super) fn embedded(context: usize) -> Result<Split, Error> {
    let part = |compressed: &[u8]| {
        let mut bytes = Vec::new();
        GzDecoder::new(compressed).read_to_end(&mut bytes).map_err(|error| Error::Malformed {
            file: "shakespeare (embedded)".into(),
            what: "gzip stream",
            expected: "a whole one".into(),
            got: error.to_string(),
        })?;
        dataset(bytes.into_iter().map(u32::from).collect(), context, None)
    };
    Ok(Split { train: part(TRAIN)?, test: part(VALID)? })
}

fn read_file(directory: &Path, name: &str, missing: Missing<'_>) -> Result<Vec<u8>, Error> {
    let path = directory.join(name);
    fs::read(&path).map_err(|source| match source.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => missing(name),
        _ => Error::Read { path, source },
    })
}

pub(super) fn bytes(directory: &Path, context: usize, missing: Missing<'_>) -> Result<Split, Error> {
    let part = |name| {
        let bytes = read_file(directory, name, missing)?;
        dataset(bytes.into_iter().map(u32::from).collect(), context, None)
    };
    Ok(Split { train: part("train.txt")?, test: part("valid.txt")? })
}

/// The vocabulary is that of the training file, the most frequent words first (then by their bytes), and `<unk>` whether it is
/// there or not.
pub(super) fn words(directory: &Path, context: usize, missing: Missing<'_>) -> Result<Split, Error> {
    let read = |name: &str| {
        let bytes = read_file(directory, name, missing)?;
        String::from_utf8(bytes).map_err(|error| Error::Malformed {
            file: directory.join(name).display().to_string(),
            what: "text",
            expected: "UTF-8".into(),
            got: format!("other bytes at {}", error.utf8_error().valid_up_to()),
        })
    };
    let (train, valid) = (read("wiki.train.tokens")?, read("wiki.valid.tokens")?);
    let mut counts: HashMap<&str, u64> = HashMap::from([(UNKNOWN, 0)]);
    for word in tokens_of(&train) {
        *counts.entry(word).or_default() += 1;
    }
    let mut order: Vec<(&str, u64)> = counts.into_iter().collect();
    order.sort_unstable_by(|(a, of_a), (b, of_b)| of_b.cmp(of_a).then_with(|| a.cmp(b)));
    let numbers: HashMap<&str, u32> = (0..).zip(&order).map(|(number, (word, _))| (*word, number)).collect();
    let unknown = numbers[UNKNOWN];
    let words: Arc<[String]> = order.iter().map(|(word, _)| (*word).to_owned()).collect();
    let part = |text: &str| {
        let numbered = tokens_of(text).map(|word| numbers.get(word).copied().unwrap_or(unknown));
        dataset(numbered.collect(), context, Some(Arc::clone(&words)))
    };
    Ok(Split { train: part(&train)?, test: part(&valid)? })
}

/// The words of each line that has any, and its end.
fn tokens_of(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.flat_map(|line| line.split_whitespace().chain([LINE_END]))
}
