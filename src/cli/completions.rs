//! `completions`: for a shell.

use super::Status;

#[derive(Debug, clap::Args)]
pub(crate) struct CompletionArguments {
    /// The shell
    shell: clap_complete::Shell,
}

pub(crate) fn run(arguments: &CompletionArguments) -> Status {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::definition(), "stationmaster", &mut text);
    super::print(&String::from_utf8_lossy(&text));
    Status::Good
}
