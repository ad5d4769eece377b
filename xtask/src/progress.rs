//! What a person sees while a long step runs. All of it goes to standard error.

use std::{
    env,
    io::{IsTerminal as _, stderr},
    time::{Duration, Instant},
};

use anyhow::{Error, Result};
use indicatif::{ProgressBar, ProgressStyle};

/// Does one long step: the time runs along on a terminal, and one line with the total stays.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    // The bar hides itself where standard error is no terminal.
    let bar = ProgressBar::new_spinner().with_message(what.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{elapsed:>8}  {msg} ...") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(250));
    if bar.is_hidden() {
        note(&format!("{what} ..."));
    }
    timed(what, || {
        let result = work();
        bar.finish_and_clear();
        result
    })
}

/// Does one long step that prints by itself: one line before it, and one with the total.
pub(crate) fn loud_step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    note(&format!("{what} ..."));
    timed(what, work)
}

fn timed<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    let result = work();
    let failed = if result.is_ok() { "" } else { ": failed" };
    eprintln!("{:>6.1} s  {what}{failed}", started.elapsed().as_secs_f64());
    result
}

/// One line that is no step.
pub(crate) fn note(text: &str) {
    eprintln!("          {text}");
}

/// An error with its causes.
pub(crate) fn error(error: &Error) {
    let (red, plain) = if colours() { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    eprintln!("{red}error{plain}: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because: {cause}");
    }
}

/// Reports whether standard error shows colours.
pub(crate) fn colours() -> bool {
    stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
