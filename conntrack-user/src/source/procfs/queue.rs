//! `/proc/net/netfilter/nfnetlink_queue` (`seq_show`, net/netfilter/nfnetlink_queue.c).

/// Bytes that are read: those of some 14,000 queues. Whoever has a namespace makes up to 65,536, which are not looked through each
/// second: then the packets that wait are not known.
pub(super) const BYTES: u64 = 1 << 20;

/// Packets that wait, over all queues: the third number of each line. None when it is no such table.
pub(super) fn parse(text: &str) -> Option<u64> {
    let mut waiting = text.lines().map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok());
    waiting.try_fold(0u64, |sum, packets| Some(sum.saturating_add(packets?)))
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
        let most = format!("0 1 {0}\n0 1 {0}\n", u64::MAX);
        assert_eq!(parse(&most), Some(u64::MAX));
    }
}
