//! What a person sees while the line works: a line per slot on a terminal, plain lines elsewhere, a table at the end.
//!
//! Progress goes to standard error and results to standard output, so that a pipe gets results only. The texts are
//! made by pure functions in the modules below; here is only who writes them, and when. Ticks may be merged or lost on
//! the way: a display that is late shows the present, not the past.

mod frame;
mod style;
mod table;

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::domain::{RunRecord, SlotStatus};
use crate::host::Clock;
use crate::report::Summary;

use frame::Tally;
use style::Style;

/// The shortest time between two drawings; more are not seen.
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);
/// Drawings per second that the terminal is given at the most.
const REDRAW_HZ: u8 = 10;
/// The terminal's size where it does not tell.
const COLUMNS: usize = 80;
const ROWS: usize = 24;

/// The progress that is on the terminal now, if any: whoever else writes there goes through it, so that the lines of a
/// log and those of the slots do not run into each other. A process has one terminal, hence one place.
static ON_SCREEN: Mutex<Option<ProgressBar>> = Mutex::new(None);

fn on_screen() -> MutexGuard<'static, Option<ProgressBar>> {
    ON_SCREEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes to standard error, above the slots' lines where there are any.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let bar = on_screen().clone();
        match bar {
            Some(bar) => bar.suspend(|| io::stderr().lock().write_all(bytes)),
            None => io::stderr().lock().write_all(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}

/// The display of a station at work.
#[derive(Debug)]
pub(crate) struct Display {
    records: Records,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Tells the display of finished runs; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    mode: Mode,
    style: Style,
    tally: Arc<Mutex<Tally>>,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// A line per slot, drawn over and over.
    Terminal,
    /// A line per event.
    Plain,
    /// Not at all: whoever reads the JSON document does not look at it.
    Silent,
}

impl Display {
    /// Shows `slots` until [`finish`](Self::finish), and how many of the `wanted` units are finished. With `json`,
    /// nothing but a terminal's progress is written.
    pub(crate) fn start(mut slots: watch::Receiver<Arc<Vec<SlotStatus>>>, wanted: Option<u32>, json: bool) -> Self {
        let mode = match (io::stderr().is_terminal(), json) {
            (true, _) => Mode::Terminal,
            (false, false) => Mode::Plain,
            (false, true) => Mode::Silent,
        };
        let style = Style::detect(io::stderr().is_terminal());
        let tally = Tally::of(wanted);
        let records = Records { mode, style, tally: Arc::new(Mutex::new(tally)) };
        let stop = CancellationToken::new();
        let task = match mode {
            Mode::Terminal => tokio::spawn(draw(slots, records.clone(), stop.clone())),
            Mode::Plain => {
                let before = Arc::clone(&slots.borrow_and_update());
                tokio::spawn(tell(before, slots, stop.clone()))
            }
            Mode::Silent => tokio::spawn(std::future::ready(())),
        };
        Self { records, stop, task }
    }

    /// Where finished runs are told.
    pub(crate) fn records(&self) -> Records {
        self.records.clone()
    }

    /// Takes the slots' lines away again.
    pub(crate) async fn finish(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the display failed");
        }
        if let Some(bar) = on_screen().take() {
            bar.finish_and_clear();
        }
    }
}

impl Records {
    /// A run is finished. On a terminal only what did not pass is kept above the slots' lines.
    pub(crate) fn tell(&self, record: &RunRecord) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.take(record);
        drop(tally);
        let is_shown = match self.mode {
            Mode::Terminal => record.outcome != crate::domain::Outcome::Pass,
            Mode::Plain => true,
            Mode::Silent => false,
        };
        if is_shown {
            let width = if self.mode == Mode::Terminal { stderr_size().0 } else { usize::MAX };
            say(&frame::finished(record, width, self.style));
        }
    }
}

/// The final table of a batch, for standard output.
pub(crate) fn final_table(summary: &Summary) -> String {
    let out = io::stdout();
    let (columns, _) = size(rustix::termios::tcgetwinsize(&out));
    table::table(summary, columns, Style::detect(out.is_terminal()))
}

fn say(lines: &[String]) {
    let mut text = lines.join("\n");
    text.push('\n');
    // A reader that went away is nothing that a run should end for.
    let _closed_pipe = Stderr.write_all(text.as_bytes());
}

fn stderr_size() -> (usize, usize) {
    size(rustix::termios::tcgetwinsize(io::stderr()))
}

fn size(asked: rustix::io::Result<rustix::termios::Winsize>) -> (usize, usize) {
    match asked {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (COLUMNS, ROWS),
    }
}

/// Draws the slots' lines whenever something changed, but not more often than eyes can follow.
async fn draw(mut slots: watch::Receiver<Arc<Vec<SlotStatus>>>, records: Records, stop: CancellationToken) {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(REDRAW_HZ));
    bar.set_style(ProgressStyle::with_template("{msg}").expect("the template is constant"));
    *on_screen() = Some(bar.clone());
    let clock = Clock::real();
    loop {
        let tally = records.tally.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let all = Arc::clone(&slots.borrow_and_update());
        let (columns, rows) = stderr_size();
        bar.set_message(frame::frame(&all, &tally, columns, rows, records.style).join("\n"));
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = clock.sleep(REDRAW_INTERVAL) => {}
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = slots.changed() => if changed.is_err() {
                return stop.cancelled().await;
            },
        }
    }
}

/// Says in plain lines what changed since `before`.
async fn tell(
    mut before: Arc<Vec<SlotStatus>>,
    mut slots: watch::Receiver<Arc<Vec<SlotStatus>>>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = slots.changed() => if changed.is_err() {
                return stop.cancelled().await;
            },
        }
        let now = Arc::clone(&slots.borrow_and_update());
        let lines = frame::changes(&before, &now);
        if !lines.is_empty() {
            say(&lines);
        }
        before = now;
    }
}
