//! Services: databases and the like that a plugin describes and apps are linked to.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::invalid::text_serde;
use super::{AppId, Bytes, ConfigVars, EnvKey, Invalid, MilliCpus, PluginName, Secret, Timestamp};

/// As long as its host name, `staithe-<type>-<name>`, stays below DNS's 63 characters for most
/// types; Dokku has no limit of its own.
const MAX_NAME: usize = 48;

/// A service's name: letters, digits, `_` and `-`, starting with a letter or digit (Dokku's rule).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName(String);

impl ServiceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the database inside, in which Dokku replaces what SQL would have to quote.
    pub fn database(&self) -> String {
        self.0.replace('-', "_")
    }
}

impl FromStr for ServiceName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = |why: &str| Err(Invalid::new("service name", text, why));
        if text.is_empty() || text.len() > MAX_NAME {
            return invalid("must have 1 to 48 characters");
        }
        let allowed = |c: u8| c.is_ascii_alphanumeric() || b"_-".contains(&c);
        if !text.bytes().all(allowed) || !text.as_bytes()[0].is_ascii_alphanumeric() {
            return invalid(
                "may only contain letters, digits, hyphens and underscores and must start with a letter or digit",
            );
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_serde!(ServiceName, "^[A-Za-z0-9][A-Za-z0-9_-]*$", 48);

/// A service's number: picks its range of user ids and names its directories.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct ServiceId(pub u32);

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a service should be doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ServiceState {
    /// It serves.
    Running,
    /// It does not run, until `start`.
    Stopped,
    /// Its processes are frozen where they are, until `start`.
    Paused,
}

/// A port of the machine that leads to a port of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ExposedPort {
    /// On the machine.
    pub host: u16,
    /// Of the service.
    pub service: u16,
}

/// What may be changed of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct ServiceSettings {
    /// The most memory; the type's default if none.
    pub memory: Option<Bytes>,
    /// The most processor time; no limit if none.
    pub cpu: Option<MilliCpus>,
    /// The type's own settings, which its scripts see as `STAITHE_SET_<KEY>`.
    pub options: BTreeMap<String, String>,
    /// Ports of the machine that lead to it.
    pub exposed: Vec<ExposedPort>,
    /// How large its data may become, which the kernel enforces; no limit of its own if none.
    pub size: Option<Bytes>,
}

/// A service as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Service {
    /// Its number.
    pub id: ServiceId,
    /// Its type: the plugin that describes it.
    pub kind: PluginName,
    /// Its name, unique in its type.
    pub name: ServiceName,
    /// When it was created.
    pub created_at: Timestamp,
    /// What it should be doing.
    pub state: ServiceState,
    /// The manifest digest of the image it runs on; stays the same until it is told otherwise, so
    /// that a new major version of the server never meets old data by accident.
    pub image: String,
    /// The password of its user.
    pub password: Secret,
    /// Its address for life.
    pub v4: Ipv4Addr,
    /// Its address for life.
    pub v6: Ipv6Addr,
    /// What may be changed.
    pub settings: ServiceSettings,
    /// Made by the platform for its own use, shown to nobody, and gone at the next start.
    pub scratch: bool,
}

impl Service {
    /// The host name that apps know it by.
    pub fn host(&self) -> String {
        host_name(&self.kind, &self.name)
    }

    /// `postgres shop-db`, for messages.
    pub fn title(&self) -> String {
        format!("{} service `{}`", self.kind, self.name)
    }
}

/// `staithe-postgres-shop-db`: as Dokku's `dokku-postgres-shop-db`, a plain host name. Names that
/// differ in case, `-` and `_` alone have the same.
fn host_name(kind: &PluginName, name: &ServiceName) -> String {
    let text = format!("staithe-{kind}-{name}").to_ascii_lowercase().replace('_', "-");
    text.chars().take(63).collect::<String>().trim_end_matches('-').to_owned()
}

/// An app that may reach a service, and the config var that tells it where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ServiceLink {
    /// The service.
    pub service: ServiceId,
    /// The app.
    pub app: AppId,
    /// The var that the link set.
    pub variable: EnvKey,
    /// What follows the `?` of its address.
    pub query: Option<String>,
}

/// The colors of `DOKKU_POSTGRES_<COLOR>_URL`, in Dokku's order.
const COLORS: [&str; 16] = [
    "AQUA", "BLACK", "BLUE", "FUCHSIA", "GRAY", "GREEN", "LIME", "MAROON", "NAVY", "OLIVE",
    "PURPLE", "RED", "SILVER", "TEAL", "WHITE", "YELLOW",
];

