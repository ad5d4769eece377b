//! The rate of arrivals now: since when it is what it is, and whether it changes.

use super::history::{History, Span};

/// Standard deviations beyond which a span is of another rate.
const OTHER: f64 = 4.0;
/// The same for the means of many spans: one of them is the most by chance.
const CHANGE: f64 = 4.5;
/// Seconds looked back at the most.
const LONGEST: f64 = 1200.0;
/// Standard errors beyond which a slope is one.
const SLOPE: f64 = 5.0;

/// Arrivals a second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rate {
    /// Now.
    pub(super) level: f64,
    /// Its standard error.
    pub(super) error: f64,
    /// By how much it changes a second.
    pub(super) slope: f64,
    pub(super) slope_error: f64,
    /// For how many seconds it has been like that.
    pub(super) since: f64,
    /// What it was before, where that is known to have been another rate.
    pub(super) before: Option<f64>,
    /// Variance of the arrivals in a second, by their mean: 1 for a Poisson process.
    pub(super) dispersion: f64,
}

/// Sums for a straight line through rates, weighted by seconds.
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    w: f64,
    t: f64,
    y: f64,
    tt: f64,
    ty: f64,
    yy: f64,
    n: f64,
}

impl Line {
    fn add(&mut self, t: f64, y: f64, w: f64) {
        self.n += 1.0;
        self.w += w;
        self.t += w * t;
        self.y += w * y;
        self.tt += w * t * t;
        self.ty += w * t * y;
        self.yy += w * y * y;
    }

    fn mean(&self) -> f64 {
        self.y / self.w
    }

    /// The slope, and the sum of weights times squared times around their mean.
    fn slope(&self) -> (f64, f64) {
        let spread = self.tt - self.t * self.t / self.w;
        let slope = if spread > 0.0 { (self.ty - self.t * self.y / self.w) / spread } else { 0.0 };
        (slope, spread)
    }

    /// Where the line is at `t`.
    fn value(&self, t: f64) -> f64 {
        self.mean() + self.slope().0 * (t - self.t / self.w)
    }

    /// The weighted sum of squares that the mean leaves.
    fn around_mean(&self) -> f64 {
        if self.w > 0.0 { (self.yy - self.y * self.y / self.w).max(0.0) } else { 0.0 }
    }

    /// The same of the line.
    fn around_line(&self) -> f64 {
        let (slope, spread) = self.slope();
        (self.around_mean() - slope * slope * spread).max(0.0)
    }
}

/// Judges the arrivals of a history at the time `now`.
pub(super) fn rate(history: &History, now: f64) -> Rate {
    let counted = |span: &&Span| span.is_counted && span.seconds() > 0.0;
    let Some(first) = history.spans().rev().find(counted) else {
        return Rate { dispersion: 1.0, ..Rate::default() };
    };
    let per_second = |span: &Span| span.inserts / span.seconds();
    let middle = |span: &Span| 0.5 * (span.from + span.to) - now;
    let dispersion = dispersion(history, now);
    let recent = || {
        let spans = history.spans().rev().filter(counted);
        spans.take_while(|span| span.to >= now - LONGEST)
    };
    let (number, before) = since_change(recent, dispersion);
    let mut constant = Line::default();
    let mut since = first.from;
    for span in recent().take(number.max(1)) {
        constant.add(middle(span), per_second(span), span.seconds());
        since = span.from;
    }
    let mut line = Line::default();
    let mut line_since = first.from;
    line.add(middle(first), per_second(first), first.seconds());
    let mut odd = 0;
    for span in recent().skip(1) {
        let (rate, w, t) = (per_second(span), span.seconds(), middle(span));
        let expected = line.value(t);
        let (_, spread) = line.slope();
        let from_mean = t - line.t / line.w;
        let leverage = if spread > 0.0 { from_mean * from_mean / spread } else { 0.0 };
        let variance =
            dispersion * (expected.max(rate) + 1.0) * (1.0 / w + 1.0 / line.w + leverage);
        if line.n >= 3.0 && (rate - expected).abs() > OTHER * variance.sqrt() {
            // One that is another for a moment is a burst; two are another rate.
            odd += 1;
            if odd >= 2 || span.seconds() > 2.0 {
                break;
            }
        } else {
            odd = 0;
            line.add(t, rate, w);
            line_since = span.from;
        }
    }
    let mean = constant.mean();
    let constant_rate = Rate {
        level: mean,
        error: (dispersion * (mean + 1.0) / constant.w).sqrt(),
        slope: 0.0,
        slope_error: 0.0,
        since: now - since,
        before,
        dispersion,
    };
    let (slope, spread) = line.slope();
    if line.n < 4.0 || spread <= 0.0 {
        return constant_rate;
    }
    let slope_error = (dispersion * (line.mean() + 1.0) / spread).sqrt();
    let is_longer = now - line_since > 1.5 * (now - since);
    // A step is none, however steep the line through it.
    let mut earlier = Line::default();
    for span in recent().skip(number).take_while(|span| span.from >= line_since) {
        earlier.add(middle(span), per_second(span), span.seconds());
    }
    let around_means = constant.around_mean() + earlier.around_mean();
    if slope.abs() > SLOPE * slope_error && is_longer && line.around_line() < 0.7 * around_means {
        let from_mean = -line.t / line.w;
        let error =
            dispersion * (line.mean() + 1.0) * (1.0 / line.w + from_mean * from_mean / spread);
        return Rate {
            level: line.value(0.0).max(0.0),
            error: error.sqrt(),
            slope,
            slope_error,
            since: now - line_since,
            before: Some(line.value(line_since - now).max(0.0)),
            dispersion,
        };
    }
    constant_rate
}

