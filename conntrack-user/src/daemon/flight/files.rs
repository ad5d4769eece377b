//! The files that the last minutes are written into: each there whole or not at all, and few.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::PathBuf,
    time::{Duration, UNIX_EPOCH},
};

use super::ring::Snapshot;

/// Where they are, and how many there may be.
#[derive(Debug, Clone)]
pub struct Folder {
    /// Where.
    pub path: PathBuf,
    /// How many, at the most; at least 1.
    pub most_files: usize,
    /// Bytes of all together, at the most.
    pub most_bytes: u64,
}

/// What a file that is being written is called: [`UNFINISHED`], six letters or digits, [`SUFFIX`].
const UNFINISHED: &str = ".ctmon-flight-";
const SUFFIX: &str = ".tmp";
const RANDOM: usize = 6;
/// Letters of a reason.
const REASON: usize = 32;

impl Folder {
    /// Removes what was being written when a process was killed; returns how many there were.
    ///
    /// # Errors
    /// Those of the folder.
    pub fn clean(&self) -> io::Result<usize> {
        let mut removed = 0;
        for name in self.names()? {
            if is_unfinished(&name) {
                fs::remove_file(self.path.join(name))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Writes a recording that ends now; the oldest ones make room for it. Returns its path once it is on the disk.
    ///
    /// # Errors
    /// Those of the folder and of the file; then there is no file.
    pub fn write(&self, reason: &str, snapshot: &Snapshot) -> io::Result<PathBuf> {
        self.make_room(snapshot.size())?;
        let mut file = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .rand_bytes(RANDOM)
            .suffix(SUFFIX)
            .tempfile_in(&self.path)?;
        for part in snapshot.parts() {
            file.write_all(part)?;
        }
        file.as_file().sync_all()?;
        let path = self.path.join(name(reason, snapshot.until.unix_ns));
        file.persist_noclobber(&path).map_err(|error| error.error)?;
        // The name is on the disk only when the folder is.
        File::open(&self.path)?.sync_all()?;
        Ok(path)
    }

    fn make_room(&self, bytes: u64) -> io::Result<()> {
        if bytes > self.most_bytes {
            let why = format!("it has {bytes} bytes, more than all files together may");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        let mut files = vec![];
        for name in self.names()?.into_iter().filter(|name| is_recording(name)) {
            let about = fs::symlink_metadata(self.path.join(&name))?;
            if about.is_file() {
                files.push((name, about.len()));
            }
        }
        files.sort_unstable();
        let mut left = files.len();
        let mut all: u64 = files.iter().map(|(_, len)| len).sum();
        for (name, len) in files {
            if left < self.most_files && all.saturating_add(bytes) <= self.most_bytes {
                break;
            }
            fs::remove_file(self.path.join(name))?;
            (left, all) = (left - 1, all - len);
        }
        Ok(())
    }

    /// Names in the folder; those that are no text are not ours.
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = vec![];
        for entry in fs::read_dir(&self.path)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }
}

/// What a recording is called that ends then, in nanoseconds since 1970 UTC: names sort by time.
#[must_use]
pub fn name(reason: &str, unix_ns: u64) -> String {
    let time = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_nanos(unix_ns));
    let time = time.to_string().replace(['-', ':'], "");
    let plain = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
    let reason: String = reason.chars().take(REASON).map(plain).collect();
    format!("ctmon-{time}-{reason}.mcap")
}

/// Whether [`name`] may have made it.
fn is_recording(name: &str) -> bool {
    let parts = || {
        let name = name.strip_prefix("ctmon-")?.strip_suffix(".mcap")?;
        let (time, reason) = name.split_once('-')?;
        Some((time.strip_suffix('Z')?.split_once('T')?, reason))
    };
    parts().is_some_and(|((day, time), reason)| {
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        (day.len(), time.len()) == (8, 6)
            && digits(day)
            && digits(time)
            && reason.len() <= REASON
            && reason.chars().all(is_plain)
    })
}

fn is_unfinished(name: &str) -> bool {
    let random = name.strip_prefix(UNFINISHED).and_then(|name| name.strip_suffix(SUFFIX));
    random.is_some_and(|random| {
        random.len() == RANDOM && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
