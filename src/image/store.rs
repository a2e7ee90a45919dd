//! The store: opening, adding layers, finding them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::support::atomic_file;
use crate::sys::fs;

use super::adopt::{self, adopt};
use super::canonical::{self, Measures};
use super::lease::{LeaseEntry, Leases};
use super::tree::Tree;
use super::{
    Config, Digest, DirOptions, Error, Layer, Result, TarOptions, layout, stream, trash, unpack,
};

/// A handle on an open store. Cheap to clone; all clones are one store.
#[derive(Debug, Clone)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    config: Config,
    /// Holds the lock on the store, and stands for its file system in `syncfs`.
    lock: File,
    state: Mutex<State>,
    leases: Leases,
    names: AtomicU64,
}

/// What the store holds. Changes go to the disk first, under the lock.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) layers: BTreeMap<Digest, LayerState>,
    pub(super) references: BTreeMap<String, Digest>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct LayerState {
    pub(super) tar_bytes: u64,
    pub(super) entries: u64,
    /// Whether the snapshot is safely on disk and has its record.
    pub(super) sealed: bool,
}

/// A layer's record, `layers/sha256/<hex>.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    tar_bytes: u64,
    entries: u64,
}

/// Keeps content alive that no image or reference names yet: every layer and image added or held
/// under a lease survives [`ImageStore::gc`] until the lease is dropped.
///
/// Hold one from before the first layer is added until the image's digest is recorded where the
/// `roots` function of `gc` finds it.
#[derive(Debug)]
pub struct Lease {
    store: ImageStore,
    entry: LeaseEntry,
}

impl Lease {
    /// Extends the lease to something that is in the store already, such as a cached layer.
    ///
    /// # Errors
    /// [`Error::UnknownLayer`] when it is neither a layer nor an image of the store.
    pub fn hold(&self, digest: &Digest) -> Result<()> {
        let state = self.store.state();
        if !state.layers.contains_key(digest) && !self.store.blob_path(digest).exists() {
            return Err(Error::UnknownLayer { digest: *digest });
        }
        self.entry.hold(*digest);
        Ok(())
    }

    /// Extends the lease to something that is about to be written. The caller holds the state's
    /// lock.
    pub(super) fn reserve(&self, digest: Digest) {
        self.entry.hold(digest);
    }
}

/// A directory of the store's for content on its way in. Goes to the trash when dropped.
#[derive(Debug)]
pub(super) struct Incoming<'a> {
    store: &'a ImageStore,
    pub(super) path: PathBuf,
}

impl Drop for Incoming<'_> {
    fn drop(&mut self) {
        // What cannot be removed now is removed when the store is opened.
        let _ = self.store.discard(&self.path);
    }
}

impl ImageStore {
    /// Opens or creates the store in the directory `root`, and removes what a crash left behind.
    ///
    /// # Errors
    /// [`Error::InUse`] when another process has it open; otherwise what could not be read.
    pub fn open(root: &Path, config: Config) -> Result<Self> {
        make_directories(root)?;
        let lock = take_lock(root)?;
        let store = Self {
            inner: Arc::new(Inner {
                root: root.to_owned(),
                config,
                lock,
                state: Mutex::default(),
                leases: Leases::default(),
                names: AtomicU64::new(0),
            }),
        };
        store.recover()?;
        let references = layout::load(root)?;
        let layers = store.load_layers()?;
        *store.state() = State { layers, references };
        store.empty_trash()?;
        Ok(store)
    }

    /// A new lease that holds nothing yet.
    pub fn lease(&self) -> Lease {
        Lease { store: self.clone(), entry: self.inner.leases.add() }
    }

    /// Takes the directory `dir` as a layer, by rename: it must be on the store's file system. The
    /// caller has stopped everything that could still write to it.
    ///
    /// Owners are shifted by [`DirOptions::id_base`]; whiteouts and opaque directories of overlayfs
    /// stay; other extended attributes (file capabilities, ACLs) are removed, and so are sockets,
    /// FIFOs and device nodes. The root directory becomes `root:root 0755`.
    ///
    /// # Errors
    /// [`Error::Refused`] and [`Error::TooLarge`] for content that the app's author must change.
    /// `dir` is gone in any case once it was taken.
    pub fn add_layer_from_dir(
        &self,
        lease: &Lease,
        dir: &Path,
        options: DirOptions,
    ) -> Result<Layer> {
        let incoming = Incoming { store: self, path: self.new_path("tmp") };
        std::fs::rename(dir, &incoming.path).map_err(|source| match source.kind() {
            io::ErrorKind::CrossesDevices => Error::OtherFileSystem { path: dir.to_owned() },
            _ => store_error("take the directory", dir)(source),
        })?;
        let tree = self.tree(&incoming.path)?;
        let adopted = adopt(&tree, options.id_base, &self.inner.config)?;
        self.place(lease, &incoming, &tree, adopted.dropped)
    }

