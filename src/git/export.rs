//! Writing a commit's tree into a directory.
//!
//! The tree is a stranger's: any name, any mode, any number of entries. It is written below a
//! directory that only root can enter until the end, so that nobody can put a link in the way;
//! every directory on a path was made here by mkdir(2), which does not follow links, every file
//! by `O_EXCL`. A tree with two entries of one name (a link `a`, then a directory `a`) therefore
//! ends in an error, not outside.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, fchown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::repositories::{open_objects, remove_directory};
use super::submodule::{self, Gitlink};
use super::{CommitId, Config, Error, Quarantine, Repositories};
use crate::domain::AppName;

/// How deep directories may be nested: the walk recurses, and paths end at 4096 bytes anyway.
const MAX_DEPTH: usize = 256;
/// How many submodules are fetched for one tree, nested ones included.
const MAX_SUBMODULES: usize = 50;
/// The longest target of a symbolic link (`PATH_MAX`).
const MAX_LINK: usize = 4095;
/// The longest name in a directory (`NAME_MAX`).
const MAX_NAME: usize = 255;
/// How many warnings are kept.
const MAX_WARNINGS: usize = 20;
/// A Git LFS pointer begins with this; the file itself is on another server.
const LFS_MAGIC: &[u8] = b"version https://git-lfs.github.com/spec/";

/// How to write a tree.
#[derive(Debug, Clone, Copy)]
pub struct ExportOptions {
    /// User id of all that is written.
    pub uid: u32,
    /// Group id of all that is written.
    pub gid: u32,
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exported {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes in files.
    pub bytes: u64,
    /// Paths of the submodules that were fetched.
    pub submodules: Vec<String>,
    /// What the user should know, one sentence each.
    pub warnings: Vec<String>,
}

impl Repositories {
    /// Writes the tree of `commit` to `destination`, which must not exist and whose parent must.
    /// Files get mode 644 or 755, directories 755, all the given owner. Submodules are fetched.
    /// After an error nothing is left.
    ///
    /// # Errors
    /// The commit cannot be read, holds what must not be written, or exceeds a limit; a submodule
    /// cannot be had; the disk refuses.
    ///
    /// # Cancellation
    /// Dropped, the writing stops soon and may leave a part of the destination.
    pub async fn export_tree(
        &self,
        app: &AppName,
        quarantine: Option<&Quarantine>,
        commit: &CommitId,
        destination: &Path,
        options: ExportOptions,
    ) -> Result<Exported, Error> {
        let mut objects = vec![self.existing(app)?.join("objects")];
        objects.extend(quarantine.map(|quarantine| quarantine.path().to_owned()));
        objects.reverse();
        create_directory(destination, 0o700)?;
        let writer = Writer::new(&self.config, destination, options);
        let _cancel_on_drop = CancelOnDrop(Arc::clone(&writer.canceled));
        let written = match self.export_all(writer, objects, commit).await {
            Ok(exported) => hand_over(destination, options).map(|()| exported),
            Err(error) => Err(error),
        };
        if written.is_err()
            && let Err(error) = remove_directory(destination)
        {
            tracing::warn!(%error, "cannot remove a half-written source tree");
        }
        written
    }

    async fn export_all(
        &self,
        writer: Writer,
        objects: Vec<PathBuf>,
        commit: &CommitId,
    ) -> Result<Exported, Error> {
        let (mut writer, links) =
            writer.write_in_background(objects, *commit, PathBuf::new()).await?;
        let mut waiting =
            submodule::located(self, &writer.destination, Path::new(""), links).await?;
        while let Some(module) = waiting.pop() {
            if writer.exported.submodules.len() >= MAX_SUBMODULES {
                let limit = u64::try_from(MAX_SUBMODULES).unwrap_or(u64::MAX);
                return Err(Error::Limit { what: "submodules", limit });
            }
            writer.exported.submodules.push(module.path.display().to_string());
            let fetched = submodule::fetch(self, &module).await?;
            let objects = vec![fetched.objects()];
            let (next, links) =
                writer.write_in_background(objects, module.commit, module.path.clone()).await?;
            writer = next;
            let nested = submodule::located(self, &writer.destination, &module.path, links).await?;
            waiting.extend(nested);
        }
        Ok(writer.into_exported())
    }
}

struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The walk over trees, with what is left of each limit.
struct Writer {
    destination: PathBuf,
    options: ExportOptions,
    config: Config,
    commit: CommitId,
    deadline: Instant,
    canceled: Arc<AtomicBool>,
    links: Vec<Gitlink>,
    lfs_pointers: u64,
    exported: Exported,
}

impl Writer {
    fn new(config: &Config, destination: &Path, options: ExportOptions) -> Self {
        Self {
            destination: destination.to_owned(),
            options,
            config: config.clone(),
            commit: CommitId::from_oid(git2::Oid::ZERO_SHA1),
            deadline: Instant::now() + Duration::from_secs(config.export_timeout_secs),
            canceled: Arc::default(),
            links: Vec::new(),
            lfs_pointers: 0,
            exported: Exported::default(),
        }
    }

