//! Images: manifests and configurations as blobs.

use std::io;
use std::path::PathBuf;

use oci_spec::image::{
    Arch, ConfigBuilder, DescriptorBuilder, HistoryBuilder, ImageConfiguration,
    ImageConfigurationBuilder, ImageManifest, ImageManifestBuilder, MediaType, Os, RootFsBuilder,
};

use crate::support::atomic_file;

use super::layout::{canonical_json, invalid};
use super::store::{ImageStore, Lease, store_error};
use super::{Digest, Error, Image, ImageConfig, ImageSpec, Result};

/// The one time of everything in an image: equal images have equal digests.
const CREATED: &str = "1980-01-01T00:00:01Z";
/// Largest manifest or configuration in bytes; registries refuse more than 4 MiB as well.
pub(super) const MAX_DOCUMENT: u64 = 4 << 20;
/// Most layers of one image. overlayfs takes 500; Docker refuses more than 127.
const MAX_LAYERS: usize = 127;

/// A manifest with its configuration, both as read and parsed.
#[derive(Debug)]
pub(super) struct Documents {
    pub(super) manifest: Vec<u8>,
    pub(super) config: Vec<u8>,
    pub(super) config_digest: Digest,
    pub(super) configuration: ImageConfiguration,
    pub(super) layers: Vec<Digest>,
}

impl ImageStore {
    /// Writes an image and returns its manifest's digest. When this returns, the image and its
    /// layers survive a power cut. The same image has the same digest on every machine.
    ///
    /// # Errors
    /// [`Error::UnknownLayer`], or a failure to write.
    pub fn write_image(&self, lease: &Lease, spec: &ImageSpec) -> Result<Digest> {
        let config = canonical_json(&configuration(spec)?)?;
        self.write_configured(lease, &spec.layers, &config)
    }

    /// Writes an image of which the configuration exists as bytes.
    pub(super) fn write_configured(
        &self,
        lease: &Lease,
        layers: &[Digest],
        config: &[u8],
    ) -> Result<Digest> {
        if layers.len() > MAX_LAYERS {
            return Err(Error::TooLarge { what: "layers", limit: MAX_LAYERS as u64 });
        }
        let manifest = canonical_json(&self.manifest(lease, layers, config)?)?;
        self.commit(lease, &manifest, config)
    }

    /// Writes the blobs of an image whose layers `lease` holds.
    pub(super) fn commit(&self, lease: &Lease, manifest: &[u8], config: &[u8]) -> Result<Digest> {
        self.sync()?;
        self.write_blob(lease, config)?;
        self.write_blob(lease, manifest)
    }

    fn write_blob(&self, lease: &Lease, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        {
            // Reserved before it is written, and not in the midst of a collection, which may have
            // read the leases already and would then take the new file.
            let _state = self.state();
            lease.reserve(digest);
        }
        let path = self.blob_path(&digest);
        atomic_file::write(&path, bytes, 0o600).map_err(store_error("write", &path))?;
        Ok(digest)
    }

    fn manifest(&self, lease: &Lease, layers: &[Digest], config: &[u8]) -> Result<ImageManifest> {
        let config_digest = Digest::of(config);
        let mut descriptors = Vec::new();
        for digest in layers {
            lease.hold(digest)?;
            let layer = self.state().layers.get(digest).copied();
            let layer = layer.ok_or(Error::UnknownLayer { digest: *digest })?;
            descriptors.push(descriptor(MediaType::ImageLayer, digest, layer.tar_bytes)?);
        }
        ImageManifestBuilder::default()
            .schema_version(2_u32)
            .media_type(MediaType::ImageManifest)
            .config(descriptor(MediaType::ImageConfig, &config_digest, config.len() as u64)?)
            .layers(descriptors)
            .build()
            .map_err(|error| invalid("image manifest", error))
    }

    /// Reads an image.
    ///
    /// # Errors
    /// [`Error::UnknownImage`], [`Error::Mismatch`] for a damaged blob, [`Error::InvalidDocument`].
    pub fn image(&self, digest: &Digest) -> Result<Image> {
        let documents = self.documents(digest)?;
        let state = self.state();
        let mut tar_bytes = 0;
        for digest in &documents.layers {
            let layer = state.layers.get(digest).ok_or(Error::UnknownLayer { digest: *digest })?;
            tar_bytes += layer.tar_bytes;
        }
        Ok(Image {
            digest: *digest,
            config: image_config(&documents.configuration),
            layers: documents.layers,
            tar_bytes,
        })
    }

