//! Verdict of `status` on tables that are not read.

use std::str::FromStr;

use conntrack_user::severity::Severity;

/// Severity of tables that are known and not read, or that may be hidden, where all others are OK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unread(pub(crate) Severity);

impl FromStr for Unread {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Severity::Ok, Severity::Warning, Severity::Unknown];
        let found = all.into_iter().find(|severity| severity.name() == text);
        found.map(Self).ok_or_else(|| "it must be ok, warning or unknown".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_by_name() {
        assert_eq!("ok".parse(), Ok(Unread(Severity::Ok)));
        assert_eq!("unknown".parse(), Ok(Unread(Severity::Unknown)));
        assert!("critical".parse::<Unread>().is_err());
    }
}
