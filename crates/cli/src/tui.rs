//! A run in a full screen of the terminal: the snapshot that the page shows, in characters.

use std::io::{IsTerminal, Stderr, stderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use indicatif::HumanBytes;
use ratatui::Frame;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, KeyCode, KeyModifiers};
use ratatui::crossterm::{execute, terminal};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{
    Axis, Block, Cell, Chart, Dataset, GraphType, LineGauge, Paragraph, Row, Table, Wrap,
};
use signvote_observe::snapshot::{Level, Phase, Series, Worker};
use signvote_observe::{Live, Snapshot};

use crate::exit::Failure;
use crate::progress::{self, per_second, percent};

/// How often keys are looked at, and the screen is drawn if something has changed.
const TICK: Duration = Duration::from_millis(200);
/// Columns of a worker's agreement over time.
const STRIP: usize = 20;
/// Lines from which on there is room for curves.
const TALL: u16 = 34;

/// A full screen, until this is dropped.
pub(crate) struct Screen {
    over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Screen {
    /// Shows a run, with a note below it, if stderr is a terminal; otherwise says that there is none.
    pub(crate) fn open(live: Live, note: String) -> Result<Option<Self>, Failure> {
        if !stderr().is_terminal() {
            progress::line("--tui needs a terminal: there is none");
            return Ok(None);
        }
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let cannot = |error: std::io::Error| Failure::internal("the terminal has no full screen", &error);
        let (guard, mut terminal) = enter().map_err(cannot)?;
        let show = move || {
            let _guard = guard;
            // A terminal that is gone is no reason to end a run.
            let _ = show(&mut terminal, &live, &note, &told);
        };
        let thread = thread::Builder::new().name("screen".into()).spawn(show).map_err(cannot)?;
        Ok(Some(Self { over, thread: Some(thread) }))
    }

    /// Whether somebody has left it.
    pub(crate) fn is_left(&self) -> bool {
        self.thread.as_ref().is_none_or(thread::JoinHandle::is_finished)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

type Terminal = ratatui::Terminal<CrosstermBackend<Stderr>>;

/// The terminal as this took it. It is given back when this is dropped, however far it came.
struct Taken;

impl Drop for Taken {
    fn drop(&mut self) {
        leave();
        progress::release();
    }
}

fn enter() -> std::io::Result<(Taken, Terminal)> {
    terminal::enable_raw_mode()?;
    progress::hold();
    let taken = Taken;
    execute!(stderr(), terminal::EnterAlternateScreen)?;
    // A panic is told on a terminal that can be read.
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        leave();
        progress::release();
        before(info);
    }));
    Ok((taken, ratatui::Terminal::new(CrosstermBackend::new(stderr()))?))
}

fn leave() {
    let _ = execute!(stderr(), terminal::LeaveAlternateScreen, ratatui::crossterm::cursor::Show);
    let _ = terminal::disable_raw_mode();
}

/// Draws until it is over, or somebody leaves.
fn show(terminal: &mut Terminal, live: &Live, note: &str, over: &AtomicBool) -> std::io::Result<()> {
    let (mut seen, mut scrolled) = (None, 0_usize);
    loop {
        // The last state is drawn as well.
        let last = over.load(Relaxed);
        let changes = (live.changes(), scrolled);
        if seen != Some(changes) || last {
            let snapshot = live.snapshot();
            terminal.draw(|frame| draw(frame, &snapshot, note, scrolled))?;
            seen = Some(changes);
        }
        if last {
            return Ok(());
        }
        if !event::poll(TICK)? {
            continue;
        }
        match event::read()? {
            event::Event::Key(key) => match key.code {
                // No signal comes from a terminal that hands over every key.
                KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                    let _ = rustix::process::kill_process(
                        rustix::process::getpid(),
                        rustix::process::Signal::INT,
                    );
                    return Ok(());
                }
                KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                KeyCode::Down => scrolled += 1,
                KeyCode::Up => scrolled = scrolled.saturating_sub(1),
                _ => {}
            },
            event::Event::Resize(..) => seen = None,
            _ => {}
        }
    }
}

