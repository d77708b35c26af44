//! `schema`: JSON schemas that make editors complete and check stations and profiles.

use super::Status;

#[derive(Debug, clap::Args)]
pub(crate) struct SchemaArguments {
    /// Of which kind of file: station or profile
    #[arg(value_enum, value_name = "KIND", hide_possible_values = true)]
    of: Of,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Of {
    Station,
    Profile,
}

pub(crate) fn run(arguments: &SchemaArguments) -> Status {
    super::print_json(&match arguments.of {
        Of::Station => crate::config::station_schema(),
        Of::Profile => crate::config::profile_schema(),
    });
    Status::Good
}