    /// Writes one commit's tree below `path` on a thread that may block.
    async fn write_in_background(
        mut self,
        objects: Vec<PathBuf>,
        commit: CommitId,
        path: PathBuf,
    ) -> Result<(Self, Vec<Gitlink>), Error> {
        let work = move || {
            self.commit = commit;
            self.write_commit(&objects, &path)?;
            let links = std::mem::take(&mut self.links);
            Ok((self, links))
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
            let detail = format!("writing the tree: {error}");
            Err(Error::Git { operation: "export", detail })
        })
    }

    fn write_commit(&mut self, objects: &[PathBuf], path: &Path) -> Result<(), Error> {
        let unreadable = unreadable("commit", self.commit.oid());
        let repository = open_objects(objects.iter().map(PathBuf::as_path)).map_err(&unreadable)?;
        let odb = repository.odb().map_err(&unreadable)?;
        let commit = repository.find_commit(self.commit.oid()).map_err(&unreadable)?;
        let tree = commit.tree().map_err(&unreadable)?;
        let source = Source { repository: &repository, odb: &odb };
        self.write_tree(&source, &tree, path, 0)
    }

    fn write_tree(
        &mut self,
        source: &Source<'_>,
        tree: &git2::Tree<'_>,
        path: &Path,
        depth: usize,
    ) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(self.refused(path, "directories are nested too deeply"));
        }
        for entry in tree {
            let name = entry.name_bytes();
            let path = path.join(OsStr::from_bytes(name));
            check_name(name).map_err(|reason| self.refused(&path, reason))?;
            self.account(1, 0)?;
            match entry.filemode() {
                0o040_000 => {
                    let subtree = source.repository.find_tree(entry.id());
                    let subtree = subtree.map_err(unreadable("tree", entry.id()))?;
                    self.directory(&path)?;
                    self.write_tree(source, &subtree, &path, depth + 1)?;
                }
                0o160_000 => {
                    self.directory(&path)?;
                    self.links.push(Gitlink { path, commit: CommitId::from_oid(entry.id()) });
                }
                0o120_000 => self.link(source, entry.id(), &path)?,
                mode if mode & 0o170_000 == 0o100_000 => {
                    let mode = if mode & 0o100 == 0 { 0o644 } else { 0o755 };
                    self.file(source, entry.id(), &path, mode)?;
                }
                _ => return Err(self.refused(&path, "it is neither file, directory nor link")),
            }
        }
        Ok(())
    }

    fn directory(&self, path: &Path) -> Result<(), Error> {
        let path = self.destination.join(path);
        create_directory(&path, 0o755)?;
        // The umask may have taken bits away.
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755))
            .and_then(|()| lchown(&path, Some(self.options.uid), Some(self.options.gid)))
            .map_err(Error::io("hand over", &path))
    }

    fn file(
        &mut self,
        source: &Source<'_>,
        id: git2::Oid,
        path: &Path,
        mode: u32,
    ) -> Result<(), Error> {
        let blob = self.blob(source, id, path, self.config.max_file_bytes)?;
        let content = blob.content();
        self.lfs_pointers += u64::from(content.starts_with(LFS_MAGIC));
        let path = self.destination.join(path);
        let owner = (Some(self.options.uid), Some(self.options.gid));
        let write = || -> io::Result<()> {
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(content)?;
            fchown(&file, owner.0, owner.1)?;
            file.set_permissions(PermissionsExt::from_mode(mode))
        };
        write().map_err(Error::io("write", &path))
    }

    fn link(&mut self, source: &Source<'_>, id: git2::Oid, path: &Path) -> Result<(), Error> {
        let limit = u64::try_from(MAX_LINK).unwrap_or(u64::MAX);
        let blob = self.blob(source, id, path, limit)?;
        let target = blob.content();
        if target.is_empty() || target.contains(&0) {
            return Err(self.refused(path, "a link's target is no path"));
        }
        let path = self.destination.join(path);
        symlink(OsStr::from_bytes(target), &path)
            .and_then(|()| lchown(&path, Some(self.options.uid), Some(self.options.gid)))
            .map_err(Error::io("create the link", &path))
    }

    /// A blob of at most `limit` bytes; its size is known before it is unpacked.
    fn blob<'a>(
        &mut self,
        source: &Source<'a>,
        id: git2::Oid,
        path: &Path,
        limit: u64,
    ) -> Result<git2::Blob<'a>, Error> {
        let (size, kind) = source.odb.read_header(id).map_err(unreadable("blob", id))?;
        let size = u64::try_from(size).unwrap_or(u64::MAX);
        if kind != git2::ObjectType::Blob {
            return Err(self.refused(path, "it is not what its mode says"));
        }
        if size > limit {
            return Err(self.refused(path, "it is too large"));
        }
        self.account(0, size)?;
        source.repository.find_blob(id).map_err(unreadable("blob", id))
    }

    /// Takes from the limits; every entry passes here.
    fn account(&mut self, entries: u64, bytes: u64) -> Result<(), Error> {
        self.exported.entries += entries;
        self.exported.bytes += bytes;
        if self.exported.entries > self.config.max_export_entries {
            let limit = self.config.max_export_entries;
            return Err(Error::Limit { what: "files and directories", limit });
        }
        if self.exported.bytes > self.config.max_export_bytes {
            return Err(Error::Limit { what: "bytes", limit: self.config.max_export_bytes });
        }
        if self.canceled.load(Ordering::Relaxed) {
            return Err(Error::Canceled);
        }
        if Instant::now() > self.deadline {
            return Err(Error::Deadline { seconds: self.config.export_timeout_secs });
        }
        Ok(())
    }

    fn refused(&self, path: &Path, reason: &'static str) -> Error {
        let path = path.to_string_lossy().escape_debug().take(MAX_NAME).collect();
        Error::Path { commit: self.commit, path, reason }
    }

    fn into_exported(self) -> Exported {
        let mut exported = self.exported;
        if self.lfs_pointers > 0 {
            exported.warnings.push(format!(
                "{} file(s) are Git LFS pointers; their contents are not in the push",
                self.lfs_pointers
            ));
        }
        exported.warnings.truncate(MAX_WARNINGS);
        exported
    }
}

