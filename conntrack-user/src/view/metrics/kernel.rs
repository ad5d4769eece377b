//! The kernel's own counters of each network namespace.

use std::{borrow::Cow, fmt};

use prometheus_client::encoding::DescriptorEncoder;

use super::{
    family::{Family, Sample},
    netns::OTHERS,
};
use crate::{
    daemon::latest::Latest,
    model::{counts::Counted, reading::KernelStat},
};

/// A counter of the kernel's.
struct Counter {
    family: Family,
    value: fn(&KernelStat) -> Option<u64>,
    /// Reports whether a program counts the same, which then has a metric of its own.
    is_counted: fn(&Counted) -> bool,
}

const fn never(_: &Counted) -> bool {
    false
}

const COUNTERS: [Counter; 13] = [
    Counter {
        family: Family::counter(
            "ctmon_kernel_invalid",
            "Packets that belong to no connection the kernel accepts (state INVALID): they get no entry and no NAT.",
        ),
        value: |stat| stat.invalid,
        is_counted: never,
    },
    Counter {
        family: Family::counter(
            "ctmon_kernel_error",
            "Packets with an error in their protocol, such as a wrong checksum of ICMP.",
        ),
        value: |stat| stat.error,
        is_counted: never,
    },
    Counter {
        family: Family::counter(
            "ctmon_kernel_drop",
            "Packets dropped by connection tracking: table full, or a clash not resolved. \
             Absent where ctmon_table_full_drops_total and ctmon_insert_failed_total have both.",
        ),
        value: |stat| stat.drop,
        is_counted: |counted| counted.early_drops && counted.clash_outcomes,
    },
    Counter {
        family: Family::counter(
            "ctmon_kernel_early_drop",
            "Entries evicted to make room. Absent where ctmon_early_drops_total has them.",
        ),
        value: |stat| stat.early_drop,
        is_counted: |counted| counted.deletes && counted.early_drops,
    },
    Counter {
        family: Family::counter(
            "ctmon_kernel_insert_failed",
            "Entries that could not be put into the table. Absent where ctmon_insert_failed_total has them by reason.",
        ),
        value: |stat| stat.insert_failed,
        is_counted: |counted| counted.failed_inserts && counted.clash_outcomes,
    },
    Counter {
        family: Family::counter(
            "ctmon_kernel_chaintoolong",
            "Entries refused for the length of their chain. Absent where ctmon_insert_failed_total has them.",
        ),
        value: |stat| stat.chaintoolong,
        is_counted: |counted| counted.failed_inserts,
    },
    Counter {
        family: Family::counter(
            "ctmon_kernel_insert",
            "Entries put in through ctnetlink, none by packets. Absent where ctmon_inserts_total has them.",
        ),
        value: |stat| stat.insert,
        is_counted: |counted| counted.inserts_ctnetlink,
    },
    Counter {
        family: Family::counter(
            "ctmon_kernel_clash_resolve",
            "New entries that clashed with another one and lost no packet.",
        ),
        value: |stat| stat.clash_resolve,
        is_counted: never,
    },
    Counter {
        family: Family::counter(
            "ctmon_kernel_found",
            "Look-ups for a new packet that found an entry made meanwhile.",
        ),
        value: |stat| stat.found,
        is_counted: never,
    },
    Counter {
        family: Family::counter(
            "ctmon_kernel_search_restart",
            "Look-ups begun again because the hash table was resized.",
        ),
        value: |stat| stat.search_restart,
        is_counted: never,
    },
    Counter {
        family: Family::counter(
            "ctmon_kernel_expect_new",
            "Connections that met an expectation: announced by another one (FTP, SIP).",
        ),
        value: |stat| stat.expect_new,
        is_counted: never,
    },
    Counter {
        family: Family::counter("ctmon_kernel_expect_create", "Expectations made."),
        value: |stat| stat.expect_create,
        is_counted: never,
    },
    Counter {
        family: Family::counter("ctmon_kernel_expect_delete", "Expectations deleted."),
        value: |stat| stat.expect_delete,
        is_counted: never,
    },
];

/// All families, for whoever documents them.
pub(super) fn families() -> impl Iterator<Item = Family> {
    COUNTERS.into_iter().map(|counter| counter.family)
}

