//! `sim`: simulated firmware, and simulated modules for other programs or out of traces.

use std::path::PathBuf;
use std::sync::Arc;

use clap::builder::{PossibleValue, PossibleValuesParser};

use super::attach::{self, AttachArguments};
use super::serve::{self, ServeArguments};
use super::{Status, complain, folded, print};
use crate::host::{Disk, OsDisk};
use crate::sim::models::MODELS;
use crate::sim::package::{self, PackageError, PackageSpec, VARIANTS};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum SimCommand {
    /// Make a firmware package for simulated modules, or complete a real one with stand-in images
    Package(PackageArguments),
    /// Offer a station's simulated modules to other programs
    Serve(ServeArguments),
    /// Attach served modules to this host's USB stack, and keep them attached (Linux, as root)
    Attach(AttachArguments),
    /// Play the module's side of a trace to the controller, and compare what it does with what it did then
    Replay(super::replay::ReplayArguments),
}

#[derive(Debug, clap::Args)]
pub(crate) struct PackageArguments {
    /// Complete this package: copy it, make the missing images, rewrite its check list
    #[arg(long, value_name = "DIR", conflicts_with_all = ["model", "megabytes", "variant"])]
    complete: Option<PathBuf>,
    /// Where the package is made; must not be there yet
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The model it is for
    #[arg(long, required_unless_present = "complete", value_parser = models())]
    model: Option<String>,
    /// The revision that a module reports afterwards
    #[arg(long, required_unless_present = "complete")]
    revision: Option<String>,
    /// Size of all images together, in megabytes
    #[arg(long, default_value_t = 24)]
    megabytes: u32,
    /// What kind of package: a good one (`update`), or a bad one for training; a wrong name lists them
    #[arg(long, default_value = "update", value_parser = variants(), hide_possible_values = true)]
    variant: String,
}

fn models() -> PossibleValuesParser {
    PossibleValuesParser::new(MODELS.iter().map(|model| model.name))
}

fn variants() -> PossibleValuesParser {
    PossibleValuesParser::new(VARIANTS.iter().map(|(name, special)| PossibleValue::new(*name).help(*special)))
}

pub(crate) fn run(command: &SimCommand) -> Status {
    match command {
        SimCommand::Package(arguments) => package(arguments),
        SimCommand::Serve(arguments) => serve::run(arguments),
        SimCommand::Attach(arguments) => attach::run(arguments),
        SimCommand::Replay(arguments) => super::replay::run(arguments),
    }
}

fn remedy(error: &PackageError, completes: bool) -> &'static str {
    match error {
        PackageError::NotAPackage { .. } | PackageError::Disk { .. } if completes => {
            "--complete names a package's directory, with md5.txt and update/firehose/; --out a directory that is not \
             there yet, in one that this user may write to"
        }
        PackageError::NotAPackage { .. } | PackageError::Disk { .. } => {
            "--out names a directory that is not there yet, in one that this user may write to"
        }
        PackageError::Revision => {
            "give it as a module of that model reports it: --revision EG25GGBR07A08M2G_30.006.30.006"
        }
        PackageError::Megabytes { .. } => "give --megabytes as many as fit, or leave it out",
        PackageError::Model(_) | PackageError::Variant(_) => {
            "`stationmaster sim package --help` names those that there are"
        }
    }
}

fn package(arguments: &PackageArguments) -> Status {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::new());
    if disk.list(&arguments.out).is_ok_and(|entries| !entries.is_empty()) {
        complain(format!(
            "error: {}: there is something already\nhelp: name a directory that is not there yet, or remove this one",
            arguments.out.display()
        ));
        return Status::Refused;
    }
    let made = match (&arguments.complete, &arguments.model, &arguments.revision) {
        (Some(source), _, revision) => package::complete(disk.as_ref(), source, &arguments.out, revision.as_deref()),
        (None, Some(model), Some(revision)) => {
            let spec = PackageSpec {
                model: model.clone(),
                revision: revision.clone(),
                megabytes: arguments.megabytes,
                variant: arguments.variant.clone(),
            };
            package::generate(disk.as_ref(), &arguments.out, &spec)
        }
        // clap asks for them.
        (None, ..) => return Status::Refused,
    };
    match made {
        Ok(()) => {
            print(&format!("{}\n", arguments.out.display()));
            Status::Good
        }
        Err(error) => {
            complain(folded(&format!("error: {error}\nhelp: {}", remedy(&error, arguments.complete.is_some()))));
            Status::Refused
        }
    }
}
