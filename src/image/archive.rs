//! Images on their way out and in: OCI archives, which are tars of an OCI image layout.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use oci_spec::image::ImageManifest;
use serde_json::Value;
use tar::{Archive, EntryType, Header};

use super::layout::{self, OCI_LAYOUT, canonical_json, invalid};
use super::manifest::MAX_DOCUMENT;
use super::members::{self, Member, MemberKind};
use super::store::{ImageStore, Incoming, Lease, store_error};
use super::stream::{self, Metered};
use super::{Digest, Error, Imported, Result, TarOptions, canonical};

const BLOCK: u64 = 512;

impl ImageStore {
    /// Writes the image as an OCI archive (a tar of an OCI image layout) under `name`. The layers'
    /// tars are made on the way and checked against their digests.
    ///
    /// # Errors
    /// [`Error::UnknownImage`], [`Error::WriteStream`], or [`Error::Mismatch`] if a snapshot has
    /// been changed; the archive is incomplete then.
    pub fn export_oci_archive(
        &self,
        digest: &Digest,
        name: &str,
        mut writer: impl Write,
    ) -> Result<()> {
        let lease = self.lease();
        lease.hold(digest).map_err(|_| Error::UnknownImage { digest: *digest })?;
        let documents = self.documents(digest)?;
        let index = layout::index(&[(name, *digest, documents.manifest.len() as u64)])?;
        let writer = &mut writer;
        write_file(writer, "oci-layout", OCI_LAYOUT)?;
        write_file(writer, "index.json", &index)?;
        write_file(writer, &blob_name(digest), &documents.manifest)?;
        write_file(writer, &blob_name(&documents.config_digest), &documents.config)?;
        let mut written = std::collections::HashSet::new();
        for layer in documents.layers.iter().filter(|layer| written.insert(**layer)) {
            self.export_layer(layer, writer)?;
        }
        writer
            .write_all(&[0; 1024])
            .and_then(|()| writer.flush())
            .map_err(|source| Error::WriteStream { source })
    }

    fn export_layer(&self, digest: &Digest, writer: &mut impl Write) -> Result<()> {
        let layer = self.state().layers.get(digest).copied();
        let layer = layer.ok_or(Error::UnknownLayer { digest: *digest })?;
        write_header(writer, &blob_name(digest), layer.tar_bytes)?;
        let tree = self.tree(&self.layer_path(digest))?;
        let measures = canonical::write(&tree, self.config(), &mut *writer)?;
        if measures.digest != *digest {
            let actual = measures.digest;
            return Err(Error::Mismatch { what: "snapshot", expected: *digest, actual });
        }
        // A canonical tar consists of whole blocks: nothing to pad.
        Ok(())
    }

    /// Reads an OCI archive with plain or gzip layers. Of an archive with images for several
    /// platforms, the one for this machine is taken.
    ///
    /// An image exported by a store like this one keeps its digest. Other archives' layers are
    /// tars in some other order or with other times; the image then gets a digest of its own.
    ///
    /// # Errors
    /// [`Error::ReadStream`], [`Error::Refused`], [`Error::TooLarge`], [`Error::Mismatch`] and
    /// [`Error::InvalidDocument`] for what is wrong with the archive; the store is unchanged but
    /// for layers that the next collection removes.
    pub fn import_oci_archive(&self, lease: &Lease, reader: impl Read) -> Result<Imported> {
        let incoming = self.incoming()?;
        let blobs = Blobs::receive(&incoming, reader, self.config().max_import_bytes)?;
        let (name, source_digest) = blobs.pick_manifest()?;
        let manifest_bytes = blobs.document(&source_digest)?;
        let what = || format!("manifest {source_digest}");
        let manifest = ImageManifest::from_reader(manifest_bytes.as_slice())
            .map_err(|error| invalid(what(), error))?;
        let config_digest = parse_digest(manifest.config())?;
        let config_bytes = blobs.document(&config_digest)?;
        let mut config: Value = serde_json::from_slice(&config_bytes)
            .map_err(|error| invalid(format!("image configuration {config_digest}"), error))?;
        let announced = diff_ids(&config)?;
        let blob_digests =
            manifest.layers().iter().map(parse_digest).collect::<Result<Vec<_>>>()?;
        if announced.len() != blob_digests.len() {
            return Err(invalid(what(), "manifest and configuration differ in their layers"));
        }
        let mut layers = Vec::new();
        for (blob, diff_id) in blob_digests.iter().zip(&announced) {
            layers.push(self.import_layer(lease, &blobs, blob, *diff_id)?);
        }
        let digest = if layers == announced && layers == blob_digests {
            self.commit(lease, &manifest_bytes, &config_bytes)?
        } else {
            config["rootfs"]["diff_ids"] = layers.iter().map(Digest::to_string).collect();
            self.write_configured(lease, &layers, &canonical_json(&config)?)?
        };
        // What cannot be read back must not be announced.
        self.image(&digest)?;
        Ok(Imported { digest, source_digest, name })
    }

