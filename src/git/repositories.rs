//! The directory of bare repositories.

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use super::{Config, Error, Places, Quarantine};
use crate::domain::AppName;
use crate::support::atomic_file;

/// Where the hooks are, beside the repositories. No app name begins with a dot.
const HOOKS: &str = ".hooks";
/// Where a repository is built before it gets its name, and where it goes to be removed.
const SCRATCH: &str = ".scratch";

/// All repositories of this machine.
#[derive(Debug, Clone)]
pub struct Repositories {
    pub(super) config: Config,
    pub(super) places: Places,
}

impl Repositories {
    /// Makes the root directory and the hooks ready. Clears what an earlier process left half done.
    ///
    /// Only one process may have the root open.
    ///
    /// # Errors
    /// The directories or the hook cannot be written.
    pub fn open(config: Config, places: Places) -> Result<Self, Error> {
        let repositories = Self { config, places };
        let root = &repositories.places.root;
        // The owner must pass through, and no one else has business here.
        repositories.root_directory(root, 0o710)?;
        repositories.root_directory(&repositories.hooks(), 0o750)?;
        let scratch = root.join(SCRATCH);
        remove_directory(&scratch)?;
        repositories.root_directory(&scratch, 0o710)?;
        repositories.write_hooks()?;
        Ok(repositories)
    }

    /// The directory of `app`'s repository, whether it exists or not.
    pub fn path(&self, app: &AppName) -> PathBuf {
        self.places.root.join(format!("{app}.git"))
    }

    /// Whether `app` has a repository.
    pub fn exists(&self, app: &AppName) -> bool {
        self.path(app).join("HEAD").is_file()
    }

