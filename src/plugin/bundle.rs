//! The plugins that are part of the program, written out so that containers can mount them.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Error, MANIFEST, Manifest, Result};
use crate::domain::PluginName;
use crate::support::atomic_file;

/// Lists a plugin's files.
macro_rules! plugin {
    ($plugin:literal: $($path:literal),* $(,)?) => {
        ($plugin, &[$(($path, include_bytes!(concat!("../../plugins/", $plugin, "/", $path)))),*])
    };
}

/// A plugin's folder: its name, and its files by path.
type Folder = (&'static str, &'static [(&'static str, &'static [u8])]);

/// The bundle, by name. What is below a plugin's `bin/` is executable.
const PLUGINS: &[Folder] = &[
    plugin!("cron-report": "plugin.toml", "bin/command", "bin/note"),
    plugin!("http-auth": "plugin.toml", "bin/apps", "bin/command", "bin/routes"),
    plugin!("slack-webhook": "plugin.toml", "bin/notify"),
    plugin!("postgres":
        "plugin.toml", "bin/check", "bin/common", "bin/connect", "bin/export", "bin/facts.sql",
        "bin/import", "bin/ready", "bin/start"),
    plugin!("redis":
        "plugin.toml", "bin/check", "bin/common", "bin/connect", "bin/export", "bin/facts.lua",
        "bin/import", "bin/ready", "bin/start"),
    plugin!("memcached": "plugin.toml", "bin/connect", "bin/ready", "bin/start"),
    plugin!(
        "mysql": "plugin.toml", "bin/check", "bin/connect", "bin/export", "bin/import", "bin/ready",
        "bin/start", "lib/common.sh",
    ),
    plugin!(
        "rabbitmq": "plugin.toml", "bin/check", "bin/connect", "bin/export", "bin/import",
        "bin/ready", "bin/start", "lib/common.sh",
    ),
];

/// The manifests of the bundled plugins.
///
/// # Errors
/// If one is damaged, which a test excludes.
pub fn bundled() -> Result<Vec<Manifest>> {
    PLUGINS.iter().map(|(_, files)| manifest(files)).collect()
}

fn manifest(files: &[(&str, &[u8])]) -> Result<Manifest> {
    let text = files.iter().find(|(path, _)| *path == MANIFEST);
    let text = text.and_then(|(_, contents)| std::str::from_utf8(contents).ok());
    Manifest::parse(text.unwrap_or_default())
}

/// Writes the bundled plugins below `dir`, under a name made of their contents, so that running
/// services and hooks keep the version they began with. Returns each plugin's folder; all belong
/// to the caller, and what is in them can be read by everybody.
///
/// # Errors
/// [`Error::File`].
pub fn install_bundle(dir: &Path) -> Result<BTreeMap<PluginName, PathBuf>> {
    let goal = dir.join(fingerprint());
    // Written last: it says that all is there.
    let complete = goal.join("complete");
    if !complete.is_file() {
        for (name, files) in PLUGINS {
            for (path, contents) in *files {
                write(dir, &goal.join(name).join(path), contents)?;
            }
        }
        make_dirs(dir, &goal)?;
        atomic_file::write(&complete, b"", 0o644).map_err(Error::file("write", &complete))?;
    }
    let manifests = bundled()?.into_iter();
    Ok(manifests
        .map(|manifest| (manifest.name.clone(), goal.join(manifest.name.as_str())))
        .collect())
}

fn write(root: &Path, path: &Path, contents: &[u8]) -> Result<()> {
    make_dirs(root, path.parent().unwrap_or(root))?;
    let executable = path.components().any(|part| part.as_os_str() == "bin");
    let mode = if executable { 0o755 } else { 0o644 };
    atomic_file::write(path, contents, mode)
        .and_then(|()| set_mode(path, mode))
        .map_err(Error::file("write plugin file", path))
}

/// Directories that the containers' users can enter, whatever the umask.
fn make_dirs(root: &Path, path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(Error::file("create directory", path))?;
    for dir in path.ancestors().take_while(|dir| dir.starts_with(root)) {
        set_mode(dir, 0o755).map_err(Error::file("set the mode of", dir))?;
    }
    Ok(())
}

fn set_mode(path: &Path, mode: u32) -> std::io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

fn fingerprint() -> String {
    use sha2::{Digest, Sha256};
    let mut hasher = Sha256::new();
    for (plugin, files) in PLUGINS {
        for (path, contents) in *files {
            for part in [plugin.as_bytes(), path.as_bytes(), contents] {
                hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
                hasher.update(part);
            }
        }
    }
    let digest = hasher.finalize();
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files_below(directory: &Path, files: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.path().is_dir() {
                true => files_below(&entry.path(), files),
                false => files.push(entry.path()),
            }
        }
    }

    #[test]
    fn the_bundle_installs_once_with_programs_that_can_be_run() {
        let root = tempfile::tempdir().unwrap();
        let first = install_bundle(root.path()).unwrap();
        assert_eq!(install_bundle(root.path()).unwrap(), first);
        for manifest in bundled().unwrap() {
            let folder = &first[&manifest.name];
            for program in manifest.programs() {
                let mode = std::fs::metadata(folder.join(program)).unwrap().permissions().mode();
                assert_eq!(mode & 0o777, 0o755, "{}: {program}", manifest.name);
            }
        }
    }

    #[test]
    fn every_file_of_the_source_tree_is_bundled_under_its_plugins_name() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins");
        let mut files = Vec::new();
        files_below(&source, &mut files);
        for path in files {
            let path = path.strip_prefix(&source).unwrap();
            let (plugin, file) = path.to_str().unwrap().split_once('/').unwrap();
            let listed = PLUGINS.iter().any(|(name, files)| {
                *name == plugin && files.iter().any(|(path, _)| *path == file)
            });
            assert!(listed, "plugins/{plugin}/{file} is not bundled");
        }
        for ((folder, _), manifest) in PLUGINS.iter().zip(bundled().unwrap()) {
            assert_eq!(*folder, manifest.name.as_str());
        }
    }
}