    fn import_layer(
        &self,
        lease: &Lease,
        blobs: &Blobs,
        blob: &Digest,
        diff_id: Digest,
    ) -> Result<Digest> {
        let (reader, compression) = stream::detect(blobs.open(blob)?)?;
        if self.has_layer(&diff_id) && lease.hold(&diff_id).is_ok() {
            // Knowing a digest must not be enough to get at another app's layer.
            let tar = stream::decompress(reader, compression);
            let actual = Metered::new(tar, self.config().max_layer_bytes).finish("layer")?;
            return if actual == diff_id { Ok(diff_id) } else { Err(mismatch(diff_id, actual)) };
        }
        let options = TarOptions { expected: Some(diff_id), compression };
        Ok(self.add_layer_from_tar(lease, reader, options)?.digest)
    }
}

fn mismatch(expected: Digest, actual: Digest) -> Error {
    Error::Mismatch { what: "layer", expected, actual }
}

/// The blobs of an archive, received into a temporary directory.
#[derive(Debug)]
struct Blobs {
    directory: PathBuf,
    index: Vec<u8>,
    sizes: HashMap<Digest, u64>,
}

impl Blobs {
    fn receive(incoming: &Incoming<'_>, reader: impl Read, limit: u64) -> Result<Self> {
        let mut metered = Metered::new(reader, limit);
        let mut blobs =
            Self { directory: incoming.path.clone(), index: Vec::new(), sizes: HashMap::new() };
        let mut failure = None;
        let result = members::for_each(&mut Archive::new(&mut metered), |member, data| {
            blobs.member(member, data).map_err(|error| match error {
                Error::ReadStream { source, .. } => source,
                error => {
                    failure = Some(error);
                    io::Error::other("stop")
                }
            })
        });
        if let Some(error) = failure {
            return Err(error);
        }
        result.map_err(|source| metered.error("image archive", source))?;
        // The writer at the other end of a pipe must not die of it being closed early.
        metered.finish("image archive")?;
        Ok(blobs)
    }

    fn member(&mut self, member: &Member, data: &mut dyn Read) -> Result<()> {
        let path = String::from_utf8_lossy(&member.path).into_owned();
        let path = path.strip_prefix("./").unwrap_or(&path);
        if member.kind != MemberKind::File {
            return Ok(());
        }
        if path == "index.json" {
            self.index = read_document("index.json", data)?;
        } else if let Some(digest) = path.strip_prefix("blobs/sha256/").and_then(Digest::from_hex) {
            let size = receive_blob(&self.directory, &digest, data)?;
            self.sizes.insert(digest, size);
        }
        // Docker adds a manifest.json of its own format, and others may add more.
        Ok(())
    }

    fn open(&self, digest: &Digest) -> Result<File> {
        if !self.sizes.contains_key(digest) {
            return Err(invalid("image archive", format!("blob {digest} is missing")));
        }
        let path = self.directory.join(digest.hex());
        File::open(&path).map_err(store_error("open", &path))
    }

