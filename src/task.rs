//! Tasks that are spawned now and then.

use std::future::Future;
use std::pin::Pin;

/// A future whose type tells nothing but its output.
pub(crate) type BoxedTask<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Boxes a future that is about to be spawned. Tokio's part of a task is compiled for each type of future that is
/// spawned, and for each of its two schedulers; boxed ones share it. What the listeners of callers spawn
/// for each connection or stream is not boxed.
pub(crate) fn boxed<T>(task: impl Future<Output = T> + Send + 'static) -> BoxedTask<T> {
    Box::pin(task)
}
