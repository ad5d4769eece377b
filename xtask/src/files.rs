//! Files that a VM hands out through its console: lines `file NAME OFFSET HEX`, which are not shown.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};

/// What came so far.
#[derive(Debug, Default)]
pub(crate) struct Files {
    line: Vec<u8>,
    by_name: BTreeMap<String, Vec<u8>>,
}

impl Files {
    /// Takes in what a VM says, and returns the whole lines of it that are to be shown.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.line.extend_from_slice(bytes);
        let mut shown = Vec::new();
        while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.line.drain(..=end).collect();
            match std::str::from_utf8(&line).ok().and_then(piece) {
                Some((name, at, bytes)) => {
                    // A VM that was started again hands out the same again.
                    let file = self.by_name.entry(name.to_owned()).or_default();
                    file.truncate(at);
                    file.extend(bytes);
                }
                None => shown.extend(line),
            }
        }
        shown
    }

    /// What was said after the last whole line.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.line)
    }

    /// Content of a file so far.
    pub(crate) fn get(&self, name: &str) -> Option<&[u8]> {
        self.by_name.get(name).map(Vec::as_slice)
    }

    /// Writes the files into a folder; their names with their sizes.
    pub(crate) fn keep(&self, folder: &Path) -> Result<Vec<String>> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let write = |(name, bytes): (&String, &Vec<u8>)| {
            let path = folder.join(name);
            fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(format!("{}: {} bytes", path.display(), bytes.len()))
        };
        self.by_name.iter().map(write).collect()
    }
}

/// A piece of a file: its name, which has no folder in it, where it begins, and its bytes.
fn piece(line: &str) -> Option<(&str, usize, Vec<u8>)> {
    let mut words = line.strip_prefix("file ")?.split_whitespace();
    let (name, at, hex) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
    let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    let digits = |at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(digits).collect();
    (is_plain && !name.starts_with('.')).then_some((name, at, bytes?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_taken_out_of_what_is_said() {
        let mut files = Files::default();
        let said = b"ok one\r\nfile a.mcap 0 00ff\r\nfile a.mcap 2 10\r\nfile ../x 0 00\nfile";
        let shown: Vec<u8> = said.chunks(5).flat_map(|part| files.push(part)).collect();
        assert_eq!(shown, b"ok one\r\nfile ../x 0 00\n");
        assert_eq!(files.by_name, BTreeMap::from([("a.mcap".to_owned(), vec![0, 255, 16])]));
        assert_eq!(files.rest(), b"file");
        files.push(b"file a.mcap 0 01\n");
        let folder = tempfile::tempdir().unwrap();
        files.keep(folder.path()).unwrap();
        assert_eq!(fs::read(folder.path().join("a.mcap")).unwrap(), [1]);
    }
}
