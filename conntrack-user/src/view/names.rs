//! Names of network namespaces in a column: cut in the middle, and never two that look the same.

use std::collections::{HashMap, HashSet};

/// Stands for what was cut out.
const CUT: char = '~';

/// The texts of `rows`, each an inode and a name if there is one, in at most `width` characters: no two of them are the
/// same where the inodes differ. `width`: 10 or more, as many as an inode has digits.
#[must_use]
pub fn fit(rows: &[(u64, Option<&str>)], width: usize) -> Vec<String> {
    let mut texts: Vec<String> = rows
        .iter()
        .map(|(inode, name)| name.map_or_else(|| inode.to_string(), |name| cut(name, width)))
        .collect();
    // Each round shows more digits of the inode in names that look the same, in the end all of them. That may be another's
    // name, which then changes in the next round.
    for digits in [4, 6].into_iter().chain(std::iter::repeat_n(width, rows.len())) {
        let mut of: HashMap<&str, HashSet<u64>> = HashMap::new();
        for (text, (inode, _)) in texts.iter().zip(rows) {
            of.entry(text).or_default().insert(*inode);
        }
        let same: HashSet<String> = of
            .into_iter()
            .filter(|(_, all)| all.len() > 1)
            .map(|(text, _)| text.to_owned())
            .collect();
        if same.is_empty() {
            break;
        }
        for (text, (inode, name)) in texts.iter_mut().zip(rows) {
            if same.contains(text.as_str())
                && let Some(name) = name
            {
                *text = with_inode(name, *inode, digits, width);
            }
        }
    }
    texts
}

/// `name` in at most `width` characters: its beginning and its end.
fn cut(name: &str, width: usize) -> String {
    let chars: Vec<char> = name.chars().collect();
    if chars.len() <= width {
        return name.to_owned();
    }
    let head = width.saturating_sub(1) / 2;
    let tail = width.saturating_sub(1) - head;
    let tail = chars.len() - tail;
    chars[..head].iter().chain([&CUT]).chain(&chars[tail..]).collect()
}

/// The beginning of `name` and the last `digits` of `inode`; the inode alone where that leaves nothing of the name.
fn with_inode(name: &str, inode: u64, digits: usize, width: usize) -> String {
    let inode = inode.to_string();
    let digits = digits.min(inode.len());
    let room = width.saturating_sub(digits + 1);
    if room == 0 || digits == inode.len() {
        return inode;
    }
    let head: String = name.chars().take(room).collect();
    format!("{head}{CUT}{}", &inode[inode.len() - digits..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_cut_in_the_middle() {
        for (name, width, expected) in [
            ("blue", 10, "blue"),
            ("0123456789", 10, "0123456789"),
            ("kube-system-gateway-blue", 10, "kube~-blue"),
            ("kube-system-gateway-green", 10, "kube~green"),
            ("kube-system-gateway-green", 17, "kube-sys~ay-green"),
            ("grün-grün-grün", 10, "grün~-grün"),
        ] {
            assert_eq!(cut(name, width), expected);
        }
    }

    #[test]
    fn two_names_never_look_the_same() {
        let rows = [
            (4_026_532_210, Some("shop/cart-7d9f-one-abcde")),
            (4_026_532_310, Some("shop/till-7d9f-two-abcde")),
            (4_026_532_410, Some("nginx")),
            (4_026_532_510, Some("nginx")),
            (4_026_532_610, None),
            (4_026_532_710, Some("4026532610")),
        ];
        let expected =
            ["shop/~2210", "shop/~2310", "nginx~2410", "nginx~2510", "4026532610", "40265~2710"];
        assert_eq!(fit(&rows, 10), expected);
        // The last four digits are the same.
        let rows = [(4_026_532_210, Some("nginx")), (4_026_542_210, Some("nginx"))];
        assert_eq!(fit(&rows, 10), ["ngi~532210", "ngi~542210"]);
        let rows = [(4_026_532_210, Some("nginx")), (4_036_532_210, Some("nginx"))];
        assert_eq!(fit(&rows, 10), ["4026532210", "4036532210"]);
        // One namespace that ended and is there again is one.
        assert_eq!(fit(&[(7, Some("a")), (7, Some("a"))], 10), ["a", "a"]);
    }

    proptest! {
        #[test]
        fn texts_fit_and_differ(
            names in prop::collection::vec(prop::option::of("[ab~0-9]{1,14}"), 1..12),
            step in 1u64..20_000,
            width in 10usize..14,
        ) {
            let rows: Vec<(u64, Option<&str>)> = names
                .iter()
                .enumerate()
                .map(|(at, name)| (4_026_531_840 + at as u64 * step, name.as_deref()))
                .collect();
            let texts = fit(&rows, width);
            prop_assert!(texts.iter().all(|text| text.chars().count() <= width), "{texts:?}");
            let different: HashSet<&String> = texts.iter().collect();
            prop_assert_eq!(different.len(), rows.len(), "{:?}", texts);
        }
    }
}
