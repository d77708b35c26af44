//! The command line: one file per subcommand, and the only place that wires things together.
//!
//! Results go to standard output, everything else to standard error. The exit status says how it went: 0 all that was
//! asked came out well; 1 some unit did not pass or is unfinished, or a verification found a difference; 2 bad usage,
//! configuration or package, nothing touched; 3 the station cannot go on.

mod at;
mod attach;
mod backups;
mod check;
mod completions;
mod crash;
mod devices;
mod display;
mod doctor;
mod hand;
mod input;
mod line;
mod man;
mod map;
mod package;
mod places;
pub mod prepare;
mod projections;
mod qualify;
pub mod replay;
mod report;
mod reserve;
mod run;
mod schema;
mod serve;
mod sim;
mod slot;
mod start;
pub mod trace;
mod verify;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub(crate) use crate::domain::text::wrapped;

/// How a command went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// All that was asked came out well.
    Good,
    /// Some unit did not pass or is unfinished, or a verification found a difference.
    NotAllGood,
    /// Bad usage, configuration or package; nothing was touched.
    Refused,
    /// The station cannot go on.
    Stuck,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(match status {
            Status::Good => 0,
            Status::NotAllGood => 1,
            Status::Refused => 2,
            Status::Stuck => 3,
        })
    }
}

#[derive(Debug, Parser)]
#[command(name = "stationmaster", version, about, max_term_width = 100)]
#[command(
    after_help = "Exit status: 0 all well; 1 some unit did not pass or is unfinished, or a verification found a \
                        difference; 2 bad usage, configuration or package, nothing touched; 3 the station cannot go on."
)]
struct Arguments {
    /// Say more on standard error: -v what happens to each run, -vv every exchange. STATIONMASTER_LOG overrides.
    #[arg(short, long, action = clap::ArgAction::Count, global = true, display_order = 900)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a station: identify, back up, flash, verify and record every module that is put into a slot
    Run(run::RunArguments),
    /// Try a profile on a number of modules: whether it keeps what it promises, how fast, with which deadlines
    Qualify(qualify::QualifyArguments),
    /// Read stations, profiles and packages as `run` would, and say what is wrong with them
    Check(check::CheckArguments),
    /// What a firmware package would do to a module
    #[command(subcommand)]
    Package(package::PackageCommand),
    /// What is plugged in where
    Devices(devices::DevicesArguments),
    /// Ask the module in a slot one command that only reads
    At(at::AtArguments),
    /// Take a backup of the module in a slot, by hand; nothing on it is changed
    Backup(hand::HandArguments),
    /// Restore the module in a slot from its own backup, by hand: flash it, and prove it
    Restore(hand::RestoreArguments),
    /// Teach a station its slots: a module is put into each, and its ports are learned
    Map(map::MapArguments),
    /// Whether this host is fit for a station: each finding with its remedy
    Doctor(doctor::DoctorArguments),
    /// Reports made from the ledger
    #[command(subcommand)]
    Report(report::ReportCommand),
    /// Backups of modules: list, verify, and carry them from one station to another
    #[command(subcommand)]
    Backups(backups::BackupsCommand),
    /// Check the ledger's chain, and the reports against it
    Verify(verify::VerifyArguments),
    /// Simulated firmware, simulated modules for other programs, and replays of traces
    #[command(subcommand)]
    Sim(sim::SimCommand),
    /// The JSON schema of station or profile files, for editors
    Schema(schema::SchemaArguments),
    /// Completions for a shell
    Completions(completions::CompletionArguments),
    /// Write the manual pages into a directory
    #[command(hide = true)]
    Man(man::ManArguments),
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let asked = !error.use_stderr();
            let _closed_pipe = error.print();
            return if asked { Status::Good } else { Status::Refused }.into();
        }
    };
    start_logging(arguments.verbose);
    match arguments.command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Qualify(arguments) => qualify::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Package(command) => package::run(&command),
        Command::Devices(arguments) => devices::run(&arguments),
        Command::At(arguments) => at::run(&arguments),
        Command::Backup(arguments) => hand::backup(&arguments),
        Command::Restore(arguments) => hand::restore(&arguments),
        Command::Map(arguments) => map::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Report(command) => report::run(&command),
        Command::Backups(command) => backups::run(&command),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Sim(command) => sim::run(&command),
        Command::Schema(arguments) => schema::run(&arguments),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Man(arguments) => man::run(&arguments),
    }
    .into()
}

