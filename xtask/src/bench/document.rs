//! docs/performance.md

use std::{fs, path::PathBuf};

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
    let path = path();
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Puts one part in its place in the document, with the day and the machine of its own; at the end where there is none.
pub(crate) fn replace(part: &Part) -> Result<()> {
    let path = path();
    let before =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    write(&with(&before, part, &machine()))
}

fn path() -> PathBuf {
    workspace::root().join("docs/performance.md")
}

/// The document `text` with `part` in its place.
fn with(text: &str, part: &Part, machine: &str) -> String {
    let heading = format!("\n## {}\n", part.title);
    let (before, rest) = text.split_once(&heading).unwrap_or((text, ""));
    let after = rest.find("\n## ").and_then(|at| rest.get(at..)).unwrap_or("");
    format!("{before}{heading}\n{machine}\n\n{}{after}", part.text)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_takes_the_place_of_the_one_of_its_title() {
        let part = Part { title: "B", text: "new\n".to_owned() };
        let text = "intro\n\n## A\n\na\n\n## B\n\nold\n\n## C\n\nc\n";
        let expected = "intro\n\n## A\n\na\n\n## B\n\ntoday\n\nnew\n\n## C\n\nc\n";
        assert_eq!(with(text, &part, "today"), expected);
        assert_eq!(with("intro\n", &part, "today"), "intro\n\n## B\n\ntoday\n\nnew\n");
    }
}
