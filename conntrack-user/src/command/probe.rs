//! `ctmon probe`: asks a running `ctmon serve` over its unix socket.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::output;
use crate::cli::Probe;

/// Longest time for an answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read: its first line, and a reason.
const MOST_BYTES: u64 = 4096;
/// Exit code of an answer other than 200.
const NOT_OK: u8 = 1;

pub(crate) fn run(probe: &Probe) -> Result<u8> {
    let (status, text) = ask(&probe.socket, &probe.path)
        .with_context(|| format!("no answer at unix:{}", probe.socket.display()))?;
    let _ = output::text(&format!("{status} {}\n", text.trim_end()))?;
    Ok(if status == 200 { 0 } else { NOT_OK })
}

/// Status and body of the answer.
fn ask(socket: &Path, path: &str) -> Result<(u16, String)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.take(MOST_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").context("it is no answer of HTTP")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.context("it is no answer of HTTP")?, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, path::PathBuf, thread};

    use super::*;

    /// A socket at which somebody says `answer` once.
    fn answering(answer: &'static str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let read = stream.read(&mut request).unwrap();
            assert!(request[..read].starts_with(b"GET /readyz HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        (folder, path)
    }

    #[test]
    fn the_status_of_the_answer_is_that_of_the_service() {
        let (_folder, path) =
            answering("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nwhy\n");
        assert_eq!(ask(&path, "/readyz").unwrap(), (503, "why\n".to_owned()));
        let (_folder, path) = answering("nonsense");
        assert!(ask(&path, "/readyz").is_err());
        let nobody = Probe { socket: "/nowhere/socket".into(), path: "/healthz".into() };
        let error = format!("{:#}", run(&nobody).unwrap_err());
        assert!(error.starts_with("no answer at unix:/nowhere/socket: No such file"), "{error}");
    }
}
