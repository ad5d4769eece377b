//! Probabilities that something has happened to a table by a moment ahead, and the quantiles of the time until it does.

/// Rise of a probability from one moment to the next that is steep.
const STEEP: f64 = 0.1;
/// Times that a steep rise is halved, at most.
const HALVINGS: usize = 6;

/// Probabilities to have been full, and to have dropped a packet, by a moment ahead.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reached {
    /// Seconds.
    pub(super) ahead: f64,
    pub(super) full: f64,
    pub(super) drop: f64,
}

impl Reached {
    /// Keeps the probabilities from falling: a table that has been full has been full.
    pub(super) fn after(self, before: &Self) -> Self {
        Self { full: self.full.max(before.full), drop: self.drop.max(before.drop), ..self }
    }
}

/// Seconds after which a probability reaches `part`. Interpolates linearly, and halves the time between two moments where it
/// rises steeply.
pub(super) fn passes(
    reached: &[Reached],
    of: impl Fn(&Reached) -> f64,
    part: f64,
    between: impl Fn(f64) -> Reached,
) -> Option<f64> {
    let next = reached.iter().position(|reached| of(reached) >= part)?;
    let Some(before) = next.checked_sub(1) else { return Some(0.0) };
    let (mut one, mut other) = (reached[before], reached[next]);
    for _ in 0..HALVINGS {
        if of(&other) - of(&one) < STEEP {
            break;
        }
        let middle = between(f64::midpoint(one.ahead, other.ahead)).after(&one);
        if of(&middle) >= part { other = middle } else { one = middle }
    }
    let share = (part - of(&one)) / (of(&other) - of(&one)).max(1e-9);
    Some(one.ahead + share.clamp(0.0, 1.0) * (other.ahead - one.ahead))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Full for certain from 200 s on, known at every hundredth second only.
    #[test]
    fn a_steep_rise_is_found_within_its_interval() {
        let at =
            |ahead: f64| Reached { ahead, full: f64::from(u8::from(ahead >= 220.0)), drop: 0.0 };
        let reached = [0.0, 100.0, 200.0, 300.0].map(at);
        let when = passes(&reached, |reached| reached.full, 0.5, at).unwrap();
        assert!((when - 220.0).abs() < 2.0, "{when}");
        assert_eq!(passes(&reached, |reached| reached.drop, 0.5, at), None);
        assert_eq!(passes(&reached[3..], |reached| reached.full, 0.5, at), Some(0.0));
    }
}
