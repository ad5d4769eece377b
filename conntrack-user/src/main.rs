//! The binary: parses the command line, runs the command, turns its end into an exit code.

mod cli;
mod command;

use std::process::ExitCode;

use anyhow::Result;
use clap::error::ErrorKind;

use cli::{Cli, Command};

/// Wrong usage and every error that is not a verdict: UNKNOWN, as monitoring plugins have it.
const FAILURE: u8 = 3;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let cli = match Cli::read(&arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // A closed pipe is no reason to complain about.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(FAILURE),
            };
        }
    };
    let outcome = match cli.command {
        Command::Watch(watch) => block_on(command::watch::run(&watch)),
        Command::Record(record) => block_on(command::record::run(&record)),
        Command::Replay(replay) => block_on(command::replay::run(&replay)),
        Command::Export(export) => command::export::run(&export),
        Command::Status(status) => block_on(command::status::run(&status)),
        Command::Events(events) => block_on(command::events::run(&events)),
        Command::Serve(serve) => command::serve::run(&serve, &arguments),
        Command::Doctor(doctor) => command::doctor::run(&doctor),
        Command::Backtest(backtest) => command::backtest::run(&backtest),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            anstream::eprintln!("ctmon: {}", conntrack_user::source::explain(&error));
            ExitCode::from(FAILURE)
        }
    }
}

fn block_on(command: impl Future<Output = Result<u8>>) -> Result<u8> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}
