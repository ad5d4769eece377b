//! The level to come, at some times ahead.

use super::{
    outlook::{HORIZON, SteadyState},
    passes::Fate,
};

/// Seconds ahead for which the level is worked out; in between it is on straight lines.
pub(super) const GRID: [f64; 26] = [
    0.0, 1.0, 2.0, 4.0, 7.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 240.0, 300.0,
    420.0, 600.0, 900.0, 1350.0, 1800.0, 2700.0, 3600.0, 5400.0, 7200.0, HORIZON,
];

/// The standard normal distribution's quantiles of 90 and 97.5 %.
pub(super) const Z90: f64 = 1.2816;
pub(super) const Z975: f64 = 1.96;

/// What becomes of a table without regard to the limit, at the times of [`GRID`].
#[derive(Debug, Clone, Default)]
pub(super) struct Path {
    /// Entries that have not expired.
    pub(super) level: [f64; GRID.len()],
    /// The standard error of that.
    pub(super) error: [f64; GRID.len()],
    /// Of it, entries that cannot be evicted.
    pub(super) assured: [f64; GRID.len()],
    /// TCP entries of `level`.
    pub(super) tcp: [f64; GRID.len()],
    /// All that will have come by then.
    pub(super) come: [f64; GRID.len()],
    /// What has expired waits for the collector; none where the level is no saw.
    pub(super) saw: Option<Saw>,
    /// Path with a late pass of the collector and growing open connections; none where neither differs.
    pub(super) otherwise: Option<Box<Path>>,
}

/// When the collector passes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Saw {
    /// Expired entries that wait now.
    pub(super) waiting: f64,
    /// What becomes of what expires.
    pub(super) fate: Fate,
    /// Seconds until the next pass, and from that to the one after it.
    pub(super) next: f64,
    pub(super) interval: f64,
}

/// The level at a time ahead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    /// Seconds.
    pub(super) ahead: f64,
    /// Entries, expired ones that wait among them.
    pub(super) level: f64,
    /// The standard error.
    pub(super) error: f64,
    /// Entries that cannot be evicted.
    pub(super) assured: f64,
    /// Level and standard error of [`Path::otherwise`].
    pub(super) otherwise: [f64; 2],
}

/// Levels are the same if they differ by no more than this part.
pub(super) const ALIKE: f64 = 0.05;
/// A level that grows by more than this part of it in the last hour before the horizon has not settled.
const RISES: f64 = 0.02;

/// Teeth of a saw that are told one by one; of later ones only the tips.
const TEETH: usize = 10;

impl Path {
    /// The level from now to the horizon: in between it is on straight lines.
    pub(super) fn points(&self) -> Vec<Point> {
        let mut points = self.line();
        if let Some(otherwise) = &self.otherwise {
            let line = otherwise.line();
            for point in &mut points {
                let there = |of: fn(&Point) -> f64| at(&line, point.ahead, of);
                point.otherwise = [there(|point| point.level), there(|point| point.error)];
            }
        }
        points
    }

    fn line(&self) -> Vec<Point> {
        let Some(saw) = self.saw else {
            return GRID
                .into_iter()
                .map(|ahead| self.point(ahead, value(&self.level, ahead)))
                .collect();
        };
        let mut points: Vec<Point> = Vec::with_capacity(GRID.len() + 2 * TEETH + 2);
        let first = GRID.into_iter().take_while(|ahead| *ahead < saw.next).chain([saw.next]);
        points.extend(first.map(|ahead| self.point(ahead, self.before_pass(&saw, ahead))));
        let mut passed = saw.next;
        for _ in 0..TEETH {
            let next = passed + saw.interval;
            points.push(self.point(passed, value(&self.level, passed)));
            // A tooth is bent where lookups meet what waits.
            points.extend([0.25, 0.5, 1.0].map(|part| {
                let ahead = passed + part * (next - passed);
                self.point(ahead, self.tip(&saw, passed, ahead))
            }));
            passed = next;
        }
        let later = GRID.into_iter().filter(|ahead| *ahead > passed);
        points.extend(
            later.map(|ahead| self.point(ahead, self.tip(&saw, ahead - saw.interval, ahead))),
        );
        points
    }

