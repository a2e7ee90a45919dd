//! The operator's settings for builds, and the certificate bundle that builds and apps get.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

/// Settings of `[build]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// A directory of buildpacks (`<name>/buildpack.toml`, `order.toml`) to use instead of the
    /// bundled ones. Default: none.
    pub buildpacks_dir: Option<PathBuf>,
    /// The most seconds one detect step may take. Default: 60.
    pub detect_timeout_seconds: u64,
    /// The most seconds one buildpack may build. Default: 1800.
    pub build_timeout_seconds: u64,
    /// The most bytes of output kept and shown of one build; the rest is counted. Default: 4 MiB.
    pub max_log_bytes: u64,
    /// The most characters of one line of output. Default: 2000.
    pub max_line_chars: usize,
    /// The certificate bundle given to builds and apps. Default: the host's
    /// (`/etc/ssl/certs/ca-certificates.crt` or where other distributions keep it).
    pub ca_bundle: Option<PathBuf>,
    /// Refuse a language version that cannot be had, instead of taking the nearest with a warning.
    /// Default: false.
    pub strict_versions: bool,
    /// Variables that every build gets, such as `STAITHE_NPM_REGISTRY`, `PIP_INDEX_URL`,
    /// `UV_DEFAULT_INDEX`, `STAITHE_NODE_MIRROR`, `HTTPS_PROXY`. An app's config vars win.
    /// Default: none.
    pub environment: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            buildpacks_dir: None,
            detect_timeout_seconds: 60,
            build_timeout_seconds: 1800,
            max_log_bytes: 4 << 20,
            max_line_chars: 2000,
            ca_bundle: None,
            strict_versions: false,
            environment: BTreeMap::new(),
        }
    }
}

/// Where distributions keep the bundle: Debian, Fedora, Alpine and openSUSE.
const HOST_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

impl Config {
    pub(super) fn detect_timeout(&self) -> Duration {
        Duration::from_secs(self.detect_timeout_seconds)
    }

    pub(super) fn build_timeout(&self) -> Duration {
        Duration::from_secs(self.build_timeout_seconds)
    }

    /// The bundle on the host that is mounted read-only at [`CA_BUNDLE`] in builds and instances:
    /// without it nothing inside can speak TLS behind a company's intercepting proxy.
    pub fn host_ca_bundle(&self) -> Option<PathBuf> {
        match &self.ca_bundle {
            Some(path) => Some(path.clone()),
            None => HOST_BUNDLES.iter().map(Path::new).find(|p| p.is_file()).map(Path::to_owned),
        }
    }
}

/// Where the host's certificate bundle is mounted: over the stack's own, so that what reads the
/// system's default needs no variable.
pub const CA_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Variables for the programs that carry their own certificates and must be told of [`CA_BUNDLE`].
const CA_VARIABLES: [&str; 9] = [
    "SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "DENO_CERT",
    "YARN_HTTPS_CA_FILE_PATH",
];

/// The environment that goes with the mounted bundle, for builds and for instances.
pub fn ca_environment() -> Vec<(String, String)> {
    CA_VARIABLES.iter().map(|name| ((*name).to_owned(), CA_BUNDLE.to_owned())).collect()
}
