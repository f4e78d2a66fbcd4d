//! What the process may do, set before it reads its first secret.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Turns core dumps off, since memory holds secrets, and allows as many descriptors as the system
/// lets us have, since each connection is one or two. Neither is worth not starting for.
pub fn set_resource_limits() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "core dumps cannot be turned off");
    }
    let files = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: files.maximum,
        maximum: files.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the number of open files cannot be raised");
    }
}
