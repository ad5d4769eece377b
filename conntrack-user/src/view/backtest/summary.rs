//! Scenarios that are shown together.

use crate::backtest::trial::Outcome;

/// Those that belong together, with a heading.
pub(super) fn groups(outcomes: &[Outcome]) -> Vec<(String, Vec<&Outcome>)> {
    let mut groups: Vec<(String, Vec<&Outcome>)> = vec![];
    for outcome in outcomes {
        let case = &outcome.case;
        // One drawn scenario tells nothing by itself; those of one kind do.
        let name =
            if case.drawn { format!("drawn: {}", case.scenario.title) } else { case.name.clone() };
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, members)) => members.push(outcome),
            None => groups.push((name, vec![outcome])),
        }
    }
    let all = |drawn: bool| outcomes.iter().filter(|outcome| outcome.case.drawn == drawn).collect();
    let kinds: [(&str, Vec<&Outcome>); 2] = [("written", all(false)), ("drawn", all(true))];
    for (name, members) in kinds {
        if members.len() > 1 {
            groups.push((format!("all {} {name}", members.len()), members));
        }
    }
    groups
}
