//! The queries in rules and dashboards.

use serde_json::Value;

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Query {
    /// File and panel or rule.
    pub(super) place: String,
    /// In PromQL, with the variables of Grafana in it.
    pub(super) text: String,
}

impl Query {
    /// With values for the variables: `instance`, and everything else.
    pub(super) fn with_values(&self, instance: &str) -> String {
        let values = [
            ("$instance", instance),
            ("$netns", ".*"),
            ("$job", ".*"),
            ("$__rate_interval", "1m"),
            ("$__range", "5m"),
        ];
        values.iter().fold(self.text.clone(), |text, (name, value)| text.replace(name, value))
    }
}

/// Those of a file of rules, each of which is on one line.
pub(super) fn of_rules(file: &str, text: &str) -> Vec<Query> {
    let mut name = "";
    let mut queries = Vec::new();
    for line in text.lines().map(str::trim) {
        let named = line.strip_prefix("- record: ").or_else(|| line.strip_prefix("- alert: "));
        name = named.unwrap_or(name);
        if let Some(text) = line.strip_prefix("expr: ") {
            queries.push(Query { place: format!("{file}: {name}"), text: text.to_owned() });
        }
    }
    queries
}

/// Those of a dashboard: of its panels, and of its variables.
pub(super) fn of_dashboard(file: &str, dashboard: &Value) -> Vec<Query> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut queries = Vec::new();
    for panel in list(&dashboard["panels"]) {
        let place = format!("{file}: {}", panel["title"].as_str().unwrap_or_default());
        for target in list(&panel["targets"]) {
            let text = target["expr"].as_str().unwrap_or_default().to_owned();
            queries.push(Query { place: place.clone(), text });
        }
    }
    for variable in list(&dashboard["templating"]["list"]) {
        let query = variable["query"]["query"].as_str().and_then(|query| {
            let (series, _) = query.strip_prefix("label_values(")?.rsplit_once(',')?;
            Some(series.to_owned())
        });
        if let Some(text) = query {
            let name = variable["name"].as_str().unwrap_or_default();
            queries.push(Query { place: format!("{file}: ${name}"), text });
        }
    }
    queries
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn query(place: &str, text: &str) -> Query {
        Query { place: place.into(), text: text.into() }
    }

    #[test]
    fn rules_have_names_and_queries() {
        let text = "groups:\n  - rules:\n    - record: a:b\n      expr: b\n\n    - alert: C\n      expr: d > 0\n";
        assert_eq!(of_rules("f", text), [query("f: a:b", "b"), query("f: C", "d > 0")]);
    }

    #[test]
    fn dashboards_have_panels_and_variables() {
        let dashboard = json!({
            "panels": [{ "title": "P", "targets": [{ "expr": "a{i=\"$instance\",n=~\"$netns\"}" }] }, { "title": "row" }],
            "templating": { "list": [
                { "name": "netns", "query": { "query": "label_values(b{i=\"$instance\"}, netns)" } },
                { "name": "datasource", "query": "prometheus" },
            ] },
        });
        let queries = of_dashboard("f", &dashboard);
        let expected = [
            query("f: P", "a{i=\"$instance\",n=~\"$netns\"}"),
            query("f: $netns", "b{i=\"$instance\"}"),
        ];
        assert_eq!(queries, expected);
        assert_eq!(queries[0].with_values("x:1"), "a{i=\"x:1\",n=~\".*\"}");
    }
}
