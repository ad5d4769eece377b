//! Network namespaces that come and go while ctmon runs.

use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use conntrack_tests::traffic::{Family, Plan, Protocol};

use super::TRACK;
use crate::{
    checks::Checks,
    ctmon::Watch,
    kernel,
    netns::Netns,
    report::Tick,
    runner::{Env, Test},
    stage::{self, Running},
    wait,
};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "namespace-comes-and-goes",
            "A namespace made while ctmon runs has counts of its own, and its end disturbs nobody's",
            comes_and_goes,
        ),
        Test::new(
            "namespace-inode-used-again",
            "A namespace that gets the inode number of an earlier one starts from zero",
            inode_used_again,
        ),
    ]
}

/// A namespace with a process in it, as `unshare -n` makes one.
pub(super) struct Inhabited {
    pub(super) netns: Netns,
    inhabitant: Child,
}

impl Inhabited {
    pub(super) fn new() -> Result<Self> {
        let netns = Netns::new()?;
        let inhabitant = netns.run(|| {
            stage::prepare(TRACK)?;
            let mut sleep = Command::new("sleep");
            sleep.arg("3600").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            sleep.spawn().context("cannot start sleep")
        })?;
        Ok(Self { netns, inhabitant })
    }

    pub(super) fn send(&self, flows: u64, checks: &mut Checks) -> Result<i64> {
        self.netns.run(|| send(flows, checks))
    }
}

impl Drop for Inhabited {
    fn drop(&mut self) {
        // Fails only when it has ended.
        let _ = self.inhabitant.kill();
        let _ = self.inhabitant.wait();
    }
}

pub(super) fn send(flows: u64, checks: &mut Checks) -> Result<i64> {
    let outcome =
        Running::start("udp", Plan::new(Protocol::Udp, Family::Ipv4, flows), None).join(checks)?;
    i64::try_from(outcome.sent).context("flows")
}

/// What every namespace must show: its own flows, all of them still there.
fn expect_own(checks: &mut Checks, whose: &str, tick: &Tick, inode: u64, sent: i64) {
    let netns = tick.netns(inode).cloned().unwrap_or_default();
    checks.equal(&format!("inserts of {whose}"), netns.total("inserts"), Some(sent));
    checks.equal(&format!("entries of {whose}"), netns.entries, Some(sent));
    checks.equal(&format!("drift of {whose}"), netns.count_drift, Some(0));
}

fn gone(watch: &mut Watch, inode: u64) -> Result<Tick> {
    wait::until(&format!("a tick without the netns {inode}"), wait::SHORT, || {
        let tick = watch.next_tick()?;
        Ok(tick.netns(inode).is_none().then_some(tick))
    })
}

fn comes_and_goes(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let own = Netns::own()?.inode();
    let mut watch = Watch::start(env, &[])?;
    watch.baseline(own)?;
    let sent = send(500, checks)?;

    let second = Inhabited::new()?;
    let inode = second.netns.inode();
    checks.that("another inode", inode != own, inode);
    let sent_second = second.send(700, checks)?;
    watch.baseline(inode)?;
    let tick = watch.quiet()?;
    expect_own(checks, "the second namespace", &tick, inode, sent_second);
    expect_own(checks, "the first namespace", &tick, own, sent);
    checks.equal(
        "nf_conntrack_count of the second namespace",
        second.netns.run(kernel::count)?,
        sent_second,
    );
    checks.equal("nf_conntrack_count of the first namespace", kernel::count()?, sent);

    // With all of its entries: the kernel frees them in one burst.
    drop(second);
    gone(&mut watch, inode)?;
    let tick = watch.quiet()?;
    expect_own(checks, "the first namespace after the end of the second", &tick, own, sent);
    checks.equal("no message", watch.notices().len(), 0);
    checks.equal("ctmon ends with 0", watch.terminate()?.status.code(), Some(0));
    Ok(())
}

fn inode_used_again(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let own = Netns::own()?.inode();
    let mut watch = Watch::start(env, &[])?;
    watch.baseline(own)?;
    let mut seen = Vec::new();
    for flows in [300, 200, 100] {
        let netns = Inhabited::new()?;
        let inode = netns.netns.inode();
        let sent = netns.send(flows, checks)?;
        watch.baseline(inode)?;
        let tick = watch.quiet()?;
        expect_own(checks, "a new namespace", &tick, inode, sent);
        let cookie = tick.netns(inode).and_then(|netns| netns.cookie);
        if cookie.is_none() && kernel::lacks_cookies() {
            checks.total("cookie", None, 0, true);
        } else {
            let new = cookie.is_some() && !seen.contains(&cookie);
            checks.that("a cookie that no namespace had before", new, (cookie, &seen));
        }
        seen.push(cookie);
        drop(netns);
        gone(&mut watch, inode)?;
    }
    Ok(())
}
