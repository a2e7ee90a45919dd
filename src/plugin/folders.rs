//! Where plugins are on disk.
//!
//! ```text
//!  <dir>/bundled/<fingerprint>/<name>/   of this program
//!  <dir>/incoming/<random>/              being unpacked; cleared at every start
//!  <dir>/installed/<name>-<random>/      of the operator; which of them counts is the store's word
//!  <dir>/data/<name>/                    what a plugin keeps, with ids of its containers
//! ```
//!
//! A folder never changes once it is installed: an update is another folder, and what runs keeps the
//! one it began with.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{Error, MANIFEST, Manifest, Result, bundle, unpack};
use crate::domain::PluginName;

/// The user that plugins run as, inside.
const PLUGIN_USER: u32 = 1000;

/// Bytes that a plugin may keep.
const MAX_DATA: u64 = 256 << 20;
/// Files and directories that a plugin may keep.
const MAX_DATA_ENTRIES: usize = 10_000;

/// All places of plugins.
#[derive(Debug)]
pub struct Folders {
    dir: PathBuf,
    bundled: BTreeMap<PluginName, PathBuf>,
}

/// A plugin that can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// What it says of itself.
    pub manifest: Manifest,
    /// Where it is.
    pub path: PathBuf,
}

/// A plugin that has been unpacked and checked, and is not installed yet. Dropping it removes it.
#[derive(Debug)]
pub struct Incoming {
    staging: PathBuf,
    root: PathBuf,
    /// What it says of itself.
    pub manifest: Manifest,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // What is left is cleared at the next start.
        let _ = std::fs::remove_dir_all(&self.staging);
    }
}

impl Folders {
    /// Makes the places below `dir` and writes the bundle.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn open(dir: &Path) -> Result<Self> {
        let incoming = dir.join("incoming");
        match std::fs::remove_dir_all(&incoming) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::file("clear", incoming)(source));
            }
            _ => {}
        }
        for (name, mode) in [("installed", 0o755), ("incoming", 0o700), ("data", 0o700)] {
            let path = dir.join(name);
            std::fs::create_dir_all(&path)
                .and_then(|()| set_mode(&path, mode))
                .map_err(Error::file("make directory", path))?;
        }
        Ok(Self { bundled: bundle::install_bundle(&dir.join("bundled"))?, dir: dir.to_owned() })
    }

    /// The bundled plugins, by name.
    ///
    /// # Errors
    /// If one is damaged, which a test excludes.
    pub fn bundled(&self) -> Result<Vec<Folder>> {
        let manifests = bundle::bundled()?.into_iter();
        Ok(manifests
            .filter_map(|manifest| {
                let path = self.bundled.get(&manifest.name)?.clone();
                Some(Folder { manifest, path })
            })
            .collect())
    }

    /// Whether there is a bundled plugin of that name.
    pub fn is_bundled(&self, name: &PluginName) -> bool {
        self.bundled.contains_key(name)
    }

    /// Unpacks and checks an archive; blocking.
    ///
    /// # Errors
    /// What is wrong with it; nothing is left then.
    pub fn receive(&self, archive: impl Read) -> Result<Incoming> {
        let staging = self.dir.join("incoming").join(random()?);
        std::fs::DirBuilder::new()
            .mode(0o755)
            .create(&staging)
            .map_err(Error::file("make directory", &staging))?;
        let unpacked =
            unpack::unpack(archive, &staging).and_then(|root| Ok((load(&root)?.manifest, root)));
        match unpacked {
            Ok((manifest, root)) => Ok(Incoming { staging, root, manifest }),
            Err(error) => {
                // The first failure is the one to tell; the rest is cleared at the next start.
                let _ = std::fs::remove_dir_all(&staging);
                Err(error)
            }
        }
    }

    /// Gives an unpacked plugin its place, under the name it is to go by; it counts once the store
    /// names the folder.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn keep(&self, incoming: &Incoming, name: &PluginName) -> Result<(Folder, String)> {
        let folder = format!("{name}-{}", random()?);
        let installed = self.dir.join("installed");
        let path = installed.join(&folder);
        let sync = |dir: &Path| std::fs::File::open(dir)?.sync_all();
        set_mode(&incoming.root, 0o755)
            .and_then(|()| std::fs::rename(&incoming.root, &path))
            .and_then(|()| sync(&installed))
            .map_err(Error::file("install into", &path))?;
        let manifest = Manifest { name: name.clone(), ..incoming.manifest.clone() };
        Ok((Folder { manifest, path }, folder))
    }

    /// An installed plugin under the name it goes by.
    ///
    /// # Errors
    /// If the folder is gone or was damaged since.
    pub fn installed(&self, folder: &str, name: &PluginName) -> Result<Folder> {
        let mut found = load(&self.dir.join("installed").join(folder))?;
        found.manifest.name = name.clone();
        Ok(found)
    }

    /// Removes every installed folder that is not `known`; what still runs out of one ends badly,
    /// so only what nobody uses should be left out.
    ///
    /// # Errors
    /// The first removal that failed.
    pub fn sweep(&self, known: &[String]) -> Result<()> {
        let installed = self.dir.join("installed");
        let entries = std::fs::read_dir(&installed).map_err(Error::file("list", &installed))?;
        for entry in entries.flatten() {
            if !known.iter().any(|known| entry.file_name().to_str() == Some(known)) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Where a plugin keeps what it keeps: made if it is not there, and its containers' user's.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn data(&self, name: &PluginName) -> Result<PathBuf> {
        let path = self.dir.join("data").join(name.as_str());
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        match made {
            Ok(()) => std::os::unix::fs::chown(&path, Some(PLUGIN_USER), Some(PLUGIN_USER))
                .map_err(Error::file("change the owner of", &path))?,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::file("make directory", path)(error)),
        }
        Ok(path)
    }
}

