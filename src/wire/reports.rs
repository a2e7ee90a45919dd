//! What verbs answer with.

use serde::{Deserialize, Serialize};

use crate::domain::{
    Actor, App, BuildId, CheckSettings, Command, EnvKey, Formation, Hostname, InstanceName,
    ProcessType, Release, ReleaseStatus, ReleaseVersion, ResourceSettings, Resources, Timestamp,
};

/// How an app stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AppStatus {
    /// No release yet.
    Created,
    /// A deploy is going on.
    Deploying,
    /// As many instances as wanted are ready.
    Running,
    /// Some wanted instances are missing.
    Degraded,
    /// Instances are wanted and none is ready.
    Crashed,
    /// Stopped by `ps:stop`, or scaled to zero.
    Stopped,
}

impl AppStatus {
    /// As it is written: `running`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Deploying => "deploying",
            Self::Running => "running",
            Self::Degraded => "degraded",
            Self::Crashed => "crashed",
            Self::Stopped => "stopped",
        }
    }
}

/// An app with how it stands.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AppReport {
    /// The app.
    #[serde(flatten)]
    pub app: App,
    /// How it stands.
    pub status: AppStatus,
    /// Where it answers.
    pub urls: Vec<String>,
    /// What to `git remote add`.
    pub git_remote: String,
    /// Its instances.
    pub instances: Vec<InstanceReport>,
}

/// How an instance stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InstanceStatus {
    /// Started, not ready yet.
    Starting,
    /// Ready.
    Running,
    /// Ended by itself; it is started again after a wait.
    Crashed,
    /// Replaced; finishing open requests.
    Retiring,
}

/// One instance.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct InstanceReport {
    /// `web.1`.
    pub name: InstanceName,
    /// How it stands.
    pub status: InstanceStatus,
    /// The release it runs.
    pub release: ReleaseVersion,
    /// The container's id.
    pub container: String,
    /// When its container was started.
    pub started_at: Timestamp,
    /// How often it was started again since it was first wanted.
    pub restarts: u32,
    /// How it last ended: `exit code 1`, `out of memory: used its 512m`.
    pub last_exit: Option<String>,
    /// Memory in use, bytes.
    pub memory_bytes: Option<u64>,
    /// Processor time used since the start, milliseconds.
    pub cpu_ms: Option<u64>,
    /// Time it waited because its processor quota was used up, milliseconds.
    pub throttled_ms: Option<u64>,
}

/// An app's process types (`ps:scale`, `ps:report`).
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ProcessReport {
    /// Declared process types with their wanted counts.
    pub scale: Vec<(ProcessType, u32)>,
    /// How the app stands.
    pub status: AppStatus,
    /// Its instances.
    pub instances: Vec<InstanceReport>,
}

/// An app's domains.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DomainReport {
    /// The domains that route to the app now.
    pub domains: Vec<Hostname>,
    /// Whether they are the app's own, or the default under the global domains.
    pub custom: bool,
    /// The platform's global domains.
    pub global: Vec<Hostname>,
}

/// An app's quotas.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ResourceReport {
    /// As set.
    pub settings: ResourceSettings,
    /// In force, by process type (declared types and `build`).
    pub effective: Vec<(ProcessType, Resources)>,
    /// In force for the app as a whole.
    pub effective_app: Resources,
}

/// An app's deploy checks.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CheckReport {
    /// The settings in force.
    pub settings: CheckSettings,
    /// The startup checks of the current release, by process type.
    pub checks: Vec<(ProcessType, Vec<crate::domain::Check>)>,
}

/// The result of one check of one instance.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CheckResult {
    /// The instance.
    pub instance: InstanceName,
    /// The check's name.
    pub check: String,
    /// Why it failed; none if it passed.
    pub failure: Option<String>,
}

/// A key that may push and run commands.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SshKey {
    /// What it is called.
    pub name: String,
    /// The user whose key it is.
    pub user: String,
    /// `SHA256:…` as OpenSSH prints it.
    pub fingerprint: String,
    /// The key in OpenSSH's one-line form, without comment.
    pub public_key: String,
    /// When it was added.
    pub added_at: Timestamp,
}

/// A stack: the base images of builds and instances.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct StackReport {
    /// `debian-13`.
    pub name: String,
    /// The run image's digest.
    pub run_image: String,
    /// The build image's digest.
    pub build_image: String,
    /// Size of the run image, bytes.
    pub run_bytes: u64,
    /// Size of the build image, bytes.
    pub build_bytes: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// Apps that use it.
    pub apps: Vec<crate::domain::AppName>,
}

/// What became of a push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum PushOutcome {
    /// The refs may move; `release` is none where nothing was to be deployed.
    Accepted {
        /// The release that serves now.
        release: Option<ReleaseVersion>,
    },
    /// The refs must stay; the reason was printed.
    Rejected {
        /// One sentence.
        reason: String,
    },
    /// It is still going on.
    Pending,
}

/// A release without the values of its config vars.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ReleaseReport {
    /// Its number.
    pub version: ReleaseVersion,
    /// How far it has come.
    pub status: ReleaseStatus,
    /// Why it failed.
    pub failure: Option<String>,
    /// One line for people.
    pub description: String,
    /// Who caused it.
    pub actor: Actor,
    /// When it was made.
    pub created_at: Timestamp,
    /// The image's manifest digest.
    pub image: String,
    /// The build that made the image.
    pub build: Option<BuildId>,
    /// The commit the image was built from.
    pub commit: Option<String>,
    /// What each process type runs.
    pub processes: std::collections::BTreeMap<ProcessType, Command>,
    /// The wanted instances.
    pub formation: Formation,
    /// The quotas in force.
    pub resources: ResourceSettings,
    /// The names of the config vars in force.
    pub config: Vec<EnvKey>,
}

impl From<Release> for ReleaseReport {
    fn from(release: Release) -> Self {
        Self {
            config: release.config.iter().map(|(key, _)| key.clone()).collect(),
            version: release.version,
            status: release.status,
            failure: release.failure,
            description: release.description,
            actor: release.actor,
            created_at: release.created_at,
            image: release.image,
            build: release.build,
            commit: release.commit,
            processes: release.processes,
            formation: release.formation,
            resources: release.resources,
        }
    }
}

/// What the server is.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct VersionReport {
    /// Staithe's version.
    pub version: String,
}

/// What `gc` did.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, schemars::JsonSchema)]
pub struct GarbageReport {
    /// Bytes freed on disk.
    pub freed_bytes: u64,
}
