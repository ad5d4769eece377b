//! Addresses of the documents in help texts.

/// Address of a page of the documents, below `CTMON_DOCS_URL` where the build had it set: an installed ctmon has no documents
/// beside it.
pub(super) fn page(name: &str) -> String {
    match option_env!("CTMON_DOCS_URL") {
        Some(url) => format!("{}/{name}", url.trim_end_matches('/')),
        None => format!("docs/{name} of the source"),
    }
}
