//! docs/performance.md

use std::fs;

use anyhow::{Context as _, Result};

use crate::{
    process::{command, text as output},
    workspace,
};

/// A part of the document.
pub(crate) struct Part {
    pub(crate) title: &'static str,
    pub(crate) text: String,
}

const INTRODUCTION: &str = "\
# Performance

What ctmon costs, as `cargo xtask bench` measured and wrote it down. All numbers of a table come from one run, side by
side; where two follow in brackets, a median and the least and the most.
";

/// The whole document.
pub(crate) fn text(parts: &[Part]) -> String {
    let mut text = format!("{INTRODUCTION}\n{}\n", machine());
    for Part { title, text: part } in parts {
        text += &format!("\n## {title}\n\n{part}");
    }
    text
}

/// Replaces the document.
pub(crate) fn write(text: &str) -> Result<()> {
    let path = workspace::root().join("docs/performance.md");
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// When and on what.
fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("an unnamed processor", |(_, model)| model.trim());
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut date = command("date");
    let date = output(date.args(["-u", "+%F"]), "to date the measurements").unwrap_or_default();
    format!("{}: {processors} processors ({model}), Linux {}.", date.trim(), kernel.trim())
}
