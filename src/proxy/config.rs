//! The operator's settings of the proxy, and the arguments of its process.

use std::ffi::OsString;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::domain::{Bytes, Millis};

use super::ExtraListener;

/// `[proxy]` in the operator's file. Every field has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Addresses for plain HTTP. `[::]:80`, the default, takes IPv4 too; port 0 picks a free port.
    pub http_listen: Vec<SocketAddr>,
    /// Addresses for HTTP over TLS. Default `[::]:443`; empty for none.
    pub https_listen: Vec<SocketAddr>,
    /// The user and group the process becomes once its ports are bound; they need no entry in
    /// `/etc/passwd`. Default 32767:32767.
    pub user: User,
    /// Threads, each with its own listener and upstream connections. Default 0: one for each
    /// processor.
    pub threads: usize,
    /// Client connections at once, over all threads. Default 0: half of the open-file limit.
    pub max_connections: usize,
    /// From a connection's or a request's first byte to the end of its head. Default 30 s.
    pub request_head_timeout_ms: Millis,
    /// How long a client's connection may wait for its next request. Default 75 s.
    pub client_idle_timeout_ms: Millis,
    /// To connect to an instance. Default 5 s.
    pub connect_timeout_ms: Millis,
    /// From the end of the request to the head of the app's answer. Default 60 s.
    pub response_head_timeout_ms: Millis,
    /// The longest pause inside the body of a request, and of an answer that has announced its
    /// length. Default 60 s.
    pub body_idle_timeout_ms: Millis,
    /// The longest silence on an upgraded connection (WebSocket), and inside an answer without a
    /// length (server-sent events). Default 1 h.
    pub tunnel_idle_timeout_ms: Millis,
    /// How long an idle connection to an instance is kept. Default 30 s.
    pub upstream_idle_timeout_ms: Millis,
    /// Idle connections kept to one instance, for each thread. Default 64.
    pub upstream_idle_connections: usize,
    /// How long requests in flight may take when the process is told to end. Default 10 s.
    pub shutdown_timeout_ms: Millis,
    /// How long a process that was replaced (`proxy:upgrade`) may serve what was open then, upgraded
    /// connections above all. Default 1 h.
    pub upgrade_drain_timeout_ms: Millis,
    /// Whether requests are logged: to `proxy/access/<app>.log` in the data directory, those that no
    /// app has to `proxy/access.log`. Default true.
    pub access_log: bool,
    /// Size at which an access log is rotated; each app has its own. Default 16 MiB.
    pub access_log_max_bytes: Bytes,
    /// Rotated access logs kept of each app. Default 4.
    pub access_log_files: u32,
}

/// Numeric ids of the proxy's user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Default for Config {
    fn default() -> Self {
        let seconds = |count: u64| Millis(count * 1000);
        Self {
            http_listen: vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, 80))],
            https_listen: vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, 443))],
            user: User { uid: 32767, gid: 32767 },
            threads: 0,
            max_connections: 0,
            request_head_timeout_ms: seconds(30),
            client_idle_timeout_ms: seconds(75),
            connect_timeout_ms: seconds(5),
            response_head_timeout_ms: seconds(60),
            body_idle_timeout_ms: seconds(60),
            tunnel_idle_timeout_ms: seconds(3600),
            upstream_idle_timeout_ms: seconds(30),
            upstream_idle_connections: 64,
            shutdown_timeout_ms: seconds(10),
            upgrade_drain_timeout_ms: seconds(3600),
            access_log: true,
            access_log_max_bytes: Bytes(16 * 1024 * 1024),
            access_log_files: 4,
        }
    }
}

/// How the process logs: `[log]` of the operator's file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSettings {
    /// What, in the syntax of `tracing_subscriber::EnvFilter`; empty: `info`.
    pub filter: String,
    /// Whether as JSON rather than as text.
    pub json: bool,
}

