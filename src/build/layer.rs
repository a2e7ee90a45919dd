//! Layers: their metadata files, and what became of their contents during a build.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::environment::EnvFiles;
use super::tree;

/// What a layer is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Types {
    /// In the image.
    pub launch: bool,
    /// Visible to the buildpacks after its own.
    pub build: bool,
    /// There again in the next build.
    pub cache: bool,
}

/// `<layer>.toml`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct LayerToml {
    #[serde(default)]
    pub types: Types,
    #[serde(default)]
    pub metadata: toml::Table,
}

/// `launch.toml`.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct LaunchToml {
    #[serde(default)]
    pub labels: Vec<Label>,
    #[serde(default)]
    pub processes: Vec<Process>,
}

/// A label for the image.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Label {
    pub key: String,
    pub value: String,
}

/// A process that a buildpack contributes.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Process {
    #[serde(rename = "type")]
    pub kind: String,
    pub command: Command,
    #[serde(default)]
    pub args: Vec<String>,
    /// Before API 0.9: whether no shell is wanted.
    #[serde(default)]
    pub direct: bool,
    #[serde(default)]
    pub default: bool,
    pub working_dir: Option<String>,
}

/// A list since API 0.9, shell text or a program before.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Command {
    Text(String),
    List(Vec<String>),
}

/// The largest metadata file that is read.
pub(super) const MAX_TOML: u64 = 1 << 20;
/// The largest variable that is read: what execve(2) takes as one string.
const MAX_VARIABLE: u64 = 128 * 1024;
/// The most variables of one `env` directory.
const MAX_VARIABLES: usize = 1000;
/// The most layers of one buildpack.
const MAX_LAYERS: usize = 200;

/// Files beside the layers' that are not a layer's.
const RESERVED: [&str; 3] = ["launch", "build", "store"];

/// The layer that `<name>.toml` describes; none for the other files of a layers directory.
pub(super) fn layer_name(file: &str) -> Option<&str> {
    let name = file.strip_suffix(".toml")?;
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
    let good = !name.is_empty() && !name.starts_with('.') && name.bytes().all(allowed);
    (good && !RESERVED.contains(&name)).then_some(name)
}

/// The layers described in a buildpack's layers directory on the host, by name.
///
/// # Errors
/// If the directory cannot be read, or says something else than TOML; the file is named then.
pub(super) fn described(dir: &Path) -> Result<BTreeMap<String, LayerToml>, (String, String)> {
    let fault = |file: &str, why: String| (file.to_owned(), why);
    let names = tree::names(dir).map_err(|error| fault(".", error.to_string()))?;
    let mut layers = BTreeMap::new();
    for file in names {
        let Some(name) = layer_name(&file) else { continue };
        let layer = read_toml(&dir.join(&file)).map_err(|why| fault(&file, why))?;
        layers.insert(name.to_owned(), layer.unwrap_or_default());
        if layers.len() > MAX_LAYERS {
            return Err(fault(&file, format!("more than {MAX_LAYERS} layers")));
        }
    }
    Ok(layers)
}

/// A TOML file on the host; none if there is no such file.
pub(super) fn read_toml<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, String> {
    let bytes = tree::read_file(path, MAX_TOML).map_err(|error| error.to_string())?;
    let Some(bytes) = bytes else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    toml::from_str(&text).map(Some).map_err(|error| error.message().to_owned())
}

/// The variables of an `env` directory on the host; none if there is no such directory.
pub(super) fn env_files(dir: &Path) -> io::Result<EnvFiles> {
    let mut files = EnvFiles::new();
    if !tree::is_dir(dir) {
        return Ok(files);
    }
    for name in tree::names(dir)?.into_iter().take(MAX_VARIABLES) {
        if let Some(bytes) = tree::read_file(&dir.join(&name), MAX_VARIABLE)? {
            files.insert(name, String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_layers() {
        assert_eq!(layer_name("node.toml"), Some("node"));
        assert_eq!(layer_name("node_modules-2.x.toml"), Some("node_modules-2.x"));
        for other in
            ["launch.toml", "build.toml", "store.toml", "node", ".toml", "..toml", "a b.toml"]
        {
            assert_eq!(layer_name(other), None, "{other}");
        }
    }

    #[test]
    fn metadata_files_of_all_supported_apis_are_read() {
        let layer: LayerToml =
            toml::from_str("[types]\nlaunch = true\ncache = true\n[metadata]\nkey = \"v\"")
                .unwrap();
        assert_eq!(layer.types, Types { launch: true, build: false, cache: true });
        let launch: LaunchToml = toml::from_str(
            "[[processes]]\ntype = \"web\"\ncommand = [\"node\"]\nargs = [\"a.js\"]\ndefault = true\n\
             [[processes]]\ntype = \"w\"\ncommand = \"run\"\ndirect = false",
        )
        .unwrap();
        assert!(matches!(&launch.processes[0].command, Command::List(list) if list == &["node"]));
        assert!(matches!(&launch.processes[1].command, Command::Text(text) if text == "run"));
    }
}
