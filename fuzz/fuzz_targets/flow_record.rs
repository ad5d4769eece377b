//! The decoder of the ring buffer's records: it takes any bytes, and only whole records become events.

#![no_main]

use conntrack_user::source::ebpf::flow::decode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|record: &[u8]| {
    if let Ok(event) = decode(record) {
        assert_eq!(record.len(), 120);
        let ratio = event.sample.ratio();
        assert!((0.0..=1.0).contains(&ratio));
    }
});