/// The whole screen; the list of workers begins with the one of this number.
fn draw(frame: &mut Frame<'_>, run: &Snapshot, note: &str, scrolled: usize) {
    let tall = frame.area().height >= TALL;
    let curves = if tall { 11 } else { 0 };
    let rows = run.workers.len() as u16 + 2;
    let [title, gauge, health, figures, charts, workers, events, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(3),
        Constraint::Length(2),
        Constraint::Length(curves),
        Constraint::Max(rows),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let phase = match run.phase {
        Phase::Gathering => "waiting for workers",
        Phase::Running => "running",
        Phase::Paused => "stopped, can be resumed",
        Phase::Finished => "finished",
    };
    let words = [
        Span::from("signvote ").bold(),
        Span::from(run.title.as_str()),
        Span::from(format!("  [{phase}]")).bold(),
    ];
    frame.render_widget(Line::from(words.to_vec()), title);
    let part = if run.rounds == 0 { 0.0 } else { (run.round as f64 / run.rounds as f64).min(1.0) };
    let label = format!("round {} of {}", run.round, run.rounds);
    frame.render_widget(
        LineGauge::default().ratio(part).label(label).filled_style(Style::new().cyan()),
        gauge,
    );
    draw_health(frame, run, health);
    frame.render_widget(Paragraph::new(figures_of(run)), figures);
    if tall {
        draw_curves(frame, run, charts);
    }
    draw_workers(frame, run, workers, scrolled);
    let room = usize::from(events.height.saturating_sub(1));
    let entries = run.entries.iter().rev().take(room).map(|entry| {
        let sign = if entry.warning { "! " } else { "  " };
        let line = Line::from(format!("{sign}{}", entry.words));
        if entry.warning { line.yellow() } else { line }
    });
    let block = Block::new().title(Line::from("what happened, newest first").bold());
    frame.render_widget(Paragraph::new(entries.collect::<Vec<_>>()).block(block), events);
    let hint = format!("q: leave the full screen   Ctrl-C: stop   up, down: scroll the workers   {note}");
    frame.render_widget(Line::from(hint).dim(), keys);
}

fn draw_health(frame: &mut Frame<'_>, run: &Snapshot, area: Rect) {
    let (sign, style) = match run.health.level {
        Level::Good => ("OK ", Style::new().green()),
        Level::Bad => ("!! ", Style::new().light_red()),
        Level::Wait => (".. ", Style::new().yellow()),
    };
    let words = Span::styled(format!("{sign}{} ", run.health.words), style.add_modifier(Modifier::BOLD));
    let line = Line::from(vec![words, Span::from(run.health.more.as_str())]);
    frame.render_widget(Paragraph::new(line).wrap(Wrap { trim: true }), area);
}

fn figures_of(run: &Snapshot) -> Vec<Line<'static>> {
    let loss = run.loss.map_or_else(|| "–".into(), |loss| format!("{loss:.3}"));
    let tested = run.evaluations.last().map_or_else(String::new, |it| {
        let loss = it.loss.map_or_else(|| "not finite".into(), |loss| format!("{loss:.3}"));
        format!("   held-out loss {loss}, accuracy {}", percent(Some(it.accuracy)))
    });
    let (sent, dense) = (run.bytes.round_up + run.bytes.round_down, 2 * run.bytes.f32_each_way);
    let saved = run.bytes.times_less.map_or_else(String::new, |times| format!(": {times:.1} times less"));
    let bytes = |bytes: f64| HumanBytes(bytes as u64);
    vec![
        Line::from(format!("loss {loss}   accuracy {}{tested}", percent(run.accuracy))),
        Line::from(format!(
            "{} rounds/s   {}/s, as f32 {}/s   {} so far, as f32 {}{saved}",
            per_second(run.pace.rounds_per_second),
            bytes(run.pace.bytes_per_second),
            bytes(run.pace.f32_bytes_per_second),
            HumanBytes(sent),
            HumanBytes(dense),
        )),
    ]
}