/// Whether what a plugin keeps is within its bounds; links in it are not followed. Blocking.
///
/// # Errors
/// [`Error::Data`] if it is too much, [`Error::File`] if it cannot be looked through.
pub fn check_data(data: &Path) -> Result<()> {
    let too_much = |what: String| Err(Error::Data { path: data.to_owned(), what });
    let (mut bytes, mut entries, mut waiting) = (0, 0, vec![data.to_owned()]);
    while let Some(directory) = waiting.pop() {
        let list = std::fs::read_dir(&directory).map_err(Error::file("list", &directory))?;
        for entry in list {
            let entry = entry.map_err(Error::file("list", &directory))?;
            // Gone already, by a call that goes on.
            let Ok(metadata) = entry.metadata() else { continue };
            entries += 1;
            // What is on disk: a file with holes takes less than it says.
            bytes += std::os::unix::fs::MetadataExt::blocks(&metadata) * 512;
            if entries > MAX_DATA_ENTRIES {
                return too_much(format!("{MAX_DATA_ENTRIES} files"));
            }
            if bytes > MAX_DATA {
                return too_much(format!("{} MiB", MAX_DATA >> 20));
            }
            if metadata.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    Ok(())
}

fn load(root: &Path) -> Result<Folder> {
    let path = root.join(MANIFEST);
    let mut text = String::new();
    // One byte more than is allowed, which the parser then refuses.
    let limit = super::manifest::MAX_BYTES as u64 + 1;
    std::fs::File::open(&path)
        .and_then(|file| file.take(limit).read_to_string(&mut text))
        .map_err(Error::file("read", &path))?;
    let manifest = Manifest::parse(&text)?;
    for program in manifest.programs() {
        let metadata = std::fs::symlink_metadata(root.join(program)).ok();
        let runs = |meta: &std::fs::Metadata| meta.is_file() && meta.permissions().mode() & 1 != 0;
        if !metadata.as_ref().is_some_and(runs) {
            return Err(Error::Manifest {
                why: format!("it names `{program}`, which is not there or not executable"),
            });
        }
    }
    Ok(Folder { manifest, path: root.to_owned() })
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn set_mode(path: &Path, mode: u32) -> std::io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

fn random() -> Result<String> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_err(|error| Error::Random { why: error.to_string() })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(manifest: &str, mode: u32) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content, mode) in [(MANIFEST, manifest, 0o644), ("run", "#!/bin/sh", mode)] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(mode);
            builder.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn manifest(version: &str) -> String {
        format!(
            "name = \"x\"\nversion = \"{version}\"\nprotocol = 1\ndescription = \"x\"\n\
             [hooks]\n\"post-deploy\" = {{ run = \"run\" }}"
        )
    }

    #[test]
    fn an_update_is_another_folder_and_the_old_one_goes_when_it_is_swept() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::open(root.path()).unwrap();
        let name: PluginName = "other".parse().unwrap();
        let install = |version: &str| {
            let incoming = folders.receive(archive(&manifest(version), 0o755).as_slice()).unwrap();
            folders.keep(&incoming, &name).unwrap()
        };
        let (first, first_folder) = install("1");
        let (second, second_folder) = install("2");
        assert_ne!(first.path, second.path);
        assert_eq!(folders.installed(&second_folder, &name).unwrap(), second);
        folders.sweep(std::slice::from_ref(&second_folder)).unwrap();
        folders.installed(&first_folder, &name).unwrap_err();
        assert_eq!(folders.installed(&second_folder, &name).unwrap().manifest.version, "2");
        let incoming = std::fs::read_dir(root.path().join("incoming")).unwrap();
        assert_eq!(incoming.count(), 0);
    }

    #[test]
    fn a_program_that_is_not_there_or_cannot_be_run_is_noticed_at_once() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::open(root.path()).unwrap();
        let error = folders.receive(archive(&manifest("1"), 0o644).as_slice()).unwrap_err();
        assert!(error.to_string().contains("not executable"), "{error}");
        let other = manifest("1").replace("\"run\"", "\"walk\"");
        folders.receive(archive(&other, 0o755).as_slice()).unwrap_err();
        assert_eq!(std::fs::read_dir(root.path().join("incoming")).unwrap().count(), 0);
    }

    #[test]
    fn what_a_plugin_keeps_is_bounded_and_its_links_are_not_followed() {
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/", root.path().join("everything")).unwrap();
        std::fs::create_dir(root.path().join("deep")).unwrap();
        check_data(root.path()).unwrap();
        for index in 0..MAX_DATA_ENTRIES {
            std::fs::File::create(root.path().join("deep").join(index.to_string())).unwrap();
        }
        let error = check_data(root.path()).unwrap_err().to_string();
        assert!(error.contains("more than 10000 files"), "{error}");
    }

    #[test]
    fn bundled_plugins_are_there_from_the_start() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::open(root.path()).unwrap();
        let bundled = folders.bundled().unwrap();
        assert!(bundled.iter().any(|folder| folder.manifest.name.as_str() == "cron-report"));
        for folder in bundled {
            load(&folder.path).unwrap();
        }
    }
}
