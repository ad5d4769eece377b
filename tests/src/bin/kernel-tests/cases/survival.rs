//! A machine that changes under `ctmon serve`: processors, the clock, the table.

use std::{fs, path::Path, thread, time::Duration};

use anyhow::{Context as _, Result};
use conntrack_tests::traffic::{Family, Plan, Protocol};
use rustix::{
    process::Signal,
    time::{ClockId, Timespec, clock_gettime, clock_settime},
};

use super::{TRACK, causes, serve::history};
use crate::{
    checks::{Checks, Skip},
    kernel::{self, Limit},
    netns::{self, Netns},
    runner::{Env, Test},
    served::{self, Metrics, Served},
    stage::{self, Running},
    wait,
};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "serve-while-processors-come-and-go",
            "Counts stay exact while a processor goes offline and online, also one that comes later than ctmon",
            processors,
        ),
        Test::new(
            "serve-while-the-clock-steps",
            "A clock set an hour back or forth changes no count, no rate and no readiness; the history goes on",
            clock,
        ),
        Test::new(
            "flight-files-while-the-clock-steps",
            "Of flight files the oldest by order of writing goes first, also when the clock was set back",
            flight_files,
        ),
        Test::new(
            "serve-while-the-table-is-resized",
            "Other buckets and another maximum while flows come: counts stay exact, the limit is told at once",
            table,
        ),
    ]
}

/// New flows a second.
const RATE: u32 = 500;

/// What the service must say of a namespace once nothing happens any more: `sent` flows, all still there.
fn expect_exact(checks: &mut Checks, served: &Served, inode: u64, sent: u64) -> Result<()> {
    let all = sent as f64;
    let quiet = |metrics: &Metrics| {
        metrics.of("ctmon_allocs_total", inode) == Some(all)
            && metrics.of("ctmon_count_drift", inode) == Some(0.0)
    };
    let metrics = wait::until("all flows", wait::SHORT, || {
        let metrics = served.metrics()?;
        Ok(quiet(&metrics).then_some(metrics))
    })
    .with_context(|| served.said())?;
    checks.equal("entries", metrics.of("ctmon_entries", inode), Some(all));
    checks.equal("the kernel's count", kernel::count()?, i64::try_from(sent)?);
    let inserts =
        format!("ctmon_inserts_total{{netns=\"{inode}\",path=\"packet\",protocol=\"udp\"}}");
    checks.equal("inserts", metrics.value(&inserts), Some(all));
    checks.equal("sources opened", metrics.value("ctmon_source_opens_total"), Some(1.0));
    Ok(())
}

/// Starts the service, and waits for the namespace's baseline.
fn settled(env: &Env, inode: u64) -> Result<Served> {
    let served = Served::start(env, &[])?;
    served.settled(inode)?;
    Ok(served)
}

fn steady(flows: u64, cpu: Option<usize>) -> Running {
    let plan = Plan { rate: Some(RATE), cpu, ..Plan::new(Protocol::Udp, Family::Ipv4, flows) };
    Running::start("udp", plan, None)
}

