use std::collections::{BTreeMap, BTreeSet};

use super::{surfaces_tests as surfaces, *};

#[test]
fn every_public_name_is_in_the_table() {
    let unknown: Vec<(String, String)> =
        surfaces::names().into_iter().filter(|(name, _)| find(name).is_none()).collect();
    assert_eq!(
        unknown,
        [],
        "add them to conntrack-user/src/vocabulary, or use a name that is there"
    );
}

#[test]
fn every_name_of_the_table_is_written_somewhere() {
    let written: BTreeSet<&str> = surfaces::names().keys().filter_map(|name| find(name)).collect();
    let unused: Vec<&str> = all().filter(|name| !written.contains(name)).collect();
    assert_eq!(unused, Vec::<&str>::new());
}

#[test]
fn a_name_and_a_word_stand_for_one_thing() {
    let mut names = BTreeSet::new();
    let twice: Vec<&str> = all().filter(|name| !names.insert(*name)).collect();
    assert_eq!(twice, Vec::<&str>::new());
    let words = CONCEPTS.iter().map(|concept| concept.word).filter(|word| !word.is_empty());
    let mut seen = BTreeSet::new();
    let twice: Vec<&str> = words.filter(|word| !seen.insert(*word)).collect();
    assert_eq!(twice, Vec::<&str>::new());
}

#[test]
fn what_is_made_of_names_is_known() {
    for (public, name) in [
        ("entries", "entries"),
        ("ctmon_inserts", "inserts"),
        ("ctmon_events_lost", "events_lost"),
        ("ctmon_events_received", "received"),
        ("ctmon_seconds_to_full", "seconds_to_full"),
        ("seconds_to_full_p50", "seconds_to_full"),
        ("run_time_ns", "run_time"),
        ("ctmon_probe_run_time_seconds", "run_time"),
        ("previous_severity_seconds", "severity"),
    ] {
        assert_eq!(find(public), Some(name), "{public}");
    }
    for public in ["table_full", "ctmon_drops", "evicted", "events_", "_p50", ""] {
        assert_eq!(find(public), None, "{public}");
    }
}

/// Headings are as narrow as their columns: each is the beginning of the word of a concept.
#[test]
fn headings_of_tables_are_the_words_of_the_table() {
    let plain = |text: &str| text.replace([' ', '/'], "").to_uppercase();
    for heading in surfaces::headings() {
        let short = plain(heading.strip_suffix("/s").unwrap_or(&heading));
        let mut words = CONCEPTS.iter().map(|concept| concept.word).filter(|word| !word.is_empty());
        assert!(words.any(|word| plain(word).starts_with(&short)), "{heading}");
    }
}

/// The glossary has the concepts, each with its word, its names and its sentence, and nothing else.
#[test]
fn the_glossary_is_the_table() {
    let document = include_str!("../../../docs/reference/glossary.md");
    let rows: BTreeMap<&str, &str> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "))
        .collect();
    let mut expected = BTreeMap::new();
    for concept in CONCEPTS {
        let names: Vec<String> = concept.names.iter().map(|name| format!("`{name}`")).collect();
        let term = if concept.word.is_empty() { "–" } else { concept.word };
        expected.insert(names.join(", "), format!("{term} | {}", concept.meaning));
    }
    for (names, rest) in &expected {
        assert_eq!(rows.get(names.as_str()), Some(&rest.as_str()), "{names}");
    }
    let others: Vec<&&str> =
        rows.keys().filter(|row| row.starts_with('`') && !expected.contains_key(**row)).collect();
    assert_eq!(others, Vec::<&&str>::new());
}

/// Old names of the table in CHANGELOG.md that name nothing else today: members, values and metrics.
fn retired() -> BTreeSet<String> {
    let changelog = include_str!("../../../CHANGELOG.md");
    let rows = changelog.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.split(" | ").collect();
        match cells[..] {
            [old, _] if old.starts_with("`ctmon_") => Some(old),
            [_, old, _, _] => Some(old),
            _ => None,
        }
    });
    let names = rows.flat_map(|old| old.split('`').skip(1).step_by(2)).map(|old| {
        let old = old.split('{').next().unwrap_or_default().trim_end_matches("_total");
        old.rsplit(['.', ' ']).next().unwrap_or_default().to_owned()
    });
    // Of `status --full-within` it still is the name.
    let is_retired =
        |name: &String| name.contains('_') && name != "full_within" && find(name).is_none();
    names.filter(is_retired).collect()
}

/// Code, rules and scenarios; what is read of old recordings may have old names.
#[test]
fn retired_names_are_gone() {
    let retired = retired();
    assert!(retired.len() > 20 && retired.contains("table_full"), "{retired:?}");
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let mut folders: Vec<std::path::PathBuf> = [
        "conntrack-ebpf/src",
        "conntrack-user/src",
        "contrib",
        "docs",
        "tests/src",
        "tests/scenarios",
        "xtask/src",
    ]
    .map(|folder| format!("{root}/{folder}").into())
    .into();
    let mut found = vec![];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
                continue;
            }
            // Of pictures and this file nothing is read.
            let Ok(text) = std::fs::read_to_string(&entry) else { continue };
            if entry.ends_with("vocabulary/tests.rs") {
                continue;
            }
            for line in text.lines().filter(|line| !line.contains("alias = ")) {
                let mut words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                if words.any(|word| retired.contains(word.trim_end_matches("_total"))) {
                    found.push(format!("{}: {}", entry.display(), line.trim()));
                }
            }
        }
    }
    assert_eq!(found, Vec::<String>::new());
}
