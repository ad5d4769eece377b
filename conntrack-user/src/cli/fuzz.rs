//! Fuzz target of the settings file. The others are in the library.

#![allow(clippy::expect_used, reason = "a panic is how a fuzz target reports")]

use std::io::Write as _;

use conntrack_user::text;

use super::Cli;

/// Settings of `ctmon serve`: any bytes are refused with an error that is fit for a terminal, or are settings, each with a value.
#[allow(dead_code, reason = "the fuzz target uses it, which takes in this source")]
pub(crate) fn settings(bytes: &[u8]) -> bool {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(bytes).expect("room for a few bytes");
    let arguments = ["ctmon".into(), "serve".into(), "--config".into(), file.path().into()];
    match Cli::read(&arguments) {
        Ok(_) => true,
        Err(error) => {
            // As the binary shows it.
            let shown = text::lines(&error);
            let is_clean = |line: &str| text::printable(line, text::LONGEST + 2) == line;
            assert!(!shown.is_empty() && shown.lines().all(is_clean), "{shown:?}");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_of_the_corpus_are_refused_or_settings() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/settings");
        let inputs = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let (is_read, refused): (Vec<_>, Vec<_>) =
            inputs.partition(|path| settings(&std::fs::read(path).unwrap()));
        assert!(!is_read.is_empty() && !refused.is_empty(), "{is_read:?} {refused:?}");
    }
}
