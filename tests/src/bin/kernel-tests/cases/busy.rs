//! A flood on a machine that has other work: tasks are pre-empted wherever the kernel lets them be.

use std::{
    net::{IpAddr, Ipv4Addr},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};
use conntrack_tests::traffic::Plan;

use super::{TRACK, causes::udp};
use crate::{
    checks::Checks,
    command,
    ctmon::Watch,
    kernel::{self, Limit},
    netns::Netns,
    runner::{Env, Test},
    stage::{self, Running},
};

/// Senders, each with an address of its own.
const SENDERS: u8 = 6;
/// What each of them sends.
const FLOWS: u64 = 5000;
/// A limit that is not reached.
const ENOUGH: i64 = 65_536;
/// Loops that do nothing and never wait.
const LOOPS: usize = 2;

pub(super) fn tests() -> Vec<Test> {
    // For real-time kernels: where tasks are pre-empted and programs are at fentry, an alloc in 30,000 may be missed.
    let on_demand = |test: Test| Test { on_demand: true, ..test };
    let tests = [
        Test::new(
            "a-flood-beside-busy-loops",
            "Six senders beside two busy loops: inserts, deletes, allocs and frees are what was sent",
            |env, checks| flood(env, checks, ENOUGH),
        ),
        Test::new(
            "evictions-beside-busy-loops",
            "The same with a full table: each entry makes room for the next",
            |env, checks| flood(env, checks, 7680),
        ),
    ];
    tests.map(on_demand).into()
}

/// A process that is never idle, until it is dropped.
struct Loop(Child);

impl Loop {
    fn start() -> Result<Self> {
        let mut shell = Command::new("sh");
        shell.args(["-c", "while :; do :; done"]).stdin(Stdio::null());
        Ok(Self(shell.spawn().context("cannot start a busy loop")?))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn flood(env: &Env, checks: &mut Checks, max: i64) -> Result<()> {
    stage::prepare(TRACK)?;
    let _max = Limit::max(&env.init, max)?;
    let _buckets = Limit::buckets(&env.init, max)?;
    let inode = Netns::own()?.inode();
    let mut watch = Watch::start(env, &[])?;
    watch.baseline(inode)?;
    let stat = |name| Ok::<_, anyhow::Error>(kernel::stat()?.get(name).copied().unwrap_or(0));
    let evicted_before = stat("early_drop")?;
    let loops = (0..LOOPS).map(|_| Loop::start()).collect::<Result<Vec<_>>>()?;
    let senders: Vec<_> = (1..=SENDERS)
        .map(|number| {
            let from = IpAddr::V4(Ipv4Addr::new(127, 0, number, 1));
            Running::start("flood", Plan { from, ..udp(FLOWS) }, None)
        })
        .collect();
    let mut sent = 0;
    for mut sender in senders {
        sent += i64::try_from(sender.join(checks)?.sent).context("flows")?;
    }
    command::flush()?;
    drop(loops);
    let tick = watch.quiet()?;
    let netns = tick.netns(inode).cloned().unwrap_or_default();
    checks.note(format!("missed_calls_max {:?}", tick.missed_calls_max));
    for name in ["allocs", "inserts", "deletes", "frees"] {
        checks.equal(name, netns.total(name), Some(sent));
    }
    let evicted = stat("early_drop")? - evicted_before;
    checks.that("evictions", (evicted > 0) == (max < ENOUGH), evicted);
    checks.equal("early_drops", netns.total("early_drops"), Some(evicted));
    if max == ENOUGH {
        checks.equal("deletes by a user", netns.total("deletes_by_cause_user"), Some(sent));
    }
    checks.equal("count_drift", netns.count_drift, Some(0));
    checks.equal("unhashed entries", netns.unhashed_entries, Some(0));
    checks.equal("dying entries", netns.dying_entries, Some(0));
    checks.equal("ctmon ends with 0", watch.terminate()?.status.code(), Some(0));
    Ok(())
}
