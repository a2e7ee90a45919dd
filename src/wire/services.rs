//! Services: what is asked about them and answered.

use serde::{Deserialize, Serialize};

use super::BackupReport;
use crate::domain::{
    AppName, Bytes, EnvKey, ExposedPort, MilliCpus, PluginName, Service, ServiceName, Timestamp,
};

/// What a service is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ServiceStatus {
    /// Its container runs, and does not take clients yet.
    Starting,
    /// It serves.
    Running,
    /// It was asked to end.
    Stopping,
    /// It was stopped.
    Stopped,
    /// It is frozen.
    Paused,
    /// It ended by itself and will be started again.
    Crashed,
}

impl ServiceStatus {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
            Self::Crashed => "crashed",
        }
    }
}

/// `create`, and what `clone` may change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct NewService {
    /// Its name.
    pub name: ServiceName,
    /// The most memory; the type's default if none.
    pub memory: Option<Bytes>,
    /// The most processor time.
    pub cpu: Option<MilliCpus>,
    /// How large its data may become.
    pub size: Option<Bytes>,
    /// Its password; a random one if none.
    pub password: Option<crate::domain::Secret>,
}

/// `clone`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CloneService {
    /// The name of the copy.
    pub to: ServiceName,
}

/// `link`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LinkService {
    /// The app.
    pub app: AppName,
    /// `BLUE` for `BLUE_URL`.
    pub alias: Option<String>,
    /// What follows the `?` of the address.
    pub query: Option<String>,
    /// Whether the app goes on with the release it has.
    pub no_restart: bool,
}

/// `unlink`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct UnlinkService {
    /// Whether the app goes on with the release it has.
    pub no_restart: bool,
}

/// `expose`: none for ports of the platform's choice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct ExposeService {
    /// Ports of the machine, in the order of the service's own.
    pub ports: Vec<u16>,
}

/// `set`: no value goes back to the default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SetService {
    /// The setting.
    pub key: String,
    /// Its value.
    pub value: Option<String>,
}

/// An app that is linked to a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LinkReport {
    /// The type of the service.
    pub kind: PluginName,
    /// The service.
    pub service: ServiceName,
    /// The app.
    pub app: AppName,
    /// The config var that the link set.
    pub variable: EnvKey,
}

/// How a service stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ServiceReport {
    /// Its number.
    pub id: u32,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: PluginName,
    /// Its name.
    pub name: ServiceName,
    /// What it is doing.
    pub status: ServiceStatus,
    /// The version of its plugin.
    pub version: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// The address that apps are given, with its password.
    pub dsn: String,
    /// The name that apps know it by.
    pub host: String,
    /// Its address.
    pub internal_ip: std::net::Ipv4Addr,
    /// Its ports.
    pub ports: Vec<u16>,
    /// Ports of the machine that lead to it.
    pub exposed: Vec<ExposedPort>,
    /// Linked apps.
    pub links: Vec<LinkReport>,
    /// What it may use.
    pub memory_limit: Bytes,
    /// What it may use; no limit if none.
    pub cpu_limit: Option<MilliCpus>,
    /// What it uses, bytes.
    pub memory_bytes: Option<u64>,
    /// What its data may take; what the disk has if none.
    pub disk_limit: Option<Bytes>,
    /// What its data takes, bytes; known if there is a limit.
    pub disk_bytes: Option<u64>,
    /// Whether the limit is reached, or nearly so.
    pub disk_full: bool,
    /// Settings that were changed.
    pub settings: std::collections::BTreeMap<String, String>,
    /// Where its data is on the machine.
    pub data_dir: String,
    /// How often it was started again after it had ended by itself.
    pub restarts: u32,
    /// How it last ended.
    pub last_exit: Option<String>,
    /// The digest of its image.
    pub image: String,
    /// The newest backup that was restored and found equal.
    pub last_verified_backup: Option<BackupReport>,
}

impl ServiceReport {
    /// `postgres/shop`.
    pub fn path(service: &Service) -> String {
        format!("{}/{}", service.kind, service.name)
    }
}
