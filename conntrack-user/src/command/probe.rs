//! `ctmon probe`: asks a running `ctmon serve` over its unix socket.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    path::Path,
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use conntrack_user::{
    http::connect_unix,
    text::{one_line, path},
};

use super::output;
use crate::cli::Probe;

/// Longest time until the whole answer is there.
const ANSWER: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read: its first line, and a reason.
const MOST_BYTES: u64 = 4096;
/// Exit code of an answer other than 200.
const NOT_OK: u8 = 1;

pub(crate) fn run(probe: &Probe) -> Result<u8> {
    let (status, text) = ask_within(ANSWER, &probe.socket, &probe.path)
        .with_context(|| format!("no answer at unix:{}", path(&probe.socket)))?;
    let _ = output::text(&line(status, &text))?;
    Ok(if status == 200 { 0 } else { NOT_OK })
}

/// The answer on a line, fit for a terminal: anybody may listen at the socket.
fn line(status: u16, text: &str) -> String {
    format!("{status} {}\n", one_line(text))
}

/// Status and body of the answer, all of which has to come within `time`: somebody who sends a byte now and then does not
/// keep a health check waiting, nor does one who takes no connections.
fn ask_within(time: Duration, socket: &Path, path: &str) -> Result<(u16, String)> {
    let (answered, answer) = mpsc::channel();
    let (socket, path) = (socket.to_owned(), path.to_owned());
    // Its thread ends with this process.
    thread::Builder::new().spawn(move || answered.send(ask(&socket, &path)))?;
    answer.recv_timeout(time).map_err(|_| {
        anyhow!(
            "the whole answer was not there within {} s; is the service stuck?",
            time.as_secs_f64()
        )
    })?
}

/// Status and body of the answer.
fn ask(socket: &Path, path: &str) -> Result<(u16, String)> {
    let mut stream = connect_unix(socket).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => anyhow!(
            "busy: its queue of connections is full, and nobody takes them; is the service stuck?"
        ),
        _ => error.into(),
    })?;
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

    /// A socket at which somebody sends a byte every so often, and no end.
    fn dripping() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(50));
            }
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

    #[test]
    fn an_answer_commands_no_terminal_and_is_one_line() {
        let (_folder, path) =
            answering("HTTP/1.1 200 OK\r\n\r\n\x1b]0;x\x07\u{9b}2J\nforged: ok\n");
        let (status, text) = ask(&path, "/readyz").unwrap();
        assert_eq!(line(status, &text), "200 ?]0;x??2J forged: ok\n");
    }

    #[test]
    fn a_full_queue_is_an_error_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let _held: Vec<_> = std::iter::from_fn(|| connect_unix(&path).ok()).take(10).collect();
        // Without the time limit: it does not wait.
        let error = format!("{:#}", ask(&path, "/readyz").unwrap_err());
        assert!(error.starts_with("busy: "), "{error}");
    }

    #[test]
    fn an_answer_without_an_end_is_given_up() {
        let (_folder, path) = dripping();
        let error = ask_within(Duration::from_millis(300), &path, "/readyz").unwrap_err();
        assert!(error.to_string().contains("within 0.3 s"), "{error}");
    }
}
