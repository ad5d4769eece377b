//! Why: what is behind the numbers of a namespace, in words.

use std::fmt::Write as _;

use super::{style::DIM, units};
use crate::model::{
    counts::{ByProtocol, Counted, Totals},
    reading::KernelStat,
    tick::NetnsTick,
};

/// What happened in the tick, a few lines. What is nothing is left out, and what cannot be told is said.
#[must_use]
pub fn change(netns: &NetnsTick, counted: &Counted) -> String {
    let counted = counted.of(netns.kernel.is_some());
    let lines = netns.change.as_ref().map(|change| ours(change, &counted));
    indented(lines.unwrap_or_default())
}

/// The kernel's own counters that grow, a second. What stands still is left out.
#[must_use]
pub fn kernel_rates(rates: &KernelStat<f64>) -> String {
    indented(rates_line(rates).into_iter().collect())
}

/// What the kernel has counted itself since the namespace began, with what each number means.
#[must_use]
pub fn kernel(stat: &KernelStat) -> String {
    indented(kernels(stat))
}

fn indented(lines: Vec<String>) -> String {
    let mut out = String::new();
    for line in lines {
        let _ = writeln!(out, "{DIM}  {line}{DIM:#}");
    }
    out
}

/// What the programs have counted.
fn ours(change: &Totals, counted: &Counted) -> Vec<String> {
    let mut lines = Vec::new();
    let packet = counted.inserts_packet.then(|| change.inserts_packet.sum());
    let ctnetlink = counted.inserts_ctnetlink.then(|| change.inserts_ctnetlink.sum());
    let all = change.inserts_packet.zip(&change.inserts_ctnetlink, |a, b| a + b);
    let paths = [("packets", packet), ("ctnetlink", ctnetlink)];
    lines.extend(line("inserts by", &[&paths[..], &protocols(&all)].concat()));

    let early_drops = (counted.deletes && counted.early_drops).then_some(change.early_drops);
    let causes = [
        (
            "kernel (expired, reset, device gone)",
            counted.all_causes().then(|| change.deletes_kernel()),
        ),
        ("user", counted.causes.then_some(change.deletes_user)),
        ("evicted", early_drops),
        (
            "end of the namespace",
            (counted.deletes && counted.netns_exits).then_some(change.deletes_netns_exit),
        ),
    ];
    lines.extend(line("deletes by", &causes));
    let status = |of: &ByProtocol| counted.deletes.then(|| of.sum());
    let deletes = &change.deletes;
    let statuses = [
        ("unreplied", status(&deletes.unreplied)),
        ("replied", status(&deletes.replied)),
        ("assured", status(&deletes.assured)),
        ("offloaded", status(&deletes.offloaded)),
    ];
    lines.extend(line("deleted while", &statuses));

    let failed = [
        ("table full", counted.early_drops.then_some(change.table_full_drops)),
        ("clash", counted.clash_outcomes.then_some(change.failed_clash)),
        ("chain too long", counted.failed_inserts.then_some(change.failed_chain_too_long)),
        ("deleted before it was hashed", counted.failed_inserts.then_some(change.failed_dying)),
    ];
    lines.extend(line("packets dropped for", &failed));
    let resolved = counted.clash_outcomes.then_some(change.clashes_resolved);
    lines.extend(line("clashes", &[("resolved", resolved)]));
    lines
}

