//! Asks a `ctmon serve` over a unix socket: a connection over loopback would be an entry of its own.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result};

/// For one answer.
const ANSWER: Duration = Duration::from_secs(20);

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its code.
    pub status: u16,
    /// Names in lower case.
    pub head: String,
    /// What it says.
    pub body: String,
}

/// Asks for a path.
///
/// # Errors
/// Nobody listens, or what comes is no answer.
pub fn get(socket: &Path, path: &str) -> Result<Answer> {
    ask(socket, &format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"))
}

/// Sends a request as it is.
///
/// # Errors
/// As [`get`].
pub fn ask(socket: &Path, request: &str) -> Result<Answer> {
    let mut stream = UnixStream::connect(socket).context("nobody listens")?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").context("an answer without an end")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.with_context(|| format!("no status in {head:?}"))?;
    Ok(Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() })
}

/// Metrics as text.
#[derive(Debug)]
pub struct Metrics(pub String);

impl Metrics {
    /// Those of a `ctmon serve`.
    ///
    /// # Errors
    /// As [`get`].
    pub fn scrape(socket: &Path) -> Result<Self> {
        Ok(Self(get(socket, "/metrics")?.body))
    }

    /// The value of a series, which is written as there; none where it is absent.
    #[must_use]
    pub fn value(&self, series: &str) -> Option<f64> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok())
    }

    /// The values of all series with that name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = f64> + 'a {
        let of = move |line: &str| {
            line.strip_prefix(name)?.strip_prefix('{')?.split(' ').next_back()?.parse().ok()
        };
        self.0.lines().filter_map(of)
    }

    /// The value of a namespace's series without other labels.
    #[must_use]
    pub fn of(&self, name: &str, inode: u64) -> Option<f64> {
        self.value(&format!("{name}{{netns=\"{inode}\"}}"))
    }
}