    /// Creates `app`'s repository where it does not exist, with `main` as its head. The repository
    /// is whole when it appears.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn ensure(&self, app: &AppName) -> Result<PathBuf, Error> {
        let path = self.path(app);
        if self.exists(app) {
            return Ok(path);
        }
        let scratch = self.init_scratch()?;
        match std::fs::rename(&scratch, &path) {
            Ok(()) => {}
            // Somebody else was first, with the same result.
            Err(_) if self.exists(app) => remove_directory(&scratch)?,
            Err(error) => return Err(Error::io("create", &path)(error)),
        }
        sync(&self.places.root)?;
        Ok(path)
    }

    /// Points the repository's `HEAD` at `branch`, so that a clone checks it out.
    ///
    /// # Errors
    /// The repository is missing or cannot be written.
    pub fn set_head(&self, app: &AppName, branch: &crate::domain::BranchName) -> Result<(), Error> {
        let path = self.existing(app)?.join("HEAD");
        let written =
            atomic_file::write(&path, format!("ref: refs/heads/{branch}\n").as_bytes(), 0o644);
        written.and_then(|()| self.chown(&path)).map_err(Error::io("write", &path))
    }

    /// Moves the repository of `from` to `to`.
    ///
    /// # Errors
    /// `from` has none, `to` has one, or the move failed.
    pub fn rename(&self, from: &AppName, to: &AppName) -> Result<(), Error> {
        let old = self.existing(from)?;
        if self.exists(to) {
            return Err(Error::Exists(to.clone()));
        }
        std::fs::rename(&old, self.path(to)).map_err(Error::io("rename", &old))?;
        sync(&self.places.root)
    }

    /// Removes `app`'s repository; one that does not exist is removed already.
    ///
    /// # Errors
    /// The files cannot be removed. The repository is out of reach then all the same.
    pub fn remove(&self, app: &AppName) -> Result<(), Error> {
        let scratch = self.scratch()?;
        match std::fs::rename(self.path(app), &scratch) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::io("remove", &self.path(app))(error)),
        }
        sync(&self.places.root)?;
        remove_directory(&scratch)
    }

    pub(super) fn existing(&self, app: &AppName) -> Result<PathBuf, Error> {
        if self.exists(app) { Ok(self.path(app)) } else { Err(Error::Missing(app.clone())) }
    }

    pub(super) fn hooks(&self) -> PathBuf {
        self.places.root.join(HOOKS)
    }

    /// A path of its own for something that is built or torn down.
    pub(super) fn scratch(&self) -> Result<PathBuf, Error> {
        let directory = self.places.root.join(SCRATCH);
        let mut random = [0; 8];
        getrandom::fill(&mut random)
            .map_err(|error| Error::io("name", &directory)(io::Error::other(error.to_string())))?;
        Ok(directory.join(format!("{:016x}", u64::from_ne_bytes(random))))
    }

    /// An empty repository of the owner's, at a path of its own.
    pub(super) fn init_scratch(&self) -> Result<PathBuf, Error> {
        let path = self.scratch()?;
        let mut options = git2::RepositoryInitOptions::new();
        // Without a template there are no sample hooks and no exclude file.
        options.bare(true).no_reinit(true).external_template(false).initial_head("main");
        let failed = |source: git2::Error| Error::Repository {
            operation: "creation",
            path: path.clone(),
            source: source.into(),
        };
        git2::Repository::init_opts(&path, &options).map_err(failed)?;
        self.give_to_owner(&path)?;
        // Files that were found empty after a power cut would be a repository no push can mend.
        sync_tree(&path)?;
        Ok(path)
    }

    /// The objects of a repository, those in quarantine first. The repository's configuration is
    /// not read: its owner, who unpacks strangers' data, can write it.
    pub(super) fn objects(
        &self,
        app: &AppName,
        quarantine: Option<&Quarantine>,
    ) -> Result<git2::Repository, Error> {
        let objects = self.existing(app)?.join("objects");
        let failed = |source: git2::Error| Error::Repository {
            operation: "open the objects",
            path: objects.clone(),
            source: source.into(),
        };
        open_objects(quarantine.map(Quarantine::path).into_iter().chain([objects.as_path()]))
            .map_err(failed)
    }

    fn root_directory(&self, path: &Path, mode: u32) -> Result<(), Error> {
        let created = match std::fs::DirBuilder::new().mode(mode).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        };
        created
            .and_then(|()| chown(path, None, Some(self.config.owner_gid)))
            .and_then(|()| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)))
            .map_err(Error::io("prepare", path))
    }

    /// The hooks are shell scripts of root's. With output to go past git's side band, `serve` has
    /// left the session's error stream at descriptor 3.
    fn write_hooks(&self) -> Result<(), Error> {
        let pre_receive = "#!/bin/sh\n\
            # Written by Staithe at every start; changes are lost.\n\
            if [ \"$STAITHE_PUSH_OUTPUT\" = direct ]; then\n\
            \texec \"$STAITHE_HOOK_EXECUTABLE\" git-hook pre-receive >&3 2>&3\n\
            fi\n\
            exec \"$STAITHE_HOOK_EXECUTABLE\" git-hook pre-receive\n";
        self.write_hook("pre-receive", pre_receive)?;
        // Git makes what is in files durable, and leaves their names (rename(2)) to the kernel, which
        // takes its time. The user's `git push` returns after this hook has.
        let post_receive = "#!/bin/sh\n\
            # Written by Staithe at every start; changes are lost.\n\
            exec sync -f .\n";
        self.write_hook("post-receive", post_receive)
    }

    fn write_hook(&self, name: &str, script: &str) -> Result<(), Error> {
        let path = self.hooks().join(name);
        atomic_file::write(&path, script.as_bytes(), 0o750)
            .and_then(|()| chown(&path, None, Some(self.config.owner_gid)))
            .and_then(|()| std::fs::set_permissions(&path, PermissionsExt::from_mode(0o750)))
            .map_err(Error::io("write", &path))
    }

    pub(super) fn chown(&self, path: &Path) -> io::Result<()> {
        std::os::unix::fs::lchown(path, Some(self.config.owner_uid), Some(self.config.owner_gid))
    }

    fn give_to_owner(&self, path: &Path) -> Result<(), Error> {
        self.chown(path).map_err(Error::io("change the owner of", path))?;
        let metadata = std::fs::symlink_metadata(path).map_err(Error::io("look at", path))?;
        if metadata.is_dir() {
            for entry in std::fs::read_dir(path).map_err(Error::io("read", path))? {
                self.give_to_owner(&entry.map_err(Error::io("read", path))?.path())?;
            }
        }
        Ok(())
    }
}

pub(super) fn open_objects<'a>(
    directories: impl Iterator<Item = &'a Path>,
) -> Result<git2::Repository, git2::Error> {
    let odb = git2::Odb::new()?;
    for directory in directories {
        let text = directory.to_str().ok_or_else(|| git2::Error::from_str("path is not UTF-8"))?;
        odb.add_disk_alternate(text)?;
    }
    git2::Repository::from_odb(odb)
}

/// Removes a tree; a missing one is removed already. `std` does not follow links here
/// (CVE-2022-21658).
pub(super) fn remove_directory(path: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Makes a small tree durable, but for its own name.
fn sync_tree(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).map_err(Error::io("read", path))? {
            sync_tree(&entry.map_err(Error::io("read", path))?.path())?;
        }
    }
    sync(path)
}

fn sync(path: &Path) -> Result<(), Error> {
    let synced = std::fs::File::open(path).and_then(|file| file.sync_all());
    synced.map_err(Error::io("sync", path))
}