fn draw_curves(frame: &mut Frame<'_>, run: &Snapshot, area: Rect) {
    let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(area);
    let points = |of: fn(&Series) -> &Vec<Option<f64>>| -> Vec<(f64, f64)> {
        let rounds = run.series.round.iter().map(|&round| round as f64);
        rounds.zip(of(&run.series)).filter_map(|(round, value)| Some((round, (*value)?))).collect()
    };
    let tested = |of: fn(&signvote_observe::snapshot::Evaluation) -> Option<f64>| -> Vec<(f64, f64)> {
        run.evaluations.iter().filter_map(|it| Some((it.round as f64, of(it)?))).collect()
    };
    let losses = (points(|series| &series.loss), tested(|it| it.loss));
    let accuracies = (points(|series| &series.accuracy), tested(|it| Some(it.accuracy)));
    for (name, (trained, tested), area) in [("loss", losses, left), ("accuracy", accuracies, right)] {
        let values = || trained.iter().chain(&tested).map(|&(_, value)| value);
        let (low, high) = (values().fold(f64::MAX, f64::min), values().fold(f64::MIN, f64::max));
        let (low, high) = if low < high { (low, high) } else { (0.0, 1.0) };
        let end = run.round.max(1) as f64;
        let set = |points| Dataset::default().data(points);
        let sets = vec![
            set(&trained).marker(Marker::Braille).graph_type(GraphType::Line).cyan(),
            set(&tested).marker(Marker::Dot).graph_type(GraphType::Scatter).yellow(),
        ];
        let chart = Chart::new(sets)
            .block(Block::new().title(Line::from(format!("{name}  line: batches, dots: held-out")).bold()))
            .x_axis(Axis::default().bounds([0.0, end]).labels(["0".to_owned(), format!("{end:.0}")]))
            .y_axis(Axis::default().bounds([low, high]).labels([format!("{low:.3}"), format!("{high:.3}")]));
        frame.render_widget(chart, area);
    }
}

fn draw_workers(frame: &mut Frame<'_>, run: &Snapshot, area: Rect, scrolled: usize) {
    // Who is set apart comes first, if not all can be seen.
    let room = usize::from(area.height.saturating_sub(2));
    let mut workers: Vec<&Worker> = run.workers.iter().collect();
    if workers.len() > room {
        workers.sort_by_key(|worker| !worker.apart);
    }
    let from = scrolled.min(workers.len().saturating_sub(room));
    let scale = scale_of(run);
    let rows = workers.iter().skip(from).map(|worker| {
        let what =
            if worker.apart { format!("SET APART: {}", worker.verdict) } else { worker.verdict.clone() };
        let cells = [
            worker.slot.to_string(),
            worker.name.clone(),
            worker.state.to_string(),
            percent(worker.agreement),
            strip(&worker.history, scale),
            worker.lag_rounds.to_string(),
            worker.late_chunks.to_string(),
            HumanBytes(worker.up_bytes).to_string(),
            what,
        ];
        let row = Row::new(cells.map(Cell::from));
        if worker.apart { row.style(Style::new().light_red().bold()) } else { row }
    });
    let widths = [
        Constraint::Length(5),
        Constraint::Max(16),
        Constraint::Length(11),
        Constraint::Length(9),
        Constraint::Length(STRIP as u16),
        Constraint::Length(4),
        Constraint::Length(5),
        Constraint::Length(10),
        Constraint::Min(20),
    ];
    let names = ["place", "name", "state", "agreement", "over time", "lag", "late", "sent", "verdict"];
    let hidden = workers.len().saturating_sub(from + room);
    let below = if hidden > 0 { format!(", {hidden} more below") } else { String::new() };
    let title = Line::from(format!("workers: agreement with the verdict{below}")).bold();
    let table = Table::new(rows, widths).header(Row::new(names).dim()).block(Block::new().title(title));
    frame.render_widget(table, area);
}

/// Lowest and highest agreement that there has been, in thousandths: one scale for all workers.
fn scale_of(run: &Snapshot) -> (u16, u16) {
    let known = || run.workers.iter().flat_map(|worker| worker.history.iter().flatten().copied());
    (known().min().unwrap_or(0), known().max().unwrap_or(1000))
}

