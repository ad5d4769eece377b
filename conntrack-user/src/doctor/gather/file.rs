//! Small files.

use std::{fmt::Display, io, path::Path, str::FromStr};

use crate::doctor::facts::Fact;

/// The text of a file, without white space around it.
pub(super) fn text(path: &Path) -> Fact<String> {
    match std::fs::read(path) {
        Ok(bytes) => Fact::Known(String::from_utf8_lossy(&bytes).trim().to_owned()),
        Err(error) => Fact::Unknown(why(path, &error)),
    }
}

/// A file that holds a number.
pub(super) fn number<T: FromStr<Err: Display>>(path: &Path) -> Fact<T> {
    text(path).and_then(|text| match text.parse() {
        Ok(number) => Fact::Known(number),
        Err(error) => {
            Fact::Unknown(format!("{} holds {:?}: {error}", path.display(), short(&text)))
        }
    })
}

/// Why `path` could not be read.
pub(super) fn why(path: &Path, error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound {
        return format!("{} is not there", path.display());
    }
    format!("cannot read {}: {error}", path.display())
}

/// Enough of a text to recognise it by.
fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Names in a folder, sorted; none where there is no such folder.
pub(super) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
