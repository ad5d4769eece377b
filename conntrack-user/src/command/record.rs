//! `ctmon record`, and `watch --record`

use std::{
    fs::{self, File},
    io::{self, IsTerminal as _, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use conntrack_user::{
    model::flows::Flows,
    source::{
        item::{Item, Use},
        recording::writer::{Room, WriteError, Writer},
    },
    text,
};

use super::{
    create,
    follow::{self, Sink},
    kernel_release,
    output::{self, Reader},
    show::Show,
    shutdown::Shutdown,
};
use crate::cli::{Plan, Record};

/// Age at which a chunk is written though nothing comes that would say how late it is.
const FLUSH_AFTER: Duration = Duration::from_millis(1500);
/// How often the line about the progress is written anew.
const SHOW_EVERY: Duration = Duration::from_secs(1);

pub(crate) async fn run(record: &Record) -> Result<u8> {
    let mut shutdown = Shutdown::listen()?;
    let plan = Plan { for_at_most: record.for_at_most, ..record.follow.plan() };
    let procfs = &plan.options.procfs;
    let mut recorder = Recorder::create(&record.file, record.force, record.max_size, procfs)?;
    recorder.show_progress();
    // The model says when the baselines are settled, and which live entries are to be read again.
    let mut sink = (Show::new(None, false, false), Some(recorder));
    let outcome = tokio::select! {
        () = shutdown.requested() => Ok(()),
        outcome = follow::run(&plan, &mut sink) => outcome,
    };
    if let Some(finished) = sink.1.map(|recorder| recorder.end(outcome)).transpose()? {
        output::say(finished);
    }
    Ok(0)
}

/// Where a recording goes.
enum Target {
    File(File),
    Stdout(io::Stdout),
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Stdout(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Stdout(out) => out.flush(),
        }
    }
}

/// Writes what a source tells into a file.
pub(crate) struct Recorder {
    path: PathBuf,
    writer: Writer<Target>,
    flushed: Instant,
    said: Said,
    progress: Option<Instant>,
}

/// What the progress is told by.
#[derive(Default)]
struct Said {
    /// When the first reading that counts was taken, and the last one.
    span: Option<(Instant, Instant)>,
    ticks: u64,
    flows: u64,
    lost: u64,
    full: bool,
}

impl Recorder {
    /// Begins the file. `-` is standard output.
    pub(crate) fn create(
        path: &Path,
        force: bool,
        max_size: Option<u64>,
        procfs: &Path,
    ) -> Result<Self> {
        let target = if path == Path::new("-") {
            if io::stdout().is_terminal() {
                bail!("a recording is nothing for a terminal: name a file, or send it into a pipe");
            }
            Target::Stdout(io::stdout())
        } else {
            Target::File(create::open(path, force)?)
        };
        let writer = Writer::new(target, &kernel_release(procfs), max_size)
            .inspect_err(|_| remove(path))
            .with_context(|| format!("cannot write the recording {}", path.display()))?;
        Ok(Self {
            path: path.into(),
            writer,
            flushed: Instant::now(),
            said: Said::default(),
            progress: None,
        })
    }

    /// From now on a line on standard error tells the progress, if that is a terminal.
    fn show_progress(&mut self) {
        self.progress = io::stderr().is_terminal().then(Instant::now);
    }

    /// Ends the recording with the `outcome` of following the source, and says what there is. A source that could not even
    /// be opened leaves no file.
    pub(crate) fn end(self, outcome: Result<()>) -> Result<String> {
        if outcome.is_err() && self.said.span.is_none() {
            remove(&self.path);
            return outcome.map(|()| String::new());
        }
        let finished = self.finish();
        outcome.and(finished)
    }

    /// Writes what is left, and says what there is.
    fn finish(self) -> Result<String> {
        let Self { path, writer, said, progress, .. } = self;
        if progress.is_some() {
            let _ = writeln!(anstream::stderr());
        }
        let safe = writer.written();
        let (target, bytes) = writer.finish().map_err(|error| explain(&path, safe, error))?;
        if let Target::File(file) = target {
            file.sync_all().or_else(no_disk).map_err(|error| explain(&path, safe, error.into()))?;
        }
        let because = if said.full { ": --max-size is reached" } else { "" };
        Ok(format!("recorded {} into {}{because}", said.text(bytes), text::path(&path)))
    }

    fn wrote(&mut self, outcome: Result<Room, WriteError>) -> Result<Reader> {
        match outcome {
            Ok(Room::Left) => Ok(Reader::Reading),
            Ok(Room::Full) => {
                self.said.full = true;
                Ok(Reader::Gone)
            }
            // A closed pipe ends it as it ends `watch`.
            Err(WriteError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                Ok(Reader::Gone)
            }
            Err(error) => Err(explain(&self.path, self.writer.written(), error)),
        }
    }
}

/// Removes a file in which there is nothing yet; a pipe or a device stays.
fn remove(path: &Path) {
    if fs::symlink_metadata(path).is_ok_and(|about| about.is_file()) {
        // What cannot be removed is empty, and the error that is reported matters more.
        let _ = fs::remove_file(path);
    }
}

/// What cannot be synchronised, such as a pipe or a device, is not on a disk.
fn no_disk(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::InvalidInput { Ok(()) } else { Err(error) }
}

fn explain(path: &Path, safe: u64, error: WriteError) -> anyhow::Error {
    anyhow::Error::new(error).context(format!(
        "cannot go on with the recording {}; its first {safe} bytes are whole and can be replayed",
        path.display()
    ))
}

impl Said {
    fn text(&self, bytes: u64) -> String {
        let Self { span, ticks, flows, lost, .. } = self;
        let elapsed = span.map_or(0.0, |(first, last)| last.duration_since(first).as_secs_f64());
        let elapsed = humantime::format_duration(Duration::from_secs(elapsed.round() as u64));
        format!("{elapsed}: {ticks} ticks, {flows} flow events ({lost} lost), {bytes} bytes")
    }
}

impl Sink for Recorder {
    fn take(&mut self, item: &Item) -> Result<Reader> {
        match item {
            Item::Start(_) | Item::Reading(Use::Settle, _) => {}
            Item::Reading(purpose, reading) => {
                let now = Instant::now();
                self.said.span.get_or_insert((now, now)).1 = now;
                self.said.ticks += u64::from(*purpose == Use::Tick);
                self.said.lost = reading.events.map_or(0, |events| events.lost);
            }
            Item::Flows(flows) => self.said.flows += flows.events.len() as u64,
            Item::Notice(_) | Item::Threshold(_) | Item::Standing(_) => {}
        }
        let before = self.writer.written();
        let outcome = self.writer.take(item);
        if self.writer.written() > before {
            self.flushed = Instant::now();
        }
        self.wrote(outcome)
    }

    fn pass_time(&mut self) -> Result<Reader> {
        if self.progress.is_some_and(|last| last.elapsed() >= SHOW_EVERY) {
            self.progress = Some(Instant::now());
            let mut err = anstream::stderr().lock();
            // Nobody has to see it.
            let _ = write!(err, "\r{}\x1b[K", self.said.text(self.writer.written()));
            let _ = err.flush();
        }
        if self.flushed.elapsed() < FLUSH_AFTER {
            return Ok(Reader::Reading);
        }
        self.flushed = Instant::now();
        let outcome = self.writer.flush();
        self.wrote(outcome)
    }

    fn is_settled(&self) -> bool {
        true
    }

    fn flows(&self) -> Option<&Flows> {
        None
    }
}
