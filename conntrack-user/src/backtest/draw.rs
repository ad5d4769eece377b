//! Random numbers: the same for the same seed, on every machine and with every version (`ChaCha8`).

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Binomial, Distribution as _, Gamma, Poisson};

/// The source of randomness.
pub(super) type Source = ChaCha8Rng;

/// A source for a seed.
#[must_use]
pub(super) fn source(seed: u64) -> Source {
    Source::seed_from_u64(seed)
}

/// How many of `n` come to pass, each with probability `p`.
pub(super) fn binomial(source: &mut Source, n: u64, p: f64) -> u64 {
    match p {
        _ if n == 0 || p.is_nan() || p <= 0.0 => 0,
        _ if p >= 1.0 => n,
        _ => Binomial::new(n, p).map_or(0, |law| law.sample(source)),
    }
}

/// A number with the given mean, and `dispersion` times as much variance: Poisson at 1, above that with a mean that
/// is drawn from a gamma law. At 0 the mean itself; a fraction of it is the probability of one more.
pub(super) fn count(source: &mut Source, mean: f64, dispersion: f64) -> u64 {
    if dispersion == 0.0 {
        return mean as u64 + binomial(source, 1, mean.fract());
    }
    let mean = if dispersion > 1.0 && mean > 0.0 {
        let scale = dispersion - 1.0;
        Gamma::new(mean / scale, scale).map_or(mean, |law| law.sample(source))
    } else {
        mean
    };
    // Below that the law refuses, and nothing comes anyway.
    if mean < 1e-12 {
        return 0;
    }
    Poisson::new(mean).map_or(0, |law| law.sample(source) as u64)
}

/// Takes `taken` out of what is in several places, each as likely, and says how many from each.
pub(super) fn share_out(source: &mut Source, places: &[u64], taken: u64) -> Vec<u64> {
    let mut left: u64 = places.iter().sum();
    let mut need = taken.min(left);
    let mut shares = Vec::with_capacity(places.len());
    for here in places {
        // Never so few that the rest could not make up for it.
        let least = need.saturating_sub(left - here);
        let share = binomial(source, *here, need as f64 / left.max(1) as f64).clamp(least, need);
        shares.push(share);
        need -= share;
        left -= here;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean_and_dispersion(dispersion: f64) -> (f64, f64) {
        let mut source = source(1);
        let draws: Vec<f64> =
            (0..20_000).map(|_| count(&mut source, 50.0, dispersion) as f64).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance =
            draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (draws.len() - 1) as f64;
        (mean, variance / mean)
    }

    #[test]
    fn counts_are_dispersed_as_told() {
        for dispersion in [1.0, 4.0, 20.0] {
            let (mean, seen) = mean_and_dispersion(dispersion);
            assert!((mean / 50.0 - 1.0).abs() < 0.02, "{mean}");
            assert!((seen / dispersion - 1.0).abs() < 0.06, "{dispersion}: {seen}");
        }
    }

    #[test]
    fn without_dispersion_it_is_the_mean() {
        let mut source = source(3);
        assert_eq!(count(&mut source, 7.0, 0.0), 7);
        let sum: u64 = (0..10_000).map(|_| count(&mut source, 7.25, 0.0)).sum();
        assert!((72_300..72_700).contains(&sum), "{sum}");
    }

    #[test]
    fn what_is_shared_out_is_all_there() {
        let mut source = source(2);
        for taken in [0, 1, 50, 119, 120, 200] {
            let shares = share_out(&mut source, &[100, 0, 20], taken);
            assert_eq!(shares.iter().sum::<u64>(), taken.min(120));
            assert!(shares[0] <= 100 && shares[1] == 0 && shares[2] <= 20);
        }
    }
}
