//! `/proc/net/netfilter/nfnetlink_queue` (`seq_show`, net/netfilter/nfnetlink_queue.c).

/// Packets that wait, over all queues: the third number of each line. None when it is no such table.
pub(super) fn parse(text: &str) -> Option<u64> {
    text.lines().map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_number_of_each_line_is_summed() {
        let text = "    0   1234     7 2 65531     0     0       12  1\n    1   1235     5 2 65531     0     0        9  1\n";
        assert_eq!(parse(text), Some(12));
        assert_eq!(parse(""), Some(0), "no queue");
        assert_eq!(parse("    0   1234\n"), None);
    }
}
