//! What the monitor says at each tick of a recording.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::process;

/// One tick of the only network namespace.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tick {
    /// Seconds since 1970.
    pub(super) time: f64,
    pub(super) entries: f64,
    pub(super) limit: f64,
    pub(super) severity: String,
    pub(super) state: String,
    /// Seconds to the full table; none: not in sight.
    pub(super) median: Option<f64>,
}

#[derive(Deserialize)]
struct Line {
    time_ns: u64,
    netns: Vec<Netns>,
}

#[derive(Deserialize)]
struct Netns {
    entries: Option<f64>,
    entries_limit: Option<f64>,
    severity: String,
    forecast: Option<Forecast>,
}

#[derive(Deserialize)]
struct Forecast {
    state: String,
    seconds_to_full: Option<Quantiles>,
}

#[derive(Deserialize)]
struct Quantiles {
    p50: Option<f64>,
}

/// Replays a recording with the monitor `ctmon`.
pub(super) fn replay(ctmon: &Path, recording: &Path) -> Result<Vec<Tick>> {
    let mut command = process::command(&ctmon.to_string_lossy());
    command.arg("replay").arg(recording).args(["--speed", "max", "--output", "json"]);
    parse(&process::text(&mut command, "to replay a recording")?)
}

fn parse(text: &str) -> Result<Vec<Tick>> {
    let mut ticks = Vec::new();
    for line in text.lines().filter(|line| line.contains("\"kind\":\"tick\"")) {
        let line: Line = serde_json::from_str(line).context("not a tick")?;
        let time = line.time_ns as f64 / 1e9;
        for netns in line.netns {
            let (Some(entries), Some(limit)) = (netns.entries, netns.entries_limit) else {
                continue;
            };
            let (state, quantiles) = netns.forecast.map_or((String::new(), None), |forecast| {
                (forecast.state, forecast.seconds_to_full)
            });
            let median = quantiles.and_then(|quantiles| quantiles.p50);
            ticks.push(Tick { time, entries, limit, severity: netns.severity, state, median });
        }
    }
    Ok(ticks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_read_as_replay_writes_them() {
        let text = concat!(
            r#"{"schema_version":3,"time_ns":1,"kind":"start"}"#,
            "\n",
            r#"{"time_ns":2500000000,"kind":"tick","netns":[{"entries":7,"entries_limit":9,"severity":"ok","#,
            r#""forecast":{"state":"filling","seconds_to_full":{"p10":1.0,"p50":1.5,"p90":null}}}]}"#,
            "\n",
            r#"{"time_ns":3500000000,"kind":"tick","netns":[{"entries":7,"entries_limit":null,"severity":"ok","forecast":null}]}"#,
        );
        let [tick] = &parse(text).unwrap()[..] else { panic!() };
        assert_eq!((tick.time, tick.entries, tick.limit), (2.5, 7.0, 9.0));
        assert_eq!((tick.state.as_str(), tick.median), ("filling", Some(1.5)));
    }
}
