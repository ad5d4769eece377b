//! The flight recorder of `ctmon serve`.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use clap::{Args, value_parser};
use conntrack_user::daemon::flight::{files::Folder, ring::Limits};

use super::values::parse_size;

/// Bytes of memory, at least: below that no second of a busy node fits.
const LEAST: u64 = 4_000_000;

#[derive(Debug, Args)]
pub(crate) struct Flight {
    /// Memory for the last minutes at full resolution: bytes, or with K, M or G (10^3, 10^6, 10^9), at least 4M;
    /// 0: none are kept
    #[arg(long = "flight-memory", value_name = "SIZE", value_parser = parse_memory, default_value = "16M")]
    memory: u64,
    /// Time that is kept, as far as the memory allows, 10s to 24h
    #[arg(long = "flight-time", value_name = "TIME", value_parser = parse_kept, default_value = "10m")]
    time: Duration,
    /// Folder for the files that SIGUSR1 and warnings write the last minutes into; it has to exist
    #[arg(long = "flight-dir", value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Such files, at most: the oldest are removed
    #[arg(long = "flight-files", value_name = "N", value_parser = value_parser!(u16).range(1..), default_value = "10")]
    files: u16,
    /// Bytes of all such files together, at most, written like that of --flight-memory
    #[arg(long = "flight-bytes", value_name = "SIZE", value_parser = parse_size, default_value = "200M")]
    bytes: u64,
}

impl Flight {
    /// How much is kept; none: nothing is.
    pub(crate) fn limits(&self) -> Option<Limits> {
        let ns = u64::try_from(self.time.as_nanos()).unwrap_or(u64::MAX);
        let bytes = usize::try_from(self.memory).unwrap_or(usize::MAX);
        (bytes > 0).then_some(Limits { bytes, ns })
    }

    /// The folder for files, as it was given.
    pub(super) fn dir(&self) -> Option<&PathBuf> {
        self.dir.as_ref()
    }

    /// Where files are written; none: nowhere.
    ///
    /// # Errors
    /// When a file might not fit.
    pub(crate) fn folder(&self) -> Result<Option<Folder>> {
        let Some(path) = &self.dir else { return Ok(None) };
        ensure!(
            self.bytes >= self.memory,
            "--flight-bytes is {}, less than --flight-memory, {}: a file may be as large as the memory",
            self.bytes,
            self.memory
        );
        let most_files = self.files.into();
        Ok(Some(Folder { path: path.clone(), most_files, most_bytes: self.bytes }))
    }
}

fn parse_memory(text: &str) -> Result<u64, String> {
    match text {
        "0" => Ok(0),
        _ => parse_size(text)
            .ok()
            .filter(|bytes| *bytes >= LEAST)
            .ok_or_else(|| "it must be 0 or at least 4M, and is written like 20M or 1G".to_owned()),
    }
}

fn parse_kept(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write it like 90s or 10m"))?;
    if (Duration::from_secs(10)..=Duration::from_secs(86_400)).contains(&time) {
        Ok(time)
    } else {
        Err("it must be between 10s and 24h".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_none_or_enough() {
        assert_eq!(parse_memory("0"), Ok(0));
        assert_eq!(parse_memory("4M"), Ok(4_000_000));
        for text in ["3999999", "1", "", "-1", "4T", "x"] {
            assert!(parse_memory(text).unwrap_err().contains("at least 4M"), "{text}");
        }
    }

    #[test]
    fn time_is_neither_nothing_nor_for_ever() {
        assert_eq!(parse_kept("10m"), Ok(Duration::from_secs(600)));
        for (text, why) in [("9s", "between 10s"), ("25h", "and 24h"), ("10", "like 90s")] {
            assert!(parse_kept(text).unwrap_err().contains(why), "{text}");
        }
    }

    #[test]
    fn files_have_room_for_the_memory() {
        let flight = |bytes| Flight {
            memory: 16_000_000,
            time: Duration::from_secs(600),
            dir: Some("/x".into()),
            files: 3,
            bytes,
        };
        assert_eq!(flight(16_000_000).folder().unwrap().unwrap().most_files, 3);
        let error = flight(15_000_000).folder().unwrap_err().to_string();
        assert!(error.contains("--flight-bytes is 15000000, less than"), "{error}");
        assert!(Flight { dir: None, ..flight(1) }.folder().unwrap().is_none());
        assert_eq!(Flight { memory: 0, ..flight(1) }.limits(), None);
    }
}
