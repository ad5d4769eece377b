//! The level to come: survivors and arrivals, or a trend, or what is believed of a table that is not known yet.

use super::Table;
use crate::forecast::{
    coming::Coming,
    growth::Known,
    levels::Trend,
    mixture::GROWTH_SECS,
    passes::{COLLECTOR, Work},
    path::{GRID, Path, Point, Saw},
};
use crate::model::class::Protocol;

/// Part of the entries below which open connections do not matter.
const FEW: f64 = 0.02;
/// Places of the spans, among those of growth, over which open connections are looked at. The short one counts where arrivals
/// have changed within the long one and it shows more growth.
const OPEN_SPANS: [usize; 2] = [0, 1];
/// Seconds by which the next pass is not known better.
const ABOUT: f64 = 2.0;
/// Seconds for which a reading of live entries counts.
const FRESH: f64 = 3.0;
/// Bounds of the unexpired entries that live ones show, by those that ages tell.
const LEAST: f64 = 0.5;
const MOST: f64 = 1.5;
/// A rate that changes is taken to do so for this part of the time for which it has.
const LASTS: f64 = 0.5;
/// How far a forecast of a change is off, as part of it, besides what chance does.
const MODEL_ERROR: f64 = 0.08;

/// Expectation of the queue, computed once a snapshot: it is judged later and told now.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) coming: Coming,
    pub(super) path: Path,
    pub(super) points: Vec<Point>,
}

impl Queue {
    pub(super) fn of(table: &Table) -> Self {
        let coming = table.coming();
        let path = table.path(&coming);
        let points = path.points();
        Self { coming, path, points }
    }
}

impl Table {
    /// The level to come without regard to the limit.
    fn path(&self, coming: &Coming) -> Path {
        let mut path = self.queue(coming);
        if let Some(trend) = self.trend(coming) {
            self.follow(&mut path, &trend);
        }
        path.otherwise = self.otherwise(&path, coming).map(Box::new);
        path
    }

    /// Survivors and arrivals.
    pub(super) fn queue(&self, coming: &Coming) -> Path {
        let mut path = Path::default();
        let collection = self.collection(Work::Rests);
        let now = self.entries.unwrap_or_else(|| self.known() + self.rest);
        let survivors = self
            .stocks
            .each_ref()
            .map(|stock| stock.as_ref().map(|stock| stock.survivors(self.now, &GRID, &collection)));
        let unexpired: f64 = survivors.iter().flatten().flat_map(|of| of[0]).sum();
        let seen = self.expired_part().map(|part| (now - self.rest).max(0.0) * (1.0 - part));
        let scale = seen.map_or(1.0, |seen| (seen / unexpired.max(1.0)).clamp(LEAST, MOST));
        // Before it has seen what lives and dies for a while, the laws are guessed.
        let guessed = 0.15 * (-self.counted / 90.0).exp();
        // Of what nothing is known, as many go on as have lately.
        let hazard = self.rest_gone / self.rest_lived.max(1.0);
        for (at, ahead) in GRID.into_iter().enumerate() {
            let rest = self.rest * (-hazard * ahead).exp();
            let (mut level, mut assured, mut variance) = (rest, 0.0, 0.0);
            let mut turned = self.rest - rest;
            let mut all = 0.0;
            let of_protocol =
                self.stocks.iter().zip(&coming.rates).zip(&survivors).zip(&coming.recurring);
            for ((((stock, rate), survivors), recurring), protocol) in
                of_protocol.zip(Protocol::ALL)
            {
                let (Some(stock), Some(rate), Some(survivors)) = (stock, rate, survivors) else {
                    continue;
                };
                let here: f64 = survivors[0].iter().sum::<f64>() * scale;
                let stay = survivors[at].map(|stay| stay * scale);
                let stayed: f64 = stay.iter().sum();
                let (come, more, uncertain) = if let Some(recurring) = recurring {
                    let come = stock.recurring(ahead, recurring);
                    let all: f64 =
                        recurring.parts(ahead).map(|(from, to, rate)| rate * (to - from)).sum();
                    let per_rate: f64 = stock.arrivals(ahead, 0.0).0.iter().sum();
                    (come, all, recurring.variance * per_rate)
                } else {
                    let (per_rate, per_slope) = stock.arrivals(ahead, LASTS * rate.since);
                    let come = [0, 1].map(|kind| {
                        f64::max(rate.level * per_rate[kind] + rate.slope * per_slope[kind], 0.0)
                    });
                    let rising = ahead.min(LASTS * rate.since);
                    let all = rate.level * ahead + rate.slope * rising * (ahead - 0.5 * rising);
                    let of_rate = rate.error * per_rate.iter().sum::<f64>();
                    let is_slope = rate.slope.signum().abs();
                    let of_slope = rate.slope_error * is_slope * per_slope.iter().sum::<f64>();
                    (come, all.max(0.0), of_rate.powi(2) + of_slope.powi(2))
                };
                let came: f64 = come.iter().sum();
                level += stayed + came;
                if protocol == Protocol::Tcp {
                    path.tcp[at] = stayed + came;
                }
                all += more;
                assured += (stay[1] + come[1]) * (1.0 - self.replied_unassured);
                turned += (here - stayed) + came;
                variance += stayed * (1.0 - stayed / here.max(1.0)) + came * rate.dispersion;
                variance += uncertain;
            }
            variance +=
                (MODEL_ERROR * (level - now)).powi(2) + ((0.004 + guessed) * turned).powi(2);
            path.level[at] = level;
            path.come[at] = all;
            path.assured[at] = assured;
            path.error[at] = variance.sqrt();
        }
        // Now it is what it is.
        let off = now - path.level[0];
        let next = self.passes.next(self.now).filter(|_| self.is_saw);
        if let Some(next) = next.filter(|_| off >= 0.0) {
            path.saw = Some(Saw {
                waiting: off,
                fate: self.passes.fate(self.arriving),
                next,
                interval: self.passes.interval(),
            });
        } else {
            // Entries that were read again and have expired go when the collector passes, which it does by then.
            let goes = if seen.is_some() && off > 0.0 { COLLECTOR } else { f64::INFINITY };
            let levels = path.level.iter_mut().zip(GRID);
            levels.for_each(|(level, ahead)| {
                *level = (*level + if ahead < goes { off } else { 0.0 }).max(0.0);
            });
        }
        path.error[0] = 0.0;
        path
    }