/// `DATABASE` → `DATABASE_URL`.
///
/// # Errors
/// If that is no name of a config var.
pub fn url_variable(alias: &str) -> Result<EnvKey, Invalid> {
    let upper = alias.to_ascii_uppercase().replace('-', "_");
    format!("{upper}_URL").parse()
}

/// The first var of Dokku's color scheme that `config` does not have.
///
/// # Errors
/// If all are taken.
pub fn spare_variable(kind: &PluginName, config: &ConfigVars) -> Result<EnvKey, Invalid> {
    let kind = kind.as_str().to_ascii_uppercase().replace('-', "_");
    for color in COLORS {
        let key: EnvKey = format!("DOKKU_{kind}_{color}_URL").parse()?;
        if config.get(&key).is_none() {
            return Ok(key);
        }
    }
    Err(Invalid::new("link", &kind, "has no free color left: choose a name with `--alias`"))
}

/// The var that a link sets: the alias, or the type's own, or a colored one where that is taken.
///
/// # Errors
/// If the alias is taken or is no name.
pub fn link_variable(
    kind: &PluginName,
    default: &str,
    alias: Option<&str>,
    config: &ConfigVars,
) -> Result<EnvKey, Invalid> {
    match alias {
        Some(alias) => {
            let key = url_variable(alias)?;
            match config.get(&key) {
                None => Ok(key),
                Some(_) => Err(Invalid::new("alias", alias, format!("is taken: {key} is set"))),
            }
        }
        None => {
            let key = url_variable(default)?;
            match config.get(&key) {
                None => Ok(key),
                Some(_) => spare_variable(kind, config),
            }
        }
    }
}

/// The vars whose value is `url`, with or without a query.
pub fn variables_of(url: &str, config: &ConfigVars) -> Vec<EnvKey> {
    let is_url = |value: &str| {
        value.strip_prefix(url).is_some_and(|rest| rest.is_empty() || rest.starts_with('?'))
    };
    config.iter().filter(|(_, value)| is_url(value.expose())).map(|(key, _)| key.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(kind: &str, name: &str) -> Service {
        Service {
            id: ServiceId(1),
            kind: kind.parse().unwrap(),
            name: name.parse().unwrap(),
            created_at: Timestamp(0),
            state: ServiceState::Running,
            image: String::new(),
            password: Secret::new("pw"),
            v4: Ipv4Addr::LOCALHOST,
            v6: Ipv6Addr::LOCALHOST,
            settings: ServiceSettings::default(),
            scratch: false,
        }
    }

    fn config(vars: &[(&str, &str)]) -> ConfigVars {
        let mut config = ConfigVars::default();
        for (key, value) in vars {
            config.set(key.parse().unwrap(), Secret::new(*value)).unwrap();
        }
        config
    }

    #[test]
    fn names_follow_dokkus_rule() {
        for good in ["db", "Shop_DB-2", "0"] {
            assert_eq!(good.parse::<ServiceName>().unwrap().as_str(), good);
        }
        let long = "a".repeat(49);
        for bad in ["", "-a", "_a", "a.b", "a/b", "a b", "é", &long] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_service_is_known_by_a_plain_host_name() {
        assert_eq!(service("postgres", "Shop_DB-2").host(), "staithe-postgres-shop-db-2");
        let long = "a".repeat(48);
        assert!(service("postgres-with-extensions", &long).host().len() <= 63);
    }

    #[test]
    fn a_link_takes_the_first_free_variable() {
        let kind: PluginName = "postgres".parse().unwrap();
        let taken = config(&[("DATABASE_URL", "x"), ("DOKKU_POSTGRES_AQUA_URL", "y")]);
        let chosen = |alias, vars: &ConfigVars| {
            link_variable(&kind, "DATABASE", alias, vars).map(|key| key.to_string())
        };
        assert_eq!(chosen(None, &config(&[])).unwrap(), "DATABASE_URL");
        assert_eq!(chosen(None, &taken).unwrap(), "DOKKU_POSTGRES_BLACK_URL");
        assert_eq!(chosen(Some("blue-db"), &taken).unwrap(), "BLUE_DB_URL");
        assert_eq!(
            chosen(Some("DATABASE"), &taken).unwrap_err().to_string(),
            "alias `DATABASE` is taken: DATABASE_URL is set"
        );
        assert!(chosen(Some("a b"), &taken).is_err());
    }

    #[test]
    fn vars_of_a_service_are_told_by_their_value() {
        let vars = config(&[
            ("A_URL", "redis://h:1"),
            ("B_URL", "redis://h:1?x=1"),
            ("C_URL", "redis://h:12"),
        ]);
        let keys: Vec<_> =
            variables_of("redis://h:1", &vars).iter().map(ToString::to_string).collect();
        assert_eq!(keys, ["A_URL", "B_URL"]);
    }
}
