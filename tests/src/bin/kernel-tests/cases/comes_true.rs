//! What is forecast of a real table, against what then happens. What that was is read off the ticks: when the table was
//! full, and at which level it stayed. Nothing depends on how fast this machine is.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, bail};
use conntrack_tests::traffic::{Family, Plan, Protocol};

use super::TRACK;
use crate::{
    checks::{Checks, Skip},
    ctmon::{ALL, INTERVAL, Watch},
    kernel::{self, Limit},
    netns::Netns,
    report::Forecast,
    runner::{Env, Test, give},
    stage::{self, Running},
    wait,
};

pub(super) fn tests() -> Vec<Test> {
    let each = SITUATIONS.iter().map(|situation| {
        let test = Test::new(situation.test, situation.title, |env, checks| {
            let looks = (situation.play)(env, &LIVE, checks)?;
            (situation.judge)(&looks, checks)
        });
        Test { on_demand: situation.takes_long, ..test }
    });
    let recordings =
        Test::new("forecast-recordings", "The same as recordings, which are handed out", record);
    let shows = "`cargo xtask vm test --files FOLDER` keeps them, as in tests/fixtures/forecast.";
    let recordings = Test { on_demand: true, shows: shows.to_owned(), ..recordings };
    each.chain([recordings]).collect()
}

/// Something that becomes of a table.
struct Situation {
    /// The test's name.
    test: &'static str,
    title: &'static str,
    /// A minute or more: its recording is judged on each machine instead.
    takes_long: bool,
    /// The recording's.
    name: &'static str,
    /// Its ticks.
    interval: &'static str,
    /// Lets it happen before a `ctmon watch`, and returns what that said.
    play: fn(&Env, &How<'_>, &mut Checks) -> Result<Vec<Look>>,
    /// Compares what was said with what came.
    judge: fn(&[Look], &mut Checks) -> Result<()>,
}

const SITUATIONS: &[Situation] = &[
    Situation {
        test: "forecast-comes-true",
        title: "The time to full that is told of a flood is that after which the table is full, and it is said why",
        takes_long: false,
        name: "flood",
        interval: "200ms",
        play: flood,
        judge: fills,
    },
    Situation {
        test: "forecast-of-a-plateau",
        title: "A flood that levels off below the limit: told at which level, and no lasting word of a full table",
        takes_long: true,
        name: "plateau",
        interval: "500ms",
        play: plateau,
        judge: levels_off,
    },
    Situation {
        test: "forecast-of-a-leak",
        title: "A slow leak: once it was seen for a minute, the time to full that is told is right",
        takes_long: true,
        name: "leak",
        interval: "500ms",
        play: leak,
        judge: leaks,
    },
    Situation {
        test: "forecast-follows-the-limit",
        title: "The limit is halved while the table fills, and again below its level: the next tick knows",
        takes_long: false,
        name: "max-halved",
        interval: "200ms",
        play: halve,
        judge: follows,
    },
];

/// How `ctmon watch` looks on.
struct How<'a> {
    interval: &'a str,
    arguments: &'a [&'a str],
}

/// Without a recording.
const LIVE: How<'_> = How { interval: INTERVAL, arguments: &[] };

/// What was said at a tick.
#[derive(Debug)]
struct Look {
    seconds: f64,
    entries: i64,
    max: i64,
    forecast: Forecast,
}

impl Look {
    /// Seconds until it is full, as likely later as sooner; infinite where that is not to be seen.
    fn time_to_full(&self) -> f64 {
        self.forecast.time_to_full("p50").unwrap_or(f64::INFINITY)
    }

    /// Expects that the time to full is right: `full_at` is when it was full.
    fn expect_full_at(&self, full_at: f64, checks: &mut Checks) {
        let left = full_at - self.seconds;
        checks.that(
            &format!(
                "at {} entries, {left:.1} s before it was full: the time to full",
                self.entries
            ),
            (self.time_to_full() - left).abs() <= 0.3 * left + 0.5,
            &self.forecast,
        );
    }
}

/// Looks on in the calling thread's network namespace.
struct Witness {
    watch: Watch,
    inode: u64,
    looks: Vec<Look>,
}

