//! Cost of the service on a node with thousands of idle processes.

use std::{
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{TRACK, many};
use crate::{
    checks::Checks,
    netns::Netns,
    process,
    runner::{Env, Test},
    served::Served,
    stage, wait,
};

/// Processes that sleep.
const SLEEPERS: usize = 5_000;
/// Between the service's start and the measurement: what is there is found, and looks become as rare as they get.
const SETTLE: Duration = Duration::from_secs(30);
/// Namespaces that come, open flows and go while it is measured, one each [`EVERY`].
const NAMESPACES: u32 = 60;
const EVERY: Duration = Duration::from_secs(1);

pub(super) fn tests() -> Vec<Test> {
    vec![Test {
        on_demand: true,
        ..Test::new(
            "cost-beside-5000-processes",
            "CPU time of both halves over 60 s beside 5,000 processes, a namespace coming and going each second. Takes a VM with 4 GiB",
            cost,
        )
    }]
}

/// Processes that sleep until this is dropped.
struct Sleepers(Vec<Child>);

impl Sleepers {
    fn start() -> Result<Self> {
        let mut sleepers = Self(Vec::with_capacity(SLEEPERS));
        for _ in 0..SLEEPERS {
            let child = Command::new("sleep").arg("86400").spawn();
            sleepers.0.push(child.context("cannot start `sleep`")?);
        }
        Ok(sleepers)
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        // One that has ended by itself is none to end.
        self.0.iter_mut().for_each(|child| drop(child.kill()));
        self.0.iter_mut().for_each(|child| drop(child.wait()));
    }
}

fn cost(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let own = Netns::own()?.inode();
    let _sleepers = Sleepers::start()?;
    let mut served = Served::start_each(env, "1s", &[])?;
    thread::sleep(SETTLE);
    let flows = |served: &Served| {
        Ok::<_, anyhow::Error>(served.metrics()?.all("ctmon_inserts_total").sum::<f64>())
    };
    let inserts_before = flows(&served)?;
    let halves = [("serving half", served.process().id()?), ("helper", served.helper()?)];
    let spent =
        || halves.map(|(_, half)| process::cpu_time(half)).into_iter().collect::<Result<Vec<_>>>();
    let (before, began) = (spent()?, Instant::now());
    for number in 1..=NAMESPACES {
        drop(many::make(1)?);
        thread::sleep((EVERY * number).saturating_sub(began.elapsed()));
    }
    let (after, elapsed) = (spent()?, began.elapsed());
    let mut sum = Duration::ZERO;
    for (((name, _), before), after) in halves.iter().zip(before).zip(after) {
        let spent = after.saturating_sub(before);
        sum += spent;
        checks.note(format!("{name}: {} ms in {:.1} s", spent.as_millis(), elapsed.as_secs_f64()));
    }
    let share = 100.0 * sum.as_secs_f64() / elapsed.as_secs_f64();
    checks.note(format!("both halves: {share:.2} % of a core"));
    let expected = f64::from(NAMESPACES * u32::from(many::FLOWS));
    let mut counted = 0.0;
    wait::until("all flows of the namespaces", wait::SHORT, || {
        counted = flows(&served)? - inserts_before;
        Ok((counted >= expected).then_some(()))
    })
    .with_context(|| format!("{counted} of {expected}"))?;
    checks.equal("inserts of the namespaces", counted, expected);
    checks.equal(
        "drift of the own namespace",
        served.metrics()?.of("ctmon_count_drift", own),
        Some(0.0),
    );
    checks.equal("exit code", served.terminate()?.status.code(), Some(0));
    Ok(())
}
