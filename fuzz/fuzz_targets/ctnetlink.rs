#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    conntrack_user::fuzz::ctnetlink(bytes);
});
