//! Means of numbers that chance made, and how exact they are.

use serde::Serialize;

use super::trial::{Kind, Outcome};

/// A mean over seeds or drawn scenarios.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// It is so exact, up and down, with 95 % probability; none of one seed.
    pub within: Option<f64>,
    /// Those that could tell.
    pub seeds: usize,
}

/// The mean of some numbers, with its confidence interval by Student's law.
pub fn estimate(values: impl Iterator<Item = f64>) -> Option<Estimate> {
    let values: Vec<f64> = values.collect();
    let n = values.len() as f64;
    if values.is_empty() {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n;
    let within = (values.len() > 1).then(|| {
        let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        student(n - 1.0) * (squares / (n - 1.0) / n).sqrt()
    });
    Some(Estimate { mean, within, seeds: values.len() })
}

/// The 97.5 % quantile of Student's law (Cornish-Fisher; to 1 % from 3 degrees of freedom on).
fn student(freedom: f64) -> f64 {
    match freedom as u64 {
        0 | 1 => return 12.706,
        2 => return 4.303,
        _ => {}
    }
    const Z: f64 = 1.959_964;
    let first = (Z.powi(3) + Z) / 4.0;
    let second = (5.0 * Z.powi(5) + 16.0 * Z.powi(3) + 3.0 * Z) / 96.0;
    let third = (3.0 * Z.powi(7) + 19.0 * Z.powi(5) + 17.0 * Z.powi(3) - 15.0 * Z) / 384.0;
    Z + first / freedom + second / freedom.powi(2) + third / freedom.powi(3)
}

/// The sum of the first of each pair divided by that of the second, with its confidence interval (delta method); none
/// where the second are all 0.
pub fn ratio(pairs: &[(f64, f64)]) -> Option<Estimate> {
    let n = pairs.len() as f64;
    let [first, second] =
        pairs.iter().fold([0.0, 0.0], |sum, pair| [sum[0] + pair.0, sum[1] + pair.1]);
    if second <= 0.0 {
        return None;
    }
    let mean = first / second;
    let within = (pairs.len() > 1).then(|| {
        let squares = pairs.iter().map(|pair| (pair.0 - mean * pair.1).powi(2)).sum::<f64>();
        student(n - 1.0) * (squares / (n - 1.0) / n).sqrt() / (second / n)
    });
    Some(Estimate { mean, within, seeds: pairs.len() })
}

/// The mean of a metric over the scenarios that could tell, and how exact it is.
#[must_use]
pub fn over(outcomes: &[&Outcome], forecaster: usize, metric: usize) -> Option<Estimate> {
    let told =
        outcomes.iter().filter_map(|outcome| outcome.forecasters[forecaster].metrics[metric]);
    let told: Vec<Estimate> = told.collect();
    if outcomes.iter().any(|outcome| outcome.case.kind() == Kind::Drawn) {
        return estimate(told.iter().map(|estimate| estimate.mean));
    }
    // Those that were written are given, and only the seeds are drawn: their errors add up.
    let n = told.len() as f64;
    let squares = told.iter().map(|estimate| estimate.within.map(|within| within * within));
    let within = squares.sum::<Option<f64>>().map(|squares| squares.sqrt() / n);
    (n > 0.0).then(|| Estimate {
        mean: told.iter().map(|estimate| estimate.mean).sum::<f64>() / n,
        within,
        seeds: told.iter().map(|estimate| estimate.seeds).sum(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_students() {
        for (freedom, expected) in [(3.0, 3.182), (9.0, 2.262), (29.0, 2.045)] {
            assert!((student(freedom) / expected - 1.0).abs() < 0.01, "{freedom}");
        }
        let of = estimate([1.0, 2.0, 3.0].into_iter()).unwrap();
        assert!(
            (of.mean - 2.0).abs() < 1e-9
                && (of.within.unwrap() - 4.303 / 3_f64.sqrt()).abs() < 1e-3
        );
    }

    #[test]
    fn a_ratio_is_of_sums_and_as_exact_as_its_pairs_agree() {
        let same = ratio(&[(1.0, 2.0), (2.0, 4.0), (3.0, 6.0)]).unwrap();
        assert_eq!((same.mean, same.within), (0.5, Some(0.0)));
        // Residuals of 1 and -1 around 0.5: sqrt(2 / 1 / 2) = 1, and 12.706 / 4 of it.
        let apart = ratio(&[(3.0, 4.0), (1.0, 4.0)]).unwrap();
        assert!(apart.mean == 0.5 && (apart.within.unwrap() - 12.706 / 4.0).abs() < 1e-9);
        assert_eq!(ratio(&[(1.0, 0.0)]), None);
    }
}
