//! The buildpacks that are part of the program, written out for the build containers to mount.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::Error;

/// Lists the bundle's files; `shared` ones are part of several buildpacks, which must be complete
/// each by itself.
macro_rules! files {
    ($($path:literal $(from $shared:literal)?),* $(,)?) => {
        &[$(($path, files!(@contents $path $($shared)?))),*]
    };
    (@contents $path:literal) => { include_bytes!(concat!("../../buildpacks/", $path)) };
    (@contents $path:literal $shared:literal) => {
        include_bytes!(concat!("../../buildpacks/", $shared))
    };
}

const FILES: &[(&str, &[u8])] = files![
    "order.toml",
    "nodejs/buildpack.toml",
    "nodejs/catalogue.json",
    "nodejs/lib/fetch.py",
    "nodejs/lib/managers.py",
    "nodejs/lib/pack.py" from "lib/pack.py",
    "nodejs/lib/semver.py",
    "nodejs/bin/detect",
    "nodejs/bin/build",
    "procfile/buildpack.toml",
    "procfile/bin/detect",
    "procfile/bin/build",
    "python/buildpack.toml",
    "python/catalogue.json",
    "python/lib/dependencies.py",
    "python/lib/pack.py" from "lib/pack.py",
    "python/lib/versions.py",
    "python/lib/wheel.py" from "lib/wheel.py",
    "python/bin/detect",
    "python/bin/build",
    "static/buildpack.toml",
    "static/catalogue.json",
    "static/lib/pack.py" from "lib/pack.py",
    "static/lib/wheel.py" from "lib/wheel.py",
    "static/bin/detect",
    "static/bin/build",
];

/// Writes the bundled buildpacks below `dir`, under a name made of their contents, so that running
/// builds keep the version they began with. Returns that directory.
pub(super) fn install(dir: &Path) -> Result<PathBuf, Error> {
    let goal = dir.join(fingerprint());
    if goal.join("order.toml").is_file() {
        return Ok(goal);
    }
    for (name, contents) in FILES.iter().rev() {
        let path = goal.join(name);
        let parent = path.parent().unwrap_or(&goal);
        make_dirs(dir, parent)?;
        let mode = if name.contains("/bin/") { 0o755 } else { 0o644 };
        // `order.toml` comes last: it says that all is there.
        crate::support::atomic_file::write(&path, contents, mode)
            .and_then(|()| set_mode(&path, mode))
            .map_err(Error::files("write buildpack file", path))?;
    }
    Ok(goal)
}

/// Directories that the container's users can enter, whatever the umask.
fn make_dirs(root: &Path, path: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(path).map_err(Error::files("create directory", path))?;
    for dir in path.ancestors().take_while(|dir| dir.starts_with(root)) {
        set_mode(dir, 0o755).map_err(Error::files("set the mode of", dir))?;
    }
    Ok(())
}

fn set_mode(path: &Path, mode: u32) -> std::io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

fn fingerprint() -> String {
    use sha2::{Digest, Sha256};
    let mut hasher = Sha256::new();
    for (name, contents) in FILES {
        hasher.update(name);
        hasher.update(u64::try_from(contents.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(contents);
    }
    let digest = hasher.finalize();
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundle_is_complete_and_installs_once() {
        let root = tempfile::tempdir().unwrap();
        let first = install(root.path()).unwrap();
        assert_eq!(install(root.path()).unwrap(), first);
        let catalog = crate::build::Catalog::load(&first).unwrap();
        assert_eq!(catalog.buildpacks().len(), 4);
        let mode = std::fs::metadata(first.join("nodejs/bin/build")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
    }

    #[test]
    fn every_file_of_the_source_tree_is_bundled() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("buildpacks");
        for pack in ["nodejs", "procfile", "python", "static"] {
            for dir in ["", "bin", "lib"] {
                let found = crate::build::tree::names(&source.join(pack).join(dir));
                for name in found.unwrap_or_default() {
                    let path = format!("{pack}/{dir}/{name}").replace("//", "/");
                    let listed = FILES.iter().any(|(file, _)| file.starts_with(&path));
                    // Tools for maintainers are not part of the product.
                    assert!(listed || name == "update-catalogue", "{path} is not bundled");
                }
            }
        }
    }
}
