//! The operator's file: composes each module's `Config`, and reports all problems at once.
//!
//! Every setting has a default, so an absent file is a valid one. `--set section.key=value` on the
//! command line outranks the file.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::{api, build, certificate, git, image, network, platform, proxy, series, ssh, web};

/// Where the operator's file is unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/staithe/staithe.toml";

/// All settings.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The machine-wide ones.
    pub server: Server,
    /// Logging of the daemon.
    pub log: Log,
    /// The control socket.
    pub api: api::Config,
    /// The web door.
    pub web: web::Config,
    /// The SSH server.
    pub ssh: ssh::Config,
    /// Repositories.
    pub git: git::Config,
    /// The proxy.
    pub proxy: proxy::Config,
    /// Certificates.
    pub certificates: certificate::Config,
    /// Links and firewall.
    pub network: network::Config,
    /// Builds.
    pub build: build::Config,
    /// The image store.
    pub images: image::Config,
    /// The platform's rules.
    pub platform: platform::Config,
    /// Figures over time.
    pub metrics: series::Config,
}

/// Settings of `[server]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Names this instance's cgroups; must differ between instances on one machine, as must
    /// `network.prefix` and the pools. Default `staithe`.
    pub instance: String,
    /// Where everything is kept. Default `/var/lib/staithe`.
    pub data_dir: PathBuf,
    /// Where what a reboot clears is kept. Default `/run/staithe`.
    pub run_dir: PathBuf,
    /// Seconds that open requests and operations may take when the daemon is told to end.
    /// Default 10.
    pub shutdown_timeout_s: u64,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            instance: "staithe".into(),
            data_dir: "/var/lib/staithe".into(),
            run_dir: "/run/staithe".into(),
            shutdown_timeout_s: 10,
        }
    }
}

/// Settings of `[log]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// What is logged, in the syntax of `tracing_subscriber::EnvFilter`. Default `info`.
    pub filter: String,
    /// `text` or `json`. Default `text`.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info".into(), format: LogFormat::Text }
    }
}

impl Log {
    /// For the proxy's process, which is told by the control plane.
    pub fn of_proxy(settings: &proxy::LogSettings) -> Self {
        let format = if settings.json { LogFormat::Json } else { LogFormat::Text };
        match settings.filter.as_str() {
            "" => Self { format, ..Self::default() },
            filter => Self { filter: filter.to_owned(), format },
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text is not TOML.
    #[error("`{origin}` is not TOML: {message}")]
    Syntax {
        /// The file, or the option.
        origin: String,
        /// Where and why.
        message: String,
    },
    /// Settings that cannot be used, one line each.
    #[error("the configuration has {} problem(s):\n  {}", .0.len(), .0.join("\n  "))]
    Problems(Vec<String>),
}

impl Config {
    /// Reads the file at `path` and puts `settings` (`section.key=value`) over it. An absent file
    /// is an empty one unless `required`.
    ///
    /// # Errors
    /// All that is wrong, at once.
    pub fn load(path: &Path, required: bool, settings: &[String]) -> Result<Self, Error> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => {
                String::new()
            }
            Err(source) => return Err(Error::Read { path: path.into(), source }),
        };
        Self::parse(&text, &path.display().to_string(), settings)
    }

    fn parse(text: &str, origin: &str, settings: &[String]) -> Result<Self, Error> {
        let syntax = |message: String| Error::Syntax { origin: origin.to_owned(), message };
        let mut table: Table =
            text.parse().map_err(|error: toml::de::Error| syntax(error.to_string()))?;
        for setting in settings {
            override_setting(&mut table, setting)?;
        }
        let mut problems = Vec::new();
        let mut config = Self {
            server: section(&mut table, "server", &mut problems),
            log: section(&mut table, "log", &mut problems),
            api: section(&mut table, "api", &mut problems),
            web: section(&mut table, "web", &mut problems),
            ssh: section(&mut table, "ssh", &mut problems),
            git: section(&mut table, "git", &mut problems),
            proxy: section(&mut table, "proxy", &mut problems),
            certificates: section(&mut table, "certificates", &mut problems),
            network: section(&mut table, "network", &mut problems),
            build: section(&mut table, "build", &mut problems),
            images: section(&mut table, "images", &mut problems),
            platform: section(&mut table, "platform", &mut problems),
            metrics: section(&mut table, "metrics", &mut problems),
        };
        problems.extend(table.keys().map(|name| format!("{name}: there is no such section")));
        if !problems.is_empty() {
            return Err(Error::Problems(problems));
        }
        config.fill_in();
        Ok(config)
    }

