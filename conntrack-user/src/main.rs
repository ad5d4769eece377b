//! The binary: parses the command line, runs the command, turns its end into an exit code.

mod cli;
mod command;

use std::{borrow::Cow, ffi::OsString, io::Write as _, process::ExitCode};

use anyhow::Result;
use clap::error::ErrorKind;
use conntrack_user::text::{LONGEST, printable};

use cli::{Cli, Command, Report};

/// Wrong usage and every error that is not a verdict: UNKNOWN, as monitoring plugins have it.
const FAILURE: u8 = 3;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if let Err(error) = command::room::require_stack() {
        return failure(&error, Cli::is_plugin(&arguments));
    }
    let cli = match Cli::read(&arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let is_help =
                matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // A closed pipe is no reason to complain about.
            let _ = if !is_help && Cli::is_plugin(&arguments) {
                command::output::unknown(&error.to_string())
            } else if is_help || is_plain(&error.to_string()) {
                error.print()
            } else {
                // It repeats what somebody wrote that may command a terminal or look like lines of ctmon.
                writeln!(anstream::stderr(), "{}", conntrack_user::text::lines(&error))
            };
            return if is_help { ExitCode::SUCCESS } else { ExitCode::from(FAILURE) };
        }
    };
    let is_plugin =
        matches!(&cli.command, Command::Status(status) if status.output == Report::Text);
    let outcome = command::room::require(&cli.command).and_then(|()| run(cli.command, &arguments));
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => failure(&error, is_plugin),
    }
}

/// Says why a command failed, to a monitoring plugin's caller on standard output.
fn failure(error: &anyhow::Error, is_plugin: bool) -> ExitCode {
    let text = conntrack_user::source::chain(error);
    if is_plugin {
        let _ = command::output::unknown(&text);
    } else {
        command::output::say(text);
    }
    ExitCode::from(FAILURE)
}

/// Reports whether an error of the command line holds readable characters only, and no line that is not its own.
fn is_plain(error: &str) -> bool {
    const OWN: [&str; 4] = [" ", "Usage:", "For more information", "error:"];
    let clean = |line: &str| matches!(printable(line, LONGEST), Cow::Borrowed(_));
    let is_own = |line: &str| line.is_empty() || OWN.iter().any(|begin| line.starts_with(begin));
    error.lines().all(|line| clean(line) && is_own(line))
}

/// Runs a command; its exit code. `arguments`: the command line.
fn run(command: Command, arguments: &[OsString]) -> Result<u8> {
    match command {
        Command::Watch(watch) => block_on(command::watch::run(&watch)),
        Command::Record(record) => block_on(command::record::run(&record)),
        Command::Replay(replay) => block_on(command::replay::run(&replay)),
        Command::Export(export) => command::export::run(&export),
        Command::Status(status) => block_on(command::status::run(&status)),
        Command::Events(events) => block_on(command::events::run(&events)),
        Command::Serve(serve) => command::serve::run(&serve, arguments),
        Command::Probe(probe) => command::probe::run(&probe),
        Command::Doctor(doctor) => command::doctor::run(&doctor),
        Command::Backtest(backtest) => command::backtest::run(&backtest),
    }
}

fn block_on(command: impl Future<Output = Result<u8>>) -> Result<u8> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}
