//! The public vocabulary: one machine name for each concept in JSON, metrics, history, notifications, export and code, and one
//! word for it on screens. A test gathers the names from every surface and compares them with these tables, both ways.
//! `docs/reference/glossary.md` has the concepts; whoever adds a name adds it here first.

mod concepts;
mod names;
#[cfg(test)]
mod surfaces_tests;
#[cfg(test)]
mod tests;

pub use concepts::CONCEPTS;

/// Something that has a name in what ctmon writes, and a sentence in the glossary.
#[derive(Debug, Clone, Copy)]
pub struct Concept {
    /// Machine names: the concept itself, then what is made of it by grammar or by a split.
    pub names: &'static [&'static str],
    /// Word on screens, with which headings of tables begin; empty if no screen shows the concept.
    pub word: &'static str,
    /// One sentence for the glossary.
    pub meaning: &'static str,
}

/// Objects whose name precedes that of a member in flat names, as in `ctmon_events_lost` for `events.lost`.
const OBJECTS: [&str; 12] = [
    "counter_blocks",
    "events",
    "flight",
    "http",
    "kernel",
    "netns",
    "notification",
    "previous",
    "probe",
    "severity",
    "source",
    "tick",
];
/// Units and quantiles that end a name.
const ENDINGS: [&str; 13] = [
    "timestamp_seconds",
    "seconds",
    "bytes",
    "entries",
    "ns",
    "state",
    "p10",
    "p50",
    "p90",
    "1m",
    "5m",
    "15m",
    "1h",
];

/// All names of the tables.
fn all() -> impl Iterator<Item = &'static str> {
    let concepts = CONCEPTS.iter().flat_map(|concept| concept.names);
    concepts.chain(names::GROUPS.iter().copied().flatten()).copied()
}

/// The name of the tables that a public name is, or is made of: without `ctmon_`, its object, and what ends it.
#[must_use]
pub fn find(public: &str) -> Option<&'static str> {
    let known = |name: &str| all().find(|one| *one == name);
    let name = public.strip_prefix("ctmon_").or_else(|| public.strip_prefix("process_"));
    let name = name.unwrap_or(public);
    let member = |name: &str| {
        OBJECTS.iter().find_map(|object| known(name.strip_prefix(object)?.strip_prefix('_')?))
    };
    let whole = |name: &str| known(name).or_else(|| member(name));
    let short = |name: &str| {
        ENDINGS.iter().find_map(|ending| whole(name.strip_suffix(ending)?.strip_suffix('_')?))
    };
    whole(name).or_else(|| short(name))
}
