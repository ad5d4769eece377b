//! Tables that lose something now.

use super::{Severity, Verdict};
use crate::{
    doctor::facts::{Fact, Facts, NetnsLosses},
    severity::Thresholds,
};

/// Packets that tables dropped and entries that they evicted while `doctor` looked.
pub(super) fn verdict(facts: &Facts, thresholds: &Thresholds) -> Verdict {
    let new = |severity, what: String| Verdict::new("losses", severity, what);
    if let Fact::Unavailable(why) = &facts.table.statistics {
        return new(Severity::Info, format!("not available: {why}"));
    }
    let observed = match &facts.observed {
        Fact::Known(observed) => observed,
        Fact::Unavailable(why) => return new(Severity::Info, format!("not available: {why}")),
    };
    let seconds = observed.interval_ns as f64 / 1e9;
    let Some(worst) = observed.losing.iter().max_by_key(|one| (one.drop, one.early_drop)) else {
        return new(Severity::Ok, format!("none in the {seconds:.1} s of this look"));
    };
    let others = match observed.losing.len() - 1 {
        0 => String::new(),
        others => format!("; {others} other namespaces lose, too"),
    };
    let name = name(facts, worst);
    let NetnsLosses { drop, early_drop, .. } = *worst;
    let is_full = fill(facts, worst).is_none_or(|fill| fill >= thresholds.critical_fill);
    match (drop, early_drop) {
        (0, _) => new(
            Severity::Warning,
            format!("{early_drop} entries evicted in {seconds:.1} s in netns {name}{others}"),
        )
        .why("the table is full: it keeps room by ending connections that no answer has confirmed")
        .advice("`ctmon watch --causes` shows who fills it; raise net.netfilter.nf_conntrack_max"),
        (drop, evicted) if is_full || evicted > 0 => new(
            Severity::Critical,
            format!("{drop} packets dropped in {seconds:.1} s in netns {name}, whose table is full{others}"),
        )
        .why("new connections fail now")
        .advice("raise net.netfilter.nf_conntrack_max; `ctmon watch --causes` shows who fills it"),
        (drop, _) => new(
            Severity::Warning,
            format!(
                "{drop} packets dropped in {seconds:.1} s in netns {name}, whose table is not full{others}"
            ),
        )
        .why("two packets of one connection raced for its entry (a clash), often those of DNS over UDP")
        .advice("`ctmon watch --causes` tells clashes from other drops"),
    }
}

fn name(facts: &Facts, losses: &NetnsLosses) -> String {
    let mut read = facts.namespaces.read.iter();
    let netns = read.find(|netns| netns.inode == losses.inode);
    let name = netns.and_then(|netns| netns.name.clone());
    name.unwrap_or_else(|| losses.inode.to_string())
}

/// Fill of its table; none where it is not known.
fn fill(facts: &Facts, losses: &NetnsLosses) -> Option<f64> {
    let netns = facts.namespaces.read.iter().find(|netns| netns.inode == losses.inode)?;
    let (entries, limit) = (*netns.entries.known()?, *netns.entries_limit.known()?);
    (limit > 0).then(|| f64::from(entries) / f64::from(limit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        doctor::verdict::test_facts::{check, unknown},
        severity::THRESHOLDS,
    };

    fn lose(facts: &mut Facts, drop: u64, early_drop: u64, entries: u32) {
        let Fact::Known(observed) = &mut facts.observed else { panic!() };
        observed.losing.push(NetnsLosses { inode: 7, drop, early_drop });
        facts.namespaces.read[0].entries = Fact::Known(entries);
    }

    #[test]
    fn a_table_that_drops_is_a_problem() {
        use Severity::{Critical, Info, Ok, Warning};
        check(
            |facts| verdict(facts, &THRESHOLDS),
            &[
                ("nothing", |_| {}, Ok, &["none in the 1.0 s"]),
                (
                    "a full table",
                    |f| lose(f, 12, 0, 262_144),
                    Critical,
                    &["12 packets dropped in 1.0 s in netns blue", "is full", "fail now"],
                ),
                ("it evicts, too", |f| lose(f, 12, 5, 200_000), Critical, &["12 packets dropped"]),
                ("clashes", |f| lose(f, 3, 0, 100), Warning, &["is not full", "clash"]),
                ("evictions", |f| lose(f, 0, 9, 262_144), Warning, &["9 entries evicted"]),
                ("not read", |f| f.observed = unknown(), Info, &["no reason"]),
                ("no statistics", |f| f.table.statistics = unknown(), Info, &["not available"]),
            ],
        );
    }
}
