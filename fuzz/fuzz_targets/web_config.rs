//! Web configurations: any text is refused with an error, or is one. An error is one line that shows no value.

#![no_main]

use std::{env, fs, path::PathBuf, process, sync::LazyLock};

use conntrack_user::http::Web;
use libfuzzer_sys::fuzz_target;

static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| env::temp_dir().join(format!("ctmon-fuzz-{}.yml", process::id())));

/// Looks like a hash of a password, and like no key.
const SECRET: &str = "$6$secret";

fuzz_target!(|text: &str| {
    // With a secret in the place of each letter S.
    fs::write(&*FILE, text.replace('S', SECRET)).expect("a file of a few bytes");
    if let Err(error) = Web::load(&FILE) {
        let error = format!("{error:#}");
        assert!(!error.contains(SECRET) && !error.contains('\n'), "{error}");
    }
});
