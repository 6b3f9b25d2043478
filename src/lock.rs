//! A mutex's lock, for short sections that leave nothing half done.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex that is never held across a panic that matters.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
