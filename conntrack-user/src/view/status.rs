//! `status`: one verdict, and what it rests on.

use std::fmt::Write as _;

use super::{text::Table, units};
use crate::{
    model::tick::{Limit, NetnsTick, Tick},
    source::item::Origin,
};

/// Fill, in per cent, from which a table is reported.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// A warning from here on.
    pub warn: f64,
    /// Critical from here on.
    pub crit: f64,
}

/// How it stands, with the exit codes of monitoring plugins. In rising order of weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// All tables are below the limits.
    Ok,
    /// A table could not be judged.
    Unknown,
    /// A table has reached the warning limit.
    Warning,
    /// A table has reached the critical limit.
    Critical,
}

impl Verdict {
    /// The exit code: 0, 1, 2, 3 as monitoring plugins have them.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }

    /// Its name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Unknown => "unknown",
        }
    }
}

/// A verdict and the limits it was reached by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    /// The worst of all tables.
    pub verdict: Verdict,
    /// The limits.
    pub limits: Limits,
}

/// Judges all tables of `tick`; the worst one counts. No table at all is [`Verdict::Unknown`].
#[must_use]
pub fn judge(tick: &Tick, limits: Limits) -> Judged {
    let worst = tick.netns.iter().map(|netns| judge_one(netns, limits)).max();
    Judged { verdict: worst.unwrap_or(Verdict::Unknown), limits }
}

fn judge_one(netns: &NetnsTick, limits: Limits) -> Verdict {
    match (netns.fill_ratio(), netns.limit) {
        (_, Limit::Unlimited) => Verdict::Ok,
        (None, _) => Verdict::Unknown,
        (Some(ratio), _) if ratio * 100.0 >= limits.crit => Verdict::Critical,
        (Some(ratio), _) if ratio * 100.0 >= limits.warn => Verdict::Warning,
        (Some(_), _) => Verdict::Ok,
    }
}

/// The answer for people: the verdict in the first line, as monitoring plugins print it.
#[must_use]
pub fn text(tick: &Tick, start: &Origin, judged: Judged) -> String {
    let mut out = String::new();
    let word = match judged.verdict {
        Verdict::Ok => "OK",
        Verdict::Unknown => "UNKNOWN",
        Verdict::Warning => "WARNING",
        Verdict::Critical => "CRITICAL",
    };
    let _ = writeln!(out, "{word}: {}", fullest(tick));
    let _ = writeln!(out, "kernel {}, source {}", start.kernel, start.source);
    for lost in &start.unavailable {
        let _ = writeln!(out, "not available: {}\n  because {}", lost.what, lost.why);
    }
    out.push_str(&Table::new(true, false).tick(tick));
    out
}

/// The fullest table in a sentence.
fn fullest(tick: &Tick) -> String {
    let ratios = tick.netns.iter().filter_map(|netns| Some((netns.fill_ratio()?, netns)));
    let Some((ratio, netns)) = ratios.max_by(|(a, _), (b, _)| a.total_cmp(b)) else {
        return match tick.netns.first() {
            Some(netns) if netns.limit == Limit::Unlimited => "the tables have no limit".into(),
            Some(_) => "no table could be read".into(),
            None => "no network namespace tracks connections".into(),
        };
    };
    let inode = netns.id.inode.to_string();
    let name = netns.name.as_ref().map_or(&inode, |name| &name.text);
    let entries = netns.entries.at_most().unwrap_or_default();
    let max = match netns.limit {
        Limit::Entries(max) => max,
        Limit::Unlimited | Limit::Unavailable => 0,
    };
    format!("{} of the table in use in netns {name} ({entries} of {max})", units::percent(ratio))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        forecast::TimeToFull,
        model::{
            name::{Name, NameKind},
            reading::NetnsId,
            tick::{Entries, Rates},
        },
    };

    fn tick(tables: &[(Entries, Limit)]) -> Tick {
        let netns = tables.iter().map(|(entries, limit)| NetnsTick {
            id: NetnsId { cookie: None, inode: 7 },
            name: Some(Name { text: "blue".into(), kind: NameKind::IpNetns }),
            ended: false,
            entries: *entries,
            limit: *limit,
            change: None,
            rates: Rates::default(),
            windows: None,
            totals: None,
            baseline: None,
            drift: None,
            time_to_full: TimeToFull::Unknown,
            count: None,
            kernel: None,
        });
        Tick::example(netns.collect())
    }

    #[test]
    fn the_worst_table_decides() {
        let limits = Limits { warn: 80.0, crit: 95.0 };
        let at = |entries| (Entries::Exact(entries), Limit::Entries(1000));
        let endless = (Entries::Exact(5), Limit::Unlimited);
        let unread = (Entries::Unavailable, Limit::Entries(1000));
        let cases = [
            (vec![], Verdict::Unknown, 3),
            (vec![at(799)], Verdict::Ok, 0),
            (vec![at(800)], Verdict::Warning, 1),
            (vec![at(949), at(0)], Verdict::Warning, 1),
            (vec![at(0), at(950)], Verdict::Critical, 2),
            (vec![at(1001)], Verdict::Critical, 2),
            (vec![endless], Verdict::Ok, 0),
            (vec![unread], Verdict::Unknown, 3),
            (vec![unread, at(0)], Verdict::Unknown, 3),
            (vec![unread, at(800)], Verdict::Warning, 1),
        ];
        for (tables, verdict, code) in cases {
            let judged = judge(&tick(&tables), limits).verdict;
            assert_eq!((judged, judged.exit_code()), (verdict, code), "{tables:?}");
        }
    }

    #[test]
    fn the_first_line_names_the_fullest_table() {
        let at = |entries| (Entries::Exact(entries), Limit::Entries(1000));
        let limits = Limits { warn: 80.0, crit: 95.0 };
        let first = |tables: &[(Entries, Limit)]| {
            let tick = tick(tables);
            let start = Origin {
                kernel: "6.12".into(),
                source: "procfs".into(),
                hooks: vec![],
                unavailable: vec![],
            };
            let text = text(&tick, &start, judge(&tick, limits));
            text.lines().next().unwrap_or_default().to_owned()
        };
        assert_eq!(
            first(&[at(10), at(850)]),
            "WARNING: 85% of the table in use in netns blue (850 of 1000)"
        );
        assert_eq!(first(&[]), "UNKNOWN: no network namespace tracks connections");
        assert_eq!(first(&[(Entries::Exact(5), Limit::Unlimited)]), "OK: the tables have no limit");
    }
}