const fn protocols(of: &ByProtocol) -> [(&'static str, Option<u64>); 4] {
    [
        ("TCP", Some(of.tcp)),
        ("UDP", Some(of.udp)),
        ("ICMP", Some(of.icmp)),
        ("other protocols", Some(of.other)),
    ]
}

/// None where there is nothing to say.
fn line(what: &str, counts: &[(&str, Option<u64>)]) -> Option<String> {
    let told = counts.iter().filter_map(|(name, count)| match count {
        Some(0) => None,
        Some(count) => Some(format!("{name} {}", units::short(*count as f64))),
        None => Some(format!("{name} ?")),
    });
    let told: Vec<String> = told.collect();
    let is_something = counts.iter().any(|(_, count)| count.is_some_and(|count| count > 0));
    is_something.then(|| format!("{what}: {}", told.join(", ")))
}

fn rates_line(rates: &KernelStat<f64>) -> Option<String> {
    let all = [
        ("invalid", rates.invalid),
        ("error", rates.error),
        ("drop", rates.drop),
        ("early_drop", rates.early_drop),
        ("insert_failed", rates.insert_failed),
        ("chaintoolong", rates.chaintoolong),
        ("clash_resolve", rates.clash_resolve),
        ("search_restart", rates.search_restart),
        ("expect_create", rates.expect_create),
    ];
    let moving = all.into_iter().filter_map(|(name, rate)| {
        let rate = rate.filter(|rate| *rate > 0.0)?;
        // Short numbers are whole ones.
        let rate = if rate < 10.0 { format!("{rate:.1}") } else { units::short(rate) };
        Some(format!("{name} {rate}"))
    });
    let moving: Vec<String> = moving.collect();
    (!moving.is_empty()).then(|| format!("kernel, a second: {}", moving.join(", ")))
}

fn kernels(stat: &KernelStat) -> Vec<String> {
    let all = [
        ("drop", stat.drop, "packets dropped: table full, or a clash not resolved"),
        ("early_drop", stat.early_drop, "entries evicted to make room"),
        ("insert_failed", stat.insert_failed, "not hashed: clash, long chain, or dying"),
        ("clash_resolve", stat.clash_resolve, "clashes resolved"),
        ("chaintoolong", stat.chaintoolong, "not hashed: too many in the bucket"),
        ("search_restart", stat.search_restart, "look-ups begun again: resized"),
        ("invalid", stat.invalid, "packets of no connection that the kernel accepts"),
        ("error", stat.error, "packets with an error"),
        ("insert", stat.insert, "hashed through ctnetlink; packets are not counted"),
        ("expect_create", stat.expect_create, "expectations made, in their own table"),
    ];
    let told = all.into_iter().filter_map(|(name, count, meaning)| {
        let count = count.filter(|count| *count > 0)?;
        Some(format!("kernel, since the start: {name} {count} ({meaning})"))
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp(udp: u64) -> ByProtocol {
        ByProtocol { udp, ..ByProtocol::default() }
    }

    #[test]
    fn what_happened_is_told_and_what_did_not_is_left_out() {
        let mut change = Totals { inserts_packet: udp(1200), ..Totals::default() };
        change.deletes.unreplied = udp(50);
        change.deletes_user = 20;
        change.table_full_drops = 3;
        change.failed_clash = 1;
        assert_eq!(
            ours(&change, &Counted::ALL),
            [
                "inserts by: packets 1.2k, UDP 1.2k",
                "deletes by: kernel (expired, reset, device gone) 30, user 20",
                "deleted while: unreplied 50",
                "packets dropped for: table full 3, clash 1",
            ]
        );
        assert!(ours(&Totals::default(), &Counted::ALL).is_empty());
    }

    #[test]
    fn what_cannot_be_told_is_a_question_mark() {
        let counted = Counted { clash_outcomes: false, failed_inserts: false, ..Counted::ALL };
        let change = Totals { table_full_drops: 3, ..Totals::default() };
        assert_eq!(
            ours(&change, &counted),
            [
                "packets dropped for: table full 3, clash ?, chain too long ?, deleted before it was \
                 hashed ?"
            ]
        );
    }

    #[test]
    fn the_kernels_counters_that_grow_come_a_second() {
        let rates = KernelStat {
            invalid: Some(1234.0),
            error: Some(0.25),
            drop: Some(0.0),
            ..KernelStat::default()
        };
        let line = rates_line(&rates);
        assert_eq!(line.as_deref(), Some("kernel, a second: invalid 1.2k, error 0.2"));
        assert_eq!(rates_line(&KernelStat { drop: Some(0.0), ..KernelStat::default() }), None);
    }

    #[test]
    fn the_kernels_counters_come_with_their_meaning() {
        let stat = KernelStat { drop: Some(17), found: Some(3), ..KernelStat::default() };
        assert_eq!(
            kernels(&stat),
            ["kernel, since the start: drop 17 (packets dropped: table full, or a clash not \
                 resolved)"]
        );
    }
}