/// For how many of the spans, the latest first, the rate has been the same, and what it was before that: the latest of
/// the changes that are found by splitting in two where the means before and after differ most, as long as they do
/// (binary segmentation; Scott, Knott 1974, doi 10.2307/2529204).
fn since_change<'a, I: Iterator<Item = &'a Span>>(
    recent: impl Fn() -> I,
    dispersion: f64,
) -> (usize, Option<f64>) {
    let mut number = recent().count();
    let mut before = None;
    loop {
        let sum = |sums: (f64, f64), span: &Span| (sums.0 + span.inserts, sums.1 + span.seconds());
        let all = recent().take(number).fold((0.0, 0.0), sum);
        let (mut most, mut at) = (CHANGE * CHANGE, None);
        let mut later = (0.0, 0.0);
        for (index, span) in recent().take(number.saturating_sub(1)).enumerate() {
            later = sum(later, span);
            let earlier = (all.0 - later.0, all.1 - later.1);
            let off = later.0 / later.1 - earlier.0 / earlier.1;
            let rate = (later.0 / later.1).max(earlier.0 / earlier.1) + 1.0;
            let square = off * off / (dispersion * rate * (1.0 / later.1 + 1.0 / earlier.1));
            if square > most {
                (most, at) = (square, Some((index + 1, earlier.0 / earlier.1)));
            }
        }
        let Some((index, rate)) = at else { return (number, before) };
        (number, before) = (index, Some(rate));
    }
}

/// How much more the arrivals of the last minutes vary than those of a Poisson process, from one span to the
/// next: a slow change is no variance.
pub(super) fn dispersion(history: &History, now: f64) -> f64 {
    let spans = history.spans().rev().filter(|span| span.is_counted && span.seconds() > 0.0);
    let recent = spans.take_while(|span| span.from > now - LONGEST);
    let (mut squares, mut number) = (3.0, 3.0);
    let mut last: Option<&Span> = None;
    for span in recent {
        if let Some(last) = last {
            let (a, b) = (last.inserts / last.seconds(), span.inserts / span.seconds());
            let variance = (0.5 * (a + b) + 0.5) * (1.0 / last.seconds() + 1.0 / span.seconds());
            // A jump is one, not variance.
            squares += ((a - b) * (a - b) / variance).min(20.0);
            number += 1.0;
        }
        last = Some(span);
    }
    f64::max(squares / number, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(rate: impl Fn(f64) -> f64, seconds: u32) -> History {
        let mut history = History::default();
        for second in 0..seconds {
            let from = f64::from(second);
            history.push(Span::new(from, from + 1.0, rate(from + 0.5).round(), true, [0.0; 2]));
        }
        history
    }

    #[test]
    fn a_rate_that_stays_is_taken_over_a_long_time() {
        let rate = rate(&history(|_| 1000.0, 600), 600.0);
        assert!((rate.level - 1000.0).abs() < 1.0 && rate.since > 500.0, "{rate:?}");
        assert_eq!((rate.slope, rate.before), (0.0, None));
    }

    #[test]
    fn a_step_is_known_by_the_second_tick() {
        let step = |t: f64| if t < 300.0 { 900.0 } else { 20_000.0 };
        let rate = rate(&history(step, 302), 302.0);
        assert!((rate.level - 20_000.0).abs() < 100.0, "{rate:?}");
        assert!((1.5..3.5).contains(&rate.since), "{rate:?}");
        assert!(rate.before.is_some_and(|before| (before - 900.0).abs() < 50.0), "{rate:?}");
    }

    #[test]
    fn a_step_is_no_slope() {
        // What came before it is as long ago as the step.
        let step = |t: f64| match t {
            ..3.0 => 180.0,
            ..4.0 => 100.0,
            _ => 0.0,
        };
        for seconds in 5..12 {
            let rate = rate(&history(step, seconds), f64::from(seconds));
            assert_eq!(rate.slope, 0.0, "{seconds}: {rate:?}");
        }
    }

    #[test]
    fn a_ramp_is_a_slope() {
        let rate = rate(&history(|t| 1000.0 + 5.0 * t, 400), 400.0);
        assert!((rate.slope - 5.0).abs() < 0.5, "{rate:?}");
        assert!((rate.level - 3000.0).abs() < 60.0, "{rate:?}");
    }
}
