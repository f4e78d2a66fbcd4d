//! What the process may do, set before it reads its first secret.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Turns core dumps off, since memory holds secrets, and allows as many descriptors as the system
/// lets us have, since each connection is one or two.
///
/// # Errors
/// What cannot be set; no reason not to start.
pub fn set_resource_limits() -> std::io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    let files = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: files.maximum,
        maximum: files.maximum,
    };
    Ok(setrlimit(Resource::Nofile, raised)?)
}
