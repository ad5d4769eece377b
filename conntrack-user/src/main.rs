//! The binary: parses the command line, runs the command, turns its end into an exit code.

mod cli;
mod command;

use std::process::ExitCode;

use clap::{Parser as _, error::ErrorKind};

use cli::{Cli, Command};

/// Wrong usage and every error that is not a verdict: UNKNOWN, as monitoring plugins have it.
const FAILURE: u8 = 3;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
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
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        runtime.block_on(async {
            match cli.command {
                Command::Watch(watch) => command::watch::run(&watch).await,
                Command::Record(record) => command::record::run(&record).await,
                Command::Replay(replay) => command::replay::run(&replay).await,
                Command::Export(export) => command::export::run(&export),
                Command::Status(status) => command::status::run(&status).await,
                Command::Events(events) => command::events::run(&events).await,
                Command::Doctor(doctor) => command::doctor::run(&doctor),
                Command::Backtest(backtest) => command::backtest::run(&backtest),
            }
        })
    });
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            anstream::eprintln!("ctmon: {}", conntrack_user::source::explain(&error));
            ExitCode::from(FAILURE)
        }
    }
}
