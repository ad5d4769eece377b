//! Scenarios and recordings that are shown together.

use crate::backtest::trial::{Kind, Outcome};

/// Those that belong together, with a heading.
pub(super) fn groups(outcomes: &[Outcome]) -> Vec<(String, Vec<&Outcome>)> {
    let mut groups: Vec<(String, Vec<&Outcome>)> = vec![];
    for outcome in outcomes {
        let case = &outcome.case;
        // One drawn scenario tells nothing by itself; those of one kind do.
        let name = match case.kind() {
            Kind::Drawn => format!("drawn: {}", case.title()),
            Kind::Written | Kind::Recorded => case.name.clone(),
        };
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, members)) => members.push(outcome),
            None => groups.push((name, vec![outcome])),
        }
    }
    let all = |kind| outcomes.iter().filter(move |outcome| outcome.case.kind() == kind).collect();
    let kinds: [(&str, Vec<&Outcome>); 3] = [
        ("written", all(Kind::Written)),
        ("drawn", all(Kind::Drawn)),
        ("recorded", all(Kind::Recorded)),
    ];
    for (name, members) in kinds {
        if members.len() > 1 {
            groups.push((format!("all {} {name}", members.len()), members));
        }
    }
    groups
}