    /// What one section says and another must know.
    fn fill_in(&mut self) {
        self.platform.data_dir = self.server.data_dir.clone();
        self.platform.run_dir = self.server.run_dir.clone();
        self.platform.build = self.build.clone();
        self.platform.ssh_user =
            self.ssh.users.first().cloned().unwrap_or_else(|| "staithe".into());
        self.platform.ssh_port = self.ssh.listen.first().map_or(22, std::net::SocketAddr::port);
    }

    /// The socket that commands and hooks connect to.
    pub fn control_socket(&self) -> PathBuf {
        self.server.run_dir.join("control.sock")
    }
}

/// Takes a section out of the table. Each of its keys is tried alone first, so that every problem
/// is found and named, not only the first.
fn section<T: DeserializeOwned + Default>(
    table: &mut Table,
    name: &str,
    problems: &mut Vec<String>,
) -> T {
    let values = match table.remove(name) {
        None => return T::default(),
        Some(Value::Table(values)) => values,
        Some(_) => {
            problems.push(format!("{name}: must be a section, `[{name}]`"));
            return T::default();
        }
    };
    let before = problems.len();
    for (key, value) in &values {
        let alone = Table::from_iter([(key.clone(), value.clone())]);
        if let Err(error) = alone.try_into::<T>() {
            let why = error.message().replace('\n', " ");
            problems.push(format!("{name}.{key}: {why}"));
        }
    }
    if problems.len() > before {
        return T::default();
    }
    values.try_into().unwrap_or_else(|error| {
        problems.push(format!("{name}: {}", error.message()));
        T::default()
    })
}

/// Puts `section.key=value` into the table; the value is TOML, or else taken as text.
fn override_setting(table: &mut Table, setting: &str) -> Result<(), Error> {
    let malformed = || Error::Syntax {
        origin: format!("--set {setting}"),
        message: "must look like `section.key=value`".into(),
    };
    let (path, value) = setting.split_once('=').ok_or_else(malformed)?;
    let (section, key) = path.split_once('.').ok_or_else(malformed)?;
    let value = match format!("value = {value}").parse::<Table>() {
        Ok(mut parsed) => parsed.remove("value").ok_or_else(malformed)?,
        Err(_) => Value::String(value.to_owned()),
    };
    let section = table.entry(section.to_owned()).or_insert_with(|| Value::Table(Table::new()));
    section.as_table_mut().ok_or_else(malformed)?.insert(key.to_owned(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_a_valid_one() {
        let config = Config::parse("", "test", &[]).unwrap();
        assert_eq!(config.control_socket(), Path::new("/run/staithe/control.sock"));
        assert_eq!(config.platform.ssh_port, 2222);
    }

    #[test]
    fn all_problems_are_reported_at_once_with_their_place() {
        let text =
            "[server]\nshutdown_timeout_s = 'x'\ncolour = 1\n[git]\nowner_uid = -1\n[nope]\n";
        let error = Config::parse(text, "test", &[]).unwrap_err().to_string();
        for place in
            ["4 problem", "server.shutdown_timeout_s:", "server.colour:", "git.owner_uid:", "nope:"]
        {
            assert!(error.contains(place), "{place} is missing in: {error}");
        }
    }

    #[test]
    fn settings_on_the_command_line_outrank_the_file() {
        let settings = ["server.data_dir=/tmp/x".to_owned(), "platform.kept_releases=7".to_owned()];
        let config = Config::parse("[server]\ndata_dir = '/a'\n", "test", &settings).unwrap();
        assert_eq!(config.platform.data_dir, Path::new("/tmp/x"));
        assert_eq!(config.platform.kept_releases, 7);
        assert!(Config::parse("", "test", &["x".to_owned()]).is_err());
    }
}
