//! The operator's settings of certificates.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::ocsp::Responders;
use crate::domain::ChallengeKind;

/// Let's Encrypt's directory (RFC 8555 §7.1.1).
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// `[certificates]` in the operator's file. Every field has a default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The address that the certificate authority writes to. Certificates are issued by themselves
    /// once there is one, here or by `letsencrypt:set --global email`: setting it agrees to the
    /// authority's terms of service. Default none.
    pub email: Option<String>,
    /// The authority's ACME directory. Default Let's Encrypt,
    /// `https://acme-v02.api.letsencrypt.org/directory`.
    pub directory_url: String,
    /// A PEM file with the authorities that sign the directory's own TLS certificate, for an
    /// authority of one's own. Default none: those that this machine trusts.
    pub ca_bundle: Option<PathBuf>,
    /// How names are shown to be ours: `http-01`, `tls-alpn-01` or `dns-01`. Wildcards always take
    /// `dns-01`. Default `http-01`.
    pub challenge: ChallengeKind,
    /// A program that sets and removes DNS records: it is called as `<program> present|cleanup
    /// <record name> <value>` and ends with 0 once the record is served. Default none.
    pub dns_hook: Option<PathBuf>,
    /// The user and group that the program runs as. Default those of nobody, 65534:65534.
    pub dns_hook_user: HookUser,
    /// Seconds that one call of the program may take. Default 120.
    pub dns_hook_timeout_s: u64,
    /// Days before its end at which a certificate is renewed; never more than half of its lifetime.
    /// Default 0: when a third of its lifetime is left.
    pub renew_before_days: u32,
    /// Whether names are looked up and fetched before the authority is asked. Turn it off where
    /// this machine cannot reach its own public address. Default true.
    pub preflight: bool,
    /// DNS servers that names are looked up with beforehand. Default `[]`: those of this machine.
    pub resolvers: Vec<SocketAddr>,
    /// The port that the authority connects to for `http-01`. Default 80, which public ones take.
    pub http_port: u16,
    /// The most orders at a time. Default 2.
    pub max_orders: usize,
    /// Whether authorities are asked to vouch for certificates (OCSP stapling): `off`; `public`,
    /// those at public addresses and port 80; `any`, also those in networks of one's own, which
    /// owners of apps can then have this machine connect to. Default `public`.
    pub ocsp: Responders,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            email: None,
            directory_url: LETS_ENCRYPT.into(),
            ca_bundle: None,
            challenge: ChallengeKind::Http01,
            dns_hook: None,
            dns_hook_user: HookUser { uid: 65_534, gid: 65_534 },
            dns_hook_timeout_s: 120,
            renew_before_days: 0,
            preflight: true,
            resolvers: Vec::new(),
            http_port: 80,
            max_orders: 2,
            ocsp: Responders::Public,
        }
    }
}

impl Config {
    pub(super) fn hook_timeout(&self) -> Duration {
        Duration::from_secs(self.dns_hook_timeout_s)
    }
}

/// Numeric ids that the DNS program runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookUser {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}
