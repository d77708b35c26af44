//! `schema`: JSON schemas that make editors complete and check stations and profiles.

use super::Status;

#[derive(Debug, clap::Args)]
pub(crate) struct SchemaArguments {
    /// Of what
    #[arg(value_enum)]
    of: Of,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Of {
    /// A station file
    Station,
    /// A profile
    Profile,
}

pub(crate) fn run(arguments: &SchemaArguments) -> Status {
    super::print_json(&match arguments.of {
        Of::Station => crate::config::station_schema(),
        Of::Profile => crate::config::profile_schema(),
    });
    Status::Good
}
