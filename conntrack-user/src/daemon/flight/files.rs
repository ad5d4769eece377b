//! The files that the last minutes are written into: each there whole or not at all, and few.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
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
/// Digits of a number, at least.
const NUMBER_DIGITS: usize = 6;
/// Digits of a number, at most, and the number itself: more files than are ever written.
const MOST_DIGITS: usize = 15;
const MOST_NUMBER: u64 = 10_u64.pow(MOST_DIGITS as u32) - 1;
/// Readable for its owner alone: a recording has addresses of clients.
const MODE: u32 = 0o600;
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
            let path = self.path.join(&name);
            let is_own = |about: fs::Metadata| about.uid() == rustix::process::geteuid().as_raw();
            if is_unfinished(&name) && fs::symlink_metadata(&path).is_ok_and(is_own) {
                fs::remove_file(path)?;
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
        let number = self.next_number()?;
        self.make_room(snapshot.size())?;
        let mut file = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .rand_bytes(RANDOM)
            .suffix(SUFFIX)
            .tempfile_in(&self.path)?;
        // Whatever the umask took from it.
        file.as_file().set_permissions(Permissions::from_mode(MODE))?;
        for part in snapshot.parts() {
            file.write_all(part)?;
        }
        file.as_file().sync_all()?;
        let path = self.path.join(numbered(number, reason, snapshot.until.unix_ns));
        file.persist_noclobber(&path).map_err(|error| error.error)?;
        // The name is on the disk only when the folder is.
        File::open(&self.path)?.sync_all()?;
        Ok(path)
    }

    /// Files of this process's user that [`numbered`] has named, or [`name`] in earlier versions: their places in the
    /// order of writing, names and sizes. Whoever else may write the folder has no say in which file is the oldest.
    fn files(&self) -> io::Result<Vec<(Option<u64>, String, u64)>> {
        let own = rustix::process::geteuid().as_raw();
        let mut files = vec![];
        for name in self.names()? {
            let Some(order) = order(&name) else { continue };
            let about = match fs::symlink_metadata(self.path.join(&name)) {
                // It was removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                about => about?,
            };
            if about.is_file() && about.uid() == own {
                files.push((order, name, about.len()));
            }
        }
        Ok(files)
    }

    /// Number of the next file: above all there are, so that it is the newest also when the clock was set back.
    fn next_number(&self) -> io::Result<u64> {
        let numbers = self.files()?.into_iter().filter_map(|(order, ..)| order);
        Ok(numbers.max().map_or(1, |number| number.saturating_add(1).min(MOST_NUMBER)))
    }

    fn make_room(&self, bytes: u64) -> io::Result<()> {
        if bytes > self.most_bytes {
            let why = format!("it has {bytes} bytes, more than all files together may");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        let mut files = self.files()?;
        // In the order of writing, whatever the clock: files without a number are older than all with one.
        files.sort_unstable();
        let mut left = files.len();
        let mut all: u64 = files.iter().map(|(_, _, len)| len).sum();
        for (_, name, len) in files {
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

/// Name of a recording that ends then, in nanoseconds since 1970 UTC, and that is sent rather than written.
#[must_use]
pub fn name(reason: &str, unix_ns: u64) -> String {
    format!("ctmon-{}", time_and_reason(reason, unix_ns))
}

/// Name of a file: names sort in the order of writing.
fn numbered(number: u64, reason: &str, unix_ns: u64) -> String {
    format!("ctmon-{number:0NUMBER_DIGITS$}-{}", time_and_reason(reason, unix_ns))
}

fn time_and_reason(reason: &str, unix_ns: u64) -> String {
    let time = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_nanos(unix_ns));
    let time = time.to_string().replace(['-', ':'], "");
    let plain = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
    let reason: String = reason.chars().take(REASON).map(plain).collect();
    format!("{time}-{reason}.mcap")
}

/// Place in the order of writing of a file that [`numbered`] has named, or [`name`] in earlier versions, which gave no
/// numbers; none: it is another file.
fn order(name: &str) -> Option<Option<u64>> {
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let rest = name.strip_prefix("ctmon-")?.strip_suffix(".mcap")?;
    let (number, rest) = match rest.split_once('-')? {
        (number, rest)
            if (NUMBER_DIGITS..=MOST_DIGITS).contains(&number.len()) && is_number(number) =>
        {
            (Some(number.parse().ok()?), rest)
        }
        _ => (None, rest),
    };
    let (time, reason) = rest.split_once('-')?;
    let (day, time) = time.strip_suffix('Z')?.split_once('T')?;
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_ours = (day.len(), time.len()) == (8, 6)
        && is_number(day)
        && is_number(time)
        && reason.len() <= REASON
        && reason.chars().all(is_plain);
    is_ours.then_some(number)
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
