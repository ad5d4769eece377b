//! Ages in bins that grow with the age: 8 for each doubling, each 6 to 12 % wide.

/// Ages below this many bits of nanoseconds (1.05 ms) share the first bin.
const FIRST_BITS: u32 = 20;
/// Ages from this many bits on (13 days) share the last one.
const LAST_BITS: u32 = 50;
const PER_OCTAVE_BITS: u32 = 3;

/// Bins there are.
pub const BINS: usize = 2 + ((LAST_BITS - FIRST_BITS) << PER_OCTAVE_BITS) as usize;

/// The bin of an age in nanoseconds, below [`BINS`].
#[must_use]
pub const fn of(age_ns: u64) -> usize {
    if age_ns < 1 << FIRST_BITS {
        return 0;
    }
    if age_ns >= 1 << LAST_BITS {
        return BINS - 1;
    }
    let octave = age_ns.ilog2();
    // The bits below the highest say where in the octave.
    let within = (age_ns >> (octave - PER_OCTAVE_BITS)) & ((1 << PER_OCTAVE_BITS) - 1);
    1 + (((octave - FIRST_BITS) << PER_OCTAVE_BITS) as usize) + within as usize
}

/// The lowest age of a bin in nanoseconds, which is where the one before ends.
#[must_use]
pub const fn start_ns(bin: usize) -> u64 {
    if bin == 0 {
        return 0;
    }
    let steps = bin as u64 - 1;
    let octave = FIRST_BITS as u64 + (steps >> PER_OCTAVE_BITS);
    let eighths = (1 << PER_OCTAVE_BITS) + (steps & ((1 << PER_OCTAVE_BITS) - 1));
    eighths << (octave - PER_OCTAVE_BITS as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_age_lies_in_its_bin() {
        for bin in 0..BINS {
            assert_eq!(of(start_ns(bin)), bin);
            if bin > 0 {
                assert_eq!(of(start_ns(bin) - 1), bin - 1);
            }
        }
        assert_eq!((of(0), of(u64::MAX)), (0, BINS - 1));
        let ten_days = 10 * 86_400 * 1_000_000_000;
        assert!(of(ten_days) < BINS - 1 && BINS == 242);
    }
}
