//! Small files.

use std::{fmt::Display, io, path::Path, str::FromStr};

use crate::{doctor::facts::Fact, file};

/// Bytes of a file of at most [`file::TYPES`] bytes.
pub(super) fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    file::read(path, file::TYPES)
}

/// The text of a file, without white space around it.
pub(super) fn text(path: &Path) -> Fact<String> {
    match bytes(path) {
        Ok(bytes) => Fact::Known(String::from_utf8_lossy(&bytes).trim().to_owned()),
        Err(error) => Fact::Unavailable(why(path, &error)),
    }
}

/// A file that holds a number.
pub(super) fn number<T: FromStr<Err: Display>>(path: &Path) -> Fact<T> {
    text(path).and_then(|text| match text.parse() {
        Ok(number) => Fact::Known(number),
        Err(error) => {
            Fact::Unavailable(format!("{} holds {:?}: {error}", path.display(), short(&text)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_or_no_number_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name| folder.path().join(name);
        std::fs::write(at("number"), " 42\n").unwrap();
        std::fs::write(at("words"), "many\n").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        assert_eq!(number::<u32>(&at("number")), Fact::Known(42));
        for (name, why) in [
            ("words", "holds \"many\""),
            ("socket", "no regular file"),
            (".", "no regular file"),
            ("nothing", "is not there"),
        ] {
            let fact = number::<u32>(&at(name));
            assert!(fact.unavailable().is_some_and(|text| text.contains(why)), "{name}: {fact:?}");
        }
        assert_eq!(names(folder.path()), ["number", "socket", "words"]);
        assert!(names(&at("nothing")).is_empty());
    }
}
