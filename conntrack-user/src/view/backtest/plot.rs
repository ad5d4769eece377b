//! A run as a drawing: SVG.

use std::fmt::Write as _;

use crate::{
    backtest::trial::{Judged, Trace},
    forecast::outlook::{AHEAD, Quantiles},
};

/// The plot, and what stands beside it, in pixels.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 130.0;
const TOP: f64 = 14.0;
/// A row of alarms.
const ROW: f64 = 13.0;
/// Points of a line at the most.
const POINTS: usize = 760;

/// Level, limit, the fan of one forecaster, and the alarms of all.
pub(super) fn svg(trace: &Trace, forecasters: &[Judged], fan: usize) -> String {
    let plot = Plot::new(trace);
    let mut out = String::new();
    let below = TOP + HEIGHT + 22.0;
    let (width, height) = (LEFT + WIDTH + 10.0, below + ROW * forecasters.len() as f64 + 6.0);
    let _ = write!(out, "<svg viewBox=\"0 0 {width} {height}\" role=\"img\">");
    for fill in trace.truth.fills() {
        let (left, right) = (plot.x(fill.start), plot.x(fill.end.min(plot.ticks)));
        if right > left {
            let tall = height - TOP - 6.0;
            rect(&mut out, "full", [left, TOP, right - left, tall], "full");
        }
    }
    plot.axes(&mut out);
    if let Some(ahead) = trace.ahead.get(fan) {
        plot.fan(&mut out, ahead);
    }
    let truth = &trace.truth;
    plot.line(&mut out, "max", (0..plot.ticks).map(|at| (at, f64::from(truth.max[at]))));
    plot.line(&mut out, "level", (0..plot.ticks).map(|at| (at, truth.level[at] as f64)));
    for (place, judged) in forecasters.iter().enumerate() {
        let y = below + ROW * place as f64;
        let _ = write!(out, "<text x=\"4\" y=\"{:.0}\">{}</text>", y + 9.0, judged.name);
        let mut at = 0;
        for on in trace.alarms[place].chunk_by(|before, after| before == after) {
            let (left, right) = (plot.x(at), plot.x(at + on.len()));
            if on[0] {
                let hint = format!("{} to {} s", plot.second(at), plot.second(at + on.len()));
                rect(&mut out, "alarm", [left, y + 1.0, right - left, ROW - 3.0], &hint);
            }
            at += on.len();
        }
    }
    out.push_str("</svg>");
    out
}

fn rect(out: &mut String, class: &str, [x, y, width, height]: [f64; 4], hint: &str) {
    let _ = write!(
        out,
        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\">\
         <title>{hint}</title></rect>",
        width.max(0.7)
    );
}

struct Plot {
    tick: f64,
    ticks: usize,
    top: f64,
    step: usize,
}

impl Plot {
    fn new(trace: &Trace) -> Self {
        let ticks = trace.ahead.first().map_or(0, Vec::len);
        let highest = trace.truth.max[..ticks].iter().max().copied().unwrap_or(1);
        let step = ticks.div_ceil(POINTS).max(1);
        Self { tick: trace.truth.tick, ticks, top: f64::from(highest) * 1.1, step }
    }

    fn second(&self, at: usize) -> f64 {
        (at as f64 * self.tick * 10.0).round() / 10.0
    }

    fn x(&self, at: usize) -> f64 {
        LEFT + WIDTH * at as f64 / self.ticks.max(1) as f64
    }

    fn y(&self, entries: f64) -> f64 {
        TOP + HEIGHT * (1.0 - entries.clamp(0.0, self.top) / self.top)
    }

    /// As `x,y x,y`; beyond the end nothing.
    fn points(&self, points: impl Iterator<Item = (usize, f64)>) -> String {
        let mut out = String::new();
        for (at, entries) in points.step_by(self.step).filter(|point| point.0 <= self.ticks) {
            let _ = write!(out, "{:.1},{:.1} ", self.x(at), self.y(entries));
        }
        out
    }

    fn line(&self, out: &mut String, class: &str, points: impl Iterator<Item = (usize, f64)>) {
        let _ = write!(out, "<polyline class=\"{class}\" points=\"{}\"/>", self.points(points));
    }

    /// What was said of the level, at the time that it was said of.
    fn fan(&self, out: &mut String, ahead: &[Option<Quantiles<f64>>]) {
        let later = (AHEAD / self.tick).round() as usize;
        let of = |quantile: fn(&Quantiles<f64>) -> f64| {
            let told = ahead.iter().enumerate();
            told.filter_map(move |(at, ahead)| Some((at + later, quantile(ahead.as_ref()?))))
        };
        let lows: Vec<_> = of(|all| all.low).collect();
        let there = self.points(of(|all| all.high));
        // Of the same ticks as there, back again.
        let back: Vec<_> = lows.iter().copied().step_by(self.step).collect();
        let mut low = String::new();
        for (at, entries) in back.into_iter().rev().filter(|point| point.0 <= self.ticks) {
            let _ = write!(low, "{:.1},{:.1} ", self.x(at), self.y(entries));
        }
        let _ = write!(out, "<polygon class=\"fan\" points=\"{there}{low}\"/>");
        self.line(out, "median", of(|all| all.median));
    }

    fn axes(&self, out: &mut String) {
        for quarter in 0..=4 {
            let entries = self.top / 1.1 * f64::from(quarter) / 4.0;
            let y = self.y(entries);
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{entries:.0}</text>",
                LEFT + WIDTH,
                LEFT - 6.0,
                y + 4.0
            );
        }
        for tenth in (0..=10).step_by(2) {
            let at = self.ticks.saturating_sub(1) * tenth / 10;
            let _ = write!(
                out,
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{:.0} s</text>",
                self.x(at),
                TOP + HEIGHT + 14.0,
                self.second(at)
            );
        }
    }
}
