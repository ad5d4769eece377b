#![no_main]
#![allow(
    dead_code,
    unused_imports,
    reason = "of the command line, the settings of `serve` are used"
)]

// It is a part of the binary, which no program can depend on.
#[path = "../../conntrack-user/src/cli/mod.rs"]
mod cli;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    cli::fuzz::settings(bytes);
});
