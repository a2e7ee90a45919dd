//! `buildpack.toml` and `order.toml`: which buildpacks there are.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Error;

/// A component buildpack as installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buildpack {
    /// `staithe/nodejs`.
    pub id: String,
    /// `1.0.0`.
    pub version: String,
    /// For people.
    pub name: String,
    /// What it looks for, as the end of "looks for …".
    pub description: String,
    /// The Buildpack API it speaks.
    pub api: (u32, u32),
    /// Where it is on the host.
    pub path: PathBuf,
    /// Config vars reach it as files only.
    pub clear_env: bool,
    /// The distributions it can run on, name and version; none: any.
    pub distros: Vec<(String, Option<String>)>,
}

/// The oldest and newest Buildpack API that the lifecycle speaks.
const MIN_API: (u32, u32) = (0, 7);
const MAX_API: (u32, u32) = (0, 12);

impl Buildpack {
    /// Its id as a directory name (CNB: `/` becomes `_`).
    pub(super) fn escaped_id(&self) -> String {
        escaped(&self.id)
    }

    /// Where it is mounted in the build container.
    pub(super) fn container_path(&self) -> String {
        format!("/cnb/buildpacks/{}/{}", self.escaped_id(), self.version)
    }

    /// Its layers directory in the build container.
    pub(super) fn layers_dir(&self) -> String {
        format!("/layers/{}", self.escaped_id())
    }

    /// Whether it can run on the distribution `name`, `version`.
    pub(super) fn runs_on(&self, name: &str, version: &str) -> bool {
        self.distros.is_empty()
            || self.distros.iter().any(|(wanted, wanted_version)| {
                wanted == name && wanted_version.as_deref().is_none_or(|wanted| wanted == version)
            })
    }

    fn load(directory: &Path) -> Result<Self, Error> {
        let path = directory.join("buildpack.toml");
        let damaged = |why: String| Error::Buildpack { path: path.clone(), why };
        let text = std::fs::read_to_string(&path).map_err(|error| damaged(error.to_string()))?;
        let file: File = toml::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        let api = parse_api(&file.api).ok_or_else(|| {
            damaged(format!("it needs Buildpack API {}; this is 0.7 to 0.12", file.api))
        })?;
        if !file.order.is_empty() {
            return Err(damaged("it is a composite buildpack; list its parts instead".into()));
        }
        let header = file.buildpack;
        if !is_id(&header.id) || !is_id(&header.version) || header.version.contains('/') {
            return Err(damaged("its id or version holds characters that are not allowed".into()));
        }
        let distros = file.targets.into_iter().flat_map(|target| target.distros);
        Ok(Self {
            name: header.name.unwrap_or_else(|| header.id.clone()),
            id: header.id,
            version: header.version,
            description: header.description.unwrap_or_default(),
            api,
            path: directory.to_owned(),
            clear_env: header.clear_env,
            distros: distros.map(|distro| (distro.name, distro.version)).collect(),
        })
    }
}

/// An id as a directory name.
pub(super) fn escaped(id: &str) -> String {
    id.replace('/', "_")
}

/// Ids and versions become directory names; `..` must not be one.
fn is_id(text: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b"./_+-".contains(&c);
    !text.is_empty()
        && text.bytes().all(allowed)
        && text.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
}

fn parse_api(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    let api = (major.parse().ok()?, minor.parse().ok()?);
    (MIN_API..=MAX_API).contains(&api).then_some(api)
}

#[derive(Deserialize)]
struct File {
    api: String,
    buildpack: Header,
    #[serde(default)]
    targets: Vec<Target>,
    #[serde(default)]
    order: Vec<toml::Table>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Header {
    id: String,
    version: String,
    name: Option<String>,
    description: Option<String>,
    #[serde(default)]
    clear_env: bool,
}

#[derive(Deserialize)]
struct Target {
    #[serde(default)]
    distros: Vec<Distro>,
}

#[derive(Deserialize)]
struct Distro {
    name: String,
    version: Option<String>,
}

/// The buildpacks and the groups tried in detection.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    buildpacks: Vec<Buildpack>,
    order: Vec<Vec<GroupEntry>>,
    pins: BTreeSet<String>,
}

/// A place in a group of the order.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct GroupEntry {
    /// Buildpack id.
    pub id: String,
    /// The group may go without it.
    #[serde(default)]
    pub optional: bool,
}

#[derive(Deserialize)]
struct OrderFile {
    #[serde(default)]
    order: Vec<OrderGroup>,
}

#[derive(Deserialize)]
struct OrderGroup {
    group: Vec<GroupEntry>,
}

impl Catalog {
    /// Loads every buildpack below `directory` (`<name>/buildpack.toml`) and `order.toml`.
    ///
    /// # Errors
    /// If one is damaged or `order.toml` names one that is not there.
    pub fn load(directory: &Path) -> Result<Self, Error> {
        let entries = std::fs::read_dir(directory)
            .map_err(Error::files("list buildpacks in", directory))?
            .collect::<Result<Vec<_>, _>>()
            .map_err(Error::files("list buildpacks in", directory))?;
        let mut catalog = Self::default();
        for entry in entries {
            if entry.path().join("buildpack.toml").is_file() {
                catalog.buildpacks.push(Buildpack::load(&entry.path())?);
                catalog.pins.extend(pins(&entry.path().join("catalogue.json")));
            }
        }
        catalog.buildpacks.sort_by(|a, b| a.id.cmp(&b.id));
        catalog.load_order(&directory.join("order.toml"))?;
        Ok(catalog)
    }

