//! Fuzz targets of requests to the privileged helper, and of files of users and groups.

#![allow(clippy::expect_used, reason = "a panic is how a fuzz target reports")]

use super::{account::Account, message::Request};

/// Requests to the helper: any bytes are refused, or are a request that is written as it was read.
pub fn request(bytes: &[u8]) -> bool {
    let Ok(request) = serde_json::from_slice::<Request>(bytes) else { return false };
    let written = serde_json::to_vec(&request).expect("a request is written");
    assert_eq!(serde_json::from_slice::<Request>(&written).ok(), Some(request));
    true
}

/// A user as it is set, /etc/passwd and /etc/group, with a 0 between them: an account is never root's, nor nobody's number.
pub fn accounts(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let mut parts = text.split('\0');
    let mut next = || parts.next().unwrap_or_default();
    let (user, passwd, groups) = (next(), next(), next());
    let found = Account::find(user, passwd, groups);
    let default = Account::unprivileged_of(passwd);
    for account in found.iter().chain([&default]) {
        assert!(account.user != 0 && account.user != u32::MAX && account.group != u32::MAX);
    }
    found.is_ok()
}