impl Witness {
    /// Looks from now on.
    fn start(env: &Env, how: &How<'_>) -> Result<Self> {
        let inode = Netns::own()?.inode();
        let arguments = [ALL, how.arguments].concat();
        let mut watch = Watch::start_every(env, how.interval, &arguments)?;
        watch.baseline(inode)?;
        Ok(Self { watch, inode, looks: vec![] })
    }

    fn look(&mut self) -> Result<&Look> {
        let tick = self.watch.next_tick()?;
        let netns = tick.netns(self.inode).context("the namespace is gone")?;
        self.looks.push(Look {
            seconds: tick.time_ns as f64 / 1e9,
            entries: netns.entries.context("no entries are told")?,
            max: netns.entries_limit.context("no limit is told")?,
            forecast: netns.forecast.clone(),
        });
        self.looks.last().context("no look")
    }

    /// Looks until one is so.
    fn until(&mut self, what: &str, limit: Duration, found: impl Fn(&Look) -> bool) -> Result<()> {
        wait::until(what, limit, || Ok(found(self.look()?).then_some(())))
    }

    /// Looks on for so many seconds of the ticks' time.
    fn look_on(&mut self, seconds: f64) -> Result<()> {
        let until = self.look()?.seconds + seconds;
        let limit = wait::LONG.max(Duration::from_secs_f64(2.0 * seconds));
        self.until("ticks", limit, |look| look.seconds >= until)
    }

    fn end(self, checks: &mut Checks) -> Result<Vec<Look>> {
        let unknown = self.looks.iter().filter(|look| !look.forecast.timeouts_known).count();
        checks.equal("ticks without timeouts", unknown, 0);
        checks.equal("ctmon ends with 0", self.watch.terminate()?.status.code(), Some(0));
        Ok(self.looks)
    }
}

/// New flows, so many a second, until it is dropped.
fn send(protocol: Protocol, rate: u32) -> Running {
    let plan = Plan { rate: Some(rate), ..Plan::new(protocol, Family::Ipv4, u64::MAX) };
    Running::start(&format!("{protocol:?}"), plan, None)
}

/// When it was full.
fn full_at(looks: &[Look]) -> Result<f64> {
    let full = looks.iter().find(|look| is_full(look));
    Ok(full.context("it was never full")?.seconds)
}

/// What is evicted at the limit keeps a table a few entries below it.
fn is_full(look: &Look) -> bool {
    look.entries >= look.max - look.max / 500
}

/// Fills a table of 8,000 in 16 s.
fn flood(env: &Env, how: &How<'_>, checks: &mut Checks) -> Result<Vec<Look>> {
    stage::prepare(TRACK)?;
    let _max = Limit::max(&env.init, 8_000)?;
    let mut witness = Witness::start(env, how)?;
    let _traffic = send(Protocol::Udp, 500);
    witness.until("a full table", wait::LONG, is_full)?;
    witness.look_on(1.0)?;
    witness.end(checks)
}

fn fills(looks: &[Look], checks: &mut Checks) -> Result<()> {
    let full_at = full_at(looks)?;
    let part = |look: &Look, part: i64| look.max * part / 100;
    let halfway =
        looks.iter().filter(|look| (part(look, 30)..part(look, 80)).contains(&look.entries));
    let mut said = 0;
    for look in halfway {
        said += 1;
        let forecast = &look.forecast;
        look.expect_full_at(full_at, checks);
        checks.equal("state", forecast.state.as_str(), "filling");
        checks.that("a reason", !forecast.reason.is_empty(), forecast);
        checks.that(
            "full within 1 m is likely",
            forecast.full_probability.as_ref().is_some_and(|within| within["1m"] > 0.5),
            forecast,
        );
    }
    checks.that("ticks on the way", said > 10, said);
    Ok(())
}

/// Seconds for which an unanswered UDP entry lives where a table levels off.
const TIMEOUT: i64 = 5;

