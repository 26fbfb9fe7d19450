//! Child processes that never outlive this one, and the signals that end it.

use std::io::Read;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;

use crate::exit::{Exit, Failure};
use crate::layers::PREFIX;

/// Variables of ours that a child may see: they change no setting of a run.
const PASSED_ON: [&str; 1] = ["SIGNVOTE_ISA"];

/// What a child says or does.
#[derive(Debug)]
pub(crate) enum News {
    /// A line on its stdout.
    Out(String),
    /// A line on its stderr.
    Err(String),
    /// It has ended, with this exit code if it was no signal.
    Ended(Option<i32>),
}

/// A running child. Its stdin is its lifeline: when this process ends, however it does, the pipe closes and
/// the child stops by itself. That needs no signals, so it works on every system.
#[derive(Debug)]
pub(crate) struct Process {
    lifeline: Option<ChildStdin>,
    kill: mpsc::Sender<()>,
}

impl Process {
    /// Starts this program again with `words`; what it says and does goes to `news`, under `name`.
    pub(crate) fn start<N: Clone + Send + 'static>(
        words: &[String],
        name: N,
        news: &mpsc::UnboundedSender<(N, News)>,
    ) -> Result<Self, Failure> {
        let program =
            std::env::current_exe().map_err(|error| Failure::internal("cannot find this program", &error))?;
        let mut command = Command::new(program);
        command.args(words).arg("--lifeline");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        // A Ctrl-C in the terminal reaches this process alone, which then ends the others in order.
        #[cfg(unix)]
        command.process_group(0);
        for (variable, _) in std::env::vars_os() {
            let ours = variable.to_str().is_some_and(|v| v.starts_with(PREFIX) && !PASSED_ON.contains(&v));
            if ours {
                command.env_remove(variable);
            }
        }
        let mut child =
            command.spawn().map_err(|error| Failure::internal("cannot start a process", &error))?;
        let out = child
            .stdout
            .take()
            .map(|stream| tokio::spawn(lines(stream, name.clone(), news.clone(), News::Out)));
        let err = child
            .stderr
            .take()
            .map(|stream| tokio::spawn(lines(stream, name.clone(), news.clone(), News::Err)));
        let lifeline = child.stdin.take();
        let (kill, killed) = mpsc::channel(1);
        let news = news.clone();
        tokio::spawn(async move {
            let code = wait(child, killed).await;
            // Its last words first.
            for stream in [out, err].into_iter().flatten() {
                let _ = stream.await;
            }
            let _ = news.send((name, News::Ended(code)));
        });
        Ok(Self { lifeline, kill })
    }

    /// Asks it to stop in order.
    pub(crate) fn ask_to_stop(&mut self) {
        self.lifeline = None;
    }

    /// Ends it now.
    pub(crate) fn kill(&self) {
        // Full or closed: it is being killed, or has ended.
        let _ = self.kill.try_send(());
    }
}

async fn wait(mut child: Child, mut killed: mpsc::Receiver<()>) -> Option<i32> {
    let status = tokio::select! {
        status = child.wait() => status,
        Some(()) = killed.recv() => {
            let _ = child.start_kill();
            child.wait().await
        }
    };
    status.ok().and_then(|status| status.code())
}

async fn lines<N: Clone>(
    stream: impl AsyncRead + Unpin,
    name: N,
    news: mpsc::UnboundedSender<(N, News)>,
    what: fn(String) -> News,
) {
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if news.send((name.clone(), what(line))).is_err() {
            return;
        }
    }
}

/// Resolves when this process is told to stop: Ctrl-C, SIGTERM or, if it hangs on a lifeline, the end of stdin.
///
/// Signals are caught from the call on, not from the first poll: who has seen the program start may stop it. To
/// be called within a runtime.
pub(crate) fn told_to_stop(lifeline: bool) -> impl Future<Output = String> {
    let signals = signals();
    let cut = async move {
        if lifeline {
            // A plain thread: a runtime would wait for a blocking read of its own when it shuts down.
            let (end, ended) = tokio::sync::oneshot::channel();
            let reader = std::thread::Builder::new().name("lifeline".into()).spawn(move || {
                let _ = std::io::stdin().read_to_end(&mut Vec::new());
                let _ = end.send(());
            });
            if reader.is_ok() && ended.await.is_ok() {
                return;
            }
        }
        std::future::pending::<()>().await;
    };
    async move {
        tokio::select! {
            reason = signals => reason.into(),
            () = cut => "the process that started it is gone".into(),
        }
    }
}

#[cfg(unix)]
fn signals() -> impl Future<Output = &'static str> {
    use tokio::signal::unix::{Signal, SignalKind, signal};
    async fn received(signal: std::io::Result<Signal>) {
        match signal {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    }
    let interrupt = signal(SignalKind::interrupt());
    let terminate = signal(SignalKind::terminate());
    async move {
        tokio::select! {
            () = received(interrupt) => "interrupted",
            () = received(terminate) => "told to terminate",
        }
    }
}

#[cfg(not(unix))]
async fn signals() -> &'static str {
    match tokio::signal::ctrl_c().await {
        Ok(()) => "interrupted",
        Err(_) => std::future::pending().await,
    }
}

/// Ends this process when it is told to stop: for a command that keeps nothing worth saving.
pub(crate) fn exit_when_told(lifeline: bool) -> Result<(), Failure> {
    let runtime = runtime()?;
    let told = {
        let _within = runtime.enter();
        told_to_stop(lifeline)
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let reason = runtime.block_on(told);
            crate::progress::error(&Failure::new(Exit::Interrupted, reason));
            std::process::exit(Exit::Interrupted as i32);
        })
        .map_err(|error| Failure::internal("cannot start a thread", &error))?;
    Ok(())
}

/// A runtime for one thread: sockets and processes are all that it waits for.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::internal("cannot start the runtime", &error))
}