struct Source<'a> {
    repository: &'a git2::Repository,
    odb: &'a git2::Odb<'a>,
}

fn unreadable(what: &'static str, id: git2::Oid) -> impl Fn(git2::Error) -> Error {
    move |source| Error::Object { what, id: id.to_string(), source: source.into() }
}

/// One component of a path. `.git` in any case would be a repository to tools that run in the
/// tree (CVE-2014-9390).
fn check_name(name: &[u8]) -> Result<(), &'static str> {
    if name.is_empty() || name == b"." || name == b".." {
        Err("a name must not be empty, `.` or `..`")
    } else if name.contains(&b'/') || name.contains(&0) {
        Err("a name must not contain `/` or a null byte")
    } else if name.eq_ignore_ascii_case(b".git") {
        Err("a name must not be `.git`")
    } else if name.len() > MAX_NAME {
        Err("a name must not be longer than 255 bytes")
    } else {
        Ok(())
    }
}

fn create_directory(path: &Path, mode: u32) -> Result<(), Error> {
    std::fs::DirBuilder::new().mode(mode).create(path).map_err(Error::io("create", path))
}

/// The last step: until now only root could enter.
fn hand_over(destination: &Path, options: ExportOptions) -> Result<(), Error> {
    lchown(destination, Some(options.uid), Some(options.gid))
        .and_then(|()| std::fs::set_permissions(destination, PermissionsExt::from_mode(0o755)))
        .map_err(Error::io("hand over", destination))
}

#[cfg(test)]
mod tests;
