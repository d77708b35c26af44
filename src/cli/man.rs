//! `man`: the manual pages, made from the same definition as the help, so that they cannot differ. For packagers.

use std::path::{Path, PathBuf};

use super::{Status, complain};
use crate::host::{Disk, OsDisk, disk_words};

#[derive(Debug, clap::Args)]
pub(crate) struct ManArguments {
    /// Where to put them; made when it is not there
    directory: PathBuf,
}

pub(crate) fn run(arguments: &ManArguments) -> Status {
    let disk = OsDisk::new();
    let mut definition = without_help(super::definition());
    // Only then a subcommand knows its whole name.
    definition.build();
    let written =
        disk.create_dir_all(&arguments.directory).and_then(|()| write(&disk, &arguments.directory, definition));
    match written {
        Ok(()) => Status::Good,
        Err(error) => {
            complain(format!("error: {}: {}", arguments.directory.display(), disk_words(&error)));
            Status::Stuck
        }
    }
}

/// Without the subcommands `help`: a manual is no place to ask for help, and there is no page for them.
fn without_help(command: clap::Command) -> clap::Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help)
}

/// One page for the command, and one for each of its subcommands that people are meant to find.
fn write(disk: &dyn Disk, directory: &Path, command: clap::Command) -> std::io::Result<()> {
    let subcommands: Vec<clap::Command> =
        command.get_subcommands().filter(|command| !command.is_hide_set()).cloned().collect();
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let path = directory.join(format!("{name}.1"));
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    disk.replace(&path, &page, true)?;
    subcommands.into_iter().try_for_each(|command| write(disk, directory, command))
}
