//! The route table as the control plane states it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::domain::{AppName, Hostname, ReleaseVersion};

/// Every route of the machine. Replaced as a whole; a higher version wins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTable {
    /// Grows with every change; a lower one than the version in force is refused.
    pub version: u64,
    /// One for each app.
    pub routes: Vec<Route>,
}

/// Where requests for some domains go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The app, for logs, counters and pages.
    pub app: AppName,
    /// Its domains: exact, `*.wildcard`, or `_`. The most exact match wins.
    pub domains: Vec<Hostname>,
    /// What answers.
    pub state: RouteState,
}

/// What stands behind a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RouteState {
    /// Instances that are ready.
    Live {
        /// The release they run, for the access log.
        release: ReleaseVersion,
        /// Their addresses, each a different one.
        upstreams: Vec<SocketAddr>,
    },
    /// Stopped by its owner (`ps:stop`, or scaled to nothing).
    Stopped,
    /// Every instance keeps crashing.
    Crashed {
        /// For the log; visitors do not see it.
        reason: String,
    },
    /// The first deploy is under way, or nothing was deployed yet.
    Deploying,
}
