//! The kinds of recordings in tests/corpus/kinds.toml.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::workspace;

/// Folder of the corpus, its scripts and its list of kinds.
pub(crate) fn folder() -> PathBuf {
    workspace::root().join("tests/corpus")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    kind: Vec<Kind>,
    /// Kinds of recordings that are made elsewhere.
    #[serde(default)]
    other: Vec<Kind>,
}

/// Traffic of one kind.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kind {
    pub(crate) name: String,
    /// The table is full at the end.
    pub(crate) fills: bool,
    /// Values of SEED.
    #[serde(default)]
    pub(crate) seeds: Vec<u32>,
    /// Seeds that are scored on request only.
    #[serde(default)]
    pub(crate) aside: Vec<u32>,
    /// Kernel series; 6.12 where none is given.
    pub(crate) kernel: Option<String>,
    /// Forecaster of `ctmon backtest` whose time to full and missed fills are the reference.
    pub(crate) line: String,
    /// Forecaster whose entries in 60 s are the reference; `line` where none is given.
    ahead: Option<String>,
}

impl Kind {
    /// Forecaster whose entries in 60 s are the reference.
    pub(crate) fn ahead(&self) -> &str {
        self.ahead.as_deref().unwrap_or(&self.line)
    }

    /// Kind of a recording of which nothing else is known.
    fn unknown(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            fills: true,
            seeds: vec![],
            aside: vec![],
            kernel: None,
            line: "predict-linear-1m".to_owned(),
            ahead: None,
        }
    }
}

/// One recording of a kind.
#[derive(Debug, Clone)]
pub(crate) struct Recording {
    /// Name without an extension: KIND-SEED.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) seed: u32,
}

impl Recording {
    /// Reports whether it is scored on request only.
    pub(crate) fn is_aside(&self) -> bool {
        self.kind.aside.contains(&self.seed)
    }
}

fn list() -> Result<List> {
    let path = folder().join("kinds.toml");
    let text = fs::read_to_string(&path);
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is no list of kinds", path.display()))
}

/// All recordings in the order in which they are made: kinds that fill first, those aside last.
pub(crate) fn recordings() -> Result<Vec<Recording>> {
    in_order(list()?)
}

/// Kind of a recording by the name of its file without the extension; its own where the list has none.
pub(crate) fn of_file(name: &str) -> Result<Kind> {
    let List { kind, other } = list()?;
    let is_seed = |kind: &Kind| {
        let rest = name.strip_prefix(kind.name.as_str()).and_then(|rest| rest.strip_prefix('-'));
        rest.is_some_and(|seed| seed.parse::<u32>().is_ok())
    };
    let mut known = kind.into_iter().filter(is_seed);
    let mut other = other.into_iter().filter(|kind| kind.name == name);
    Ok(known.next().or_else(|| other.next()).unwrap_or_else(|| Kind::unknown(name)))
}

fn in_order(list: List) -> Result<Vec<Recording>> {
    let mut all = Vec::new();
    for kind in list.kind {
        let stray = kind.aside.iter().find(|seed| !kind.seeds.contains(seed));
        ensure!(stray.is_none(), "{} sets a seed aside that it does not have", kind.name);
        for seed in kind.seeds.clone() {
            let name = format!("{}-{seed}", kind.name);
            all.push(Recording { name, kind: kind.clone(), seed });
        }
    }
    all.sort_by_key(|one| (one.is_aside(), !one.kind.fills));
    Ok(all)
}

/// Recordings whose names contain one of `names`; all where none is given.
pub(crate) fn chosen(all: Vec<Recording>, names: &[String]) -> Result<Vec<Recording>> {
    for name in names {
        ensure!(
            all.iter().any(|one| one.name.contains(name)),
            "no recording has {name:?} in its name; --list shows them"
        );
    }
    let is_chosen = |one: &Recording| {
        names.is_empty() || names.iter().any(|name| one.name.contains(name.as_str()))
    };
    Ok(all.into_iter().filter(is_chosen).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"
[[kind]]
name = "still"
fills = false
seeds = [1]
line = "holt"
[[kind]]
name = "leak"
fills = true
seeds = [1, 2]
aside = [2]
line = "growth"
"#;

    #[test]
    fn kinds_that_fill_are_first_and_those_aside_last() {
        let all = in_order(toml::from_str(LIST).unwrap()).unwrap();
        let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["leak-1", "still-1", "leak-2"]);
        assert!(all[2].is_aside() && !all[0].is_aside());
        let names = ["leak".to_owned()];
        assert_eq!(chosen(all.clone(), &names).unwrap().len(), 2);
        assert!(chosen(all, &["leek".to_owned()]).is_err());
    }

    #[test]
    fn a_seed_aside_is_a_seed() {
        let stray = LIST.replace("aside = [2]", "aside = [3]");
        assert!(in_order(toml::from_str(&stray).unwrap()).is_err());
        assert!(toml::from_str::<List>(&LIST.replace("fills", "filled")).is_err());
    }

    #[test]
    fn the_file_name_tells_the_kind() {
        assert_eq!(of_file("leak-after-a-burst-2").unwrap().name, "leak-after-a-burst");
        let late = of_file("leak-late").unwrap();
        assert_eq!((late.line.as_str(), late.ahead()), ("growth", "predict-linear-1m"));
        assert_eq!(of_file("night").unwrap().name, "night");
    }

    #[test]
    fn the_recordings_of_the_tree_are_known_and_small() {
        let known: Vec<String> =
            recordings().unwrap().iter().map(|one| format!("{}.mcap", one.name)).collect();
        let mut bytes = 0;
        for file in fs::read_dir(folder()).unwrap().map(Result::unwrap) {
            let name = file.file_name().into_string().unwrap();
            if name.ends_with(".mcap") {
                bytes += file.metadata().unwrap().len();
                assert!(known.contains(&name), "{name}");
            }
        }
        assert!(bytes <= 12_000_000, "{bytes} bytes");
    }

    #[test]
    fn each_kind_of_the_tree_has_its_script() {
        for recording in recordings().unwrap() {
            let script = folder().join(format!("{}.sh", recording.kind.name));
            assert!(script.exists(), "{}", script.display());
        }
    }
}