fn start_logging(verbose: u8) {
    let default = match verbose {
        0 => "error",
        1 => "stationmaster=info,warn",
        2 => "stationmaster=debug,info",
        _ => "trace",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("STATIONMASTER_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| display::Stderr).with_ansi(ansi).init();
}

/// Waits for a signal that asks the process to end.
pub(crate) async fn signal() -> std::io::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        biased;
        result = tokio::signal::ctrl_c() => result,
        _ = terminate.recv() => Ok(()),
    }
}

/// Prints to standard output. A reader that went away is nothing to complain about.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _closed_pipe = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints bytes to standard output.
pub(crate) fn print_bytes(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    let _closed_pipe = out.write_all(bytes).and_then(|()| out.flush());
}

/// Prints to standard error.
pub(crate) fn complain(text: impl std::fmt::Display) {
    let _closed_pipe = writeln!(display::Stderr, "{text}");
}

/// What people read when something is refused, in lines that fit. What is to be typed stays in one piece: a line that
/// begins with a blank, and what stands between backticks.
pub(crate) fn folded(text: &str) -> String {
    /// No blank, and in no text that is shown.
    const HELD: char = '\u{1}';
    let hold = |line: &str| -> String {
        let parts = line.split('`').enumerate();
        let held = parts
            .map(|(number, part)| if number % 2 == 1 { part.replace(' ', &HELD.to_string()) } else { part.into() });
        held.collect::<Vec<String>>().join("`")
    };
    let fold = |line: &str| {
        if line.starts_with(' ') { line.to_owned() } else { wrapped(&hold(line), 2).replace(HELD, " ") }
    };
    text.lines().map(fold).collect::<Vec<_>>().join("\n")
}

/// A path as it is typed into a shell.
pub(crate) fn typed(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+@:,=".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// How a station is named on the command line: its file, and the state directory where another one was given.
pub(crate) fn station_words(station: &Path, state: Option<&Path>) -> String {
    let state = state.map(|state| format!(" --state {}", typed(state))).unwrap_or_default();
    format!("{}{state}", typed(station))
}

/// A number with its noun.
pub(crate) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Prints one JSON document.
pub(crate) fn print_json(value: &serde_json::Value) {
    print(&format!("{value:#}\n"));
}

/// The definition of the command line, for completions and the man page.
pub(crate) fn definition() -> clap::Command {
    <Arguments as clap::CommandFactory>::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_can_be_typed() {
        assert_eq!(typed(Path::new("state/one-1")), "state/one-1");
        assert_eq!(typed(Path::new("line 3/it's")), "'line 3/it'\\''s'");
        assert_eq!(typed(Path::new("")), "''");
        let (station, state) = (Path::new("stations/one.yaml"), Path::new("my state"));
        assert_eq!(station_words(station, None), "stations/one.yaml");
        assert_eq!(station_words(station, Some(state)), "stations/one.yaml --state 'my state'");
    }

    #[test]
    fn sentences_are_folded_and_commands_are_not() {
        let long = "word ".repeat(20);
        let text = folded(&format!("error: {long}\n    command {long}"));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.len() == 3 && lines[0].len() <= 80 && lines[1].starts_with("  word"), "{text}");
        assert!(lines[2].len() > 80, "{text}");
        let text = folded(&format!("help: {}`one two three four five six` seven", &long[..60]));
        assert!(text.contains("\n  `one two three four five six` seven"), "{text}");
    }
}
