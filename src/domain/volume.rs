//! Volumes: directories that outlive containers, and where apps have them.

use std::fmt;
use std::path::{Component, Path};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::invalid::text_serde;
use super::{Bytes, Invalid, ProcessType, Timestamp};

/// The longest volume name; that of a service's volume holds two names.
const MAX_NAME: usize = 100;
/// The longest path inside of a container: far from PATH_MAX, and long enough.
const MAX_PATH: usize = 512;
/// The smallest volume that ext4 makes sense on.
pub const MIN_VOLUME: Bytes = Bytes(16 << 20);
/// Larger than the disks of one machine: it bounds what a typo does.
pub const MAX_VOLUME: Bytes = Bytes(64 << 40);

/// A volume's name: letters, digits, `_`, `-` and dots, starting with a letter or digit. Those with
/// a dot belong to services, as `postgres.orders`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VolumeName(String);

impl VolumeName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the volume of a service, which no user can give.
    ///
    /// # Errors
    /// If `kind` or `name` could not be part of one.
    pub fn of_service(kind: &str, name: &str) -> Result<Self, Invalid> {
        format!("{kind}.{name}").parse()
    }

    /// Whether it is one that a user may choose.
    pub fn is_free_to_choose(&self) -> bool {
        !self.0.contains('.')
    }
}

impl FromStr for VolumeName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || b"_-.".contains(&c);
        let good = (1..=MAX_NAME).contains(&text.len())
            && text.bytes().all(allowed)
            && text.as_bytes()[0].is_ascii_alphanumeric();
        match good {
            true => Ok(Self(text.to_owned())),
            false => Err(Invalid::new(
                "volume name",
                text,
                "must have 1 to 100 letters, digits, `_` or `-` and start with a letter or digit",
            )),
        }
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_serde!(VolumeName, "^[A-Za-z0-9][A-Za-z0-9_.-]*$", 100);

/// A volume's directory on the host: twelve hexadecimal digits, never used twice.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VolumeId(String);

impl VolumeId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VolumeId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        match text.len() == 12 && text.bytes().all(digit) {
            true => Ok(Self(text.to_owned())),
            false => Err(Invalid::new("volume id", text, "must be twelve hexadecimal digits")),
        }
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_serde!(VolumeId);

/// A volume as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Volume {
    /// Its directory.
    pub id: VolumeId,
    /// Its name.
    pub name: VolumeName,
    /// The most that fits in, kept by the kernel; none for as much as the disk has.
    pub size: Option<Bytes>,
    /// Permission bits of its root when it was made.
    pub mode: DirectoryMode,
    /// A directory of the host's that it stands for; none for one of its own.
    pub host_dir: Option<HostDir>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Permission bits of a directory, written in octal: `0755`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectoryMode(u32);

impl DirectoryMode {
    /// Its owner's alone.
    pub const PRIVATE: Self = Self(0o700);

    /// The bits.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl Default for DirectoryMode {
    fn default() -> Self {
        Self(0o755)
    }
}

impl FromStr for DirectoryMode {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let refused = || {
            Invalid::new("mode", text, "must be octal permission bits from 0700 to 0777, as `0755`")
        };
        let digits = text.len() <= 4 && text.bytes().all(|c| c.is_ascii_digit());
        match u32::from_str_radix(text, 8) {
            // Who owns it must be able to use it; set-id and sticky bits mean nothing here.
            Ok(bits) if bits & 0o700 == 0o700 && bits <= 0o777 && digits => Ok(Self(bits)),
            _ => Err(refused()),
        }
    }
}

impl fmt::Display for DirectoryMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

text_serde!(DirectoryMode);

