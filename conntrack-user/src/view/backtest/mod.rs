//! Scores of forecasters.

pub mod html;
pub mod json;
mod plot;
mod summary;
pub mod text;
pub mod verdict;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backtest::{
            drawn,
            recorded::Recorded,
            registry,
            scenario::Scenario,
            simulator::Run,
            trial::{self, Case, Input, Outcome},
            truth::{Moment, Truth},
        },
        model::reading::NetnsId,
    };

    fn outcomes() -> Vec<Outcome> {
        let text = "title = 'A <leak>'\nimitates = 'it & that'\nseconds = 60\nmax = 1000
            arrivals = [{ class = 'tcp_long', rate = [[0, 10]], at_start = 700, active = { fixed = 900 } }]";
        let written = Scenario::parse(text).unwrap();
        let title = drawn::scenario(1, 1).1.title;
        let drawn = Input::Drawn(Scenario { title, ..written.clone() });
        let case = |name: &str, input| Case { name: name.into(), input };
        let cases = vec![case("leak", Input::Written(written)), case("x", drawn)];
        let entries = registry::named(&["holt".into(), "static-80".into()]).unwrap();
        trial::run(cases, &entries, 2, 160 << 20, |_, _| ()).unwrap()
    }

    #[test]
    fn all_forms_have_all_forecasters() {
        let outcomes = outcomes();
        let table = anstream::adapter::strip_str(&text::table(&outcomes)).to_string();
        let page = html::page(&outcomes);
        let lines: Vec<String> =
            json::lines(&outcomes).map(|line| serde_json::to_string(&line).unwrap()).collect();
        assert_eq!(lines.len(), 6);
        assert_eq!(verdict::text(&outcomes), "");
        assert!(lines[2].contains(r#""forecaster":"static-80","scores":{"lead_s":{"mean":"#));
        for name in [registry::CLAIRVOYANT, "holt", "static-80"] {
            assert!(table.contains(name) && page.contains(name), "{name}");
        }
        assert!(table.starts_with("leak: 1.0 fills\n"), "{table}");
    }

    /// One that was recorded: 4 s, in which nothing happens, or its table is full.
    fn recorded(name: &str, full: bool) -> Case {
        let mut truth = Truth::new(1.0);
        for second in 0..4 {
            let level = if full && second > 2 { 100 } else { 10 * second };
            truth.push(Moment { level, max: 100, ..Moment::default() });
        }
        let run = Run { snapshots: vec![None; 4], earlier: vec![], restarts: vec![], truth };
        let netns = NetnsId { cookie: None, inode: 7 };
        let recorded = Recorded { netns, title: "Recorded on 6.12".into(), run };
        Case { name: name.into(), input: Input::Recorded(recorded) }
    }

    #[test]
    fn recordings_have_no_clairvoyant_no_seeds_and_no_verdict() {
        let entries = registry::named(&["ctmon".into(), "static-80".into()]).unwrap();
        let cases = vec![recorded("calm", false), recorded("fill", true)];
        let outcomes =
            trial::run(cases, &entries, 30, 160 << 20, |_, all| assert_eq!(all, 2)).unwrap();
        let table = anstream::adapter::strip_str(&text::table(&outcomes)).to_string();
        assert!(table.contains("calm: 0.0 fills\nnothing in it can be judged"), "{table}");
        assert!(table.contains("fill: 1.0 fills\n") && table.contains("all 2 recorded"), "{table}");
        let page = html::page(&outcomes);
        assert_eq!(page.matches("<svg").count(), 2);
        assert!(page.contains("Recorded on 6.12") && page.contains("what ctmon said 60 s before"));
        assert!(!table.contains(registry::CLAIRVOYANT), "{table}");
        assert!(!page.contains(&format!("<td>{}", registry::CLAIRVOYANT)));
        assert!(verdict::text(&outcomes).is_empty());
        let lines: Vec<String> =
            json::lines(&outcomes).map(|line| serde_json::to_string(&line).unwrap()).collect();
        assert!(lines.len() == 4 && lines[0].contains(r#""recorded":true,"forecaster":"ctmon""#));
        assert!(lines[2].contains(r#""missed":{"mean":1.0,"within":null,"seeds":1}"#), "{lines:?}");
        assert!(
            lines[2].contains(r#""lead_share":null"#) && lines[2].contains(r#""false_min":null"#)
        );
    }

    #[test]
    fn a_verdict_names_the_scenarios() {
        let mut outcomes = outcomes();
        for outcome in &mut outcomes {
            outcome.forecasters[2].name = registry::OURS;
        }
        let text = anstream::adapter::strip_str(&verdict::text(&outcomes)).to_string();
        let expected = [
            "ctmon beside the clairvoyant, 1 written scenario:\n",
            "  met     false alarms: 0.0 min, clairvoyant 0.0 min, no ratio, at most 1.5; missed fills: 0 of 2,",
            // A fixed share of the limit says no time.
            "  NOT MET error of the time to full above 1 where the clairvoyant's is below 0.5: 1 of 1 scenarios",
            "\n          leak: 10.00, clairvoyant 0.0",
            "ctmon beside the clairvoyant, 1 drawn scenario:\n",
        ];
        for expected in expected {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }

    #[test]
    fn the_page_needs_nothing_else() {
        let page = html::page(&outcomes());
        for absent in ["http", "<script", "<link", "<leak>"] {
            assert!(!page.contains(absent), "{absent}");
        }
        // A plot of what was written; none of what was drawn, unless it is alone in its kind.
        assert_eq!((page.matches("<svg").count(), page.matches("</svg>").count()), (2, 2));
        assert!(page.contains("A &lt;leak&gt;. it &amp; that"));
    }
}
