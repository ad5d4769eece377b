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
    use crate::backtest::{
        drawn, registry,
        scenario::Scenario,
        trial::{self, Case, Outcome},
    };

    fn outcomes() -> Vec<Outcome> {
        let text = "title = 'A <leak>'\nimitates = 'it & that'\nseconds = 60\nmax = 1000
            arrivals = [{ class = 'tcp_long', rate = [[0, 10]], at_start = 700, active = { fixed = 900 } }]";
        let small = |name: &str, drawn| {
            let scenario = Scenario::parse(text).unwrap();
            Case { name: name.into(), scenario, drawn }
        };
        let mut cases = vec![small("leak", false), small("x", true)];
        cases[1].scenario.title = drawn::scenario(1, 1).1.title;
        let entries = registry::named(&["holt".into(), "static-80".into()]).unwrap();
        trial::run(cases, &entries, 2, |_, _| ()).unwrap()
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

    #[test]
    fn a_verdict_names_the_scenarios() {
        let mut outcomes = outcomes();
        for outcome in &mut outcomes {
            outcome.forecasters[2].name = registry::OURS;
        }
        let text = anstream::adapter::strip_str(&verdict::text(&outcomes)).to_string();
        let expected = [
            "Is ctmon good enough on 1 written scenario?\n",
            "  yes missed fills: 0 of 2\n",
            // A fixed share of the limit says no time.
            "  NO  worse than the best line in 1 of 1 scenarios",
            "\n        leak: 9.",
            "Is ctmon good enough on 1 drawn scenario?\n",
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
