//! Descriptors that this process has inherited.

use std::{fs, io, os::fd::BorrowedFd};

use rustix::io::{Errno, FdFlags, fcntl_setfd};

/// The first one after standard input, output and error.
const FIRST: u32 = 3;
/// `CLOSE_RANGE_CLOEXEC` (include/uapi/linux/close_range.h), from 5.11 on
const CLOSE_ON_EXEC: u32 = 4;

/// Keeps all descriptors but standard input, output and error from programs that this process executes. They stay open:
/// settings may be in one (`--config /dev/fd/3`). Call it before there are other threads.
///
/// # Errors
/// Errors of procfs, on a kernel before 5.11.
pub fn keep_from_programs() -> io::Result<()> {
    // SAFETY: takes numbers only, and closes nothing.
    let marked = unsafe { libc::syscall(libc::SYS_close_range, FIRST, u32::MAX, CLOSE_ON_EXEC) };
    if marked == 0 { Ok(()) } else { one_by_one() }
}

/// Marks one descriptor after the other, where the kernel or a container's filter refuses close_range(2).
fn one_by_one() -> io::Result<()> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let number = entry?.file_name().to_string_lossy().parse::<i32>();
        let Some(number) = number.ok().filter(|number| number.cast_unsigned() >= FIRST) else {
            continue;
        };
        // SAFETY: it is open as long as the list is read; another thread that closes it makes this an error.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        match fcntl_setfd(descriptor, FdFlags::CLOEXEC) {
            Ok(()) | Err(Errno::BADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsRawFd as _, process::Command};

    use super::*;

    /// Reports whether a program that is started has `file`.
    fn is_inherited(file: &File) -> bool {
        let descriptor = format!("/proc/self/fd/{}", file.as_raw_fd());
        Command::new("readlink").arg(descriptor).output().unwrap().status.success()
    }

    #[test]
    fn a_program_inherits_no_descriptor() {
        for mark in [keep_from_programs, one_by_one] {
            let file = tempfile::tempfile().unwrap();
            fcntl_setfd(&file, FdFlags::empty()).unwrap();
            assert!(is_inherited(&file));
            mark().unwrap();
            assert!(!is_inherited(&file));
            assert!(file.metadata().is_ok(), "it is open");
        }
    }
}