/// Five times as many arrivals as before, each for 5 s and until the collector comes by: the tips of the saw are at six
/// tenths of the limit.
fn plateau(env: &Env, how: &How<'_>, checks: &mut Checks) -> Result<Vec<Look>> {
    if kernel::is_before((5, 18)) {
        return Err(Skip("its garbage collector is another one".into()).into());
    }
    stage::prepare(TRACK)?;
    stage::set_sysctl("nf_conntrack_udp_timeout", TIMEOUT)?;
    let _max = Limit::max(&env.init, 5_000)?;
    let _few = send(Protocol::Udp, 60);
    // A table that was empty is looked through once a minute; from then on every few seconds.
    stage::await_pass(300)?;
    let mut witness = Witness::start(env, how)?;
    witness.look_on(5.0)?;
    let _more = send(Protocol::Udp, 240);
    // Of a recording, what is said of the next minute is to be judged, too.
    witness.look_on(if how.arguments.is_empty() { 40.0 } else { 70.0 })?;
    witness.end(checks)
}

/// Where a table stays: between two passes of the collector its level climbs, so it is a saw.
struct Plateau {
    mean: f64,
    highest: f64,
}

impl Plateau {
    /// In the last 20 s of the looks.
    fn of(looks: &[Look]) -> Result<Self> {
        let end = looks.last().context("no look")?.seconds;
        let last = looks.iter().filter(|look| look.seconds > end - 20.0);
        let levels: Vec<f64> = last.map(|look| look.entries as f64).collect();
        let mean = levels.iter().sum::<f64>() / levels.len() as f64;
        Ok(Self { mean, highest: levels.into_iter().fold(0.0, f64::max) })
    }

    /// The looks from when it was there for a lifetime: until then nothing has gone at its rate.
    fn there<'a>(&self, looks: &'a [Look]) -> Result<&'a [Look]> {
        let reached = looks.iter().find(|look| look.entries as f64 >= self.mean);
        let there = reached.context("it never came to its own mean")?.seconds + TIMEOUT as f64;
        Ok(&looks[looks.partition_point(|look| look.seconds < there)..])
    }

    /// By how much a level is outside of the saw, as a share.
    fn off(&self, level: f64) -> f64 {
        (level / self.highest - 1.0).max(1.0 - level / self.mean).max(0.0)
    }
}

/// By how much a told level may be off: how many expired entries are met by lookups, and so how high the tips are, is
/// told from few passes. 8 to 14 % above the tips were seen.
const OFF: f64 = 0.25;

fn levels_off(looks: &[Look], checks: &mut Checks) -> Result<()> {
    let plateau = Plateau::of(looks)?;
    let there = plateau.there(looks)?;
    checks.note(format!("it stays at {:.0}, {} at the most", plateau.mean, plateau.highest));
    checks.that("ticks on the plateau", there.len() > 50, there.len());
    let told = there.iter().filter_map(|look| look.forecast.steady_state.as_ref());
    let mut off: Vec<f64> = told.map(|told| plateau.off(told.entries as f64)).collect();
    off.sort_by(f64::total_cmp);
    checks.that("a level is told at most ticks", off.len() * 2 > there.len(), off.len());
    let part = |tenths: usize| off.get(off.len() * tenths / 10).copied().unwrap_or(f64::INFINITY);
    checks.note(format!("told levels are off by {:.3}, nine of ten by {:.3}", part(5), part(9)));
    checks.that("the level where it settles, in nine of ten", part(9) <= OFF, part(9));
    let longest = longest_alarm(there);
    checks.note(format!("it is said for {longest:.1} s to fill at the longest"));
    checks.that("no word of a full table for longer than 3 s", longest <= 3.0, longest);
    Ok(())
}

/// Seconds for which it was said without a break that the table is full, or is soon.
fn longest_alarm(looks: &[Look]) -> f64 {
    let is_alarm = |look: &Look| look.forecast.state == "full" || look.time_to_full() <= ALARM;
    let alarms = looks.chunk_by(|one, other| is_alarm(one) == is_alarm(other));
    let seconds = alarms.filter_map(|run| match run {
        [first, .., last] if is_alarm(first) => Some(last.seconds - first.seconds),
        _ => None,
    });
    seconds.fold(0.0, f64::max)
}

