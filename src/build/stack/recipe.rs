//! A stack's description: a file that an operator may write.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::{Error, Variant};

/// A stack's description, `buildpacks/stacks/<name>.toml`. Every field is required; what they mean
/// is said at length in `debian-13.toml`.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StackRecipe {
    /// Name of the stack; its images are `stack/<name>:run` and `stack/<name>:build`.
    pub name: String,
    /// Address of the mirror.
    pub mirror: String,
    /// Address of the mirror of security updates.
    pub security_mirror: String,
    /// Suites on `mirror`; the first is the one that is bootstrapped, the others update it.
    pub suites: Vec<String>,
    /// Suites on `security_mirror`.
    pub security_suites: Vec<String>,
    /// Components of all suites.
    pub components: Vec<String>,
    /// File with the keys that sign the suites.
    pub keyring: PathBuf,
    /// Seconds since the epoch that package scripts take for the present.
    pub source_date_epoch: u64,
    /// What the images present themselves as.
    pub target: Target,
    /// Who apps and builds run as.
    pub user: User,
    /// Directories to add.
    pub directories: Directories,
    /// What packages leave out.
    pub files: Files,
    /// Packages of both images.
    pub run: Packages,
    /// Further packages of the build image.
    pub build: Packages,
}

/// What a stack presents itself as to buildpacks.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Target {
    /// `CNB_TARGET_DISTRO_NAME`.
    pub distro_name: String,
    /// `CNB_TARGET_DISTRO_VERSION`.
    pub distro_version: String,
    /// `STACK` for classic buildpacks.
    pub classic_stack: String,
}

/// A user of a stack.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Login name, also of the group.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Home directory.
    pub home: String,
}

/// Directories that a stack has beyond those of its packages.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Directories {
    /// Owned by the user.
    pub user: Vec<String>,
    /// Owned by root.
    pub root: Vec<String>,
}

/// dpkg's path filters, dpkg(1).
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// Shell patterns of paths to leave out.
    pub exclude: Vec<String>,
    /// Exceptions to those.
    pub include: Vec<String>,
    /// Paths to remove when all packages are there.
    #[serde(default)]
    pub remove: Vec<String>,
}

/// A list of Debian packages.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Packages {
    /// Names, to which their dependencies are added.
    pub packages: Vec<String>,
}

impl StackRecipe {
    /// Reads a recipe. All its problems are reported together.
    ///
    /// # Errors
    /// [`Error::Parse`] or [`Error::Invalid`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let recipe: Self =
            toml::from_str(text).map_err(|source| Error::Parse { source: Box::new(source) })?;
        let problems = recipe.problems();
        if problems.is_empty() { Ok(recipe) } else { Err(Error::Invalid { problems }) }
    }

    /// Packages to ask for, sorted, each once.
    pub fn packages(&self, variant: Variant) -> Vec<String> {
        let mut packages = self.run.packages.clone();
        if variant == Variant::Build {
            packages.extend_from_slice(&self.build.packages);
        }
        packages.sort();
        packages.dedup();
        packages
    }

    /// The environment that the image's configuration gives to its containers.
    pub fn environment(&self, variant: Variant) -> Vec<(String, String)> {
        let mut environment = vec![
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
            ("HOME", self.user.home.clone()),
            ("LANG", "C.UTF-8".to_owned()),
        ];
        if variant == Variant::Build {
            environment.extend([
                ("CNB_USER_ID", self.user.uid.to_string()),
                ("CNB_GROUP_ID", self.user.gid.to_string()),
                ("STACK", self.target.classic_stack.clone()),
            ]);
        }
        environment.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// Labels of the image: the stack, and what the CNB platform specification asks of base images.
    pub fn labels(&self, variant: Variant) -> BTreeMap<String, String> {
        [
            ("staithe.stack.name", self.name.as_str()),
            ("staithe.stack.variant", variant.name()),
            ("io.buildpacks.base.distro.name", &self.target.distro_name),
            ("io.buildpacks.base.distro.version", &self.target.distro_version),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
    }

    /// The lines of the image's `sources.list`.
    pub(super) fn sources(
        &self,
        mirror: Option<&str>,
        security_mirror: Option<&str>,
    ) -> Vec<String> {
        let line = |mirror: &str, suite: &String| {
            format!("deb {mirror} {suite} {}", self.components.join(" "))
        };
        let mirror = mirror.unwrap_or(&self.mirror);
        let security_mirror = security_mirror.unwrap_or(&self.security_mirror);
        let main = self.suites.iter().map(|suite| line(mirror, suite));
        let security = self.security_suites.iter().map(|suite| line(security_mirror, suite));
        main.chain(security).collect()
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |field: &str, value: &str, accept: Rule| {
            if !accept(value) {
                problems.push(format!("{field}: `{}` is not acceptable", value.escape_debug()));
            }
        };
        check("name", &self.name, is_name);
        check("mirror", &self.mirror, is_address);
        check("security-mirror", &self.security_mirror, is_address);
        check("user.name", &self.user.name, is_name);
        check("user.home", &self.user.home, is_path);
        check("target.distro-name", &self.target.distro_name, is_name);
        check("target.distro-version", &self.target.distro_version, is_name);
        check("target.classic-stack", &self.target.classic_stack, is_name);
        let lists: [(&str, &Vec<String>, Rule); 9] = [
            ("suites", &self.suites, is_name),
            ("security-suites", &self.security_suites, is_name),
            ("components", &self.components, is_name),
            ("directories.user", &self.directories.user, is_path),
            ("directories.root", &self.directories.root, is_path),
            ("files.exclude", &self.files.exclude, is_pattern),
            ("files.include", &self.files.include, is_pattern),
            ("run.packages", &self.run.packages, is_name),
            ("build.packages", &self.build.packages, is_name),
        ];
        for (field, values, accept) in lists {
            for value in values {
                check(field, value, accept);
            }
        }
        for (field, list) in [("suites", &self.suites), ("components", &self.components)] {
            if list.is_empty() {
                problems.push(format!("{field}: must name at least one"));
            }
        }
        if self.user.uid == 0 || self.user.gid == 0 {
            problems.push("user: must not be root".to_owned());
        }
        if self.user.uid > 60_000 || self.user.gid > 60_000 {
            problems.push("user: ids must be at most 60000".to_owned());
        }
        problems
    }
}

/// What a value must look like.
type Rule = fn(&str) -> bool;

/// Names of packages (Debian policy 5.6.1), suites, users: nothing that a shell or an option list
/// could take for something else.
fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+.-".contains(c))
}

fn is_path(text: &str) -> bool {
    text.len() > 1
        && text.starts_with('/')
        && text.split('/').skip(1).all(|part| !part.is_empty() && part != "." && part != "..")
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c))
}

fn is_pattern(text: &str) -> bool {
    text.starts_with('/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+*?@".contains(c))
}

fn is_address(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_graphic() && !"'\"\\[]".contains(c);
    (text.starts_with("http://") || text.starts_with("https://")) && text.chars().all(plain)
}
