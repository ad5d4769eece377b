//! Killed without a chance to clean up.

use std::os::unix::process::ExitStatusExt as _;

use anyhow::Result;
use conntrack_tests::traffic::{Family, Plan, Protocol};
use rustix::process::Signal;

use super::TRACK;
use crate::{
    checks::Checks,
    ctmon::Watch,
    kernel,
    netns::Netns,
    runner::{Env, Test},
    stage::{self, Running},
    wait,
};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "kill-9-leaves-no-program",
            "After kill -9 no BPF program stays loaded",
            |env, checks| {
                stage::prepare(TRACK)?;
                kill(env, checks)
            },
        ),
        Test::new(
            "kill-9-during-a-flood",
            "After kill -9 in the middle of a flood no BPF program stays loaded, and the flood goes on",
            during_a_flood,
        ),
    ]
}

/// Programs of an earlier ctmon may take a moment to go.
pub(super) fn none_loaded() -> Result<()> {
    wait::until("no BPF program called ctmon_* is loaded", wait::SHORT, || {
        Ok(kernel::ctmon_programs()?.is_empty().then_some(()))
    })
}

fn kill(env: &Env, checks: &mut Checks) -> Result<()> {
    none_loaded()?;
    let mut watch = Watch::start(env, &[])?;
    watch.baseline(Netns::own()?.inode())?;
    let hooks = watch.started().hooks.iter().filter(|hook| hook.attached_via.is_some()).count();
    let loaded = kernel::ctmon_programs()?;
    checks.that(
        "a program for each attached hook",
        loaded.len() >= hooks && hooks > 0,
        (hooks, &loaded),
    );
    let ended = watch.into_process().end_by(Signal::KILL)?;
    checks.equal("ended by SIGKILL", ended.status.signal(), Some(Signal::KILL.as_raw()));
    none_loaded()
}

fn during_a_flood(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let plan = Plan { rate: Some(3000), ..Plan::new(Protocol::Udp, Family::Ipv4, 200_000) };
    let mut sender = Running::start("flood", plan, None);
    kill(env, checks)?;
    let before = sender.progress().sent() + sender.progress().refused();
    wait::until("the flood goes on", wait::SHORT, || {
        let now = sender.progress().sent() + sender.progress().refused();
        Ok((now > before + 1000).then_some(()))
    })?;
    sender.progress().stop();
    sender.join(checks).map(drop)
}
