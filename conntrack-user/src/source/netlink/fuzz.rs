//! Fuzz target of ctnetlink's datagrams.

use super::{
    message::events,
    statistics::{Question, add},
};
use crate::model::reading::KernelStat;

/// Datagrams of ctnetlink: no more events come out than there is room for, and counters are sums or an error.
pub fn ctnetlink(datagram: &[u8]) -> bool {
    let (mut number, mut whole) = (0, false);
    for event in events(datagram) {
        number += 1;
        whole |= event.is_ok();
    }
    // Each has a header of 16 bytes.
    assert!(number <= datagram.len() / 16 + 1);
    let mut stat = KernelStat::default();
    for question in [Question::Entries, Question::Expectations] {
        // An answer has up to 1,024 datagrams.
        for _ in 0..3 {
            let _ = add(question, datagram, &mut stat);
        }
    }
    whole || stat != KernelStat::default()
}