    fn document(&self, digest: &Digest) -> Result<Vec<u8>> {
        read_document("document of the image archive", &mut self.open(digest)?)
    }

    /// The manifest that the index names, through at most one nested index.
    fn pick_manifest(&self) -> Result<(Option<String>, Digest)> {
        if self.index.is_empty() {
            return Err(invalid("image archive", "it has no index.json"));
        }
        let entries = layout::parse_index(&self.index)?;
        let [(name, digest)] = entries.as_slice() else {
            let why = format!("it holds {} images; import one at a time", entries.len());
            return Err(invalid("image archive", why));
        };
        let document = self.document(digest)?;
        let json: Value = serde_json::from_slice(&document)
            .map_err(|error| invalid(format!("manifest {digest}"), error))?;
        if json.get("manifests").is_none() {
            return Ok((name.clone(), *digest));
        }
        Ok((name.clone(), pick_platform(&document)?))
    }
}

fn pick_platform(index: &[u8]) -> Result<Digest> {
    let index = oci_spec::image::ImageIndex::from_reader(index)
        .map_err(|error| invalid("nested image index", error))?;
    let here = |descriptor: &&oci_spec::image::Descriptor| {
        descriptor.platform().as_ref().is_some_and(|platform| {
            *platform.architecture() == oci_spec::image::Arch::default()
                && *platform.os() == oci_spec::image::Os::Linux
        })
    };
    let descriptor = index
        .manifests()
        .iter()
        .find(here)
        .ok_or_else(|| invalid("image archive", "it has no image for this machine"))?;
    parse_digest(descriptor)
}

fn receive_blob(directory: &Path, digest: &Digest, data: &mut dyn Read) -> Result<u64> {
    let path = directory.join(digest.hex());
    let mut file = File::create(&path).map_err(store_error("create", &path))?;
    let mut metered = Metered::new(data, u64::MAX);
    let mut buffer = vec![0; 128 * 1024];
    let mut size = 0;
    loop {
        let read = metered
            .read(&mut buffer)
            .map_err(|source| Error::ReadStream { what: "image archive", source })?;
        if read == 0 {
            break;
        }
        file.write_all(&buffer[..read]).map_err(store_error("write", &path))?;
        size += read as u64;
    }
    let actual = metered.finish("image archive")?;
    if actual != *digest {
        return Err(Error::Mismatch { what: "blob of the archive", expected: *digest, actual });
    }
    Ok(size)
}

fn read_document(what: &'static str, reader: &mut dyn Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader
        .take(MAX_DOCUMENT + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| Error::ReadStream { what, source })?;
    if bytes.len() as u64 > MAX_DOCUMENT {
        return Err(invalid(what, "it is larger than 4 MiB"));
    }
    Ok(bytes)
}

fn diff_ids(config: &Value) -> Result<Vec<Digest>> {
    let wrong = || invalid("image configuration", "rootfs.diff_ids is not a list of digests");
    let list = config.pointer("/rootfs/diff_ids").and_then(Value::as_array).ok_or_else(wrong)?;
    list.iter()
        .map(|item| item.as_str().and_then(|text| text.parse().ok()).ok_or_else(wrong))
        .collect()
}

fn parse_digest(descriptor: &oci_spec::image::Descriptor) -> Result<Digest> {
    let digest = descriptor.digest().to_string().parse();
    digest.map_err(|error| invalid("descriptor", error))
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn write_file(writer: &mut impl Write, name: &str, bytes: &[u8]) -> Result<()> {
    let size = bytes.len() as u64;
    write_header(writer, name, size)?;
    let padding = usize::try_from(size.next_multiple_of(BLOCK) - size).unwrap_or(0);
    writer
        .write_all(bytes)
        .and_then(|()| writer.write_all(&[0; 512][..padding]))
        .map_err(|source| Error::WriteStream { source })
}

fn write_header(writer: &mut impl Write, name: &str, size: u64) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
        .set_path(name)
        .and_then(|()| {
            header.set_cksum();
            writer.write_all(header.as_bytes())
        })
        .map_err(|source| Error::WriteStream { source })
}
