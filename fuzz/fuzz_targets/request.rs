//! Requests to the privileged helper: any bytes are refused, or are a request that is written as it was read.

#![no_main]

use conntrack_user::privilege::message::Request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(request) = serde_json::from_slice::<Request>(bytes) else { return };
    let written = serde_json::to_vec(&request).expect("a request is written");
    assert_eq!(serde_json::from_slice::<Request>(&written).ok(), Some(request));
});
