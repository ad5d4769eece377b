//! `ctmon backtest`

use std::{io::IsTerminal as _, path::Path};

use anyhow::{Context as _, Result, ensure};
use conntrack_user::{
    backtest::{
        drawn, registry,
        scenario::Scenario,
        trial::{self, Case},
        verdict::verdicts,
    },
    view::backtest as view,
};

use super::output;
use crate::cli::{Backtest, Form};

pub(crate) fn run(options: &Backtest) -> Result<u8> {
    let entries = registry::named(&options.forecasters)?;
    let mut cases = options.scenarios.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?;
    cases.extend((0..options.drawn).map(|place| {
        let (name, scenario) = drawn::scenario(options.draw_seed, place);
        Case { name, scenario, drawn: true }
    }));
    ensure!(!cases.is_empty(), "nothing to try: give a scenario, or --drawn");
    let outcomes = trial::run(cases, &entries, options.seeds, progress)?;
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

fn read(path: &Path) -> Result<Case> {
    let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let scenario =
        Scenario::parse(&text).with_context(|| format!("cannot use {}", path.display()))?;
    Ok(Case { name, scenario, drawn: false })
}

/// On a terminal one line that is written over; elsewhere a line at every tenth.
fn progress(done: usize, all: usize) {
    if std::io::stderr().is_terminal() {
        anstream::eprint!("\r{done} of {all} runs{}", if done == all { "\n" } else { "" });
    } else if done * 10 / all > (done - 1) * 10 / all {
        anstream::eprintln!("ctmon: {done} of {all} runs");
    }
}
