//! Whom a full table hits.

use std::collections::BTreeSet;

use anyhow::Result;
use conntrack_tests::traffic::{Family, Plan, Protocol};

use super::{
    TRACK,
    causes::{id_of, send, udp},
};
use crate::{
    checks::Checks,
    command,
    ctmon::Watch,
    kernel::Limit,
    netns::Netns,
    report::Victim,
    runner::{Env, Test},
    stage::{self, Running},
};

/// The most victims of a tick.
const VICTIMS: usize = 16;

pub(super) fn tests() -> Vec<Test> {
    vec![Test::new(
        "victims-are-those-that-were-hit",
        "Victims are flows that were refused or evicted, with tuple and namespace, at most 16 a tick",
        victims,
    )]
}

fn victims(env: &Env, checks: &mut Checks) -> Result<()> {
    const MAX: i64 = 300;
    stage::prepare(TRACK)?;
    let _max = Limit::max(&env.init, MAX)?;
    let _buckets = Limit::buckets(&env.init, 512)?;
    let own = Netns::own()?.inode();
    let mut watch = Watch::start(env, &[])?;
    let (_, cookie) = id_of(&mut watch, own)?;

    let source = |host: u8| [127, 0, 7, host].into();
    let assured = Plan {
        hold: true,
        from: source(1),
        ..Plan::new(Protocol::Tcp, Family::Ipv4, MAX.unsigned_abs())
    };
    let held = Running::start("assured", assured, None).join(checks)?;
    let mut refused = Running::start("refused", Plan { from: source(2), ..udp(40) }, None);
    let refused = refused.join(checks)?.refused;
    checks.equal("flows that are refused", refused, 40);
    watch.quiet()?;
    let of_refused = watch.take_victims();
    command::run("conntrack", &["-D", "-p", "tcp"])?;
    send(checks, Plan { from: source(3), ..udp(1000) })?;
    watch.quiet()?;
    let of_evicted = watch.take_victims();
    drop(held);

    let told = !watch.cannot_tell("victims_table_full_drop");
    for (kind, host, ticks) in [("table_full_drop", 2, of_refused), ("early_drop", 3, of_evicted)] {
        if kind == "table_full_drop" && !told {
            checks.total("victims of kind table_full_drop", None, 0, true);
            continue;
        }
        checks.that(&format!("victims of kind {kind}"), !ticks.is_empty(), ());
        let most = ticks.iter().map(Vec::len).max().unwrap_or_default();
        checks.that("no more than 16 in a tick", most <= VICTIMS, most);
        let wrong = |victim: &&Victim| {
            victim.kind != kind
                || victim.netns_cookie != cookie
                || victim.protocol != Some(17)
                || victim.zone != Some(0)
                || victim.original.get("source") != Some(&format!("127.0.7.{host}").into())
                || victim.original.get("destination") != Some(&"127.0.0.1".into())
        };
        let all: Vec<&Victim> = ticks.iter().flatten().collect();
        checks.that(
            &format!("every victim of kind {kind} is a flow of the test"),
            !all.iter().any(wrong),
            all.iter().find(|victim| wrong(victim)),
        );
        let tuples: BTreeSet<String> =
            all.iter().map(|victim| format!("{:?}", victim.original)).collect();
        checks.equal(&format!("each of kind {kind} once"), tuples.len(), all.len());
    }
    Ok(())
}
