//! The command line.

mod backtest;
mod docs;
mod doctor;
mod environment;
mod events;
mod flight;
mod follow;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod in_force;
mod plan;
mod probe;
mod recording;
mod report;
mod serve;
mod settings;
mod source;
mod status;
mod unread;
mod values;
mod warn;

use std::{ffi::OsString, path::PathBuf};

use clap::{
    CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum, error::ErrorKind,
};

pub(crate) use backtest::{Backtest, Form};
pub(crate) use doctor::Doctor;
pub(crate) use events::Events;
pub(crate) use follow::{Record, Watch};
pub(crate) use in_force::Settings;
pub(crate) use plan::{Plan, Wanted};
pub(crate) use probe::Probe;
pub(crate) use recording::{Export, Replay, Speed, What};
pub(crate) use report::Report;
pub(crate) use serve::Serve;
pub(crate) use status::{LOOK_ON, Status};

/// Watches the connection tracking tables of a Linux node: how full, how fast, and when they overflow
#[derive(Debug, Parser)]
#[command(name = "ctmon", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Follow the tables live, one line a namespace and tick
    #[command(after_help = follow::WATCH_COLUMNS)]
    Watch(Watch),
    /// Write what `watch` would show, and each flow event, into a file, to be looked at later
    #[command(after_help = follow::RECORD_ENDS)]
    Record(Record),
    /// Show a recording as `watch` would have shown it
    #[command(after_help = recording::REPLAY_ENDS)]
    Replay(Replay),
    /// Write what is in a recording as a table, for spreadsheets and databases
    #[command(after_help = recording::REPLAY_ENDS)]
    Export(Export),
    /// Say once how full the tables are, with an exit code for monitoring
    #[command(after_help = status::STATUS_CODES)]
    Status(Status),
    /// Follow single entries as they are inserted and destroyed
    #[command(after_help = events::EVENTS_LEGEND)]
    Events(Events),
    /// Watch this machine for as long as it runs: answer Prometheus, warn in time
    #[command(after_help = serve::SERVE_SIGNALS)]
    Serve(Box<Serve>),
    /// Ask a running `ctmon serve` over its unix socket whether it is well
    #[command(after_help = probe::PROBE_CODES)]
    Probe(Probe),
    /// Look at this machine: what ctmon can tell here, what is missing, and what to do
    #[command(after_help = doctor::DOCTOR_CODES)]
    Doctor(Doctor),
    /// Try forecasters on simulated tables and on recordings, and say how good they are
    #[command(after_help = backtest::BACKTEST_COLUMNS)]
    Backtest(Backtest),
}

impl Cli {
    /// Reads the command line, for `serve` with the environment and the settings file.
    ///
    /// # Errors
    /// What is wrong, or help that was asked for.
    pub(crate) fn read(arguments: &[OsString]) -> Result<Self, clap::Error> {
        let wrong =
            |error: String| clap::Error::raw(ErrorKind::ValueValidation, format!("{error}\n"));
        let plain = Self::command();
        let is_serve = arguments.get(1).is_some_and(|word| word == settings::SERVE);
        let mut warnings = Vec::new();
        if let (Some(serve), true) = (plain.find_subcommand(settings::SERVE), is_serve) {
            warnings = environment::check(serve, std::env::vars_os()).map_err(wrong)?;
        }
        let cli = settings::with_environment(plain);
        let matches = cli.clone().try_get_matches_from(arguments)?;
        let Some((settings::SERVE, serve)) = matches.subcommand() else {
            return Self::from_arg_matches(&matches);
        };
        let file = match serve.get_one::<PathBuf>("config") {
            Some(file) => settings::File::read(&Self::command(), serve, file)
                .map_err(|error| wrong(format!("{error:#}")))?,
            None => settings::File::default(),
        };
        let file = match cli.find_subcommand(settings::SERVE) {
            Some(command) => file.with_environment(command, serve),
            None => file,
        };
        // The program and the subcommand come first.
        let (first, rest) = arguments.split_at(arguments.len().min(2));
        let matches = cli.clone().try_get_matches_from([first, &file.arguments, rest].concat())?;
        let mut read = Self::from_arg_matches(&matches)?;
        if let (Command::Serve(serve), Some((_, matches))) =
            (&mut read.command, matches.subcommand())
        {
            serve.check().map_err(|error| wrong(file.located(&error.to_string())))?;
            serve.settings = settings::values(&cli, matches);
            serve.warnings = warnings;
        }
        Ok(read)
    }

    /// Reports whether the command line, which cannot be read, is that of `status` as a monitoring plugin: with output for
    /// programs an error does not belong on standard output.
    pub(crate) fn is_plugin(arguments: &[OsString]) -> bool {
        let mut words = arguments.iter().skip(1).filter_map(|word| word.to_str());
        words.next() == Some("status")
            && !words.any(|word| word.contains("json") || word.contains("prometheus"))
    }

    /// A settings file for `serve`, with what holds without one.
    pub(crate) fn settings_example() -> String {
        settings::example(&Self::command())
    }
}

/// How to write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

