//! What was warned of, and who was told.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;

use super::family::{Family, Sample};
use crate::daemon::{alerts::Told, notify::Counts};

const CHANGES: Family =
    Family::counter("ctmon_severity_changes", "Changes of a table's severity, by the new one.");
const UNTRACKED: Family = Family::gauge(
    "ctmon_warning_netns_untracked",
    "Network namespaces that are not watched for warnings, because there are too many.",
);
const NOTIFICATIONS: Family = Family::counter(
    "ctmon_notifications",
    "Changes that a command or a webhook was to be told, by what became of them.",
);
const FAILED: Family = Family::counter(
    "ctmon_notification_attempts_failed",
    "Attempts to tell a change that failed, most of which are made again.",
);

pub(super) const FAMILIES: [Family; 4] = [CHANGES, UNTRACKED, NOTIFICATIONS, FAILED];

/// Writes them all.
pub(super) fn write(told: &Told, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let changes: Vec<Sample<'_>> =
        told.changes.iter().map(|(to, n)| Sample::of(*n).with("severity", to.name())).collect();
    CHANGES.write(encoder, &changes)?;
    if !told.changes.is_empty() {
        UNTRACKED.write(encoder, &[Sample::of(told.untracked)])?;
    }
    let outcomes = |counts: &Counts| {
        [
            ("delivered", counts.delivered),
            ("given_up", counts.given_up),
            ("superseded", counts.superseded),
            ("discarded", counts.discarded),
        ]
    };
    let of_each = |(target, counts): &(&'static str, Counts)| {
        let target = *target;
        outcomes(counts)
            .map(|(outcome, n)| Sample::of(n).with("target", target).with("outcome", outcome))
    };
    let notifications: Vec<Sample<'_>> = told.notifications.iter().flat_map(of_each).collect();
    NOTIFICATIONS.write(encoder, &notifications)?;
    let failed: Vec<Sample<'_>> = told
        .notifications
        .iter()
        .map(|(target, counts)| Sample::of(counts.failed_attempts).with("target", *target))
        .collect();
    FAILED.write(encoder, &failed)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::super::{Format, Metrics};
    use super::*;
    use crate::{
        daemon::{latest::Latest, shared::Shared},
        model::tick::{NetnsTick, Tick},
        severity::Severity,
    };

    #[test]
    fn levels_and_what_became_of_notifications_are_numbers() {
        let mut latest = Latest::new(1);
        let tables = [7, 8, 9].map(|inode| NetnsTick::example(inode, 96, 100));
        latest.take(Tick::example(tables.into()));
        let counts = Counts { delivered: 2, failed_attempts: 5, ..Counts::default() };
        latest.warn(Told {
            severities: BTreeMap::from([
                (7, Severity::Warning),
                (8, Severity::Ok),
                (9, Severity::Critical),
            ]),
            changes: BTreeMap::from([(Severity::Critical, 1)]),
            untracked: 0,
            notifications: vec![("webhook", counts)],
        });
        let text = Metrics::new(Shared::new(latest, None), Arc::default())
            .text(Format::Prometheus)
            .unwrap();
        for line in [
            "ctmon_severity{netns=\"7\"} 1",
            "ctmon_severity{netns=\"others\"} 2",
            "ctmon_severity_changes_total{severity=\"critical\"} 1",
            "ctmon_warning_netns_untracked 0",
            "ctmon_notifications_total{target=\"webhook\",outcome=\"delivered\"} 2",
            "ctmon_notifications_total{target=\"webhook\",outcome=\"given_up\"} 0",
            "ctmon_notification_attempts_failed_total{target=\"webhook\"} 5",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
    }
}
