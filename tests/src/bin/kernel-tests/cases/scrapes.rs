//! Metrics of peaks between two scrapes, and of counters that the kernel alone has.

use std::{
    io::Write as _,
    net::{TcpListener, TcpStream},
};

use anyhow::{Context as _, Result};

use super::{TRACK, causes};
use crate::{
    checks::Checks,
    command, kernel,
    netns::Netns,
    runner::{Env, Test},
    served::Served,
    stage, wait,
};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "scrapes-miss-no-peak",
            "Entries that come and go between two scrapes are in the high-water marks, but for those of a window of 10 ms",
            peak,
        ),
        Test::new(
            "metrics-have-the-kernels-counters",
            "INVALID packets and all other counters of the kernel that no program has are in the metrics, each once",
            kernels,
        ),
        Test::new(
            "metrics-have-the-states-of-live-entries",
            "Metrics say how many live entries are established and assured",
            states,
        ),
    ]
}

const FLOWS: u32 = 2_000;
const CONNECTIONS: usize = 10;

fn peak(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let own = Netns::own()?.inode();
    let served = Served::start(env, &[])?;
    served.settled(own)?;
    causes::send(checks, causes::udp(FLOWS.into()))?;
    command::flush()?;
    let metrics = wait::until("all frees", wait::SHORT, || {
        let metrics = served.metrics()?;
        let is_over = metrics.of("ctmon_frees_total", own) == Some(f64::from(FLOWS));
        Ok(is_over.then_some(metrics))
    })?;
    checks.equal("entries now", metrics.of("ctmon_entries", own), Some(0.0));
    let high_water = metrics.of("ctmon_entries_high_water", own);
    // Inserts before the tick in a window that goes on after it are not counted twice.
    let flows = f64::from(FLOWS);
    let is_peak = high_water.is_some_and(|peak| (flows / 2.0..=flows).contains(&peak));
    checks.that("entries at the peak", is_peak, high_water);
    let rate = metrics.of("ctmon_insert_rate_high_water", own);
    checks.that("the highest insert rate", rate.is_some_and(|rate| rate > 100.0), rate);
    Ok(())
}

fn kernels(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let own = Netns::own()?.inode();
    let served = Served::start(env, &[])?;
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen")?;
    let mut stream = TcpStream::connect(listener.local_addr()?).context("cannot connect")?;
    // What comes after it belongs to no connection, and is not taken up.
    stage::set_sysctl("nf_conntrack_tcp_loose", 0)?;
    command::flush()?;
    stream.write_all(b"what the kernel does not know").context("cannot send")?;
    let metrics = wait::until("INVALID packets", wait::SHORT, || {
        let stat = kernel::stat()?;
        let metrics = served.metrics()?;
        let ours = metrics.of("ctmon_kernel_invalid_total", own);
        let is_same = ours.is_some() && ours == stat.get("invalid").map(|count| *count as f64);
        Ok((is_same && ours > Some(0.0)).then_some(metrics))
    })?;
    for name in ["error", "found", "search_restart", "clash_resolve", "expect_create"] {
        let value = metrics.of(&format!("ctmon_kernel_{name}_total"), own);
        checks.equal(name, value, Some(0.0));
    }
    // Of what programs count there is one number.
    for (theirs, ours) in [
        ("ctmon_kernel_early_drop_total", "ctmon_early_drops_total"),
        ("ctmon_kernel_insert_total", "ctmon_inserts_total"),
    ] {
        let is_counted = metrics.0.contains(&format!("\n{ours}{{"));
        let is_twice = is_counted == metrics.of(theirs, own).is_some();
        checks.that("one of both", !is_twice, (theirs, ours, is_counted));
    }
    Ok(())
}

fn states(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let served = Served::start(env, &[])?;
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen")?;
    let connect = || TcpStream::connect(listener.local_addr()?).context("cannot connect");
    let streams: Vec<TcpStream> = (0..CONNECTIONS).map(|_| connect()).collect::<Result<_>>()?;
    let all = Some(CONNECTIONS as f64);
    let established = "ctmon_live_entries_by_tcp_state{state=\"established\"}";
    let metrics = wait::until("established connections", wait::LONG, || {
        let metrics = served.metrics()?;
        Ok((metrics.value(established) == all).then_some(metrics))
    })?;
    for (name, expected) in [
        ("ctmon_live_entries{protocol=\"tcp\"}", all),
        ("ctmon_live_entries_by_status{protocol=\"tcp\",status=\"assured\"}", all),
        ("ctmon_live_entries_by_status{protocol=\"tcp\",status=\"unreplied\"}", Some(0.0)),
        ("ctmon_live_entries_by_tcp_state_low{state=\"established\"}", all),
        ("ctmon_live_entries_by_tcp_state_high{state=\"time_wait\"}", Some(0.0)),
        ("ctmon_live_entries_read{protocol=\"tcp\"}", all),
    ] {
        checks.equal(name, metrics.value(name), expected);
    }
    drop(streams);
    Ok(())
}
