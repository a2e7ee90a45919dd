//! The operator's settings of the platform's rules, and the places it works in.

use std::path::PathBuf;

use serde::Deserialize;

use crate::domain::Hostname;

/// Settings of `[platform]`, and what the daemon fills in.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Domains under which every app answers as `<app>.<domain>` until `domains:set-global` says
    /// otherwise. Default `["localhost"]`, which browsers and curl resolve to this machine.
    pub global_domains: Vec<Hostname>,
    /// The stack of new apps. Default `debian-13`.
    pub default_stack: String,
    /// Releases kept per app, for rollback; their images stay. Default 50.
    pub kept_releases: u32,
    /// Build records kept per app, with their output. Default 100.
    pub kept_builds: u32,
    /// Builds at once on this machine; the next ones wait. Default 2.
    pub concurrent_builds: usize,
    /// First host id of the ranges that apps' ids are mapped to, 65,536 for each app. Default
    /// 1879048192, the start of what systemd leaves unused (systemd.io/UIDS-GIDS).
    pub id_base: u32,
    /// Size at which an instance's log file is rotated, in bytes. Default 10 MiB.
    pub log_file_bytes: u64,
    /// Bytes of log files kept per app, the newest. Default 100 MiB.
    pub log_bytes_per_app: u64,
    /// Events kept, the newest. Default 50000.
    pub kept_events: u32,
    /// Days that events are kept. Default 365.
    pub kept_event_days: u32,
    /// Days that log lines of apps are kept, unless `logs:set` says otherwise. Default 30.
    pub log_days_per_app: u32,
    /// Authorities that drains' certificates are checked with, a PEM file. Default those of the
    /// machine.
    pub log_drain_ca_bundle: Option<PathBuf>,
    /// Mirror of Debian's packages for `stack:build`; the recipe's own if none.
    pub debian_mirror: Option<String>,
    /// Mirror of Debian's security updates; the recipe's own if none.
    pub debian_security_mirror: Option<String>,
    /// Directories of the host's below which apps may have what is there as volumes, as
    /// `["/srv/shared"]`. Only the operator decides what of the host an app sees. Default none.
    pub storage_host_dirs: Vec<PathBuf>,
    /// The most bytes that one backup of a service may have. Default 68719476736, 64 GiB.
    pub backup_bytes: u64,
    /// Seconds after which a session of the dashboard ends that is not used. Default 43200, 12 hours.
    pub session_idle_s: u64,
    /// Seconds after which a session of the dashboard ends. Default 1209600, 14 days.
    pub session_max_s: u64,
    /// The host name that `git remote add` lines show. Default `localhost`.
    pub public_host: String,
    /// Where everything is kept; the daemon's `--data-dir`.
    #[serde(skip)]
    pub data_dir: PathBuf,
    /// Where what a reboot clears is kept; the daemon's `--run-dir`.
    #[serde(skip)]
    pub run_dir: PathBuf,
    /// The SSH port that `git remote add` lines show.
    #[serde(skip)]
    pub ssh_port: u16,
    /// The user that `git remote add` lines show.
    #[serde(skip)]
    pub ssh_user: String,
    /// Where the web door is; none if it is off.
    #[serde(skip)]
    pub web_address: Option<std::net::SocketAddr>,
    /// Settings of builds, which instances share the certificate bundle with.
    #[serde(skip)]
    pub build: crate::build::Config,
}

impl Default for Config {
    fn default() -> Self {
        let localhost = "localhost".parse().expect("`localhost` is a host name");
        Self {
            global_domains: vec![localhost],
            default_stack: "debian-13".into(),
            kept_releases: 50,
            kept_builds: 100,
            concurrent_builds: 2,
            id_base: 1_879_048_192,
            log_file_bytes: 10 << 20,
            log_bytes_per_app: 100 << 20,
            kept_events: 50_000,
            kept_event_days: 365,
            log_days_per_app: 30,
            log_drain_ca_bundle: None,
            debian_mirror: None,
            debian_security_mirror: None,
            storage_host_dirs: Vec::new(),
            backup_bytes: 64 << 30,
            session_idle_s: 12 * 3600,
            session_max_s: 14 * 24 * 3600,
            public_host: "localhost".into(),
            data_dir: "/var/lib/staithe".into(),
            run_dir: "/run/staithe".into(),
            ssh_port: 2222,
            ssh_user: "staithe".into(),
            web_address: None,
            build: crate::build::Config::default(),
        }
    }
}
