//! What a daemon says of itself: structured lines, one a change of state, not one a tick. As text or JSON lines to the
//! standard error, or to the journal with its fields.

mod journald;
mod line;
mod patience;

use std::{
    env,
    fs::File,
    io::{self, Write},
    os::{fd::AsFd, linux::fs::MetadataExt as _},
    sync::{Arc, Mutex, MutexGuard},
    time::SystemTime,
};

use clap::ValueEnum;
use serde_json::Value;

use super::warning::Change;
use crate::{lock::lock, severity::Severity, text::lines, view};
use journald::Journal;
use patience::Patient;

/// How grave a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Worth knowing.
    Info,
    /// Worth knowing, and rare.
    Notice,
    /// Something may go wrong, or went wrong and does no harm yet.
    Warning,
    /// Something went wrong.
    Error,
    /// Somebody must act.
    Critical,
}

impl Level {
    /// Its name in text and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }

    /// Its priority in syslog(3).
    const fn priority(self) -> u8 {
        match self {
            Self::Critical => 2,
            Self::Error => 3,
            Self::Warning => 4,
            Self::Notice => 5,
            Self::Info => 6,
        }
    }
}

impl From<Severity> for Level {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Ok | Severity::Info | Severity::Unknown => Self::Notice,
            Severity::Warning => Self::Warning,
            Severity::Critical => Self::Critical,
        }
    }
}

/// How lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The journal where the standard error goes there, else text.
    #[default]
    Auto,
    /// `TIME LEVEL MESSAGE KEY=VALUE ...`
    Text,
    /// One JSON object a line.
    Json,
    /// To the journal, each field by itself.
    Journald,
}

/// One line.
#[derive(Debug)]
struct Line<'a> {
    time: SystemTime,
    level: Level,
    /// A sentence for people.
    message: &'a str,
    /// Kind of the record: `warning` for a change of severity, else `log`.
    kind: &'a str,
    /// Lower-case names; null: it is left out.
    fields: &'a [(&'a str, Value)],
}

/// Writes lines; its clones write to the same place.
#[derive(Clone)]
pub struct Logger(Arc<Mutex<Inner>>);

struct Inner {
    /// Where the others go: the standard error but for tests.
    out: Box<dyn Write + Send>,
    with_json: bool,
    journal: Option<Arc<Journal>>,
    /// Connection to the journal, whether lines go there or not; none: it does not run here.
    connection: Option<Arc<Journal>>,
    /// Lines that were not taken since the last one that was.
    lost: u64,
}

impl Inner {
    /// Writes a line, and before it how many were lost. A line that cannot be written is lost: nobody is left to be told that
    /// nobody listens.
    fn write(&mut self, line: &Line<'_>) {
        let lost = self.lost;
        let result = if lost > 0 { self.put_losses(lost) } else { Ok(()) };
        self.lost = match result.and_then(|()| self.put(line)) {
            Ok(()) => 0,
            Err(_) => lost + 1,
        };
    }

    fn put_losses(&mut self, lost: u64) -> io::Result<()> {
        let message = format!("{lost} log lines were lost: nobody read the standard error");
        let fields = [("lost", Value::from(lost))];
        let (time, level) = (SystemTime::now(), Level::Warning);
        self.put(&Line { time, level, message: &message, kind: "log", fields: &fields })
    }

    fn put(&mut self, line: &Line<'_>) -> io::Result<()> {
        let text = if self.with_json { line::json(line) } else { line::text(line) };
        self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush())
    }
}

impl Logger {
    /// Opens what `format` asks for, and connects to the journal in any case: a sandbox makes no sockets.
    ///
    /// # Errors
    ///
    /// The format is the journal, and it does not answer.
    pub fn open(format: Format) -> io::Result<Self> {
        Self::by(format, Journal::open(journald::SOCKET.as_ref()).map(Arc::new))
    }

    /// Opens what `format` asks for, with this one's connection to the journal.
    ///
    /// # Errors
    ///
    /// The format is the journal, and this logger has no connection to it.
    pub fn reopen(&self, format: Format) -> io::Result<Self> {
        let connection = self.lock().connection.clone();
        Self::by(
            format,
            connection.ok_or_else(|| {
                let text = "the journal did not run here at the start: it takes a restart";
                io::Error::new(io::ErrorKind::NotConnected, text)
            }),
        )
    }

