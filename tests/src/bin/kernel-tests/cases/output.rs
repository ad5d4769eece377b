//! What people and programs read.

use anyhow::Result;
use conntrack_tests::traffic::{Family, Plan, Protocol};

use super::{TRACK, expect_no_panic};
use crate::{
    checks::Checks,
    ctmon::{INTERVAL, Watch},
    kernel,
    netns::Netns,
    process,
    runner::{Env, Test},
    stage::{self, Running},
};

const COLUMNS: usize = 80;

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "text-fits-80-columns",
            "Text that goes into a pipe is 80 columns wide at most and has no colours",
            text,
        ),
        Test::new(
            "procfs-says-what-it-cannot-know",
            "The procfs source shows the kernel's count and claims no inserts",
            procfs,
        ),
    ]
}

fn text(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    Running::start("udp", Plan::new(Protocol::Udp, Family::Ipv4, 3000), None).join(checks)?;
    for arguments in [
        &["watch", "--interval", INTERVAL, "--count", "5"][..],
        &["watch", "--interval", INTERVAL, "--count", "5", "--source", "procfs"],
        &["status"],
        &["status", "--full-within", "10m"],
        &["status", "--source", "procfs"],
    ] {
        let what = arguments.join(" ");
        let ended = process::run(env, arguments)?;
        checks.equal(&format!("{what}: exit code"), ended.status.code(), Some(0));
        checks.that(
            &format!("{what}: the number of entries"),
            plain(&ended.stdout).contains("3000"),
            &ended.stdout,
        );
        // Behind the bar in the first line are the numbers for graphs of a monitoring system.
        let lines = ended.stdout.lines().map(|line| line.split(" | '").next().unwrap_or(line));
        let wide: Vec<&str> = lines.filter(|line| line.chars().count() > COLUMNS).collect();
        checks.that(&format!("{what}: no line beyond {COLUMNS} columns"), wide.is_empty(), wide);
        checks.that(
            &format!("{what}: no escape codes"),
            !ended.stdout.contains('\u{1b}'),
            &ended.stdout,
        );
        expect_no_panic(checks, &what, &ended.stderr);
    }
    Ok(())
}

/// Without separators of thousands.
fn plain(text: &str) -> String {
    text.replace([',', '_', '\u{2009}', '\u{202f}'], "")
}

fn procfs(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let inode = Netns::own()?.inode();
    let mut watch = Watch::start(env, &["--source", "procfs", "--netns", "self"])?;
    checks.equal("source", watch.started().source.as_str(), "procfs");
    checks.that("lost answers are listed", !watch.started().unavailable.is_empty(), "none");
    Running::start("udp", Plan::new(Protocol::Udp, Family::Ipv4, 3000), None).join(checks)?;
    let tick = watch.fresh_tick()?;
    let netns = tick.netns(inode).cloned().unwrap_or_default();
    checks.equal("entries == nf_conntrack_count", netns.entries, Some(kernel::count()?));
    checks.equal("entries", netns.entries, Some(3000));
    checks.that(
        "no insert count out of thin air",
        netns.total("inserts").is_none(),
        netns.total("inserts"),
    );
    checks.equal("ctmon ends with 0", watch.terminate()?.status.code(), Some(0));
    Ok(())
}
