//! The command line's entry: parse, do, exit with the status that tells how it went.

use std::process::ExitCode;

fn main() -> ExitCode {
    stationmaster::cli::main()
}
