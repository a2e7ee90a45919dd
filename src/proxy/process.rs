//! The process: binds, drops its privileges, runs the cores.

use super::{Error, ProxyArgs};

/// Runs the proxy until SIGTERM, SIGINT or a `stop` over the seam; call it before any thread
/// exists. Logs through `tracing`, which the caller has set up.
///
/// # Errors
/// What kept it from starting.
pub fn main(args: &ProxyArgs) -> Result<(), Error> {
    let _ = args;
    unimplemented!()
}
