//! `ctmon serve` while namespaces and flows come and go for long: what it takes stays what it is.

use std::{
    collections::BTreeMap,
    fmt, fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use conntrack_tests::traffic::{Family, Plan, Protocol};
use rustix::process::Pid;

use super::{TRACK, expect_no_panic};
use crate::{
    checks::Checks,
    command,
    netns::{self, Netns},
    runner::{Env, Test},
    served::{Metrics, Served},
    stage::Running,
    wait,
};

pub(super) fn tests() -> Vec<Test> {
    vec![Test {
        on_demand: true,
        ..Test::new(
            "serve-soak",
            "Memory, maps, descriptors and series of the service stay flat while namespaces and flows come and go (--minutes)",
            soak,
        )
    }]
}

/// Between two scrapes.
const SCRAPE_EVERY: Duration = Duration::from_secs(5);
/// Scrapes from one sample to the next.
const SCRAPES: u64 = 2;
/// For how long the namespaces in which flows come and go live, each followed by a new one.
const LIVES: [Duration; 4] = [
    Duration::from_secs(20),
    Duration::from_secs(30),
    Duration::from_secs(40),
    Duration::from_secs(50),
];
/// New flows a second in each: datagrams that nobody answers, and connections.
const DATAGRAMS: u32 = 120;
const CONNECTIONS: u32 = 40;
/// New flows a second in the service's own namespace.
const OWN: u32 = 50;

/// What a sample has, and by how much the median of the last third may differ from that of the second: the first third is
/// for what fills up (last minutes, heaps).
const COLUMNS: [(&str, Tolerance); 9] = [
    // Its heap goes on to grow a little while what fills up is full: places that were freed do not fit what comes.
    ("serving half, KiB", Tolerance::Share(0.05)),
    ("helper, KiB", Tolerance::Share(0.02)),
    ("flight recorder, KiB", Tolerance::Share(0.05)),
    ("maps, KiB", Tolerance::Share(0.0)),
    // Three of each namespace that is there, or has ended and was not looked for since.
    ("descriptors", Tolerance::Number(9.0)),
    ("of the helper", Tolerance::Number(0.0)),
    // Those of a namespace are there for two minutes after its end.
    ("series", Tolerance::Share(0.05)),
    ("namespaces", Tolerance::Number(2.0)),
    // The largest of any namespace: the kernel's count less ctmon's.
    ("drift, entries", Tolerance::Number(0.0)),
];

#[derive(Clone, Copy)]
enum Tolerance {
    Share(f64),
    Number(f64),
}

/// What the service took at one moment, and whether it counted right.
struct Sample {
    seconds: u64,
    values: [f64; COLUMNS.len()],
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>5} s", self.seconds)?;
        self.values.iter().try_for_each(|value| write!(f, " {value:>8.0}"))
    }
}

/// What namespaces in turn have sent.
#[derive(Default)]
struct Sent {
    namespaces: u64,
    flows: u64,
}

fn soak(env: &Env, checks: &mut Checks) -> Result<()> {
    command::nft(TRACK)?;
    let own = Netns::own()?.inode();
    let mut served = Served::start(env, &[])?;
    let until = Instant::now() + env.soak;
    let plan = Plan { rate: Some(OWN), ..Plan::new(Protocol::Udp, Family::Ipv4, u64::MAX) };
    let mut steady = Running::start("steady", plan, None);
    let (samples, sent) = thread::scope(|scope| {
        let churn = LIVES.map(|life| scope.spawn(move || churn(life, until)));
        let samples = watch(&mut served, until);
        let sent = churn.map(|thread| {
            thread.join().map_err(|_| anyhow!("a thread that makes namespaces panicked"))?
        });
        Ok::<_, anyhow::Error>((samples?, sent))
    })?;
    for one in sent {
        let (one, mut theirs) = one?;
        checks.note(format!("{} namespaces, {} flows", one.namespaces, one.flows));
        checks.append(&mut theirs);
    }
    steady.progress().stop();
    let flows = steady.join(checks)?.sent;
    checks.note(format!("the own namespace: {flows} flows"));
    judge(&samples, checks);

    command::flush()?;
    let metrics = wait::until("a quiet moment", wait::SHORT, || {
        let metrics = served.metrics()?;
        Ok((metrics.of("ctmon_entries", own) == Some(0.0)).then_some(metrics))
    })?;
    checks.equal("count_drift", metrics.of("ctmon_count_drift", own), Some(0.0));
    let inserts =
        format!("ctmon_inserts_total{{netns=\"{own}\",path=\"packet\",protocol=\"udp\"}}");
    checks.equal("inserts", metrics.value(&inserts), Some(flows as f64));
    checks.equal("sources", metrics.value("ctmon_source_opens_total"), Some(1.0));
    let ended = served.terminate()?;
    checks.equal("exit code", ended.status.code(), Some(0));
    expect_no_panic(checks, "serve", &ended.stderr);
    Ok(())
}

