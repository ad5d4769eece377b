//! Metrics of a program that looks once, for the textfile collector of node_exporter.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, prometheus_text},
    registry::Registry,
};

use super::{kernel, netns, node};
use crate::{
    daemon::{alerts::Told, latest::Latest, shared::Shared},
    model::tick::{NetnsTick, Tick},
    severity::Severity,
    source::item::Start,
    view::status::{Judged, judge_one},
};

/// Namespaces with series of their own, as `serve` has them unless asked otherwise.
pub const NETNS_APART: usize = 128;

#[derive(Debug)]
struct Once(Shared);

impl Collector for Once {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let latest = self.0.latest();
        node::write_now(&latest, &mut encoder)?;
        netns::write(&latest, &mut encoder)?;
        kernel::write(&latest, &mut encoder)
    }
}

/// Tables as they are at `tick`, in the text format, with names and HELP as `serve` has them. Counters are the kernel's alone:
/// those of programs that were attached a moment ago say nothing. So do high-water marks.
///
/// # Errors
/// Lack of memory.
pub fn once(start: &Start, tick: Tick, judged: Judged) -> Result<String, fmt::Error> {
    let severity = |netns: &NetnsTick| {
        let severity = judge_one(netns, judged.limits);
        (severity != Severity::Unknown).then_some((netns.id.inode, severity))
    };
    let severities = tick.netns.iter().filter_map(severity).collect();
    let uncounted = |netns| NetnsTick { totals: None, ..netns };
    let netns = tick.netns.into_iter().map(uncounted).collect();
    let mut latest = Latest::new(NETNS_APART);
    latest.open(start);
    latest.take(Tick { netns, probes: vec![], events: None, ..tick });
    latest.warn(Told { severities, ..Told::default() });
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Once(Shared::new(latest, None))));
    let mut out = String::new();
    prometheus_text::encode(&mut out, &registry)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use super::super::{Format, Metrics, families};
    use super::*;
    use crate::{
        model::{counts::Totals, kernel_counters::KernelTick, reading::KernelStat},
        severity::THRESHOLDS,
        source::item::Origin,
        view::status::{Limits, Ranges, judge},
    };

    fn tick() -> Tick {
        let kernel = KernelStat { invalid: Some(9), early_drop: Some(4), ..KernelStat::default() };
        let netns = NetnsTick {
            totals: Some(Totals { allocs: 7, ..Totals::default() }),
            kernel: Some(kernel),
            kernel_counters: Some(KernelTick { totals: kernel, rates: KernelStat::default() }),
            ..NetnsTick::example(7, 85, 100)
        };
        let unread = NetnsTick {
            entries: crate::model::tick::Entries::Unavailable,
            ..NetnsTick::example(8, 0, 100)
        };
        Tick::example(vec![netns, unread])
    }

    fn start() -> Start {
        Start { time: tick().time, cpus: 2, origin: Origin::example() }
    }

    fn text() -> String {
        let limits = Limits {
            thresholds: THRESHOLDS.on_demand(),
            ranges: Ranges::default(),
            full_within: None,
        };
        let judged = judge(&tick(), limits);
        once(&start(), tick(), judged).unwrap()
    }

    #[test]
    fn tables_and_severity_are_there_and_counters_are_the_kernels() {
        let text = text();
        for line in [
            "ctmon_entries{netns=\"7\"} 85",
            "ctmon_entries_limit{netns=\"7\"} 100",
            "ctmon_severity{netns=\"7\"} 1",
            "ctmon_kernel_invalid_total{netns=\"7\"} 9",
            "ctmon_kernel_early_drop_total{netns=\"7\"} 4",
            "ctmon_last_tick_timestamp_seconds 1764000000.0",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
        // A table that cannot be judged has no severity; counts of the second in which ctmon looked are left out.
        for absent in [
            "ctmon_severity{netns=\"8\"}",
            "ctmon_allocs",
            "_high_water",
            "ctmon_ticks",
            "opens_total",
        ] {
            assert!(!text.contains(absent), "{absent}: {text}");
        }
        let counters =
            text.lines().filter(|line| line.starts_with("# TYPE") && line.ends_with(" counter"));
        assert!(counters.clone().count() > 1);
        assert!(counters.into_iter().all(|line| line.contains(" ctmon_kernel_")), "{text}");
    }

    /// The collector refuses files of which one describes a metric otherwise.
    #[test]
    fn names_and_help_are_those_of_the_service() {
        let mut latest = Latest::new(NETNS_APART);
        latest.open(&start());
        latest.take(tick());
        latest.warn(Told { severities: [(7, Severity::Warning)].into(), ..Told::default() });
        let metrics = Metrics::new(Shared::new(latest, None), Arc::default());
        let served = metrics.text(Format::Prometheus).unwrap();
        let served: BTreeSet<&str> = served.lines().filter(|line| line.starts_with("# ")).collect();
        let text = text();
        for line in text.lines().filter(|line| line.starts_with("# HELP")) {
            let name = line.split(' ').nth(2).unwrap().trim_end_matches("_total");
            assert!(families().any(|family| family.name == name), "{line}");
            // The service leaves this one to the programs.
            assert!(served.contains(line) || name == "ctmon_kernel_early_drop", "{line}");
        }
    }
}
