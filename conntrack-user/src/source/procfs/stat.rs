//! `/proc/net/stat/nf_conntrack` (net/netfilter/nf_conntrack_standalone.c).

use crate::model::reading::KernelStat;

/// File of the statistics, below the folder of a process.
pub const FILE: &str = "net/stat/nf_conntrack";

/// Sums the rows, one a CPU, of hexadecimal numbers below a line of names. None when it is no such
/// table. `entries` is left out: it repeats in every row.
#[must_use]
pub fn parse(text: &str) -> Option<KernelStat> {
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next()?.split_whitespace().collect();
    let rows = lines
        .map(|line| {
            let numbers = line.split_whitespace().map(|word| u64::from_str_radix(word, 16).ok());
            numbers.collect::<Option<Vec<u64>>>().filter(|row| row.len() == names.len())
        })
        .collect::<Option<Vec<_>>>()?;
    let sum = |name| {
        let column = names.iter().position(|other| *other == name)?;
        // Each is a 32-bit counter of its CPU, so this does not overflow.
        Some(rows.iter().map(|row| row[column] & u64::from(u32::MAX)).sum())
    };
    (names.contains(&"entries") && !rows.is_empty()).then(|| KernelStat {
        found: sum("found"),
        invalid: sum("invalid"),
        insert: sum("insert"),
        insert_failed: sum("insert_failed"),
        drop: sum("drop"),
        early_drop: sum("early_drop"),
        error: sum("icmp_error"),
        search_restart: sum("search_restart"),
        clash_resolve: sum("clashres"),
        // Under its old name (`ct_cpu_seq_show`).
        chaintoolong: sum("chainlength"),
        expect_new: sum("expect_new"),
        expect_create: sum("expect_create"),
        expect_delete: sum("expect_delete"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "entries  clashres found new invalid ignore delete chainlength insert \
                          insert_failed drop early_drop icmp_error  expect_new expect_create \
                          expect_delete search_restart\n";

    #[test]
    fn rows_are_summed_and_hexadecimal() {
        let rows = "\
0000000a  00000001 00000002 00000000 00000003 00000000 00000000 00000000 00000000 00000004 00000010 0000000f 00000000  00000000 00000000 00000000 00000000
0000000a  00000000 00000001 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000001 00000001 00000000  00000000 00000000 00000000 00000002
";
        let stat = parse(&format!("{HEADER}{rows}")).unwrap();
        assert_eq!((stat.drop, stat.early_drop), (Some(17), Some(16)));
        assert_eq!(
            (stat.clash_resolve, stat.found, stat.insert_failed),
            (Some(1), Some(3), Some(4))
        );
        assert_eq!(stat.search_restart, Some(2));
        assert_eq!(stat.chaintoolong, Some(0));
    }

    #[test]
    fn a_column_that_is_not_there_is_none() {
        let stat = parse("entries drop\n1 2\n").unwrap();
        assert_eq!((stat.drop, stat.early_drop), (Some(2), None));
    }

    #[test]
    fn what_is_no_such_table_is_none() {
        let cut = format!("{HEADER}0000000a 00000001\n");
        let not_hexadecimal = "entries drop\nxyz 1\n";
        for text in ["", "entries\n", "drop\n1\n", HEADER, &cut, not_hexadecimal] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