    fn load_order(&mut self, path: &Path) -> Result<(), Error> {
        let damaged = |why: String| Error::Buildpack { path: path.to_owned(), why };
        let text = std::fs::read_to_string(path).map_err(|error| damaged(error.to_string()))?;
        let file: OrderFile = toml::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        for group in file.order {
            for entry in &group.group {
                if self.by_id(&entry.id).is_none() {
                    return Err(damaged(format!("it names `{}`, which is not there", entry.id)));
                }
            }
            self.order.push(group.group);
        }
        Ok(())
    }

    /// All buildpacks, by id.
    pub fn buildpacks(&self) -> &[Buildpack] {
        &self.buildpacks
    }

    pub(super) fn order(&self) -> &[Vec<GroupEntry>] {
        &self.order
    }

    pub(super) fn by_id(&self, id: &str) -> Option<&Buildpack> {
        self.buildpacks.iter().find(|buildpack| buildpack.id == id)
    }

    /// The buildpack that a user means: an id (`staithe/nodejs`), with or without version, or the
    /// name that Heroku's or Paketo's of the same language goes by.
    pub(super) fn find(&self, asked: &str) -> Option<&Buildpack> {
        let asked = asked.trim().split(['@', '#']).next().unwrap_or_default();
        let asked = asked.trim_end_matches('/').trim_end_matches(".git");
        let last = asked.rsplit('/').next().unwrap_or_default();
        let short = last.strip_prefix("heroku-buildpack-").unwrap_or(last);
        let known = ["", "heroku/", "staithe/", "paketo-buildpacks/"]
            .iter()
            .any(|vendor| asked.strip_prefix(vendor) == Some(last))
            || asked == format!("https://github.com/heroku/{last}")
            || asked.starts_with("urn:cnb:") && asked.ends_with(&format!("heroku/{last}"));
        self.by_id(asked).or_else(|| {
            known
                .then(|| self.buildpacks.iter().find(|b| b.id.rsplit('/').next() == Some(short)))?
        })
    }

    /// Whether the bundled catalogues pin a download of this name (`sha512-<hex>`).
    pub(super) fn pins(&self, name: &str) -> bool {
        self.pins.contains(name)
    }
}

/// All `sha256-<hex>` and `sha512-<hex>` strings of a catalogue; none if there is no catalogue.
fn pins(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split('"').filter(|text| is_pin(text)).map(str::to_owned).collect()
}

fn is_pin(text: &str) -> bool {
    let digits = text.strip_prefix("sha512-").filter(|hex| hex.len() == 128);
    let digits = digits.or_else(|| text.strip_prefix("sha256-").filter(|hex| hex.len() == 64));
    digits.is_some_and(|hex| hex.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundled() -> Catalog {
        Catalog::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("buildpacks")).unwrap()
    }

    #[test]
    fn the_bundled_buildpacks_load_in_order() {
        let catalog = bundled();
        let ids: Vec<_> = catalog.buildpacks().iter().map(|b| b.id.as_str()).collect();
        assert_eq!(ids, ["staithe/nodejs", "staithe/procfile", "staithe/python", "staithe/static"]);
        assert_eq!(catalog.order()[0][0].id, "staithe/nodejs");
        assert!(catalog.order()[0][1].optional);
        assert!(catalog.buildpacks().iter().all(|b| !b.description.is_empty()));
    }

    #[test]
    fn users_may_say_herokus_names() {
        let catalog = bundled();
        let found = |asked: &str| catalog.find(asked).map(|b| b.id.as_str());
        for asked in [
            "staithe/nodejs",
            "staithe/nodejs@1.0.0",
            "heroku/nodejs",
            "nodejs",
            "https://github.com/heroku/heroku-buildpack-nodejs",
            "https://github.com/heroku/heroku-buildpack-nodejs.git#v300",
        ] {
            assert_eq!(found(asked), Some("staithe/nodejs"), "{asked}");
        }
        for asked in ["", "ruby", "evil/nodejs", "https://evil.example/heroku-buildpack-nodejs"] {
            assert_eq!(found(asked), None, "{asked}");
        }
    }

    #[test]
    fn ids_cannot_leave_the_buildpacks_directory() {
        for bad in ["", "..", "a/../b", "/a", "a/", "a b", ".a", "a\n"] {
            assert!(!is_id(bad), "{bad:?}");
        }
        assert!(is_id("staithe/nodejs") && is_id("1.0.0-rc.1+x"));
    }

    #[test]
    fn apis_outside_the_range_are_refused() {
        assert_eq!(parse_api("0.10"), Some((0, 10)));
        for bad in ["0.6", "0.13", "1.0", "1", "", "a.b"] {
            assert_eq!(parse_api(bad), None, "{bad}");
        }
    }
}