    /// The snapshots of the image, bottom first. (overlayfs wants its `lowerdir` top first.)
    ///
    /// # Errors
    /// As [`Self::image`].
    pub fn image_layer_paths(&self, digest: &Digest) -> Result<Vec<PathBuf>> {
        Ok(self.image(digest)?.layers.iter().map(|layer| self.layer_path(layer)).collect())
    }

    pub(super) fn documents(&self, digest: &Digest) -> Result<Documents> {
        let manifest = self.read_blob(digest)?.ok_or(Error::UnknownImage { digest: *digest })?;
        let what = || format!("manifest {digest}");
        let (config_digest, layers) =
            parse_manifest(&manifest).map_err(|why| invalid(what(), why))?;
        let config = self
            .read_blob(&config_digest)?
            .ok_or_else(|| invalid(what(), "its configuration is missing"))?;
        let configuration = ImageConfiguration::from_reader(config.as_slice())
            .map_err(|error| invalid(format!("image configuration {config_digest}"), error))?;
        Ok(Documents { manifest, config, config_digest, configuration, layers })
    }

    /// The bytes of a blob, checked against its name; none if it does not exist.
    fn read_blob(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let path = self.blob_path(digest);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(store_error("read", &path)(error)),
        };
        let actual = Digest::of(&bytes);
        if actual != *digest {
            return Err(Error::Mismatch { what: "blob", expected: *digest, actual });
        }
        Ok(Some(bytes))
    }
}

/// The configuration and the layers that a manifest of this store names.
pub(super) fn parse_manifest(json: &[u8]) -> std::result::Result<(Digest, Vec<Digest>), String> {
    let manifest = ImageManifest::from_reader(json).map_err(|error| error.to_string())?;
    let digest = |descriptor: &oci_spec::image::Descriptor| {
        let digest: std::result::Result<Digest, _> = descriptor.digest().to_string().parse();
        digest.map_err(|error| error.to_string())
    };
    let layers = manifest.layers().iter().map(digest).collect::<std::result::Result<_, _>>()?;
    Ok((digest(manifest.config())?, layers))
}

fn descriptor(
    media_type: MediaType,
    digest: &Digest,
    size: u64,
) -> Result<oci_spec::image::Descriptor> {
    let digest: oci_spec::image::Digest =
        digest.to_string().parse().map_err(|error| invalid("descriptor", error))?;
    DescriptorBuilder::default()
        .media_type(media_type)
        .digest(digest)
        .size(size)
        .build()
        .map_err(|error| invalid("descriptor", error))
}

fn configuration(spec: &ImageSpec) -> Result<ImageConfiguration> {
    let config = &spec.config;
    let env: Vec<String> = config.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut builder = ConfigBuilder::default()
        .env(env)
        .entrypoint(config.entrypoint.clone())
        .cmd(config.cmd.clone())
        .working_dir(config.working_dir.clone())
        .user(config.user.clone())
        .labels(config.labels.clone().into_iter().collect::<std::collections::HashMap<_, _>>())
        .exposed_ports(config.exposed_ports.clone());
    if !config.stop_signal.is_empty() {
        builder = builder.stop_signal(config.stop_signal.clone());
    }
    let diff_ids: Vec<String> = spec.layers.iter().map(Digest::to_string).collect();
    let build = |error| invalid("image configuration", error);
    let history = (0..spec.layers.len())
        .map(|index| {
            let origin = spec.history.get(index).cloned().unwrap_or_default();
            HistoryBuilder::default().created(CREATED).created_by(origin).build()
        })
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(build)?;
    ImageConfigurationBuilder::default()
        .created(CREATED)
        .architecture(Arch::default())
        .os(Os::Linux)
        .config(builder.build().map_err(build)?)
        .rootfs(RootFsBuilder::default().typ("layers").diff_ids(diff_ids).build().map_err(build)?)
        .history(history)
        .build()
        .map_err(build)
}

fn image_config(configuration: &ImageConfiguration) -> ImageConfig {
    let Some(config) = configuration.config() else { return ImageConfig::default() };
    let env = config.env().as_deref().unwrap_or_default();
    ImageConfig {
        env: env
            .iter()
            .map(|entry| entry.split_once('=').unwrap_or((entry, "")))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        entrypoint: config.entrypoint().clone().unwrap_or_default(),
        cmd: config.cmd().clone().unwrap_or_default(),
        working_dir: config.working_dir().clone().unwrap_or_default(),
        user: config.user().clone().unwrap_or_default(),
        labels: config.labels().clone().unwrap_or_default().into_iter().collect(),
        exposed_ports: config.exposed_ports().clone().unwrap_or_default(),
        stop_signal: config.stop_signal().clone().unwrap_or_default(),
    }
}
