//! ctmon's JSON lines. Read leniently: a member that is not there is a value that is not there.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// One line of `ctmon watch --output json`.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum Line {
    Start(Start),
    Tick(Tick),
    Notice(Notice),
    #[serde(other)]
    Other,
}

/// The first line.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Start {
    pub(crate) schema_version: i64,
    pub(crate) kernel_release: String,
    pub(crate) source: String,
    pub(crate) hooks: Vec<Hook>,
    pub(crate) unavailable: Vec<Value>,
}

/// How one hook attached.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Hook {
    pub(crate) hook: String,
    pub(crate) function: Option<String>,
    pub(crate) attached_via: Option<String>,
    pub(crate) reason: Option<String>,
}

/// A message, such as a changed max.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Notice {
    pub(crate) text: String,
}

/// One interval.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Tick {
    /// Nanoseconds since 1970.
    pub(crate) time_ns: i64,
    /// What is known of single flows; null but once a second.
    pub(crate) flows: Value,
    /// None when the source has no events.
    #[serde(deserialize_with = "or_default")]
    pub(crate) events: Events,
    /// Calls of the hooked functions that no program may have seen.
    pub(crate) missed_calls_max: Option<i64>,
    pub(crate) netns: Vec<Netns>,
    /// Namespaces that are left out because nothing happens in them.
    pub(crate) netns_idle: Option<i64>,
    /// Counts of namespaces beyond those counted apart.
    #[serde(deserialize_with = "or_default")]
    pub(crate) netns_overflow: BTreeMap<String, Value>,
    /// Where per-CPU counters lie: how many are taken.
    #[serde(deserialize_with = "or_default")]
    pub(crate) counter_blocks: BTreeMap<String, Value>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) victims: Vec<Victim>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) probes: Vec<Probe>,
}

/// A flow that the full table cost its entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Victim {
    /// `refused` or `evicted`
    pub(crate) kind: String,
    pub(crate) netns_cookie: Option<u64>,
    pub(crate) zone: Option<i64>,
    pub(crate) protocol: Option<i64>,
    pub(crate) original: BTreeMap<String, Value>,
}

/// What a hook costs and misses.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Probe {
    pub(crate) hook: String,
    pub(crate) state: String,
    pub(crate) attached_via: Option<String>,
    pub(crate) hits: Option<i64>,
    pub(crate) misses: Option<i64>,
    pub(crate) run_time_ns: Option<i64>,
    pub(crate) runs: Option<i64>,
}

/// Events of all namespaces since the programs were attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Events {
    pub(crate) seen: Option<i64>,
    pub(crate) received: Option<i64>,
    pub(crate) sampled_out: Option<i64>,
    pub(crate) lost: Option<i64>,
}

/// What was counted within a tick.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Windows {
    pub(crate) width_ns: i64,
    pub(crate) missed: i64,
    pub(crate) first_ns: Option<i64>,
    pub(crate) inserts: Vec<i64>,
    pub(crate) insert_rate_peak: Option<f64>,
}

/// What becomes of a table.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Forecast {
    pub(crate) state: String,
    /// `p10`, `p50` and `p90`; null: later than anything that is looked at.
    pub(crate) seconds_to_full: Option<BTreeMap<String, Option<f64>>>,
    pub(crate) full_probability: Option<BTreeMap<String, f64>>,
    pub(crate) steady_state: Option<SteadyState>,
    pub(crate) timeouts_known: bool,
    pub(crate) reason: String,
}

/// Level at which the table settles.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub(crate) struct SteadyState {
    pub(crate) entries: i64,
}

impl Forecast {
    /// A quantile of the time until it is full.
    pub(crate) fn time_to_full(&self, quantile: &str) -> Option<f64> {
        *self.seconds_to_full.as_ref()?.get(quantile)?
    }
}

