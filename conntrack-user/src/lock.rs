//! Locking where it does not matter that somebody panicked.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// For what each call changes at once: whoever panicked meanwhile has left it whole.
pub fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