/// Seconds ahead at which a full table is one to speak of.
const ALARM: f64 = 600.0;

/// Entries that stay, and 12 more a second that stay too, in a table with room for 80 s of them.
fn leak(env: &Env, how: &How<'_>, checks: &mut Checks) -> Result<Vec<Look>> {
    stage::prepare(TRACK)?;
    let _max = Limit::max(&env.init, 1_500)?;
    let mut witness = Witness::start(env, how)?;
    let plan = Plan { rate: Some(200), ..Plan::new(Protocol::Udp, Family::Ipv4, 540) };
    Running::start("base", plan, None).join(checks)?;
    witness.until("the base", wait::SHORT, |look| look.entries >= 540)?;
    let _leak = send(Protocol::Icmp, 12);
    let limit = Duration::from_secs(300);
    witness.until("a full table", limit, is_full)?;
    witness.look_on(2.0)?;
    witness.end(checks)
}

fn leaks(looks: &[Look], checks: &mut Checks) -> Result<()> {
    let full_at = full_at(looks)?;
    let begin = looks.iter().find(|look| look.entries > 540).context("no leak")?.seconds;
    let seen = looks.iter().filter(|look| (begin + 60.0..full_at - 2.0).contains(&look.seconds));
    let mut said = 0;
    for look in seen {
        said += 1;
        look.expect_full_at(full_at, checks);
    }
    checks.that("ticks after a minute", said > 10, said);
    Ok(())
}

/// Halves the limit on the way to it, and once more when the table is full.
fn halve(env: &Env, how: &How<'_>, checks: &mut Checks) -> Result<Vec<Look>> {
    stage::prepare(TRACK)?;
    let limit = Limit::max(&env.init, 12_000)?;
    let mut witness = Witness::start(env, how)?;
    let traffic = send(Protocol::Udp, 400);
    witness.until("a quarter", wait::LONG, |look| look.entries >= look.max / 4)?;
    limit.change(6_000)?;
    witness.until("a full table", wait::LONG, |look| look.max == 6_000 && is_full(look))?;
    witness.look_on(1.0)?;
    drop(traffic);
    limit.change(3_000)?;
    witness.until("a lower limit", wait::SHORT, |look| look.max == 3_000)?;
    witness.look_on(1.0)?;
    witness.end(checks)
}

fn follows(looks: &[Look], checks: &mut Checks) -> Result<()> {
    let of = |max: i64| looks.iter().filter(move |look| look.max == max);
    let full_at = of(6_000).find(|look| is_full(look)).context("it was never full")?.seconds;
    let (Some(last), Some(first)) = (of(12_000).next_back(), of(6_000).next()) else {
        bail!("the limit was not seen to change");
    };
    // What is left was more than three times as much before.
    checks.that(
        "a shorter time to full at the next tick",
        first.time_to_full() < 0.6 * last.time_to_full(),
        (&last.forecast, &first.forecast),
    );
    let mut said = 0;
    // In the last moments, half a second is all that is left.
    for look in of(6_000).filter(|look| look.seconds < full_at - 1.0) {
        said += 1;
        look.expect_full_at(full_at, checks);
    }
    checks.that("ticks on the way", said > 10, said);
    for look in of(3_000) {
        checks.equal("state above the limit", look.forecast.state.as_str(), "full");
    }
    Ok(())
}

/// Records each situation; what was said meanwhile is judged, too.
fn record(env: &Env, checks: &mut Checks) -> Result<()> {
    for situation in SITUATIONS {
        let name = format!("{}.mcap", situation.name);
        let file = format!("/tmp/{name}");
        let arguments = ["--record", &file, "--force", "--sample-ratio", "0.02", "--netns", "self"];
        let how = How { interval: situation.interval, arguments: &arguments };
        let looks = (situation.play)(env, &how, checks).with_context(|| name.clone())?;
        (situation.judge)(&looks, checks).with_context(|| name.clone())?;
        give(&name, &fs::read(&file).context("the recording")?)?;
        crate::command::flush()?;
    }
    Ok(())
}