    /// Path of the queue if the collector passes as late as it may and the number of open connections goes on to grow or shrink.
    /// None where neither makes a difference.
    fn otherwise(&self, queue: &Path, coming: &Coming) -> Option<Path> {
        let late = queue.saw.and_then(|saw| self.late(&saw));
        let open = self.open_growth(coming);
        if late.is_none() && open.is_none() {
            return None;
        }
        let mut path = queue.clone();
        path.saw = late.or(queue.saw);
        if let Some((open, growth)) = open {
            let lines = path.level.iter_mut().zip(&mut path.assured).zip(&mut path.error);
            let times = queue.tcp.into_iter().zip(GRID);
            for (((level, assured), error), (tcp, ahead)) in lines.zip(times) {
                let law = growth.after(ahead);
                let more = (queue.tcp[0] + law.mean - open).max(0.0) - tcp;
                *level += more;
                *assured = (*assured + more).max(0.0);
                *error = error.hypot(law.error);
            }
        }
        Some(path)
    }

    /// The collector passes as late as it may; none where it is expected about then.
    fn late(&self, saw: &Saw) -> Option<Saw> {
        let next = COLLECTOR - (self.now - self.passes.last()?);
        (next > saw.next + ABOUT).then_some(Saw { next, interval: COLLECTOR, ..*saw })
    }

    /// Number of open connections, and how it grows; none where that is not known, or they are few.
    fn open_growth(&self, coming: &Coming) -> Option<(f64, Known)> {
        let open = self.open.last().filter(|open| *open >= FEW * self.entries.unwrap_or(0.0))?;
        let [short, long] = OPEN_SPANS;
        let projection = self.open.project(self.now, open);
        let slow = projection.known(long)?;
        let fast = projection.known(short).filter(|fast| fast.slope() > slow.slope());
        let is_new = coming.changed() < GROWTH_SECS[long];
        Some((open, fast.filter(|_| is_new).unwrap_or(slow)))
    }

    /// Part of the entries that has expired, by live ones that were read within the last seconds.
    fn expired_part(&self) -> Option<f64> {
        self.expired.filter(|(_, at)| self.now - at < FRESH).map(|(part, _)| part)
    }

    /// A trend that arrivals do not explain; none where they have changed lately.
    fn trend(&self, coming: &Coming) -> Option<Trend> {
        if coming.changes() {
            return None;
        }
        let (all, same) = (coming.all(), coming.unchanged());
        let lifetime = self.entries? / all.max(1.0);
        let settled = same - 2.0 * lifetime.clamp(5.0, 240.0);
        let (seconds, memory) = if self.counted == 0.0 {
            // Counts alone: a trend is all there is.
            (self.now - self.levels.first()?, 10.0)
        } else {
            (settled, lifetime.clamp(5.0, 120.0))
        };
        let seconds = seconds.min(3600.0);
        let enough = if self.counted == 0.0 { 15.0 } else { 120.0 };
        if seconds < enough {
            return None;
        }
        self.levels.trend(self.now, seconds, memory)
    }

    /// Lets the level go on as it did, as far as that is known better than from the laws.
    fn follow(&self, path: &mut Path, trend: &Trend) {
        let now = path.level[0];
        let slope = if trend.is_sure() { trend.slope } else { 0.0 };
        for (at, ahead) in GRID.into_iter().enumerate() {
            path.level[at] = (now + slope * ahead).max(0.0);
            let stays = path.error[at].min(1.5 * trend.noise + 2.0);
            path.error[at] = (stays * stays + (trend.error * ahead).powi(2)).sqrt();
        }
    }
}