/// A processor other than the first, offline until it is told otherwise; online again when this is dropped.
struct Processor(&'static str);

const SECOND: &str = "/sys/devices/system/cpu/cpu1/online";

impl Processor {
    fn is(&self, online: bool) -> Result<()> {
        netns::write(self.0, if online { "1" } else { "0" })
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        if let Err(error) = self.is(true) {
            eprintln!("kernel-tests: later tests run on one processor: {error:#}");
        }
    }
}

fn processors(env: &Env, checks: &mut Checks) -> Result<()> {
    if !Path::new(SECOND).exists() {
        return Err(Skip("no second processor that can be taken offline".into()).into());
    }
    stage::prepare(TRACK)?;
    let own = Netns::own()?.inode();
    let second = Processor(SECOND);
    second.is(false)?;
    let served = settled(env, own)?;
    second.is(true)?;
    let mut sent = steady(300, Some(1)).join(checks)?.sent;
    expect_exact(checks, &served, own, sent)?;

    let mut running = steady(2_000, None);
    for online in [false, true, false, true] {
        second.is(online)?;
        thread::sleep(Duration::from_millis(700));
    }
    sent += running.join(checks)?.sent;
    expect_exact(checks, &served, own, sent)?;
    checks.equal("exit code", served.terminate()?.status.code(), Some(0));
    Ok(())
}

/// The clock, some seconds ahead; back when this is dropped, less what has passed since.
struct Stepped(i64);

impl Stepped {
    fn by(seconds: i64) -> Result<Self> {
        step(seconds)?;
        Ok(Self(seconds))
    }
}

impl Drop for Stepped {
    fn drop(&mut self) {
        if let Err(error) = step(-self.0) {
            eprintln!("kernel-tests: later tests run with another time: {error:#}");
        }
    }
}

fn step(seconds: i64) -> Result<()> {
    let now = clock_gettime(ClockId::Realtime);
    let then = Timespec { tv_sec: now.tv_sec + seconds, ..now };
    clock_settime(ClockId::Realtime, then).context("cannot set the clock")
}

/// Nanoseconds since 1970 UTC.
fn now() -> Result<u64> {
    Ok(std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_nanos().try_into()?)
}

fn clock(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let own = Netns::own()?.inode();
    let _max = Limit::max(&env.init, 100_000)?;
    let served = settled(env, own)?;
    // Until it is told to stop: emulated machines are slow.
    let mut running = steady(30_000, None);
    let rate = || anyhow::Ok(served.metrics()?.of("ctmon_insert_rate", own));
    let is_right = |rate: Option<f64>| {
        rate.is_some_and(|rate| rate > 0.2 * f64::from(RATE) && rate < 5.0 * f64::from(RATE))
    };
    wait::until("a rate", wait::SHORT, || Ok(is_right(rate()?).then_some(())))?;
    for seconds in [3_600, -3_600] {
        let stepped = Stepped::by(seconds)?;
        let began = now()?;
        let points = wait::until("three seconds of history by the new clock", wait::SHORT, || {
            let ready = served.get("/readyz")?;
            checks.equal(&format!("ready, by {seconds} s"), ready.status, 200);
            let all = history(&served, own, "")?;
            let times: Vec<u64> = all.iter().filter_map(|point| point[0].as_u64()).collect();
            let new = times.iter().filter(|time| (began..=began + 60_000_000_000).contains(time));
            Ok((new.count() >= 3).then_some(times))
        })?;
        checks.that(
            &format!("the history is in order, by {seconds} s"),
            points.is_sorted(),
            &points,
        );
        checks.that(&format!("rate, by {seconds} s"), is_right(rate()?), rate()?);
        let metrics = served.metrics()?;
        let of = |name| metrics.of(name, own).unwrap_or(f64::NAN);
        let (entries, high_water) = (of("ctmon_entries"), of("ctmon_entries_high_water"));
        let most = of("ctmon_allocs_total") + f64::from(RATE) / 10.0;
        let is_mark = entries <= high_water && high_water <= most;
        let numbers = (entries, high_water, most);
        checks.that(&format!("high-water mark, by {seconds} s"), is_mark, numbers);
        let highest = metrics.of("ctmon_insert_rate_high_water", own);
        checks.that(&format!("highest rate, by {seconds} s"), is_right(highest), highest);
        drop(stepped);
    }
    running.progress().stop();
    let sent = running.join(checks)?.sent;
    expect_exact(checks, &served, own, sent)?;
    checks.equal("exit code", served.terminate()?.status.code(), Some(0));
    Ok(())
}

fn flight_files(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let folder = served::folder()?;
    let path = folder.path().to_str().context("a folder with a strange name")?;
    let arguments = ["--source", "procfs", "--flight-dir", path, "--flight-files", "2"];
    let mut served = Served::start(env, &arguments)?;
    // By number, which is in front of the time.
    let files = || -> Result<Vec<String>> {
        let names = fs::read_dir(path)?.flatten().map(|entry| entry.file_name());
        let names = names.map(|name| name.to_string_lossy().into_owned());
        let mut names: Vec<String> = names.filter(|name| name.ends_with(".mcap")).collect();
        names.sort();
        Ok(names)
    };
    let mut write = |number: usize| {
        // One a second is written.
        thread::sleep(Duration::from_millis(1_200));
        served.process().signal(Signal::USR1)?;
        wait::until(&format!("file {number}"), wait::SHORT, || {
            let new = format!("ctmon-{number:06}-");
            Ok(files()?.iter().any(|name| name.starts_with(&new)).then_some(()))
        })
    };
    let ahead = Stepped::by(3_600)?;
    (1..=2).try_for_each(&mut write)?;
    drop(ahead);
    (3..=4).try_for_each(&mut write)?;
    let numbers: Vec<String> = wait::until("two files", wait::SHORT, || {
        let all = files()?;
        let numbers = all.iter().filter_map(|name| name.split('-').nth(1)).map(str::to_owned);
        Ok((all.len() == 2).then(|| numbers.collect()))
    })?;
    checks.equal("files that are kept", numbers, vec!["000003".to_owned(), "000004".to_owned()]);
    checks.equal("exit code", served.terminate()?.status.code(), Some(0));
    Ok(())
}

fn table(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let own = Netns::own()?.inode();
    let max = Limit::max(&env.init, 20_000)?;
    let served = settled(env, own)?;
    let mut running = steady(3_000, None);
    let buckets = Limit::buckets(&env.init, 1_024)?;
    for (many, limit) in [(16_384, 30_000), (2_048, 10_000), (65_536, 20_000)] {
        buckets.change(many)?;
        max.change(limit)?;
        wait::until("the new limit", wait::SHORT, || {
            let said = served.metrics()?.of("ctmon_entries_limit", own);
            Ok((said == Some(limit as f64)).then_some(()))
        })?;
        checks.equal("buckets", kernel::buckets()?, many);
    }
    let sent = running.join(checks)?.sent;
    expect_exact(checks, &served, own, sent)?;
    let more = causes::send(checks, causes::udp(200))?;
    checks.equal("more flows", more, 200);
    expect_exact(checks, &served, own, sent + 200)?;
    checks.equal("exit code", served.terminate()?.status.code(), Some(0));
    Ok(())
}
