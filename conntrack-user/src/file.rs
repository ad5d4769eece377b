//! Files that are read whole: regular ones, and no more of them than a limit.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

/// Limit in bytes for files that people write: settings, certificates, keys.
pub const WRITTEN: u64 = 1 << 20;
/// Limit in bytes for files of procfs and sysfs, and for the configuration of a kernel.
pub const KERNEL: u64 = 32 << 20;
/// Limit in bytes for the types of a kernel (BTF): those of a large one take 10 MB.
pub const TYPES: u64 = 64 << 20;

/// Reads a regular file of at most `most` bytes. Neither a pipe nor a device keeps the caller waiting, and none takes memory
/// without end.
///
/// # Errors
/// Errors of the file system; the path is of something else, or of a larger file. The error does not name the path.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    // Opening a pipe would wait for whoever writes into it. The flag changes nothing for a regular file.
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        // A socket, which is not opened at all, or a device that is not there.
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {
            return Err(no_file("a socket or a device"));
        }
        opened => opened?,
    };
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(no_file(kind(&found)));
    }
    let mut bytes = Vec::with_capacity(found.len().min(most) as usize);
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let why = format!("it has more than {most} bytes, which is the limit: name another file");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(bytes)
}

/// Reads a regular file of UTF-8, as [`read`].
///
/// # Errors
/// Errors of [`read`]; the content is no UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    let text = String::from_utf8(read(path, most)?);
    text.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn no_file(kind: &str) -> io::Error {
    let why = format!("it is {kind}, no regular file: name a file");
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

fn kind(found: &fs::Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt as _;
    let kind = found.file_type();
    match () {
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a pipe",
        () => "a device",
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::CString, os::unix::ffi::OsStrExt as _, path::PathBuf};

    use super::*;

    #[test]
    fn a_file_is_read_up_to_the_limit_and_not_beyond() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for (bytes, is_read) in [(0, true), (9, true), (10, true), (11, false)] {
            fs::write(&path, vec![b'x'; bytes]).unwrap();
            assert_eq!(read(&path, 10).map(|read| read.len()).ok(), is_read.then_some(bytes));
        }
        let error = read_text(&path, 10).unwrap_err().to_string();
        assert_eq!(error, "it has more than 10 bytes, which is the limit: name another file");
        fs::write(&path, [0xff]).unwrap();
        assert!(read_text(&path, 10).unwrap_err().to_string().contains("utf-8"));
    }

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let name = CString::new(pipe.as_os_str().as_bytes()).unwrap();
        // SAFETY: the path ends with a 0 and is valid for the call.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        for (path, kind) in [
            (pipe.as_path(), "a pipe"),
            (folder.path(), "a folder"),
            (Path::new("/dev/zero"), "a device"),
        ] {
            let error = read(path, 10).unwrap_err().to_string();
            assert_eq!(error, format!("it is {kind}, no regular file: name a file"));
        }
    }

    /// Source files below `folder` that are part of the programs: not tests, not benchmarks.
    fn sources(folder: &Path, all: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = entry.file_name().unwrap().to_string_lossy().into_owned();
            let is_test = name == "tests.rs" || name.ends_with("_tests.rs");
            if entry.is_dir() && !["bench", "page_tests"].contains(&name.as_str()) {
                sources(&entry, all);
            } else if name.ends_with(".rs") && !is_test && name != "corpus.rs" {
                all.push(entry);
            }
        }
    }

    #[test]
    fn nothing_reads_a_file_without_a_limit() {
        let mut all = vec![];
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
        assert!(all.len() > 200, "{}", all.len());
        for path in all {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
            for (number, line) in code.lines().enumerate() {
                let wrong =
                    ["fs::read(", "fs::read_to_string("].iter().any(|call| line.contains(call));
                assert!(!wrong, "{}:{}: use file::read", path.display(), number + 1);
            }
        }
    }
}
