//! Hosts on a network of their own: namespaces on one switch.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::{Process, signvote};

/// A switch and the hosts at it, for as long as this lives. Host number n has the address 10.77.0.n.
pub(crate) struct Hosts {
    prefix: String,
    count: usize,
}

impl Hosts {
    /// So many hosts; `None` if this user, or this system, cannot make them.
    pub(crate) fn new(count: usize) -> Option<Self> {
        static NETWORKS: AtomicUsize = AtomicUsize::new(0);
        let prefix = format!("signvote-{}-{}", std::process::id(), NETWORKS.fetch_add(1, Relaxed));
        // Ends what was begun, should a step fail.
        let hosts = Self { prefix, count };
        let switch = hosts.switch();
        ip(&["netns", "add", &switch])?;
        ip(&["-n", &switch, "link", "add", "bridge", "type", "bridge"])?;
        ip(&["-n", &switch, "link", "set", "bridge", "up"])?;
        for number in 1..=count {
            let (host, port) = (hosts.name(number), format!("port{number}"));
            ip(&["netns", "add", &host])?;
            let pair =
                ["-n", &switch, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &host];
            ip(&pair)?;
            ip(&["-n", &switch, "link", "set", &port, "master", "bridge", "up"])?;
            ip(&["-n", &host, "address", "add", &format!("{}/24", hosts.address(number)), "dev", "eth0"])?;
            ip(&["-n", &host, "link", "set", "eth0", "up"])?;
            ip(&["-n", &host, "link", "set", "lo", "up"])?;
        }
        Some(hosts)
    }

    pub(crate) fn address(&self, number: usize) -> String {
        format!("10.77.0.{number}")
    }

    /// Starts the program on a host.
    pub(crate) fn start(&self, number: usize, directory: &Path, line: &str) -> Process {
        let inner = signvote(directory, line);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(number)]).arg(inner.get_program()).args(inner.get_args());
        command.current_dir(directory);
        for (variable, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(variable, value),
                None => command.env_remove(variable),
            };
        }
        Process::spawn(command)
    }

    /// Pulls a host's cable, or plugs it in again.
    pub(crate) fn cable(&self, number: usize, plugged: bool) {
        let state = if plugged { "up" } else { "down" };
        let done = ip(&["-n", &self.switch(), "link", "set", &format!("port{number}"), state]);
        assert!(done.is_some(), "the cable of host {number} goes {state}");
    }

    /// Slows down what a host sends and is sent; `None` if this system cannot.
    pub(crate) fn slow_down(&self, number: usize, rate: &str) -> Option<()> {
        let shape = |namespace: &str, device: &str| {
            let line = format!(
                "-n {namespace} qdisc replace dev {device} root tbf rate {rate} burst 16kb latency 1s"
            );
            run("tc", &line.split(' ').collect::<Vec<_>>())
        };
        shape(&self.name(number), "eth0")?;
        shape(&self.switch(), &format!("port{number}"))
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.prefix)
    }

    fn name(&self, number: usize) -> String {
        format!("{}-{number}", self.prefix)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for number in 1..=self.count {
            let _ = ip(&["netns", "delete", &self.name(number)]);
        }
        let _ = ip(&["netns", "delete", &self.switch()]);
    }
}

fn ip(words: &[&str]) -> Option<()> {
    run("ip", words)
}

fn run(program: &str, words: &[&str]) -> Option<()> {
    let ended = Command::new(program).args(words).output().ok()?;
    ended.status.success().then_some(())
}