    fn by(format: Format, connection: io::Result<Arc<Journal>>) -> io::Result<Self> {
        let (connection, missing) = match connection {
            Ok(connection) => (Some(connection), None),
            Err(error) => (None, Some(error)),
        };
        let with_json = format == Format::Json;
        let journal = match (format, missing) {
            (Format::Journald, Some(error)) => return Err(error),
            (Format::Journald, None) => connection.clone(),
            (Format::Auto, _) if stderr_is_journal() => connection.clone(),
            (Format::Auto | Format::Text | Format::Json, _) => None,
        };
        let out = Box::new(Patient::new(io::stderr()));
        Ok(Self::new(Inner { out, with_json, journal, connection, lost: 0 }))
    }

    fn new(inner: Inner) -> Self {
        Self(Arc::new(Mutex::new(inner)))
    }

    /// Has this one and its clones write where `other` writes, and as it does.
    pub fn revise(&self, other: Self) {
        std::mem::swap(&mut *self.lock(), &mut *other.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.0)
    }

    /// Says something. `fields`: names in lower case and their values; null is left out.
    pub fn log(&self, level: Level, message: &str, fields: &[(&str, Value)]) {
        self.write(&Line { time: SystemTime::now(), level, message, kind: "log", fields });
    }

    /// Reports a change of a table's severity.
    pub fn change(&self, change: &Change) {
        let level = Level::from(change.to);
        let (message, kind, time) = (change.message.as_str(), "warning", SystemTime::now());
        self.write(&Line { time, level, message, kind, fields: &view::warning::fields(change) });
    }

    /// Writes a line. Nothing in it commands a terminal, in whatever format: a person reads the journal and JSON, too.
    fn write(&self, line: &Line<'_>) {
        let (message, fields) = (lines(&line.message), line.fields.iter());
        let fields: Vec<_> = fields.map(|(key, value)| (*key, cleaned(value))).collect();
        let line = &Line { message: &message, fields: &fields, ..*line };
        let inner = &mut *self.lock();
        if inner.journal.as_ref().is_some_and(|journal| journal.send(line).is_ok()) {
            return;
        }
        inner.write(line);
    }
}

