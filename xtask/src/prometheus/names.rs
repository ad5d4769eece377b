//! Names of metrics in a text.

/// The words in it that are ours: metrics of ctmon and of its process, and recorded series.
pub(super) fn of_metrics(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = text.split(move |c| !is_part(c)).map(|word| word.trim_matches(':'));
    words.filter(|word| {
        let is_recorded = word.contains(":ctmon_");
        word.starts_with("ctmon_") || word.starts_with("process_") || is_recorded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_functions_are_no_metrics() {
        let text = "sum by (netns) (rate(ctmon_inserts_total{job=\"ctmon\"}[5m])) / on (job) a:ctmon_b:c > up";
        assert_eq!(of_metrics(text).collect::<Vec<_>>(), ["ctmon_inserts_total", "a:ctmon_b:c"]);
        assert_eq!(of_metrics("expr: ctmon_entries").collect::<Vec<_>>(), ["ctmon_entries"]);
    }
}