    /// Unpacks a tar as a layer. OCI whiteouts become overlayfs whiteouts; device nodes, FIFOs and
    /// extended attributes are left out.
    ///
    /// The layer's digest is that of its canonical tar, which need not be the stream's.
    ///
    /// # Errors
    /// [`Error::Refused`] and [`Error::TooLarge`] for unacceptable content, [`Error::Mismatch`] if
    /// the stream has another digest than expected.
    pub fn add_layer_from_tar(
        &self,
        lease: &Lease,
        reader: impl Read,
        options: TarOptions,
    ) -> Result<Layer> {
        let incoming = self.incoming()?;
        let tree = self.tree(&incoming.path)?;
        adopt::prepare_root(&tree)?;
        let reader = BufReader::with_capacity(128 * 1024, reader);
        let tar = stream::decompress(reader, options.compression);
        let unpacked = unpack::unpack(&tree, tar, &self.inner.config)?;
        if let Some(expected) = options.expected.filter(|expected| *expected != unpacked.digest) {
            return Err(Error::Mismatch { what: "layer", expected, actual: unpacked.digest });
        }
        self.place(lease, &incoming, &tree, unpacked.dropped)
    }

    /// Whether the layer is in the store.
    pub fn has_layer(&self, digest: &Digest) -> bool {
        self.state().layers.contains_key(digest)
    }

    /// The layer, if the store has it.
    pub fn layer(&self, digest: &Digest) -> Option<Layer> {
        let state = self.state();
        let known = state.layers.get(digest)?;
        let (tar_bytes, entries) = (known.tar_bytes, known.entries);
        Some(Layer { digest: *digest, tar_bytes, entries, dropped: 0, existed: true })
    }

    /// The snapshot's directory. Read-only for everybody: changing it corrupts the store.
    pub fn layer_path(&self, digest: &Digest) -> PathBuf {
        self.path("layers/sha256").join(digest.hex())
    }

    /// Makes all layers added so far survive a power cut. [`Self::write_image`] includes this;
    /// for layers that are kept without an image, such as a build cache's.
    ///
    /// # Errors
    /// The write-back's or the records'.
    pub fn sync(&self) -> Result<()> {
        let pending: Vec<(Digest, LayerState)> = {
            let state = self.state();
            state.layers.iter().filter(|(_, layer)| !layer.sealed).map(|(d, l)| (*d, *l)).collect()
        };
        if pending.is_empty() {
            return Ok(());
        }
        // One call for all the files of all pending layers; an fsync each costs minutes.
        fs::sync_file_system(self.inner.lock.as_fd())
            .map_err(store_error("sync the file system of", &self.inner.root))?;
        for (digest, layer) in pending {
            self.seal(&digest, &layer)?;
        }
        Ok(())
    }

    fn seal(&self, digest: &Digest, layer: &LayerState) -> Result<()> {
        let path = self.record_path(digest);
        let record = Record { tar_bytes: layer.tar_bytes, entries: layer.entries };
        let json = serde_json::to_vec(&record)
            .map_err(|error| store_error("encode the record", &path)(error.into()))?;
        // Under the lock: a collection that removes the layer must not be overtaken by its record.
        let mut state = self.state();
        if let Some(layer) = state.layers.get_mut(digest) {
            atomic_file::write(&path, &json, 0o600).map_err(store_error("write", &path))?;
            layer.sealed = true;
        }
        Ok(())
    }

    /// Measures the content and gives it its name, unless the store has it already.
    fn place(
        &self,
        lease: &Lease,
        incoming: &Incoming<'_>,
        tree: &Tree,
        dropped: u64,
    ) -> Result<Layer> {
        let Measures { digest, tar_bytes, entries } =
            canonical::write(tree, &self.inner.config, io::sink())?;
        let mut state = self.state();
        lease.reserve(digest);
        let existed = state.layers.contains_key(&digest);
        if !existed {
            let path = self.layer_path(&digest);
            std::fs::rename(&incoming.path, &path).map_err(store_error("name the layer", &path))?;
            state.layers.insert(digest, LayerState { tar_bytes, entries, sealed: false });
        }
        Ok(Layer { digest, tar_bytes, entries, dropped, existed })
    }