/// One namespace in one interval.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Netns {
    pub(crate) inode: u64,
    pub(crate) cookie: Option<u64>,
    pub(crate) name: Option<String>,
    pub(crate) name_kind: Option<String>,
    /// It is gone, and these are its last totals.
    pub(crate) ended: bool,
    pub(crate) entries: Option<i64>,
    pub(crate) entries_limit: Option<i64>,
    pub(crate) unlimited: bool,
    pub(crate) fill_ratio: Option<f64>,
    pub(crate) insert_rate: Option<f64>,
    pub(crate) seconds_to_full_p50: Option<f64>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) forecast: Forecast,
    pub(crate) baseline: Option<i64>,
    pub(crate) count_drift: Option<i64>,
    pub(crate) unhashed_entries: Option<i64>,
    pub(crate) dying_entries: Option<i64>,
    pub(crate) queued_packets: Option<i64>,
    pub(crate) inserts_missed: Option<i64>,
    pub(crate) deletes_missed: Option<i64>,
    pub(crate) windows: Option<Windows>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) totals: BTreeMap<String, Value>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) kernel: BTreeMap<String, Value>,
}

/// The number at the end of a path such as `deletes_by_cause_user`.
pub(crate) fn number<'a>(
    members: impl IntoIterator<Item = (&'a String, &'a Value)>,
    path: &str,
) -> Option<i64> {
    members.into_iter().find_map(|(key, value)| match path.strip_prefix(key.as_str())? {
        "" => value.as_i64(),
        rest => number(value.as_object()?, rest.strip_prefix('_')?),
    })
}

fn flatten<'a>(
    before: &str,
    members: impl IntoIterator<Item = (&'a String, &'a Value)>,
    all: &mut Vec<(String, Option<i64>)>,
) {
    for (key, value) in members {
        let path = format!("{before}{key}");
        match value.as_object() {
            Some(object) => flatten(&format!("{path}_"), object, all),
            None => all.push((path, value.as_i64())),
        }
    }
}

/// Null is as good as absent.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

impl Line {
    /// # Errors
    /// When the line is no JSON object or lacks `kind`.
    pub(crate) fn parse(line: &str) -> Result<Self> {
        serde_json::from_str(line).with_context(|| format!("ctmon printed no such JSON: {line:?}"))
    }
}

impl Start {
    /// Whether kprobes are what counts: they tell less than tracing programs.
    pub(crate) fn is_by_kprobe(&self) -> bool {
        let via = |hook: &Hook| hook.attached_via.as_ref().is_some_and(|via| via.contains("probe"));
        self.hooks.iter().any(via)
    }
}

impl Tick {
    /// The namespace that has this inode now.
    pub(crate) fn netns(&self, inode: u64) -> Option<&Netns> {
        self.netns.iter().find(|netns| netns.inode == inode && !netns.ended)
    }

    /// The sum of one total over all namespaces in which something was counted.
    pub(crate) fn sum(&self, name: &str) -> Option<i64> {
        let counted = self.netns.iter().filter(|netns| !netns.totals.is_empty());
        counted.map(|netns| netns.total(name)).sum()
    }

    /// Everything that moves while packets do, and what ctmon makes of it a little later.
    pub(crate) fn moving(&self) -> impl PartialEq + use<> {
        let netns = self.netns.iter().map(|netns| {
            (
                netns.inode,
                netns.totals.clone(),
                netns.kernel("count"),
                netns.entries,
                netns.count_drift,
                netns.unhashed_entries,
                netns.dying_entries,
            )
        });
        (self.events, netns.collect::<Vec<_>>())
    }
}

impl Netns {
    /// Reports whether the tick says that calls were missed.
    pub(crate) fn says_missed(&self) -> bool {
        [self.inserts_missed, self.deletes_missed].iter().flatten().any(|missed| *missed != 0)
    }

    /// A total since the programs were attached.
    pub(crate) fn total(&self, name: &str) -> Option<i64> {
        number(&self.totals, name)
    }

    /// Every total, nested ones by the path to them: `deletes_by_cause_user`.
    pub(crate) fn flat_totals(&self) -> Vec<(String, Option<i64>)> {
        let mut all = Vec::new();
        flatten("", &self.totals, &mut all);
        all
    }

