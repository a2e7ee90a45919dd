//! The OCI image layout's own files: `oci-layout`, and `index.json` with the references.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::support::atomic_file;

use super::store::{ImageStore, store_error};
use super::{Digest, Error, Result};

/// Annotation that carries a reference's name (image-spec annotations.md).
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Media type of an image manifest.
pub(super) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// The one version that image layouts have had.
pub(super) const OCI_LAYOUT: &[u8] = b"{\"imageLayoutVersion\":\"1.0.0\"}";
/// Longest reference name in bytes.
const MAX_NAME: usize = 255;

impl ImageStore {
    /// Names an image, taking the name from the image that had it.
    ///
    /// # Errors
    /// [`Error::InvalidReference`], [`Error::UnknownImage`], or a failure to write the index.
    pub fn tag(&self, name: &str, digest: &Digest) -> Result<()> {
        check_name(name)?;
        self.image(digest)?;
        let mut state = self.state();
        // Again, now that no collection can run.
        if !self.blob_path(digest).exists() {
            return Err(Error::UnknownImage { digest: *digest });
        }
        let mut references = state.references.clone();
        references.insert(name.to_owned(), *digest);
        self.store_references(&references)?;
        state.references = references;
        Ok(())
    }

    /// Removes a name; the image stays until `gc`.
    ///
    /// # Errors
    /// [`Error::UnknownReference`], or a failure to write the index.
    pub fn untag(&self, name: &str) -> Result<()> {
        let mut state = self.state();
        let mut references = state.references.clone();
        references.remove(name).ok_or_else(|| Error::UnknownReference { name: name.to_owned() })?;
        self.store_references(&references)?;
        state.references = references;
        Ok(())
    }

    /// The image of that name.
    ///
    /// # Errors
    /// [`Error::UnknownReference`].
    pub fn resolve(&self, name: &str) -> Result<Digest> {
        let digest = self.state().references.get(name).copied();
        digest.ok_or_else(|| Error::UnknownReference { name: name.to_owned() })
    }

    /// All names with their images, sorted by name.
    pub fn list(&self) -> Vec<(String, Digest)> {
        self.state().references.iter().map(|(name, digest)| (name.clone(), *digest)).collect()
    }

    fn store_references(&self, references: &BTreeMap<String, Digest>) -> Result<()> {
        let entries = references
            .iter()
            .map(|(name, digest)| {
                let path = self.blob_path(digest);
                let size = std::fs::metadata(&path).map_err(store_error("measure", &path))?.len();
                Ok((name.as_str(), *digest, size))
            })
            .collect::<Result<Vec<_>>>()?;
        let path = self.path("index.json");
        atomic_file::write(&path, &index(&entries)?, 0o600).map_err(store_error("write", &path))
    }
}

/// The bytes of an `index.json` of those references: name, manifest, manifest's size.
pub(super) fn index(entries: &[(&str, Digest, u64)]) -> Result<Vec<u8>> {
    let manifests: Vec<Value> = entries
        .iter()
        .map(|(name, digest, size)| {
            serde_json::json!({
                "mediaType": MANIFEST_TYPE,
                "digest": digest.to_string(),
                "size": size,
                "annotations": { REF_NAME: name },
            })
        })
        .collect();
    canonical_json(&serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    }))
}

/// Reads the references of the store in `root`, and writes the layout's files where missing.
pub(super) fn load(root: &Path) -> Result<BTreeMap<String, Digest>> {
    let marker = root.join("oci-layout");
    if !marker.exists() {
        atomic_file::write(&marker, OCI_LAYOUT, 0o600).map_err(store_error("write", &marker))?;
    }
    let path = root.join("index.json");
    let json = match std::fs::read(&path) {
        Ok(json) => json,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            atomic_file::write(&path, &index(&[])?, 0o600).map_err(store_error("write", &path))?;
            return Ok(BTreeMap::new());
        }
        Err(error) => return Err(store_error("read", &path)(error)),
    };
    let entries = parse_index(&json)?;
    Ok(entries.into_iter().filter_map(|(name, digest)| Some((name?, digest))).collect())
}

/// The manifests that an `index.json` lists, with their names.
pub(super) fn parse_index(json: &[u8]) -> Result<Vec<(Option<String>, Digest)>> {
    let index = oci_spec::image::ImageIndex::from_reader(json)
        .map_err(|error| invalid("index.json", error))?;
    let entry = |descriptor: &oci_spec::image::Descriptor| {
        let annotations = descriptor.annotations().as_ref();
        let name = annotations.and_then(|all| all.get(REF_NAME)).cloned();
        let digest = descriptor.digest().to_string().parse();
        Ok((name, digest.map_err(|error| invalid("index.json", error))?))
    };
    index.manifests().iter().map(entry).collect()
}

/// JSON with sorted keys and no white space: equal documents have equal digests.
pub(super) fn canonical_json(document: &impl Serialize) -> Result<Vec<u8>> {
    let encode = |error: serde_json::Error| invalid("document to be written", error);
    let value = serde_json::to_value(document).map_err(encode)?;
    serde_json::to_vec(&sorted(value)).map_err(encode)
}

/// serde_json keeps keys sorted or in order of insertion, depending on a feature that any crate of
/// the program can switch on; this does not.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let entries: BTreeMap<String, Value> =
                map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        scalar => scalar,
    }
}

pub(super) fn invalid(what: impl Into<String>, why: impl ToString) -> Error {
    Error::InvalidDocument { what: what.into(), why: why.to_string() }
}

/// The characters that the annotation's specification allows, starting with a letter or digit.
fn check_name(name: &str) -> Result<()> {
    let refuse = |why| Err(Error::InvalidReference { name: name.chars().take(80).collect(), why });
    if name.len() > MAX_NAME {
        return refuse("longer than 255 characters");
    }
    if !name.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return refuse("must start with a letter or a digit");
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._:@/+".contains(c);
    if !name.chars().all(allowed) {
        return refuse("may contain letters, digits and - . _ : @ / + only");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_specification() {
        for name in ["stack/debian-13:run", "shop", "a@b+c_d"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "-a", "/a", "a b", "ä", "a\n", &"a".repeat(256)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn an_index_reads_as_it_is_written() {
        let digest = Digest::of(b"manifest");
        let json = index(&[("a:1", digest, 8), ("b", digest, 8)]).unwrap();
        let expected = vec![(Some("a:1".into()), digest), (Some("b".into()), digest)];
        assert_eq!(parse_index(&json).unwrap(), expected);
        assert!(parse_index(b"{}").is_err());
    }

    #[test]
    fn json_is_sorted_at_every_level() {
        let json = canonical_json(&serde_json::json!({"b": [{"z": 1, "a": 2}], "a": null}));
        assert_eq!(json.unwrap(), br#"{"a":null,"b":[{"a":2,"z":1}]}"#);
    }
}
