//! The reader of ctnetlink's datagrams: it takes any bytes, and no more events come out than there is room for.

#![no_main]

use conntrack_user::source::netlink::message::events;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|datagram: &[u8]| {
    // Each has a header of 16 bytes.
    assert!(events(datagram).count() <= datagram.len() / 16 + 1);
});
