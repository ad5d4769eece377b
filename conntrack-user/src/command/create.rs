//! Files that a command writes: new ones, which their owner alone may read, since recordings and tables have addresses.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use anyhow::{Context as _, Error, Result, anyhow, bail};
use conntrack_user::text;
use tempfile::Builder;

/// Mode of a new file, whatever the umask.
const MODE: u32 = 0o600;

/// Opens a file to write to, which must be new unless `force`. Then a file is replaced by a new one: whoever has the old one
/// open, or its mode, does not read what is written. A pipe or a device is written into.
///
/// # Errors
/// The file is there already; with `force`, the path is a symbolic link, or the file cannot be replaced.
pub(super) fn open(path: &Path, force: bool) -> Result<File> {
    let cannot_write = || format!("cannot write {}", text::path(path));
    let found = match fs::symlink_metadata(path) {
        Ok(found) if force => found.file_type(),
        _ => return new(path),
    };
    if found.is_symlink() {
        bail!(
            "{} is a symbolic link, which --force does not follow: name the file itself",
            text::path(path)
        );
    }
    if found.is_file() {
        return replace(path).with_context(cannot_write);
    }
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(libc::O_NOFOLLOW);
    options.open(path).with_context(cannot_write)
}

fn new(path: &Path) -> Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path);
    let file = file.and_then(|file| {
        file.set_permissions(Permissions::from_mode(MODE))?;
        Ok(file)
    });
    file.map_err(|error| {
        let path = text::path(path);
        if error.kind() == io::ErrorKind::AlreadyExists {
            return anyhow!("{path} is there already; --force replaces it");
        }
        Error::new(error).context(format!("cannot write {path}"))
    })
}

/// Puts a new file into the place of another one.
fn replace(path: &Path) -> Result<File> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut builder = Builder::new();
    builder.prefix(".ctmon-").permissions(Permissions::from_mode(MODE));
    let file =
        builder.tempfile_in(folder.unwrap_or(Path::new("."))).context("no new file beside it")?;
    file.as_file().set_permissions(Permissions::from_mode(MODE))?;
    Ok(file.persist(path).map_err(|error| error.error)?)
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::fs::symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_file_is_new_and_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        open(&path, false).unwrap().write_all(b"one").unwrap();
        assert_eq!(mode(&path), MODE);
        let error = open(&path, false).unwrap_err().to_string();
        assert!(error.contains("is there already; --force"), "{error}");
        // Another process holds it open, from when it was readable.
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let reader = File::open(&path).unwrap();
        open(&path, true).unwrap().write_all(b"two and three").unwrap();
        assert_eq!(
            (mode(&path), fs::read(&path).unwrap().as_slice()),
            (MODE, &b"two and three"[..])
        );
        assert_eq!(io::read_to_string(reader).unwrap(), "one");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_is_not_followed_and_a_device_is_written_into() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "precious").unwrap();
        symlink(&file, &link).unwrap();
        for force in [false, true] {
            assert!(open(&link, force).is_err());
        }
        let error = open(&link, true).unwrap_err().to_string();
        assert!(error.ends_with("name the file itself"), "{error}");
        symlink(folder.path().join("nothing"), folder.path().join("dangling")).unwrap();
        assert!(open(&folder.path().join("dangling"), true).is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
        open(Path::new("/dev/null"), true).unwrap().write_all(b"x").unwrap();
    }
}
