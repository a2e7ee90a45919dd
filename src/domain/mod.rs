//! The words of Staithe: nouns and the rules about them.
//!
//! **Invariant.** No I/O, no async, no clock: everything here is a value, and every rule a pure
//! function. Text that means something is parsed into a type at the edge (`FromStr`) and refused
//! there with a reason; after the edge no `String` carries a meaning.

pub mod access;
mod acme;
mod actor;
mod app;
mod backup;
mod build;
mod certificate;
mod check;
mod config;
mod credential;
mod cron;
mod drain;
mod event;
mod front;
mod hostname;
mod invalid;
mod log;
mod ocsp;
mod plugin;
mod ports;
mod process;
mod proxy_settings;
mod release;
mod resources;
mod route_change;
mod schedule;
mod service;
mod ssh_key;
mod stage;
mod time;
mod token;
mod user;
mod volume;

pub use acme::{AcmeFailure, AcmeProgress, AcmeSettings, ChallengeKind, renew_at};
pub use actor::Actor;
pub use app::{App, AppId, AppName, BranchName, RunState};
pub use backup::{
    BACKUP_SETTINGS, Backup, BackupCause, BackupId, BackupPlace, BackupSettings, BackupState,
    Retention,
};
pub use build::{Build, BuildId, BuildStatus};
pub use certificate::{CertificateFacts, CertificateSource};
pub use check::{Check, CheckKind, CheckSettings};
pub use config::{ConfigVars, EnvKey, Secret};
pub use credential::Credential;
pub use cron::{
    ConcurrencyPolicy, CronOutcome, CronRun, CronSettings, CronTask, CronTaskId, CronTrigger,
};
pub use drain::{DrainHost, DrainScheme, DrainUrl, LogAge, LogDrain, LogSettings};
pub use event::{Event, EventFilter};
pub use front::{
    AccessLogFormat, CertificateId, FrontSettings, IpRange, PageId, PageOccasion, PathPrefix,
    PathRoute, RouteAddress, Scheme, UpstreamProtocol,
};
pub use hostname::Hostname;
pub use invalid::Invalid;
pub use log::{LogCursor, LogLevel, LogLine, LogSource, LogSources, LogStream, LogTime};
pub use ocsp::{OcspProgress, OcspSpan, OcspStatus};
pub use plugin::{PluginName, RESERVED_NOUNS};
pub use ports::{PortMap, PortMapping, PortScheme, PortSelector};
pub use process::{Formation, InstanceName, ProcessType};
pub use proxy_settings::{ProxyKey, ProxySettings, UNLIMITED};
pub use release::{Command, Release, ReleaseStatus, ReleaseVersion};
pub use resources::{Bytes, MilliCpus, ResourceSettings, Resources};
pub use route_change::{MAX_CREDENTIALS, RouteChange};
pub use schedule::Schedule;
pub use service::{
    ExposedPort, Service, ServiceId, ServiceLink, ServiceName, ServiceSettings, ServiceState,
    link_variable, spare_variable, url_variable, variables_of,
};
pub use ssh_key::SshPublicKey;
pub use stage::{BuildStage, BuildStages, Stage, StageStatus};
pub use time::{Millis, Timestamp};
pub use token::{Token, TokenId};
pub use user::UserName;
pub use volume::{
    ContainerDir, DirectoryMode, HostDir, MAX_VOLUME, MIN_VOLUME, MountSource, Volume, VolumeId,
    VolumeMount, VolumeMounts, VolumeName,
};
