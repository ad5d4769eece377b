//! Medians, and numbers as text.

/// A number that was measured several times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// None of nothing.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        let lower = if values.len().is_multiple_of(2) { *values.get(middle - 1)? } else { upper };
        Some(Self { median: f64::midpoint(lower, upper), least, most })
    }

    /// As [`Spread::of`], without the twentieth at either end: runs that were interrupted.
    pub(crate) fn inner(values: &[f64]) -> Option<Self> {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        let end = values.len() / 20;
        Self::of(values.get(end..values.len() - end)?.iter().copied())
    }

    /// `0.91 (0.88 to 0.93)`
    pub(crate) fn text(&self, digits: usize) -> String {
        let Self { median, least, most } = self;
        format!("{median:.digits$} ({least:.digits$} to {most:.digits$})")
    }
}

/// `12,345`
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let spread = |values: &[f64]| Spread::of(values.iter().copied());
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[3.0, 1.0, 2.0]).unwrap().text(1), "2.0 (1.0 to 3.0)");
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
    }

    #[test]
    fn the_ends_may_be_left_out() {
        let values: Vec<f64> = (0..40).map(f64::from).collect();
        let spread = Spread::inner(&values).unwrap();
        assert_eq!((spread.least, spread.median, spread.most), (2.0, 19.5, 37.0));
        assert_eq!(Spread::inner(&[1.0]).unwrap().median, 1.0);
    }

    #[test]
    fn thousands_are_grouped() {
        for (number, text) in [(7.0, "7"), (1000.0, "1,000"), (123_456.4, "123,456")] {
            assert_eq!(grouped(number), text);
        }
    }
}
