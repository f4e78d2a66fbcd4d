//! A mutex that outlives a panic: the state of a stand-in is plain data, whole after every statement.

use std::sync::{MutexGuard, PoisonError};

#[derive(Debug, Default)]
pub(super) struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
