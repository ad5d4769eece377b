//! What ctmon says of its own programs.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};

use super::{
    TRACK,
    causes::{send, udp},
};
use crate::{
    checks::Checks,
    command,
    ctmon::Watch,
    netns::Netns,
    runner::{Env, Test},
    stage, wait,
};

pub(super) fn tests() -> Vec<Test> {
    vec![Test::new(
        "probes-tell-what-they-cost",
        "Each tick has the state, hits and misses of every hook; run times only with --probe-stats",
        probes,
    )]
}

fn probes(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    for (arguments, timed) in [(&[][..], false), (&["--probe-stats"][..], true)] {
        let mut watch = Watch::start(env, arguments)?;
        watch.baseline(Netns::own()?.inode())?;
        send(checks, udp(200))?;
        command::flush()?;
        // Misses and run times are read once a second.
        let used = ["alloc", "insert", "delete", "free"];
        let mut last = Vec::new();
        let found = wait::until("probes that were hit", wait::SHORT, || {
            let tick = watch.next_tick()?;
            let hit = |hook: &&str| {
                let probe = tick.probes.iter().find(|probe| probe.hook == **hook);
                probe.is_some_and(|probe| {
                    probe.hits >= Some(200) && (!timed || probe.runs >= Some(200))
                })
            };
            last = tick.probes.clone();
            Ok(used.iter().all(hit).then_some(tick))
        });
        let tick = found.with_context(|| format!("the last ones: {last:?}"))?;
        let attached = watch.started().hooks.iter().filter(|hook| hook.attached_via.is_some());
        let attached: BTreeSet<String> = attached.map(|hook| hook.hook.clone()).collect();
        let seen = tick.probes.iter().filter(|probe| probe.state == "attached");
        checks.equal(
            "attached",
            seen.map(|probe| probe.hook.clone()).collect::<BTreeSet<_>>(),
            attached,
        );
        for probe in tick.probes.iter().filter(|probe| probe.state == "attached") {
            checks.that("the way of attaching", probe.attached_via.is_some(), probe);
            if probe.misses.is_some() || !watch.cannot_tell("misses") {
                checks.that("misses are told", probe.misses.is_some(), probe);
            } else {
                checks.total("misses", None, 0, true);
            }
            let used = used.contains(&probe.hook.as_str());
            // What never ran has no run time.
            checks.equal(
                "run time is told",
                probe.run_time_ns.is_some(),
                timed && (used || probe.run_time_ns.is_some()),
            );
            checks.equal("run count is told", probe.runs.is_some(), probe.run_time_ns.is_some());
            let ran = probe.runs >= Some(200) && probe.run_time_ns > Some(0);
            checks.that("a run time of what ran", !(timed && used) || ran, probe);
        }
    }
    Ok(())
}
