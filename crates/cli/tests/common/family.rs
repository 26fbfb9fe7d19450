//! A process and its children, as Linux shows them under `/proc`.

use std::fs;

use super::{Process, signal, wait_until};

/// A child of a process under test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Relative {
    pub(crate) pid: u32,
    /// Its command line.
    pub(crate) words: Vec<String>,
}

impl Relative {
    /// The place that it was told to take, if it is a worker.
    pub(crate) fn slot(&self) -> Option<u16> {
        self.words.iter().find_map(|word| word.strip_prefix("--slot="))?.parse().ok()
    }

    pub(crate) fn kill(&self) {
        signal("KILL", self.pid);
    }

    /// Whether it still runs. A number that another process has taken over does not count.
    pub(crate) fn lives(&self) -> bool {
        words(self.pid) == self.words && stat(self.pid).is_some_and(|(state, _)| state != 'Z')
    }
}

/// Resident memory of a process, in MiB.
pub(crate) fn memory_mib(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its memory");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") / 1024
}

/// The children of a process that have not ended.
pub(crate) fn children(parent: u32) -> Vec<Relative> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc is there").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Some((state, its_parent)) = stat(pid) else { continue };
        if its_parent == parent && state != 'Z' {
            children.push(Relative { pid, words: words(pid) });
        }
    }
    children
}

/// The workers among the children, by place.
pub(crate) fn workers(parent: u32) -> Vec<Relative> {
    let mut workers = children(parent);
    workers.retain(|child| child.slot().is_some());
    workers.sort_by_key(Relative::slot);
    workers
}

/// Waits until none of them is left.
pub(crate) fn all_end(family: &[Relative]) {
    wait_until("every child has ended", || !family.iter().any(Relative::lives));
}

/// None of them is left.
pub(crate) fn all_have_ended(family: &[Relative]) {
    let left: Vec<_> = family.iter().filter(|child| child.lives()).collect();
    assert!(left.is_empty(), "still there: {left:#?}");
}

/// State and parent of a process. The name before them may contain anything, parentheses too.
fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn words(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}
