//! Tests of the judge of the corpus.

use super::*;

/// Line of scores of a recording.
fn line(scenario: &str, forecaster: &str, scores: &[(&str, f64)]) -> String {
    let scores: BTreeMap<&str, serde_json::Value> = scores
        .iter()
        .map(|(name, mean)| {
            (*name, serde_json::json!({ "mean": mean, "within": null, "seeds": 1 }))
        })
        .collect();
    let line = serde_json::json!({
        "scenario": scenario, "title": "", "drawn": false, "recorded": true, "forecaster": forecaster, "scores": scores,
    });
    format!("{line}\n")
}

fn judged(text: &str) -> Vec<Verdict> {
    verdicts(&group(text).unwrap())
}

fn met(verdict: &Verdict) -> Vec<Option<bool>> {
    verdict.checks.iter().map(|check| check.met).collect()
}

/// Leaks with scores of `ctmon`: error, CRPS, missed, coverage. The line has 0.2, 2.0 and 0.
fn leaks(ours: [[f64; 4]; 2]) -> Vec<Verdict> {
    let mut text = String::new();
    for (seed, [eta, crps, missed, covers]) in (1..).zip(ours) {
        let name = format!("leak-{seed}");
        let scores = [("eta", eta), ("crps_60s", crps), ("missed", missed), ("covers_60s", covers)];
        text += &line(&name, OURS, &[&scores[..], &[("undecided_min", 9.0)]].concat());
        text += &line(&name, "growth", &[("eta", 0.2), ("missed", 0.0), ("undecided_min", 9.0)]);
        text += &line(&name, "predict-linear-1m", &[("crps_60s", 2.0), ("missed", 1.0)]);
    }
    judged(&text)
}

#[test]
fn a_kind_is_judged_by_its_means() {
    let verdicts = leaks([[0.3, 3.0, 0.0, 0.99], [0.2, 1.4, 0.0, 0.9]]);
    // 0.25 and 2.2 are the most that is met; alarms of a kind that fills are not false.
    assert_eq!(met(&verdicts[0]), [Some(true); 5], "{verdicts:?}");
    assert_eq!((verdicts.len(), verdicts[0].recordings, verdicts[0].met), (1, 2, true));
    let verdicts = leaks([[0.3, 3.0, 1.0, 0.99], [0.21, 1.5, 0.0, 0.94]]);
    let expected = [Some(false), Some(false), Some(false), Some(true), Some(false)];
    assert_eq!(met(&verdicts[0]), expected, "{verdicts:?}");
    let text = verdicts[0].text();
    assert!(text.starts_with("leak (2): NOT MET\n"), "{text}");
    assert!(
        text.contains("  NOT MET  error of the time to full       0.26   growth 0.20\n"),
        "{text}"
    );
}

#[test]
fn where_nothing_fills_each_alarm_is_false() {
    let of = |ours: f64, line_minutes: f64| {
        let scores = |minutes| [("undecided_min", minutes), ("crps_60s", 1.0), ("covers_60s", 0.8)];
        let text = line("dns-bursts-1", OURS, &scores(ours))
            + &line("dns-bursts-1", "predict-linear-1m", &scores(line_minutes))
            + &line("dns-bursts-1", "static-75", &[("undecided_min", 4.0)]);
        judged(&text).remove(0)
    };
    // Half a minute is allowed, or half as much again as the best.
    assert_eq!(met(&of(0.5, 0.0)), [None, Some(true), None, Some(true), Some(true)]);
    assert_eq!(of(0.6, 0.0).checks[3].met, Some(false));
    assert_eq!(of(6.0, 9.0).checks[3].met, Some(true));
    assert_eq!(of(6.1, 9.0).checks[3].met, Some(false));
}

#[test]
fn a_line_that_misses_a_fill_elsewhere_is_no_measure_of_false_alarms() {
    let text = line("dns-bursts-1", OURS, &[("undecided_min", 3.0)])
        + &line("dns-bursts-1", "holt", &[("undecided_min", 2.0)])
        + &line("dns-bursts-1", "growth", &[("undecided_min", 1.0)])
        + &line("leak-1", OURS, &[("missed", 0.0)])
        + &line("leak-1", "holt", &[("missed", 0.0)])
        + &line("leak-1", "growth", &[("missed", 1.0)]);
    let alarms = judged(&text).remove(0).checks.remove(3);
    assert_eq!((alarms.of.as_str(), alarms.line, alarms.met), ("holt", Some(2.0), Some(true)));
}

#[test]
fn a_binary_that_does_not_tell_undecided_alarms_leaves_them_unjudged() {
    let verdict = judged(&line("dns-bursts-1", OURS, &[("crps_60s", 0.2)])).remove(0);
    assert_eq!(met(&verdict), [None, Some(true), None, None, None]);
}