    /// Deletes a directory tree that a stranger filled, however deeply nested. It must be on the
    /// store's file system, and is out of the caller's way at once. For build directories and the
    /// like, where `std::fs::remove_dir_all` would run out of descriptors.
    ///
    /// # Errors
    /// What could not be moved or removed. A tree that was moved is removed at the latest when the
    /// store is opened again.
    pub fn discard(&self, dir: &Path) -> Result<()> {
        match std::fs::rename(dir, self.new_path("trash")) {
            Ok(()) => self.empty_trash(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(store_error("move to the trash", dir)(error)),
        }
    }

    pub(super) fn incoming(&self) -> Result<Incoming<'_>> {
        let path = self.new_path("tmp");
        make_directory(&path)?;
        Ok(Incoming { store: self, path })
    }

    pub(super) fn tree(&self, path: &Path) -> Result<Tree> {
        Tree::open(path).map_err(store_error("open", path))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // The disk is changed before the state, so a panic in between leaves the state valid.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn config(&self) -> &Config {
        &self.inner.config
    }

    pub(super) fn leased(&self) -> std::collections::HashSet<Digest> {
        self.inner.leases.all()
    }

    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.inner.root.join(below)
    }

    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("blobs/sha256").join(digest.hex())
    }

    pub(super) fn record_path(&self, digest: &Digest) -> PathBuf {
        self.path("layers/sha256").join(format!("{}.json", digest.hex()))
    }

    /// A path in `tmp` or `trash` that nothing has.
    pub(super) fn new_path(&self, place: &str) -> PathBuf {
        let count = self.inner.names.fetch_add(1, Ordering::Relaxed);
        self.path(place).join(format!("{}.{count}", std::process::id()))
    }

    pub(super) fn empty_trash(&self) -> Result<()> {
        let path = self.path("trash");
        trash::empty(&path).map_err(store_error("empty", &path))
    }

    /// Removes what an interrupted process left on its way in or out.
    fn recover(&self) -> Result<()> {
        // First the trash, whose old names could be in the way of new ones.
        self.empty_trash()?;
        let tmp = self.path("tmp");
        trash::empty(&tmp).map_err(store_error("empty", &tmp))
    }

    /// The layers on disk. A snapshot without a record may be incomplete: the power may have failed
    /// before its files were written back.
    fn load_layers(&self) -> Result<BTreeMap<Digest, LayerState>> {
        let directory = self.path("layers/sha256");
        let list = || store_error("list", &directory);
        let mut layers = BTreeMap::new();
        for entry in std::fs::read_dir(&directory).map_err(list())? {
            let entry = entry.map_err(list())?;
            let name = entry.file_name().to_string_lossy().into_owned();
            match Digest::from_hex(&name) {
                Some(digest) => match self.read_record(&digest) {
                    Some(layer) => drop(layers.insert(digest, layer)),
                    None => std::fs::rename(entry.path(), self.new_path("trash"))
                        .map_err(store_error("remove the incomplete", &entry.path()))?,
                },
                None => self.remove_stray(&entry.path(), &name)?,
            }
        }
        Ok(layers)
    }

    fn read_record(&self, digest: &Digest) -> Option<LayerState> {
        let json = std::fs::read(self.record_path(digest)).ok()?;
        let Record { tar_bytes, entries } = serde_json::from_slice(&json).ok()?;
        Some(LayerState { tar_bytes, entries, sealed: true })
    }

    /// Removes a record without a snapshot, and temporary files.
    fn remove_stray(&self, path: &Path, name: &str) -> Result<()> {
        let snapshot = name.strip_suffix(".json").and_then(Digest::from_hex);
        if snapshot.is_some_and(|digest| self.layer_path(&digest).is_dir()) {
            return Ok(());
        }
        std::fs::rename(path, self.new_path("trash")).map_err(store_error("remove the stray", path))
    }
}

pub(super) fn store_error(
    operation: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Store { operation, path, source }
}

fn make_directories(root: &Path) -> Result<()> {
    std::fs::create_dir_all(root).map_err(store_error("create", root))?;
    // Snapshots hold programs that are set-uid root by an app's choice.
    std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o700))
        .map_err(store_error("set the mode of", root))?;
    for below in ["blobs", "blobs/sha256", "layers", "layers/sha256", "tmp", "trash"] {
        make_directory(&root.join(below))?;
    }
    Ok(())
}

fn make_directory(path: &Path) -> Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result.map_err(store_error("create", path)),
    }
}

fn take_lock(root: &Path) -> Result<File> {
    let path = root.join("lock");
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(store_error("open", &path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::InUse { path: root.to_owned() }),
        Err(std::fs::TryLockError::Error(source)) => Err(store_error("lock", &path)(source)),
    }
}