/// What `staithe proxy` is started with: `--run-dir`, `--data-dir` and `--start`, everything else
/// as JSON, which comes from the control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyArgs {
    /// Holds the process's sockets.
    pub run_dir: PathBuf,
    /// `proxy/` in it holds `routes.json` and the logs.
    pub data_dir: PathBuf,
    /// The rest.
    pub start: Start,
}

/// How a process begins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Start {
    /// The settings.
    pub config: Config,
    /// How it logs.
    pub log: LogSettings,
    /// Ports beyond those of the settings. `None`: those of the route table that was kept.
    pub listeners: Option<Vec<ExtraListener>>,
    /// The process whose place it takes.
    pub take_over: Option<u32>,
    /// How long that one may serve what is open. `None`: as the settings say.
    pub drain_ms: Option<Millis>,
    /// What the control plane compares to know whether a process is as it would start it.
    pub fingerprint: String,
}

/// Why arguments are not those of a proxy.
#[derive(Debug, thiserror::Error)]
pub enum ArgsError {
    /// One that is not known.
    #[error("unknown argument `{}`; expected --run-dir, --data-dir, --start", .0.display())]
    Unknown(OsString),
    /// One without its value, or that is missing altogether.
    #[error("`{0}` needs a value")]
    Missing(&'static str),
    /// A start that is none.
    #[error("read --start")]
    Start {
        /// What is wrong.
        source: serde_json::Error,
    },
}

impl ProxyArgs {
    /// The arguments that [`ProxyArgs::from_arguments`] reads.
    pub fn to_arguments(&self) -> Vec<OsString> {
        // A struct of numbers, texts and lists, which always has a JSON form.
        let start = serde_json::to_string(&self.start).unwrap_or_default();
        vec![
            "--run-dir".into(),
            self.run_dir.clone().into(),
            "--data-dir".into(),
            self.data_dir.clone().into(),
            "--start".into(),
            start.into(),
        ]
    }

    /// Reads the arguments after `proxy`. Without `--start`, the defaults.
    ///
    /// # Errors
    /// The first argument that is wrong.
    pub fn from_arguments(
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Self, ArgsError> {
        let (mut run_dir, mut data_dir, mut start) = (None, None, Start::default());
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = |name| arguments.next().ok_or(ArgsError::Missing(name));
            match argument.to_str() {
                Some("--run-dir") => run_dir = Some(value("--run-dir")?.into()),
                Some("--data-dir") => data_dir = Some(value("--data-dir")?.into()),
                Some("--start") => {
                    let json = value("--start")?;
                    start = serde_json::from_slice(json.as_encoded_bytes())
                        .map_err(|source| ArgsError::Start { source })?;
                }
                _ => return Err(ArgsError::Unknown(argument)),
            }
        }
        Ok(Self {
            run_dir: run_dir.ok_or(ArgsError::Missing("--run-dir"))?,
            data_dir: data_dir.ok_or(ArgsError::Missing("--data-dir"))?,
            start,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_come_back_as_they_were_given() {
        let config = Config { threads: 3, access_log: false, ..Config::default() };
        let start = Start { config, take_over: Some(7), ..Start::default() };
        let args = ProxyArgs { run_dir: "/run/x y".into(), data_dir: "/var/lib/x".into(), start };
        assert_eq!(ProxyArgs::from_arguments(args.to_arguments()).unwrap(), args);
    }

    #[test]
    fn wrong_arguments_are_named() {
        let error = |arguments: &[&str]| {
            let arguments = arguments.iter().map(OsString::from);
            ProxyArgs::from_arguments(arguments).unwrap_err().to_string()
        };
        assert_eq!(error(&["--run-dir", "/run"]), "`--data-dir` needs a value");
        assert!(error(&["--port"]).starts_with("unknown argument `--port`"));
        let unknown =
            ["--run-dir", "/r", "--data-dir", "/d", "--start", r#"{"config":{"treads":1}}"#];
        assert_eq!(error(&unknown), "read --start");
    }
}
