//! Readiness: when a started instance may get requests.

use serde::{Deserialize, Serialize};

use super::Millis;

/// How one check finds out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum CheckKind {
    /// `GET path` answers 2xx or 3xx, and its body holds `content` if given.
    Http {
        /// Path and query.
        path: String,
        /// Text that must occur in the first 64 KiB of the body.
        content: Option<String>,
        /// Extra request headers.
        headers: Vec<(String, String)>,
    },
    /// The port accepts a connection.
    Listening,
    /// The command exits with 0 inside the instance.
    Command {
        /// Program and arguments.
        args: Vec<String>,
    },
    /// The process has been up for this long.
    Uptime {
        /// How long.
        at_least: Millis,
    },
}

/// One startup check of a process type (`app.json` `healthchecks`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Check {
    /// Its name in output.
    pub name: String,
    /// How it finds out.
    #[serde(flatten)]
    pub kind: CheckKind,
    /// The port asked; the instance's `PORT` if none.
    pub port: Option<u16>,
    /// How long one try may take.
    pub timeout: Millis,
    /// How long to keep trying, from the start of the instance.
    pub deadline: Millis,
}

/// An app's settings around deploys (`checks:set`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CheckSettings {
    /// Off: new instances get requests as soon as they are started.
    pub enabled: bool,
    /// How long an instance may take to become ready.
    pub deadline: Millis,
    /// How long a process type without a port must stay up to count as started.
    pub uptime: Millis,
    /// How long open requests of the old release may go on after the switch.
    pub drain: Millis,
    /// How long a stopped process may take from SIGTERM to its end before SIGKILL.
    pub stop: Millis,
}

impl Default for CheckSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            deadline: Millis(60_000),
            uptime: Millis(1_000),
            drain: Millis(30_000),
            stop: Millis(30_000),
        }
    }
}
