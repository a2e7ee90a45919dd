//! The operator's settings for the SSH server.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use serde::Deserialize;

/// What the operator may set about SSH.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the built-in server listens; empty switches it off. Default `["[::]:2222"]`, which
    /// takes IPv4 too.
    pub listen: Vec<SocketAddr>,
    /// The user names that clients may log in with. Default `["staithe"]`; add `dokku` for
    /// remotes that were made for Dokku.
    pub users: Vec<String>,
    /// The most connections at a time. Default 200.
    pub max_connections: usize,
    /// The most connections at a time from one IPv4 address or IPv6 /64 network. Default 30.
    pub max_connections_per_address: usize,
    /// Failed signatures and wrong methods until the connection is closed. Keys that a client only
    /// offers do not count. Default 6.
    pub max_auth_attempts: usize,
    /// Seconds until a connection without login is closed. Default 30.
    pub login_grace_secs: u64,
    /// Seconds until a connection without session is closed. Default 300.
    pub idle_timeout_secs: u64,
    /// Seconds between signs of life sent to clients. Default 30.
    pub keepalive_secs: u64,
    /// Seconds that a command has to end after its client has gone, before it is killed.
    /// Default 5.
    pub hang_up_grace_secs: u64,
    /// Numeric user id of the account whose forced commands come from the system's sshd; see
    /// `docs/system-sshd.md`. Its processes may act for any key. Default none.
    pub system_uid: Option<u32>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 2222)],
            users: vec!["staithe".to_owned()],
            max_connections: 200,
            max_connections_per_address: 30,
            max_auth_attempts: 6,
            login_grace_secs: 30,
            idle_timeout_secs: 300,
            keepalive_secs: 30,
            hang_up_grace_secs: 5,
            system_uid: None,
        }
    }
}