#[cfg(test)]
mod tests {
    use conntrack_user::severity::{THRESHOLDS, Thresholds};
    use conntrack_user::view::status::{FullWithin, Limits, Ranges};

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn arguments_that_make_no_sense_are_refused_with_what_would() {
        let cases = [
            (vec!["watch", "--interval", "5ms"], "between 10ms and 1h"),
            (vec!["watch", "--interval", "soon"], "100ms, 1s or 5m"),
            (vec!["watch", "--netns", "blue"], "all, self, or an inode number"),
            (vec!["watch", "--ring-size", "5000"], "a power of two"),
            (vec!["watch", "--ring-size", "2048"], "a power of two"),
            (vec!["watch", "--sample-ratio", "0"], "above 0 and at most 1"),
            (vec!["watch", "--rings", "3"], "1, 2, 4 or 8"),
            (vec!["watch", "--count", "0"], "0 is not in 1"),
            (vec!["watch", "--force"], "--record"),
            (vec!["record", "x", "--for", "long"], "30s, 10m or 2h"),
            (vec!["record", "x", "--for", "0s"], "longer than nothing"),
            (vec!["record", "x", "--max-size", "9K"], "at least 10K"),
            (vec!["record", "x", "--max-size", "99999999999999G"], "at least 10K"),
            (vec!["replay", "x", "--speed", "0"], "above 0, or max"),
            (vec!["replay", "x", "--speed", "inf"], "above 0, or max"),
            (vec!["replay", "x", "--from", "noon"], "30s or 1m30s"),
            (vec!["replay", "x", "--to", "2026-11-31T00:00:00Z"], "30s or 1m30s"),
            (vec!["watch", "--source", "ebfp"], "ebpf"),
            (vec!["probe", "127.0.0.1:12620"], "takes an entry"),
            (vec!["probe", "unix:run"], "an absolute path"),
            (vec!["status", "--warn", "101"], "between 0 and 100"),
            (vec!["status", "--crit", "NaN"], "between 0 and 100"),
            (vec!["status", "--full-within", "soon"], "10m or 1h=0.9"),
            (vec!["status", "--full-within", "0s"], "at most 3h"),
            (vec!["status", "--full-within", "4h"], "at most 3h"),
            (vec!["status", "--full-within", "1h=90"], "above 0 and at most 1"),
        ];
        for (arguments, expected) in cases {
            let all = [vec!["ctmon"], arguments.clone()].concat();
            let error = Cli::try_parse_from(all).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains(expected), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn no_health_check_in_contrib_takes_an_entry() {
        let yaml = include_str!("../../../contrib/kubernetes/ctmon.yaml");
        let plain: Vec<&str> = yaml.lines().filter(|line| !line.trim().starts_with('#')).collect();
        for wrong in ["httpGet", "tcpSocket", "grpc"] {
            assert!(!plain.iter().any(|line| line.contains(wrong)), "{wrong}");
        }
        let object: serde_json::Value = serde_saphyr::from_str(yaml).unwrap();
        let container = &object["spec"]["template"]["spec"]["containers"][0];
        let words = |value: &serde_json::Value| {
            let words = value.as_array().unwrap().iter();
            words.map(|word| word.as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let serve = [vec!["ctmon".to_owned()], words(&container["args"])].concat();
        let Command::Serve(serve) = Cli::try_parse_from(serve).unwrap().command else { panic!() };
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let command = words(&container[probe]["exec"]["command"]);
            let Command::Probe(probe) = Cli::try_parse_from(command).unwrap().command else {
                panic!("{probe}")
            };
            let socket = conntrack_user::http::Address::Unix(probe.socket);
            assert!(serve.listen.contains(&socket), "{socket} is not in --listen");
        }
    }

    #[test]
    fn a_forecast_is_asked_for_with_a_probability_or_without() {
        let within = |arguments: &[&str]| {
            let cli = Cli::try_parse_from([&["ctmon", "status"], arguments].concat()).unwrap();
            let Command::Status(status) = cli.command else { panic!() };
            status.limits().map(|limits| limits.full_within)
        };
        assert_eq!(within(&[]).unwrap(), None);
        let expected = FullWithin { seconds: 600.0, probability: 0.5 };
        assert_eq!(within(&["--full-within", "10m"]).unwrap(), Some(expected));
        let expected = FullWithin { seconds: 10_800.0, probability: 0.9 };
        assert_eq!(within(&["--full-within", "3h=0.9"]).unwrap(), Some(expected));
        let error = within(&["--full-within", "1m", "--interval", "6s"]).unwrap_err();
        assert!(error.to_string().contains("5s at the most"), "{error}");
    }

    #[test]
    fn a_warning_comes_before_critical() {
        let cli = Cli::try_parse_from(["ctmon", "status", "--crit", "59"]).unwrap();
        let Command::Status(low) = cli.command else { panic!() };
        let thresholds =
            Thresholds { warning_fill: 0.59, critical_fill: 0.59, ..THRESHOLDS.on_demand() };
        let expected = Limits { thresholds, ranges: Ranges::default(), full_within: None };
        assert_eq!(low.limits().unwrap(), expected);
        let cli = Cli::try_parse_from(["ctmon", "status", "--warn", "96"]).unwrap();
        let Command::Status(status) = cli.command else { panic!() };
        assert!(status.limits().unwrap_err().to_string().contains("above --crit 95"));
    }

    #[test]
    fn thresholds_may_be_ranges_of_monitoring_plugins() {
        let limits = |arguments: &[&str]| {
            let cli = Cli::try_parse_from([&["ctmon", "status"], arguments].concat()).unwrap();
            let Command::Status(status) = cli.command else { panic!() };
            status.limits().unwrap().fills().map(|range| range.to_string())
        };
        assert_eq!(limits(&[]), ["80", "95"]);
        assert_eq!(limits(&["-w", "10:", "-c", "@95:100"]), ["10:", "@95:100"]);
        assert_eq!(limits(&["-w", "70%", "-c", "~:90%"]), ["70", "~:90"]);
        assert_eq!(limits(&["-c", "~:60"]), ["60", "~:60"], "a warning comes before");
        assert_eq!(limits(&["-c", "5:"]), ["80", "5:"]);
        for wrong in [["-w", "-5"], ["-w", "90:10"], ["-c", "@"]] {
            assert!(Cli::try_parse_from([&["ctmon", "status"], &wrong[..]].concat()).is_err());
        }
    }
}