/// A value of a field with all its texts cleaned.
fn cleaned(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(lines(text)),
        Value::Array(all) => all.iter().map(cleaned).collect(),
        Value::Object(all) => {
            all.iter().map(|(key, value)| (key.clone(), cleaned(value))).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// Whether the standard error is what systemd connected to its journal (systemd.exec(5), `JOURNAL_STREAM`).
fn stderr_is_journal() -> bool {
    let is_it = || {
        let stream = env::var("JOURNAL_STREAM").ok()?;
        let (device, inode) = stream.split_once(':')?;
        let stderr = File::from(io::stderr().as_fd().try_clone_to_owned().ok()?).metadata().ok()?;
        let is_device = device.parse() == Ok(stderr.st_dev());
        Some(is_device && inode.parse() == Ok(stderr.st_ino()))
    };
    is_it().unwrap_or(false)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{io::Read as _, os::unix::net::UnixDatagram};

    use serde_json::json;

    use super::*;

    /// What a logger wrote.
    #[derive(Clone, Default)]
    pub(crate) struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        pub(crate) fn logger(&self) -> Logger {
            self.writes(false, None)
        }

        fn writes(&self, with_json: bool, journal: Option<Journal>) -> Logger {
            let out = Box::new(self.clone());
            let journal = journal.map(Arc::new);
            let connection = journal.clone();
            Logger::new(Inner { out, with_json, journal, connection, lost: 0 })
        }

        pub(crate) fn lines(&self) -> Vec<String> {
            let bytes = self.0.lock().unwrap();
            String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
        }
    }

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A line about nothing, as JSON.
    pub(crate) fn json_line() -> Value {
        let written = Written::default();
        let logger = written.writes(true, None);
        logger.log(Level::Notice, "", &[]);
        serde_json::from_str(&written.lines()[0]).unwrap()
    }

    #[test]
    fn a_reader_that_stops_loses_lines_and_is_told_how_many() {
        let (mut reader, writer) = io::pipe().unwrap();
        let out = Box::new(Patient::new(writer));
        let inner = Inner { out, with_json: false, journal: None, connection: None, lost: 0 };
        let logger = Logger::new(inner);
        let long = "x".repeat(1000);
        for _ in 0..200 {
            logger.log(Level::Notice, &long, &[]);
        }
        let mut all = vec![0; 1 << 20];
        let taken = reader.read(&mut all).unwrap();
        let before = all[..taken].iter().filter(|&&byte| byte == b'\n').count();
        assert!((1..200).contains(&before), "{before} lines fit in the pipe");
        logger.log(Level::Notice, "read again", &[]);
        let taken = reader.read(&mut all).unwrap();
        let text = std::str::from_utf8(&all[..taken]).unwrap();
        let lost = format!("{} log lines were lost: nobody read the standard error", 200 - before);
        assert!(text.contains(&lost) && text.contains("read again"), "{lost}: {text}");
    }

    #[test]
    fn what_the_journal_does_not_take_is_written_as_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let server = UnixDatagram::bind(&path).unwrap();
        let written = Written::default();
        let journal = Journal::open(&path).unwrap();
        let logger = written.writes(false, Some(journal));
        logger.log(Level::Warning, "first", &[("netns", json!(7))]);
        let mut bytes = [0; 4096];
        let len = server.recv(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes[..len]).into_owned();
        assert!(text.contains("MESSAGE=first\n") && text.contains("CTMON_NETNS=7\n"), "{text}");
        assert_eq!(written.lines(), Vec::<String>::new());
        drop(server);
        logger.log(Level::Warning, "second", &[("netns", json!(7))]);
        let lines = written.lines();
        assert!(lines.len() == 1 && lines[0].ends_with(" warning second netns=7"), "{lines:?}");
    }

    #[test]
    fn the_journal_is_written_later_over_the_connection_of_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let server = UnixDatagram::bind(&path).unwrap();
        let logger = Written::default().logger();
        let error = logger.reopen(Format::Journald).err().unwrap().to_string();
        assert!(error.contains("it takes a restart"), "{error}");
        logger.lock().connection = Some(Arc::new(Journal::open(&path).unwrap()));
        // Nobody makes a connection anew.
        std::fs::remove_file(&path).unwrap();
        logger.reopen(Format::Journald).unwrap().log(Level::Notice, "later", &[]);
        let mut bytes = [0; 4096];
        let len = server.recv(&mut bytes).unwrap();
        assert!(bytes[..len].starts_with(b"MESSAGE=later\n"));
        assert!(logger.reopen(Format::Text).unwrap().lock().journal.is_none());
    }

    #[test]
    fn no_format_has_what_commands_a_terminal() {
        use crate::text::tests::{HOSTILE, is_clean};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let server = UnixDatagram::bind(&path).unwrap();
        let message = format!("{HOSTILE}\n2026-12-01T00:00:00Z critical forged");
        let values = [json!(message), json!({ "inner": [message] }), json!("x".repeat(1 << 20))];
        for (kind, with_json) in [("text", false), ("json", true), ("journald", false)] {
            let written = Written::default();
            let journal = (kind == "journald").then(|| Journal::open(&path).unwrap());
            let logger = written.writes(with_json, journal);
            for value in &values {
                logger.log(Level::Notice, &message, &[("value", value.clone())]);
                let mut bytes = vec![0; 1 << 16];
                let lines = match kind {
                    "journald" => {
                        let len = server.recv(&mut bytes).unwrap();
                        vec![String::from_utf8_lossy(&bytes[..len]).into_owned()]
                    }
                    _ => written.lines(),
                };
                let clean = |line: &String| {
                    // The journal has the length of a value of several lines before it, in eight bytes.
                    let without: String =
                        line.chars().filter(|c| *c as u32 >= 0x20 || kind != "journald").collect();
                    is_clean(&without)
                        && !line.contains('\x1b')
                        && line.len() < 20_000
                        && !line.contains("\n2026-12-01")
                };
                assert!(!lines.is_empty() && lines.iter().all(clean), "{kind}: {lines:?}");
            }
        }
    }

    #[test]
    fn clones_write_where_another_writes() {
        let [first, second] = [Written::default(), Written::default()];
        let logger = first.logger();
        let clone = logger.clone();
        logger.log(Level::Notice, "one", &[]);
        logger.revise(second.writes(true, None));
        clone.log(Level::Notice, "two", &[]);
        assert!(first.lines().len() == 1 && first.lines()[0].ends_with(" notice one"));
        assert!(second.lines()[0].contains("\"message\":\"two\""), "{:?}", second.lines());
    }
}
