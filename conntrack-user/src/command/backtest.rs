//! `ctmon backtest`

use std::{
    fs::File,
    io::{BufReader, ErrorKind, IsTerminal as _, Read, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use conntrack_user::{
    backtest::{
        drawn, recorded, registry,
        scenario::Scenario,
        trial::{self, Case, Input},
        verdict::verdicts,
    },
    source::recording::reader::{self, Reader as Recording},
    text,
    view::backtest as view,
};

use super::output;
use crate::cli::{Backtest, Form};

/// Bytes of a scenario at the most.
const MAX_SCENARIO: u64 = 1 << 20;

pub(crate) fn run(options: &Backtest) -> Result<u8> {
    let entries = registry::named(&options.forecasters)?;
    let mut cases = vec![];
    for path in &options.files {
        cases.extend(read(path, options)?);
    }
    let is_recorded = |case: &Case| matches!(case.input, Input::Recorded(_));
    ensure!(
        options.netns.is_none() || cases.iter().any(is_recorded),
        "--netns chooses from a recording, and none was given: give one, or leave it out"
    );
    cases.extend((0..options.drawn).map(|place| {
        let (name, scenario) = drawn::scenario(options.draw_seed, place);
        Case { name, input: Input::Drawn(scenario) }
    }));
    ensure!(!cases.is_empty(), "nothing to try: give a scenario or a recording, or --drawn");
    let bytes = options.memory / 2 * 5;
    let outcomes = trial::run(cases, &entries, options.seeds, bytes, progress)?;
    // Whether somebody reads it or not.
    let _ = match options.output {
        Form::Text => {
            output::text(&(view::text::table(&outcomes) + &view::verdict::text(&outcomes)))?
        }
        Form::Html => output::text(&view::html::page(&outcomes))?,
        Form::Json => {
            let mut json = output::Json::default();
            let mut reader = output::Reader::Reading;
            for line in view::json::lines(&outcomes) {
                reader = json.write(&line)?;
            }
            for verdict in verdicts(&outcomes) {
                reader = json.write(&verdict)?;
            }
            reader
        }
    };
    Ok(0)
}

/// What is in a file: a scenario, or the namespaces of a recording.
fn read(path: &Path, options: &Backtest) -> Result<Vec<Case>> {
    let name = text::path(path.file_stem().unwrap_or(path.as_os_str()).as_ref());
    let cannot_read = || format!("cannot read {}", text::path(path));
    let mut file = BufReader::new(File::open(path).with_context(cannot_read)?);
    let mut head = vec![];
    (&mut file).take(reader::HEAD as u64).read_to_end(&mut head).with_context(cannot_read)?;
    let mut whole = head.chain(file);
    if reader::is_recording(whole.get_ref().0) {
        return recorded(path, &name, options, whole);
    }
    let mut scenario = String::new();
    (&mut whole).take(MAX_SCENARIO + 1).read_to_string(&mut scenario).map_err(|error| {
        let is_text = error.kind() != ErrorKind::InvalidData;
        let why = "it is neither a recording of ctmon nor a scenario, which is text";
        anyhow::Error::new(error).context(if is_text {
            cannot_read()
        } else {
            format!("{}: {why}", cannot_read())
        })
    })?;
    ensure!(
        scenario.len() as u64 <= MAX_SCENARIO,
        "{}: it is no recording of ctmon, and too large for a scenario, which has at most {MAX_SCENARIO} bytes",
        cannot_read()
    );
    let scenario =
        Scenario::parse(&scenario).with_context(|| format!("cannot use {}", text::path(path)))?;
    Ok(vec![Case { name, input: Input::Written(scenario) }])
}

fn recorded(path: &Path, name: &str, options: &Backtest, input: impl Read) -> Result<Vec<Case>> {
    let cannot_use = || format!("cannot use the recording {}", text::path(path));
    let mut recording = Recording::open(input).with_context(cannot_use)?;
    let outcome = recorded::read(&mut recording, options.netns, options.memory);
    output::notes(path, &recording.take_notes());
    let all = outcome.with_context(cannot_use)?;
    let is_one = all.len() == 1;
    let case = |recorded: recorded::Recorded| {
        let inode = recorded.netns.inode;
        let name = if is_one { name.to_owned() } else { format!("{name}, netns {inode}") };
        Case { name, input: Input::Recorded(recorded) }
    };
    Ok(all.into_iter().map(case).collect())
}

/// On a terminal one line that is written over; elsewhere a line at every tenth.
fn progress(done: usize, all: usize) {
    if std::io::stderr().is_terminal() {
        let end = if done == all { "\n" } else { "" };
        let _ = write!(anstream::stderr(), "\r{done} of {all} runs{end}");
    } else if done * 10 / all > (done - 1) * 10 / all {
        output::say(format_args!("{done} of {all} runs"));
    }
}