/// The last columns of a worker's agreement, as bars of eight heights; a blank where it is not known.
fn strip(history: &[Option<u16>], (low, high): (u16, u16)) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let span = usize::from((high - low).max(1));
    let bar = |value: &Option<u16>| {
        value.map_or(' ', |value| BARS[(usize::from(value.saturating_sub(low)) * 7 / span).min(7)])
    };
    history[history.len().saturating_sub(STRIP)..].iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use ratatui::backend::TestBackend;
    use signvote_election::{Event, Round, Slot, WorkerState, WorkerVotes};
    use signvote_observe::Board;

    use super::*;

    fn run(workers: u16, liars: u16) -> Snapshot {
        let mut board = Board::new("mlp on a test", "");
        board.take(
            1.0,
            &Event::Listening {
                address: String::new(),
                run: String::new(),
                workers,
                quorum: usize::from(workers / 2 + 1),
                tolerated_liars: 1,
                rounds: 100,
                kernels: String::new(),
            },
        );
        let slots = || (1..=workers).filter_map(Slot::new);
        for slot in slots() {
            let reason = "of a test".to_owned();
            board.take(1.0, &Event::Joined { slot, name: format!("worker-{slot}"), round: Round(0), reason });
        }
        board.take(2.0, &Event::Started { dimension: 100, workers: workers.into(), tensors: Vec::new() });
        for round in 0..50 {
            let committed = Event::Committed {
                round: Round(round),
                voters: workers.into(),
                partial: 0,
                eta: 1e-3,
                loss: Some(1.0 / (round + 1) as f32),
                accuracy: Some(0.5),
                ties: 0,
                holds: 0,
                reason: "all have voted".into(),
            };
            board.take(3.0 + round as f64, &committed);
            let row = |slot: Slot| WorkerVotes {
                slot,
                state: WorkerState::Voting,
                lag_rounds: 0,
                agreement: Some(if slot.number() <= liars { 0.55 } else { 0.69 }),
                rounds: round,
            };
            let workers = slots().map(row).collect();
            board.take(
                3.0 + round as f64,
                &Event::Votes { round: Round(round + 1), workers, margins: Vec::new() },
            );
        }
        board.snapshot()
    }

    fn drawn(run: &Snapshot, width: u16, height: u16, scrolled: usize) -> Vec<String> {
        let mut terminal = ratatui::Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, run, "", scrolled)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let cells: Vec<&str> = buffer.content().iter().map(|cell| cell.symbol()).collect();
        cells.chunks(width.into()).map(|row| row.concat()).collect()
    }

    #[test]
    fn liars_are_named_in_words_whatever_the_terminal() {
        let run = run(7, 3);
        for (width, height) in [(80, 24), (120, 40), (200, 60)] {
            let rows = drawn(&run, width, height, 0);
            let text = rows.join("\n");
            assert!(text.contains("3 of 7 workers are set apart: worker-1, worker-2, worker-3."), "{text}");
            let apart: Vec<_> = rows.iter().filter(|row| row.contains("SET APART")).collect();
            assert_eq!(apart.len(), 3, "{text}");
            assert!(text.contains("round 50 of 100") && text.contains("q: leave"), "{text}");
            assert_eq!(text.contains("held-out"), height >= TALL, "{text}");
        }
    }

    #[test]
    fn of_many_workers_those_set_apart_come_first_and_the_rest_can_be_scrolled_to() {
        let mut run = run(200, 0);
        let last = run.workers.last_mut().unwrap();
        (last.apart, last.verdict) = (true, "agrees much less".into());
        let rows = drawn(&run, 120, 30, 0);
        let text = rows.join("\n");
        assert!(text.contains("SET APART") && text.contains("more below"), "{text}");
        let at = rows.iter().position(|row| row.contains("worker-200")).unwrap();
        assert!(rows[at + 1].contains("worker-1 "), "{text}");
        let end = drawn(&run, 120, 30, 10_000).join("\n");
        assert!(end.contains("worker-199") && !end.contains("more below"), "{end}");
    }

    #[test]
    fn a_terminal_that_is_too_small_is_no_panic() {
        let run = run(7, 3);
        for (width, height) in [(1, 1), (10, 3), (20, 8)] {
            drawn(&run, width, height, 0);
        }
        drawn(&Board::new("", "").snapshot(), 80, 24, 5);
    }

    #[test]
    fn a_strip_has_gaps_where_nothing_is_known() {
        assert_eq!(strip(&[Some(500), None, Some(600)], (500, 600)), "▁ █");
        assert_eq!(strip(&[Some(500); 30], (500, 500)).chars().count(), STRIP);
        assert_eq!(strip(&[], (0, 1000)), "");
    }
}
