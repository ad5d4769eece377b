//! Network namespaces that were not seen, or not entered.

use super::super::{Unavailable, procfs::Namespaces};

/// What cannot be told of them, and why.
pub(super) fn unseen(namespaces: &Namespaces) -> Vec<Unavailable> {
    let refused = namespaces.problems();
    let reason = refused.first().map(|problem| problem.reason.as_str());
    lost(namespaces.hidden(), refused.len(), reason.unwrap_or_default())
}

/// `hidden`: processes that hide their namespace, none where processes themselves are hidden; `refused`: namespaces that
/// could not be entered, the first for `reason`.
fn lost(hidden: Option<u64>, refused: usize, reason: &str) -> Vec<Unavailable> {
    let hiding = match hidden {
        Some(0) => None,
        Some(1) => {
            Some("a process hides its own from who may not trace it (CAP_SYS_PTRACE)".into())
        }
        Some(many) => Some(format!(
            "{many} processes hide theirs from who may not trace them (CAP_SYS_PTRACE)"
        )),
        None => Some("procfs hides processes (mount option hidepid)".into()),
    };
    let hiding =
        hiding.map(|why| ("the fill level of network namespaces that are not seen".into(), why));
    let refusing = (refused > 0).then(|| {
        let many =
            if refused == 1 { "namespace".into() } else { format!("namespaces ({refused})") };
        (format!("the fill level of other network {many}"), reason.to_owned())
    });
    hiding.into_iter().chain(refusing).map(|(what, reason)| Unavailable { what, reason }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_or_refused_is_said() {
        let said = |hidden, refused| {
            let all = lost(hidden, refused, "entering it takes CAP_SYS_ADMIN");
            all.into_iter()
                .map(|lost| format!("{}: {}", lost.what, lost.reason))
                .collect::<Vec<_>>()
        };
        assert_eq!(said(Some(0), 0), [""; 0]);
        for (hidden, refused, expected) in [
            (
                Some(1),
                0,
                "that are not seen: a process hides its own from who may not trace it (CAP_SYS_PTRACE)",
            ),
            (
                Some(7),
                0,
                "that are not seen: 7 processes hide theirs from who may not trace them (CAP_SYS_PTRACE)",
            ),
            (None, 0, "that are not seen: procfs hides processes (mount option hidepid)"),
            (Some(0), 1, "other network namespace: entering it takes CAP_SYS_ADMIN"),
            (Some(0), 3, "other network namespaces (3): entering it takes CAP_SYS_ADMIN"),
        ] {
            let all = said(hidden, refused);
            assert_eq!(all.len(), 1);
            assert!(all[0].ends_with(expected), "{all:?}");
        }
        assert_eq!(said(Some(2), 2).len(), 2);
    }
}