    /// Level at which the table settles, and the time until it has; none where it still rises at the horizon. `points`: those
    /// of this path.
    pub(super) fn steady_state(&self, points: &[Point]) -> Option<SteadyState> {
        let last = self.level[GRID.len() - 1];
        if last - self.level[GRID.len() - 2] > RISES * last {
            return None;
        }
        let is_alike = |level: &f64| (level - last).abs() <= ALIKE * last.abs().max(1.0);
        let first = (0..GRID.len()).find(|at| self.level[*at..].iter().all(is_alike));
        let level = points.last().map_or(last, |point| point.level);
        Some(SteadyState { level, seconds: GRID[first.unwrap_or(GRID.len() - 1)] })
    }

    /// As long as the collector has not passed.
    fn before_pass(&self, saw: &Saw, ahead: f64) -> f64 {
        let here = value(&self.level, ahead);
        let expired = self.level[0] + value(&self.come, ahead) - here;
        here + saw.waiting * saw.fate.stay(ahead) + saw.fate.waiting(ahead) * expired.max(0.0)
    }

    /// When it passed at `passed`, and not since.
    fn tip(&self, saw: &Saw, passed: f64, ahead: f64) -> f64 {
        let here = value(&self.level, ahead);
        let come = value(&self.come, ahead) - value(&self.come, passed);
        let expired = (value(&self.level, passed) + come - here).max(0.0);
        here + saw.fate.waiting(ahead - passed) * expired
    }

    fn point(&self, ahead: f64, level: f64) -> Point {
        let assured = value(&self.assured, ahead) / value(&self.level, ahead).max(1.0);
        let error = value(&self.error, ahead);
        Point { ahead, level, error, assured: assured * level, otherwise: [level, error] }
    }
}

/// Interpolates the point at a time ahead linearly.
pub(super) fn between(points: &[Point], ahead: f64) -> Point {
    Point {
        ahead,
        level: at(points, ahead, |point| point.level),
        error: at(points, ahead, |point| point.error),
        assured: at(points, ahead, |point| point.assured),
        otherwise: [0, 1].map(|of| at(points, ahead, |point| point.otherwise[of])),
    }
}

/// Interpolates `line` at a time ahead linearly.
pub(super) fn at(points: &[Point], ahead: f64, line: impl Fn(&Point) -> f64) -> f64 {
    interpolate(points, ahead, |point| point.ahead, line)
}

/// Interpolates the values `of` moments linearly at a time ahead; 0 without any. `time`: when a moment is, in rising order.
pub(super) fn interpolate<T>(
    moments: &[T],
    ahead: f64,
    time: impl Fn(&T) -> f64,
    of: impl Fn(&T) -> f64,
) -> f64 {
    let next = moments.partition_point(|moment| time(moment) < ahead);
    match (next.checked_sub(1).and_then(|at| moments.get(at)), moments.get(next)) {
        (Some(one), Some(other)) => {
            let share = (ahead - time(one)) / (time(other) - time(one)).max(1e-9);
            of(one) + share * (of(other) - of(one))
        }
        (Some(only), None) | (None, Some(only)) => of(only),
        (None, None) => 0.0,
    }
}

/// The value at `ahead` seconds of what is given on the grid.
pub(super) fn value(line: &[f64; GRID.len()], ahead: f64) -> f64 {
    let next = GRID.iter().position(|time| *time >= ahead).unwrap_or(GRID.len() - 1).max(1);
    let share = (ahead - GRID[next - 1]) / (GRID[next] - GRID[next - 1]);
    line[next - 1] + share.clamp(0.0, 1.0) * (line[next] - line[next - 1])
}

/// The standard normal distribution (Abramowitz and Stegun 26.2.17; off by at most 7.5e-8).
pub(super) fn normal(z: f64) -> f64 {
    if z.abs() > 8.0 {
        return f64::from(u8::from(z > 0.0));
    }
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let series = t
        * (0.319_381_530
            + t * (-0.356_563_782
                + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    let tail = (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt() * series;
    if z >= 0.0 { 1.0 - tail } else { tail }
}