/// Writes the counters that are known and that no program counts.
pub(super) fn write(latest: &Latest, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let Some(tick) = latest.tick() else {
        return Ok(());
    };
    let apart = latest.apart().filter_map(|netns| {
        let totals = netns.kernel_counters?.totals;
        // Without totals nothing of it is counted by programs.
        let counted = netns.totals.map(|_| tick.counted.of(netns.kernel.is_some()));
        Some((Cow::from(netns.id.inode.to_string()), totals, counted))
    });
    let others = latest.others().and_then(|others| {
        let counted = latest.not_apart().any(|netns| netns.totals.is_some());
        Some((OTHERS.into(), others.kernel?, counted.then(|| tick.counted.of(false))))
    });
    let all: Vec<(Cow<'_, str>, KernelStat, Option<Counted>)> = apart.chain(others).collect();
    for counter in &COUNTERS {
        let samples: Vec<Sample<'_>> = all
            .iter()
            .filter(|(_, _, counted)| !counted.as_ref().is_some_and(counter.is_counted))
            .filter_map(|(label, stat, _)| {
                Some(Sample::of((counter.value)(stat)?).with("netns", label.clone()))
            })
            .collect();
        counter.family.write(encoder, &samples)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Format, Metrics};
    use super::*;
    use crate::{
        daemon::shared::Shared,
        model::{
            counts::Totals,
            kernel_counters::KernelTick,
            tick::{NetnsTick, Tick},
        },
    };

    fn text(totals: Option<Totals>, kernel: Option<KernelStat>, counted: Counted) -> String {
        let counters = kernel.map(|totals| KernelTick { totals, rates: KernelStat::default() });
        let netns = |inode| NetnsTick {
            totals,
            kernel,
            kernel_counters: counters,
            ..NetnsTick::example(inode, 60, 100)
        };
        let mut latest = Latest::new(1);
        latest.take(Tick { counted, ..Tick::example(vec![netns(7), netns(8)]) });
        Metrics::new(Shared::new(latest, None), Arc::default()).text(Format::Prometheus).unwrap()
    }

    fn all() -> KernelStat {
        let counter = |n| Some(n);
        KernelStat {
            found: counter(1),
            invalid: counter(2),
            insert: counter(3),
            insert_failed: counter(4),
            drop: counter(5),
            early_drop: counter(6),
            error: counter(7),
            search_restart: counter(8),
            clash_resolve: counter(9),
            chaintoolong: counter(10),
            expect_new: counter(11),
            expect_create: counter(12),
            expect_delete: counter(13),
        }
    }

    fn names(text: &str, label: &str) -> Vec<String> {
        let ours = text.lines().filter(|line| line.contains(&format!("netns=\"{label}\"")));
        let ours = ours.filter_map(|line| line.strip_prefix("ctmon_kernel_")?.split('{').next());
        ours.map(|name| name.trim_end_matches("_total").to_owned()).collect()
    }

    #[test]
    fn where_programs_count_nothing_is_there_twice() {
        let text = text(Some(Totals::default()), Some(all()), Counted::ALL);
        let expected = [
            "invalid",
            "error",
            "clash_resolve",
            "found",
            "search_restart",
            "expect_new",
            "expect_create",
            "expect_delete",
        ];
        assert_eq!(names(&text, "7"), expected);
        assert_eq!(names(&text, "others"), expected);
        assert!(text.contains("\nctmon_kernel_invalid_total{netns=\"7\"} 2\n"), "{text}");
        assert!(text.contains("\nctmon_kernel_invalid_total{netns=\"others\"} 0\n"), "{text}");
    }

    #[test]
    fn where_procfs_is_polled_the_kernel_tells_all() {
        let text = text(None, Some(all()), Counted::ALL);
        assert_eq!((names(&text, "7").len(), names(&text, "others").len()), (13, 13));
        assert!(text.contains("\nctmon_kernel_drop_total{netns=\"7\"} 5\n"), "{text}");
    }

    #[test]
    fn what_the_hooks_lack_the_kernel_tells() {
        let counted = Counted {
            clash_outcomes: false,
            failed_inserts: false,
            early_drops: false,
            ..Counted::ALL
        };
        let text = text(Some(Totals::default()), Some(all()), counted);
        for name in ["drop", "early_drop", "insert_failed", "chaintoolong"] {
            assert!(names(&text, "7").contains(&name.to_owned()), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_absent() {
        let invalid = KernelStat { invalid: Some(0), ..KernelStat::default() };
        assert_eq!(names(&text(None, Some(invalid), Counted::ALL), "7"), ["invalid"]);
        let none = text(None, None, Counted::ALL);
        assert!(!none.contains("ctmon_kernel_"), "{none}");
    }
}
