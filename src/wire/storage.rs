//! What is said about volumes.

use serde::{Deserialize, Serialize};

use crate::domain::{
    AppName, Bytes, ContainerDir, DirectoryMode, HostDir, MountSource, Volume, VolumeMount,
    VolumeName,
};

/// `POST /volumes`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeRequest {
    /// Its name.
    pub name: VolumeName,
    /// The most that fits in; none: what the disk has.
    #[serde(default)]
    pub size: Option<Bytes>,
    /// Permission bits of its root; none: 0755.
    #[serde(default)]
    pub mode: Option<DirectoryMode>,
    /// The directory of the host's that it stands for; none: one of its own.
    #[serde(default)]
    pub host_dir: Option<HostDir>,
}

/// `PATCH /volumes/{id}`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeResize {
    /// Its new size.
    pub size: Bytes,
}

/// A volume and who has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct VolumeReport {
    /// The volume.
    #[serde(flatten)]
    pub volume: Volume,
    /// The service that it belongs to, as `postgres orders`.
    pub service: Option<String>,
    /// The apps that mount it.
    pub apps: Vec<VolumeUse>,
    /// Bytes that its files take; known of those with a size.
    pub used_bytes: Option<u64>,
}

/// A place of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct VolumeUse {
    /// The app.
    pub app: AppName,
    /// Where inside.
    pub container_dir: ContainerDir,
    /// Whether writing is refused.
    pub read_only: bool,
}

/// An app's mounts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct StorageReport {
    /// Those of its next release.
    pub mounts: Vec<VolumeMount>,
    /// Those of the release that serves; none before the first deploy.
    pub deployed: Option<Vec<VolumeMount>>,
}

/// `POST /apps/{app}/mounts`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MountRequest {
    /// The mount.
    pub mount: VolumeMount,
    /// Leaves what runs as it is; the next release has it.
    #[serde(default)]
    pub no_restart: bool,
}

/// `DELETE /apps/{app}/mounts`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnmountRequest {
    /// What.
    pub source: MountSource,
    /// Only at this place; none: wherever the app has it.
    #[serde(default)]
    pub container_dir: Option<ContainerDir>,
    /// Leaves what runs as it is.
    #[serde(default)]
    pub no_restart: bool,
}
