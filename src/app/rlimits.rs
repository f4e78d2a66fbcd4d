//! Resource limits of the process (setrlimit(2)), set before the first secret is read.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Disables core dumps, since memory holds secrets, and raises the soft limit of open files to the hard
/// limit, since each request uses up to two descriptors.
///
/// # Errors
/// A limit could not be set. The gateway can run all the same.
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
