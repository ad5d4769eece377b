//! One place for thresholds: each part that judges a table follows it.

use super::{
    rules_tests::disagreements,
    thresholds::{TABLE, User},
    *,
};
use crate::{
    daemon::warning::Warnings,
    doctor::facts::Fact,
    doctor::verdict::{judge, test_facts::all_well},
    source::item::Origin,
    view::{json::Line, page, status, style, text::Table},
};

/// Other than the default: a table of 60 % is critical by it.
const LOWER: Thresholds = Thresholds { critical_fill: 0.55, ..THRESHOLDS };

fn sixty_percent() -> Tick {
    Tick::example(vec![NetnsTick::example(7, 60, 100)])
}

/// Severity that `user` gives a table with a fill of 60 %.
fn severity(user: User, thresholds: Thresholds) -> Severity {
    let tick = sixty_percent();
    match user {
        User::Status => {
            status::judge(
                &tick,
                status::Limits { thresholds, ranges: status::Ranges::default(), full_within: None },
            )
            .severity
        }
        User::Watch => {
            let line = serde_json::to_value(Line::tick(&tick, &[], &thresholds)).unwrap();
            let json: Severity =
                serde_json::from_value(line["netns"][0]["severity"].clone()).unwrap();
            let screen = Table::new(thresholds, false, false).tick(&tick);
            let bad = format!("{}     60", style::BAD);
            assert_eq!(screen.contains(&bad), json == Severity::Critical, "{screen}");
            json
        }
        User::Doctor => {
            let mut facts = all_well();
            facts.namespaces.read[0].entries = Fact::Known(60);
            facts.namespaces.read[0].entries_limit = Fact::Known(100);
            let sections = judge(&facts, &thresholds);
            let mut all = sections.iter().flat_map(|section| &section.verdicts);
            all.find(|verdict| verdict.subject == "fill").unwrap().severity
        }
        User::Page => {
            let severity = |_: &NetnsTick| Some(severity(User::Serve, thresholds));
            let origin = Origin::example();
            let line = serde_json::to_value(Line::node(&tick, &origin, severity)).unwrap();
            serde_json::from_value(line["netns"][0]["severity"].clone()).unwrap()
        }
        User::Serve => {
            let mut warnings = Warnings::new(thresholds);
            warnings.observe(&tick);
            warnings.severities().next().unwrap().1
        }
        User::Rules => {
            let differ = disagreements(&thresholds);
            let is_named = differ.iter().any(|text| text.starts_with("CtmonTableAlmostFull"));
            if is_named { Severity::Critical } else { Severity::Ok }
        }
    }
}

#[test]
fn the_critical_fill_is_one_for_all_six() {
    let critical = TABLE.iter().find(|row| row.name == "critical_fill").unwrap();
    assert_eq!(critical.users.len(), 6);
    for user in critical.users {
        assert_eq!(severity(*user, THRESHOLDS), Severity::Ok, "{user:?}");
        assert_eq!(severity(*user, LOWER), Severity::Critical, "{user:?}");
    }
}

#[test]
fn the_page_has_no_thresholds_of_its_own() {
    let scripts: String = page::FILES.iter().map(|file| file.body).collect();
    assert!(scripts.contains("netns.severity"));
    // A script that compares a fill with a number decides by itself.
    let compared = scripts.split("fill_ratio").skip(1).filter_map(|after| after.lines().next());
    let compared: Vec<&str> = compared.filter(|after| after.contains(['<', '>'])).collect();
    assert_eq!(compared, Vec::<&str>::new());
}

#[test]
fn each_user_warns_at_the_fill_that_the_table_gives_it() {
    for row in TABLE.iter().filter(|row| ["warning_fill", "on_demand_fill"].contains(&row.name)) {
        assert!(!row.why.is_empty());
        for user in row.users.iter().filter(|user| **user != User::Rules) {
            let of_user = match user {
                User::Status | User::Watch | User::Doctor => THRESHOLDS.on_demand(),
                User::Page | User::Serve | User::Rules => THRESHOLDS,
            };
            assert_eq!(of_user.warning_fill, (row.value)(&THRESHOLDS), "{user:?}");
        }
    }
}

/// docs/warnings.md shows the same table.
#[test]
fn the_table_is_documented() {
    let document = include_str!("../../../docs/warnings.md");
    for row in &TABLE {
        let users: Vec<&str> = row.users.iter().map(|user| user.name()).collect();
        let line = format!(
            "| `{}` | {} % | {} | {} |",
            row.name,
            (row.value)(&THRESHOLDS) * 100.0,
            users.join(", "),
            row.why
        );
        assert!(document.lines().any(|there| there == line), "{line}");
    }
}