    /// A number of the kernel's own, as ctmon read it.
    pub(crate) fn kernel(&self, name: &str) -> Option<i64> {
        self.kernel.get(name).and_then(Value::as_i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick() {
        let line = r#"{"schema_version":3,"kind":"tick","time_ns":1,"interval_ns":100000000,
            "events":{"received":30,"lost":2},"netns":[{"inode":4026531840,"cookie":1,"name":null,"entries":7,
            "entries_limit":null,"unlimited":true,"fill_ratio":null,"baseline":0,"count_drift":-1,
            "totals":{"inserts":20,"deletes":12},"kernel":{"count":6,"drop":null}},
            {"inode":5,"totals":{"inserts":1}},{"inode":6,"totals":null}]}"#;
        let Line::Tick(tick) = Line::parse(line).unwrap() else { panic!("not a tick") };
        assert_eq!((tick.events.received, tick.events.lost), (Some(30), Some(2)));
        let netns = tick.netns(4_026_531_840).unwrap();
        assert_eq!(
            (netns.entries, netns.entries_limit, netns.count_drift, netns.unlimited),
            (Some(7), None, Some(-1), true)
        );
        assert_eq!((netns.total("inserts"), netns.total("none")), (Some(20), None));
        assert_eq!((netns.kernel("count"), netns.kernel("drop")), (Some(6), None));
        assert_eq!(
            (tick.sum("inserts"), tick.sum("deletes")),
            (Some(21), None),
            "one of them has no deletes"
        );
    }

    #[test]
    fn nested_totals_have_a_path() {
        let line = r#"{"kind":"tick","netns":[{"inode":7,"ended":true,"totals":{"deletes":3,"deletes_by_cause":
            {"user":1},"deletes_by_status":{"unreplied":{"udp":2}},"insert_failed":{"clash":null}}},{"inode":7}]}"#;
        let Line::Tick(tick) = Line::parse(line).unwrap() else { panic!("not a tick") };
        let ended = &tick.netns[0];
        for (path, value) in [
            ("deletes", Some(3)),
            ("deletes_by_cause_user", Some(1)),
            ("deletes_by_status_unreplied_udp", Some(2)),
            ("insert_failed_clash", None),
            ("deletes_by_cause", None),
        ] {
            assert_eq!(ended.total(path), value, "{path}");
        }
        assert_eq!(ended.flat_totals().len(), 4, "{:?}", ended.flat_totals());
        assert!(tick.netns(7).is_some_and(|netns| !netns.ended));
    }

    #[test]
    fn kprobes_are_told_apart() {
        let start = |via: Option<&str>| Start {
            hooks: vec![Hook { attached_via: via.map(str::to_owned), ..Hook::default() }],
            ..Start::default()
        };
        assert!(start(Some("kprobe")).is_by_kprobe());
        assert!(!start(Some("fentry/fexit (vmlinux)")).is_by_kprobe());
        assert!(!start(None).is_by_kprobe());
    }

    #[test]
    fn other_lines() {
        let start = r#"{"kind":"start","kernel_release":"6.12","source":"ebpf","hooks":[{"hook":"alloc",
            "function":"__nf_conntrack_alloc","attached_via":"fexit (module nf_conntrack)","reason":null}]}"#;
        let Line::Start(start) = Line::parse(start).unwrap() else { panic!("not a start") };
        assert_eq!(start.hooks[0].attached_via.as_deref(), Some("fexit (module nf_conntrack)"));
        assert!(matches!(
            Line::parse(r#"{"kind":"notice","text":"max"}"#).unwrap(),
            Line::Notice(_)
        ));
        assert!(matches!(Line::parse(r#"{"kind":"later"}"#).unwrap(), Line::Other));
        assert!(Line::parse("text").is_err());
    }

    #[test]
    fn ticks_with_the_same_counts_are_quiet() {
        let tick = |received, count| {
            let line = format!(
                r#"{{"kind":"tick","time_ns":{received}{count},"events":{{"received":{received}}},
                "netns":[{{"inode":1,"kernel":{{"count":{count}}}}}]}}"#
            );
            match Line::parse(&line).unwrap() {
                Line::Tick(tick) => tick,
                other => panic!("{other:?}"),
            }
        };
        assert!(tick(1, 1).moving() == tick(1, 1).moving());
        assert!(tick(1, 1).moving() != tick(2, 1).moving());
        assert!(tick(1, 1).moving() != tick(1, 2).moving());
    }
}
