//! `nf_conntrack_max`, while ctmon runs.

use anyhow::{Context as _, Result};
use conntrack_tests::traffic::{Family, Plan, Protocol};

use super::TRACK;
use crate::{
    checks::Checks,
    ctmon::Watch,
    kernel::Limit,
    netns::Netns,
    runner::{Env, Test},
    stage::{self, Running},
};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "max-changed-at-run-time",
            "A changed nf_conntrack_max is used from the next tick on, and said once",
            changed,
        ),
        Test::new(
            "max-0-is-no-limit",
            "nf_conntrack_max = 0 is no limit where the kernel takes it, and changes nothing where it refuses",
            zero,
        ),
    ]
}

/// Notices that name the limit.
fn about(watch: &Watch, limit: &str) -> Vec<String> {
    let plain = |text: &str| text.replace([',', '_', ' '], "");
    watch.notices().iter().filter(|text| plain(text).contains(limit)).cloned().collect()
}

fn changed(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let max = Limit::max(&env.init, 20_000)?;
    let inode = Netns::own()?.inode();
    let mut watch = Watch::start(env, &[])?;
    let tick = watch.baseline(inode)?;
    let limit =
        |tick: &crate::report::Tick| tick.netns(inode).and_then(|netns| netns.entries_limit);
    checks.equal("entries_limit before", limit(&tick), Some(20_000));
    checks.equal("no notice before", watch.notices(), [""; 0].as_slice());

    for value in [30_000, 10_000] {
        max.change(value)?;
        for tick in 1..=5 {
            let seen = if tick == 1 { watch.fresh_tick()? } else { watch.next_tick()? };
            checks.equal(
                &format!("entries_limit in tick {tick} after the change"),
                limit(&seen),
                Some(value),
            );
        }
    }
    checks.equal("notices of two changes", watch.notices().len(), 2);
    checks.that(
        "none of them was set back",
        !watch.notices().iter().any(|text| text.contains("set back")),
        watch.notices(),
    );
    checks.that(
        "one notice with 30000 and one with 10000",
        {
            // The second one may name the limit before it as well.
            !about(&watch, "30000").is_empty() && about(&watch, "10000").len() == 1
        },
        watch.notices(),
    );
    // As a program does that sets the limit it wants again and again.
    max.change(30_000)?;
    for _ in 0..3 {
        watch.fresh_tick()?;
    }
    let last = watch.notices().last().cloned().unwrap_or_default();
    let is_said = last.contains("from 10000 to 30000: set back after") && last.contains("doctor");
    checks.that("a limit that is set back is said", is_said, last);
    Ok(())
}

fn zero(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let max = Limit::max(&env.init, 5_000)?;
    let inode = Netns::own()?.inode();
    let mut watch = Watch::start(env, &[])?;
    watch.baseline(inode)?;
    let refused = max.change(0).err();
    if let Some(error) = &refused {
        let why = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
        checks.equal("a refused 0 is EINVAL", why, Some(rustix::io::Errno::INVAL.raw_os_error()));
    }
    checks.note(match &refused {
        Some(error) => format!("this kernel refuses: {error:#}"),
        None => "this kernel takes 0".to_owned(),
    });
    watch.fresh_tick()?;

    let flows = 6_000;
    let sent = Running::start("udp", Plan::new(Protocol::Udp, Family::Ipv4, flows), None)
        .join(checks)?
        .sent;
    let netns = watch.quiet_netns(inode)?;
    let sent = i64::try_from(sent).context("flows")?;
    checks.equal("inserts == sent", netns.total("inserts"), Some(sent));
    checks.equal("count_drift", netns.count_drift, Some(0));
    if refused.is_none() {
        checks.equal("every flow is taken", sent, 6_000);
        checks.equal("unlimited", netns.unlimited, true);
        checks.equal("entries_limit without a limit", netns.entries_limit, None);
        checks.equal("fill_ratio without a limit", netns.fill_ratio, None);
        checks.equal("seconds_to_full_p50 without a limit", netns.seconds_to_full_p50, None);
        checks.that("a notice about the change", !watch.notices().is_empty(), "none");
    } else {
        checks.equal("unlimited", netns.unlimited, false);
        checks.equal("entries_limit after a refused change", netns.entries_limit, Some(5_000));
        checks.equal("notices of a refused change", watch.notices().len(), 0);
    }
    checks.equal("ctmon ends with 0", watch.terminate()?.status.code(), Some(0));
    Ok(())
}