/// An absolute path without `.`, `..` and doubled slashes; not `/` itself.
fn plain_path(what: &'static str, text: &str) -> Result<String, Invalid> {
    let invalid = |why: &str| Err(Invalid::new(what, text, why));
    if text.len() > MAX_PATH || text.chars().any(char::is_control) {
        return invalid("must have at most 512 characters and no control characters");
    }
    // Also said by whoever writes `/data/`.
    let trimmed = text.strip_suffix('/').unwrap_or(text);
    let path = Path::new(trimmed);
    let plain = path.is_absolute()
        && path.components().skip(1).all(|part| matches!(part, Component::Normal(_)))
        && path.components().collect::<std::path::PathBuf>().as_os_str() == trimmed;
    match plain && trimmed.len() > 1 {
        true => Ok(trimmed.to_owned()),
        false => invalid("must be an absolute path without `.` and `..`"),
    }
}

/// A directory of the host's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostDir(String);

impl HostDir {
    /// The path.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl FromStr for HostDir {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        // A colon parts it from the path inside, in Dokku's way of writing mounts.
        match text.contains(':') {
            true => Err(Invalid::new("host directory", text, "must not hold a colon")),
            false => plain_path("host directory", text).map(Self),
        }
    }
}

impl fmt::Display for HostDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_serde!(HostDir);

/// Where a volume is inside of a container.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerDir(String);

impl ContainerDir {
    /// The path.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }
}

/// What the platform mounts itself, or programs are run from: a volume there would break or take
/// over the container, not hold data.
const TAKEN: [&str; 13] = [
    "proc", "sys", "dev", "etc", "bin", "sbin", "lib", "lib64", "usr", "run", "boot", "cnb",
    "plugin",
];

impl FromStr for ContainerDir {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let path = plain_path("container directory", text)?;
        let first = path.split('/').nth(1).unwrap_or_default();
        if TAKEN.contains(&first) || path.contains(':') {
            let why =
                "must not be in a directory of the system's, and hold no colon; such as `/data`";
            return Err(Invalid::new("container directory", text, why));
        }
        Ok(Self(path))
    }
}

impl fmt::Display for ContainerDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_serde!(ContainerDir);

/// What is mounted: a volume by its name, or a directory of the host's by its path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MountSource {
    /// A volume.
    Volume(VolumeName),
    /// A directory that the operator allows.
    HostDir(HostDir),
}

impl FromStr for MountSource {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.starts_with('/') {
            true => Ok(Self::HostDir(text.parse()?)),
            false => Ok(Self::Volume(text.parse()?)),
        }
    }
}

impl fmt::Display for MountSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volume(name) => name.fmt(f),
            Self::HostDir(path) => path.fmt(f),
        }
    }
}

text_serde!(MountSource);

/// Where an app has a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct VolumeMount {
    /// What.
    pub source: MountSource,
    /// Where inside.
    pub container_dir: ContainerDir,
    /// Whether writing is refused.
    #[serde(default)]
    pub read_only: bool,
    /// The process types that have it; all, also one-offs, if none is named.
    #[serde(default)]
    pub process_types: Vec<ProcessType>,
}

impl VolumeMount {
    /// Whether containers of `process_type` (`run`, `cron`, `release` for one-offs) have it.
    pub fn applies_to(&self, process_type: &ProcessType) -> bool {
        self.process_types.is_empty() || self.process_types.contains(process_type)
    }
}

/// The most mounts of an app.
const MAX_MOUNTS: usize = 32;

/// An app's mounts: no two at one place, none inside of another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct VolumeMounts(Vec<VolumeMount>);

impl VolumeMounts {
    /// All, by place.
    pub fn iter(&self) -> impl Iterator<Item = &VolumeMount> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that containers of `process_type` have.
    pub fn of_type(&self, process_type: &ProcessType) -> impl Iterator<Item = &VolumeMount> {
        self.0.iter().filter(|mount| mount.applies_to(process_type))
    }

