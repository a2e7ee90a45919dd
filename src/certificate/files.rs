//! The directory of certificates: one file for each, chain and key, named by its content; beside it
//! what its authority says of it, if that is known.
//!
//! Root writes, the proxy's group reads, nobody else: `0640 root:<proxy>` in a directory `0750`.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::Error;
use super::ocsp::Staple;
use super::pair::{Pair, Validity};
use super::trust::Trust;
use crate::domain::{CertificateId, Timestamp};
use crate::support::atomic_file;

/// The largest file: what [`Pair`] lets in.
const MAX_BYTES: u64 = 128 << 10;

/// The directory.
#[derive(Debug, Clone)]
pub struct Files {
    directory: PathBuf,
    group: u32,
}

impl Files {
    /// Opens or makes the directory, readable by `group`.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn open(directory: &Path, group: u32) -> Result<Self, Error> {
        let failed = |source| Error::File { operation: "make", path: directory.into(), source };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(directory)
            .and_then(|()| chown(directory, None, Some(group)))
            .map_err(failed)?;
        Ok(Self { directory: directory.into(), group })
    }

    fn path(&self, id: &CertificateId) -> PathBuf {
        self.directory.join(format!("{id}.pem"))
    }

    /// Keeps a pair. When this returns, the file survives a power cut and the proxy can read it.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn keep(&self, pair: &Pair) -> Result<(), Error> {
        let path = self.path(&pair.facts().id);
        let contents = format!("{}{}", pair.certificate_pem(), pair.key_pem());
        self.write(&path, contents.as_bytes())
    }

    fn write(&self, path: &Path, contents: &[u8]) -> Result<(), Error> {
        let failed = |operation| move |source| Error::File { operation, path: path.into(), source };
        // Nobody but root may read it until it has its group, and with 0600 nobody ever does by
        // mistake: the bits are widened last.
        atomic_file::write(path, contents, 0o600).map_err(failed("write"))?;
        chown(path, None, Some(self.group)).map_err(failed("give to the proxy's group"))?;
        let mode = std::fs::Permissions::from_mode(0o640);
        std::fs::set_permissions(path, mode).map_err(failed("set the mode of"))
    }

    fn staple_path(&self, id: &CertificateId) -> PathBuf {
        self.directory.join(format!("{id}.ocsp"))
    }

    /// Keeps what an authority says of a certificate, in place of what it said before.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn keep_staple(&self, id: &CertificateId, staple: &Staple) -> Result<(), Error> {
        self.write(&self.staple_path(id), &staple.to_bytes())
    }

    /// What an authority has said of a certificate; none as well if it cannot be read, since it can
    /// be had again.
    pub fn staple(&self, id: &CertificateId) -> Option<Staple> {
        use io::Read;
        let mut bytes = Vec::new();
        let file = std::fs::File::open(self.staple_path(id)).ok()?;
        file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
        Staple::from_bytes(&bytes)
    }

    /// Forgets what an authority has said of a certificate.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn remove_staple(&self, id: &CertificateId) -> Result<(), Error> {
        remove_file(self.staple_path(id))
    }

    /// The pair of that name, whatever its validity.
    ///
    /// # Errors
    /// [`Error::File`]; [`Error::Damaged`] if it is not what was written.
    pub fn read(&self, id: &CertificateId, now: Timestamp, trust: &Trust) -> Result<Pair, Error> {
        let path = self.path(id);
        let read = || -> io::Result<String> {
            use io::Read;
            let mut text = String::new();
            std::fs::File::open(&path)?.take(MAX_BYTES).read_to_string(&mut text)?;
            Ok(text)
        };
        let text = read().map_err(|source| Error::File {
            operation: "read",
            path: path.clone(),
            source,
        })?;
        Pair::parse(&text, &keys_of(&text), now, Validity::Waived, trust)
            .map(|checked| checked.pair)
            .map_err(|source| Error::Damaged { path, source })
    }

    /// Removes a pair and what is said of it, if they are there.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn remove(&self, id: &CertificateId) -> Result<(), Error> {
        remove_file(self.path(id))?;
        self.remove_staple(id)
    }

    /// Removes every file but those in `kept` and those younger than `age`, which may not be
    /// recorded yet; half-written ones included.
    ///
    /// # Errors
    /// [`Error::File`], of the last one that cannot be removed; the others are.
    pub fn remove_others(
        &self,
        kept: &HashSet<CertificateId>,
        age: Duration,
    ) -> Result<usize, Error> {
        let failed =
            |operation, path: &Path, source| Error::File { operation, path: path.into(), source };
        let entries = std::fs::read_dir(&self.directory)
            .map_err(|source| failed("read", &self.directory, source))?;
        let names: HashSet<String> =
            kept.iter().flat_map(|id| [format!("{id}.pem"), format!("{id}.ocsp")]).collect();
        let (mut removed, mut failure) = (0, None);
        for entry in entries.flatten() {
            if entry.file_name().to_str().is_some_and(|name| names.contains(name)) {
                continue;
            }
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            if modified.is_ok_and(|at| at.elapsed().unwrap_or_default() < age) {
                continue;
            }
            match std::fs::remove_file(entry.path()) {
                Ok(()) => removed += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => failure = Some(failed("remove", &entry.path(), source)),
            }
        }
        failure.map_or(Ok(removed), Err)
    }
}

