//! The level to come, at some times ahead.

use super::outlook::HORIZON;

/// Seconds ahead for which the level is worked out; in between it is on straight lines.
pub(super) const GRID: [f64; 26] = [
    0.0, 1.0, 2.0, 4.0, 7.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 240.0, 300.0,
    420.0, 600.0, 900.0, 1350.0, 1800.0, 2700.0, 3600.0, 5400.0, 7200.0, HORIZON,
];

/// The standard normal distribution's 90 % quantile.
pub(super) const Z90: f64 = 1.2816;

/// What becomes of a table, by kind of entry and in all.
#[derive(Debug, Clone, Default)]
pub(super) struct Path {
    pub(super) level: [f64; GRID.len()],
    pub(super) error: [f64; GRID.len()],
    /// Of it, entries that cannot be evicted.
    pub(super) assured: [f64; GRID.len()],
}

/// The value at `ahead` seconds of what is given on the grid.
pub(super) fn value(line: &[f64; GRID.len()], ahead: f64) -> f64 {
    let next = GRID.iter().position(|time| *time >= ahead).unwrap_or(GRID.len() - 1).max(1);
    let share = (ahead - GRID[next - 1]) / (GRID[next] - GRID[next - 1]);
    line[next - 1] + share.clamp(0.0, 1.0) * (line[next] - line[next - 1])
}

/// When a line comes to `level`.
pub(super) fn crossing(line: &[f64; GRID.len()], level: f64) -> Option<f64> {
    let at = line.iter().position(|value| *value >= level)?;
    if at == 0 {
        return Some(0.0);
    }
    let share = (level - line[at - 1]) / (line[at] - line[at - 1]);
    Some(GRID[at - 1] + share * (GRID[at] - GRID[at - 1]))
}

/// The standard normal distribution (Abramowitz and Stegun 26.2.17; off by at most 7.5e-8).
pub(super) fn normal(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let series = t
        * (0.319_381_530
            + t * (-0.356_563_782
                + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    let tail = (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt() * series;
    if z >= 0.0 { 1.0 - tail } else { tail }
}