/// One namespace after the other, each with its flows.
fn churn(life: Duration, until: Instant) -> Result<(Sent, Checks)> {
    let (mut sent, mut checks) = (Sent::default(), Checks::default());
    while Instant::now() < until {
        netns::enter_new()?;
        command::nft(TRACK)?;
        let flows = |protocol, rate| {
            let plan = Plan::new(protocol, Family::Ipv4, u64::MAX);
            Running::start(&format!("{protocol:?}"), Plan { rate: Some(rate), ..plan }, None)
        };
        let mut senders = [flows(Protocol::Udp, DATAGRAMS), flows(Protocol::Tcp, CONNECTIONS)];
        thread::sleep(life.min(until.saturating_duration_since(Instant::now())));
        senders.iter().for_each(|sender| sender.progress().stop());
        for sender in &mut senders {
            sent.flows += sender.join(&mut checks)?.sent;
        }
        sent.namespaces += 1;
    }
    Ok((sent, checks))
}

/// Scrapes and looks until then.
fn watch(served: &mut Served, until: Instant) -> Result<Vec<Sample>> {
    let halves = [served.process().id()?, served.helper()?];
    let began = Instant::now();
    let mut samples = Vec::new();
    for scrape in 1.. {
        let due = began + SCRAPE_EVERY * scrape;
        if due > until {
            break;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let metrics = served.metrics()?;
        if u64::from(scrape) % SCRAPES == 0 {
            samples.push(sample(began.elapsed().as_secs(), &metrics, halves)?);
        }
    }
    Ok(samples)
}

fn sample(seconds: u64, metrics: &Metrics, [serving, helper]: [Pid; 2]) -> Result<Sample> {
    let value = |name: &str| metrics.value(name).with_context(|| format!("there is no {name}"));
    let maps = maps_kib(helper)?;
    let told = value("ctmon_bpf_map_memory_bytes")? / 1024.0;
    anyhow::ensure!(maps == told, "{told} KiB of maps are told, and the helper has {maps}");
    let drifts = metrics.all("ctmon_count_drift").map(f64::abs);
    let values = [
        resident_kib(serving)?,
        resident_kib(helper)?,
        value("ctmon_flight_memory_bytes")? / 1024.0,
        maps,
        descriptors(serving)?,
        descriptors(helper)?,
        metrics.0.lines().filter(|line| !line.starts_with('#')).count() as f64,
        value("ctmon_netns{coverage=\"read\"}")?,
        drifts.fold(0.0, f64::max),
    ];
    Ok(Sample { seconds, values })
}

/// Expects that nothing grows.
fn judge(samples: &[Sample], checks: &mut Checks) {
    checks.note(format!("columns: seconds, {}", COLUMNS.map(|(name, _)| name).join(", ")));
    samples.iter().for_each(|sample| checks.note(sample.to_string()));
    let third = samples.len() / 3;
    let (_, rest) = samples.split_at(samples.len() - 2 * third);
    let (second, last) = rest.split_at(third);
    for (column, (name, tolerance)) in COLUMNS.into_iter().enumerate() {
        let of = |part: &[Sample]| median(part.iter().map(|sample| sample.values[column]));
        let (Some(before), Some(after)) = (of(second), of(last)) else {
            checks.that("enough samples for thirds", false, samples.len());
            return;
        };
        checks.note(format!("{name}: {before:.0} in the second third, {after:.0} in the last"));
        let allowed = match tolerance {
            Tolerance::Share(share) => before * share,
            Tolerance::Number(number) => number,
        };
        checks.that(
            &format!("{name} in the last third within {allowed:.0} of the second's {before:.0}"),
            (after - before).abs() <= allowed,
            after,
        );
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Resident memory, that of mapped maps with it.
fn resident_kib(process: Pid) -> Result<f64> {
    let path = format!("/proc/{}/smaps_rollup", process.as_raw_nonzero());
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let number = field(&text, "Rss").and_then(|text| text.strip_suffix(" kB")?.parse().ok());
    number.with_context(|| format!("{path} has no Rss"))
}

fn descriptors(process: Pid) -> Result<f64> {
    let path = format!("/proc/{}/fd", process.as_raw_nonzero());
    Ok(fs::read_dir(&path).with_context(|| format!("cannot list {path}"))?.count() as f64)
}

/// What the maps take that the process has descriptors of, each counted once.
fn maps_kib(process: Pid) -> Result<f64> {
    let path = format!("/proc/{}/fdinfo", process.as_raw_nonzero());
    let mut maps = BTreeMap::new();
    for entry in fs::read_dir(&path).with_context(|| format!("cannot list {path}"))? {
        // One that has just been closed is no map.
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        let number = |name| field(&text, name).and_then(|text| text.parse::<f64>().ok());
        if let (Some(map), Some(bytes)) = (field(&text, "map_id"), number("memlock")) {
            maps.insert(map.to_owned(), bytes);
        }
    }
    Ok(maps.values().sum::<f64>() / 1024.0)
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = text.lines();
    Some(lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.trim())
}