fn remove_file(path: PathBuf) -> Result<(), Error> {
    match std::fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::File { operation: "remove", path, source })
        }
        _ => Ok(()),
    }
}

/// The part of a kept file behind its certificates.
fn keys_of(text: &str) -> String {
    let lines = text.lines().skip_while(|line| {
        !(line.starts_with("-----BEGIN ") && line.ends_with("PRIVATE KEY-----"))
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::issue;

    #[test]
    fn a_kept_pair_is_read_back_and_others_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("certificates");
        let group = std::os::unix::fs::MetadataExt::gid(&std::fs::metadata("/proc/self").unwrap());
        let files = Files::open(&directory, group).unwrap();
        let trust = Trust::of_host();
        let now = Timestamp(1_767_323_045_000);
        let make =
            |name: &str| issue::self_signed(&name.parse().unwrap(), now, &trust).unwrap().pair;
        let (kept, other) = (make("a.test"), make("b.test"));
        files.keep(&kept).unwrap();
        files.keep(&other).unwrap();
        let id = &kept.facts().id;
        let mode = std::fs::metadata(files.path(id)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o640);
        let read = files.read(id, now, &trust).unwrap();
        assert_eq!(read.key_pem(), kept.key_pem());
        assert_eq!(read.certificate_pem(), kept.certificate_pem());
        let kept_ids = HashSet::from([id.clone()]);
        assert_eq!(files.remove_others(&kept_ids, Duration::from_secs(3600)).unwrap(), 0);
        let removed = files.remove_others(&kept_ids, Duration::ZERO).unwrap();
        assert_eq!(
            (removed, files.path(id).exists(), files.path(&other.facts().id).exists()),
            (1, true, false)
        );
    }

    #[test]
    fn a_staple_stays_and_goes_with_its_certificate() {
        let directory = tempfile::tempdir().unwrap();
        let group = std::os::unix::fs::MetadataExt::gid(&std::fs::metadata("/proc/self").unwrap());
        let files = Files::open(directory.path(), group).unwrap();
        let id: CertificateId = "a".repeat(64).parse().unwrap();
        let staple = Staple::from_bytes(b"100 200\nder").unwrap();
        assert_eq!(files.staple(&id), None);
        files.keep_staple(&id, &staple).unwrap();
        let mode = std::fs::metadata(files.staple_path(&id)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o640);
        let kept = HashSet::from([id.clone()]);
        assert_eq!(files.remove_others(&kept, Duration::ZERO).unwrap(), 0);
        assert_eq!(files.staple(&id), Some(staple));
        files.remove(&id).unwrap();
        assert_eq!(files.staple(&id), None);
    }
}