    /// Adds a mount.
    ///
    /// # Errors
    /// If its place is taken, holds or lies in another's, or there are too many.
    pub fn add(&mut self, mount: VolumeMount) -> Result<(), Invalid> {
        let place = mount.container_dir.to_string();
        let collides = |other: &VolumeMount| {
            let other = other.container_dir.as_path();
            let place = mount.container_dir.as_path();
            other.starts_with(place) || place.starts_with(other)
        };
        if let Some(other) = self.0.iter().find(|other| collides(other)) {
            let why = format!("is taken: `{}` is at `{}`", other.source, other.container_dir);
            return Err(Invalid::new("container directory", &place, why));
        }
        if self.0.len() >= MAX_MOUNTS {
            let why = format!("is one too many: an app can have {MAX_MOUNTS} mounts");
            return Err(Invalid::new("mount", &place, why));
        }
        self.0.push(mount);
        self.0.sort_by(|a, b| a.container_dir.cmp(&b.container_dir));
        Ok(())
    }

    /// Removes the mounts of `source`, at `container_dir` if given; answers how many.
    pub fn remove(&mut self, source: &MountSource, container_dir: Option<&ContainerDir>) -> usize {
        let before = self.0.len();
        self.0.retain(|mount| {
            mount.source != *source
                || container_dir.is_some_and(|place| mount.container_dir != *place)
        });
        before - self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_a_dot_belong_to_services() {
        let own: VolumeName = "Uploads_1-a".parse().unwrap();
        assert!(own.is_free_to_choose());
        let service = VolumeName::of_service("postgres", "orders").unwrap();
        assert_eq!(service.as_str(), "postgres.orders");
        assert!(!service.is_free_to_choose());
        for bad in ["", "-a", ".", "..", "a/b", "a b", "ä", &"a".repeat(101)] {
            assert!(bad.parse::<VolumeName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn places_are_plain_and_outside_of_the_system() {
        for (text, expected) in [("/data", "/data"), ("/app/uploads/", "/app/uploads")] {
            assert_eq!(text.parse::<ContainerDir>().unwrap().to_string(), expected);
        }
        for bad in [
            "", "/", "data", "/../etc", "/data/..", "/data//x", "/./data", "/etc/x", "/proc",
            "/usr", "/dev/shm", "/a:b", "/a\nb", "//data",
        ] {
            assert!(bad.parse::<ContainerDir>().is_err(), "{bad}");
        }
    }

    #[test]
    fn no_mount_hides_another() {
        let mount = |source: &str, place: &str| VolumeMount {
            source: source.parse().unwrap(),
            container_dir: place.parse().unwrap(),
            read_only: false,
            process_types: Vec::new(),
        };
        let mut mounts = VolumeMounts::default();
        mounts.add(mount("a", "/data")).unwrap();
        mounts.add(mount("a", "/database")).unwrap();
        mounts.add(mount("/srv/x", "/app/x")).unwrap();
        for taken in ["/data", "/data/x", "/app"] {
            let error = mounts.add(mount("b", taken)).unwrap_err().to_string();
            assert!(error.contains("is taken"), "{error}");
        }
        assert_eq!(mounts.remove(&"a".parse().unwrap(), Some(&"/data".parse().unwrap())), 1);
        assert_eq!(mounts.remove(&"a".parse().unwrap(), None), 1);
        assert_eq!(mounts.remove(&"a".parse().unwrap(), None), 0);
        assert_eq!(mounts.iter().count(), 1);
    }

    #[test]
    fn a_mount_is_for_the_process_types_that_it_names() {
        let json = r#"{"source":"a","container_dir":"/data","process_types":["web"]}"#;
        let mount: VolumeMount = serde_json::from_str(json).unwrap();
        assert!(mount.applies_to(&ProcessType::web()));
        assert!(!mount.applies_to(&"worker".parse().unwrap()));
    }

    #[test]
    fn modes_are_octal_and_let_the_owner_in() {
        assert_eq!("755".parse::<DirectoryMode>().unwrap().to_string(), "0755");
        for bad in ["", "0855", "0055", "1777", "rwx", "+755", "00755"] {
            assert!(bad.parse::<DirectoryMode>().is_err(), "{bad}");
        }
    }
}
