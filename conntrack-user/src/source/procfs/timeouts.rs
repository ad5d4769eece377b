//! The timeouts of a namespace's entries.

use std::{
    ffi::CString,
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::fs::OpenOptionsExt as _,
    },
    path::Path,
    time::{Duration, Instant},
};

use crate::forecast::snapshot::Timeouts;

/// More bytes than a number and the end of its line take.
const NUMBER_BYTES: u64 = 64;

/// Between two reads: they are set when a machine is set up, and 9 files are opened each time.
const READ_EVERY: Duration = Duration::from_secs(10);

/// The folder of a namespace's sysctls. What is opened through it belongs to the namespace that it was itself opened
/// in, from wherever that is done, and it does not keep the namespace alive. So one descriptor is enough.
#[derive(Debug)]
pub(super) struct Folder(File);

impl Folder {
    /// That of the namespace which this thread is in.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        OpenOptions::new().read(true).custom_flags(flags).open(path).map(Self)
    }

    /// One that was opened so.
    pub(super) const fn new(folder: File) -> Self {
        Self(folder)
    }

    /// The timeouts as they are now.
    fn read(&self) -> io::Result<Timeouts> {
        let mut seconds = [0; Timeouts::SYSCTLS.len()];
        for (seconds, name) in seconds.iter_mut().zip(Timeouts::SYSCTLS) {
            *seconds = self.number(name)?;
        }
        Ok(seconds.into())
    }

    fn number(&self, name: &str) -> io::Result<u32> {
        let path = CString::new(format!("nf_conntrack_{name}"))?;
        let flags = libc::O_RDONLY | libc::O_CLOEXEC;
        // SAFETY: the descriptor is open, and the path ends with a 0.
        let file = unsafe { libc::openat(self.0.as_raw_fd(), path.as_ptr(), flags) };
        if file < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it was just opened, and nobody else has it.
        let file = unsafe { File::from_raw_fd(file) };
        let mut text = String::new();
        file.take(NUMBER_BYTES).read_to_string(&mut text)?;
        super::parse_number(&text)
    }
}

impl From<Folder> for OwnedFd {
    fn from(folder: Folder) -> Self {
        folder.0.into()
    }
}

/// The timeouts of one namespace, told when they change.
#[derive(Debug)]
pub(super) struct Told {
    folder: Folder,
    told: Option<Timeouts>,
    due: Option<Instant>,
}

impl Told {
    /// Nothing has been told.
    pub(super) const fn new(folder: Folder) -> Self {
        Self { folder, told: None, due: None }
    }

    /// The timeouts, the first time and where they have changed; they are read again every 10 s at the most. `spread`
    /// is any number that tells namespaces apart: those that were found together are not read together for ever.
    pub(super) fn changed(&mut self, now: Instant, spread: u64) -> Option<Timeouts> {
        match self.due {
            Some(due) if now < due => return None,
            Some(_) => self.due = Some(now + READ_EVERY),
            None => self.due = Some(now + READ_EVERY.mul_f64((spread % 64 + 1) as f64 / 64.0)),
        }
        let timeouts = self.folder.read().ok().filter(|read| self.told != Some(*read))?;
        self.told = Some(timeouts);
        Some(timeouts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(seconds: u32) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in Timeouts::SYSCTLS {
            let file = folder.path().join(format!("nf_conntrack_{name}"));
            std::fs::write(file, format!("{seconds}\n")).unwrap();
        }
        folder
    }

    #[test]
    fn they_are_told_at_first_and_when_they_have_changed() {
        let files = folder(30);
        let mut told = Told::new(Folder::open(files.path()).unwrap());
        let begin = Instant::now();
        assert_eq!(told.changed(begin, 63), Some(Timeouts::from([30; 9])));
        let udp = files.path().join("nf_conntrack_udp_timeout");
        std::fs::write(udp, "5\n").unwrap();
        assert_eq!(told.changed(begin + READ_EVERY / 2, 63), None, "too soon");
        assert_eq!(told.changed(begin + READ_EVERY, 63).map(|changed| changed.udp), Some(5.0));
        assert_eq!(told.changed(begin + 2 * READ_EVERY, 63), None, "as before");
    }

    #[test]
    fn where_one_is_missing_none_is_told() {
        let files = folder(30);
        std::fs::remove_file(files.path().join("nf_conntrack_icmp_timeout")).unwrap();
        let mut told = Told::new(Folder::open(files.path()).unwrap());
        assert_eq!(told.changed(Instant::now(), 0), None);
    }
}
