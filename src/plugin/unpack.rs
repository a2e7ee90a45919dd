//! Archives of plugins, which come from strangers: a tar, plain or gzip, into a fresh directory.
//!
//! Only plain files and directories are taken, below the directory and nowhere else; links, devices
//! and everything else are refused rather than judged. Owners, times and odd mode bits are not kept.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use super::{Error, MANIFEST, Result};

/// Unpacked bytes of one plugin: ample for scripts with a few libraries.
const MAX_BYTES: u64 = 64 << 20;
/// Files and directories of one plugin.
const MAX_ENTRIES: usize = 4000;
/// Bytes of one path.
const MAX_PATH: usize = 400;
/// What a header and padding may add to each entry.
const OVERHEAD: u64 = 8 << 10;

/// Unpacks `reader` into `dir`, which is empty and belongs to the caller, and says where the plugin
/// is in it: there, or in the one directory that holds everything.
///
/// # Errors
/// [`Error::Archive`] with what is wrong with it, or [`Error::File`]. What was unpacked stays.
pub(super) fn unpack(reader: impl Read, dir: &Path) -> Result<PathBuf> {
    let mut reader = BufReader::new(reader);
    let magic = reader.fill_buf().map_err(|error| damaged(&error))?;
    let gzip = magic.starts_with(&[0x1f, 0x8b]);
    let limit = MAX_BYTES + OVERHEAD * MAX_ENTRIES as u64;
    match gzip {
        true => unpack_tar(flate2::bufread::MultiGzDecoder::new(reader).take(limit), dir)?,
        false => unpack_tar(reader.take(limit), dir)?,
    }
    root(dir)
}

fn unpack_tar(reader: impl Read, dir: &Path) -> Result<()> {
    let mut archive = tar::Archive::new(reader);
    let mut bytes = 0;
    let entries = archive.entries().map_err(|error| damaged(&error))?;
    for (index, entry) in entries.enumerate() {
        let mut entry = entry.map_err(|error| damaged(&error))?;
        if index >= MAX_ENTRIES {
            return Err(refused(format!("it has more than {MAX_ENTRIES} files")));
        }
        let header = entry.header();
        let kind = header.entry_type();
        // What `git archive` and pax put in front says nothing that matters here.
        if kind.is_pax_global_extensions() {
            continue;
        }
        let executable = header.mode().map_err(|error| damaged(&error))? & 0o111 != 0;
        bytes += header.size().map_err(|error| damaged(&error))?;
        if bytes > MAX_BYTES {
            return Err(refused(format!("it unpacks to more than {} MiB", MAX_BYTES >> 20)));
        }
        let path = entry.path().map_err(|error| damaged(&error))?.into_owned();
        let Some(path) = inside(&path)? else { continue };
        if kind.is_dir() {
            make_dirs(dir, &path)?;
        } else if kind.is_file() {
            write(dir, &path, executable, &mut entry)?;
        } else {
            let shown = path.display().to_string().escape_default().to_string();
            return Err(refused(format!("`{shown}` is neither a file nor a directory")));
        }
    }
    Ok(())
}

/// A path that stays below where it starts; none for the top itself.
fn inside(path: &Path) -> Result<Option<PathBuf>> {
    let outside = || {
        let shown = path.display().to_string();
        refused(format!("`{}` leads out of it", shown.escape_default()))
    };
    let mut kept = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) => kept.push(name),
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(outside());
            }
        }
    }
    if kept.as_os_str().len() > MAX_PATH {
        return Err(refused(format!("a path in it is longer than {MAX_PATH} bytes")));
    }
    Ok((!kept.as_os_str().is_empty()).then_some(kept))
}

fn make_dirs(dir: &Path, path: &Path) -> Result<()> {
    let goal = dir.join(path);
    // The mode is that of all directories made; there are no links below `dir` to be led astray by.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&goal)
        .map_err(Error::file("create directory", goal))
}

fn write(dir: &Path, path: &Path, executable: bool, content: &mut impl Read) -> Result<()> {
    make_dirs(dir, path.parent().unwrap_or(Path::new("")))?;
    let goal = dir.join(path);
    let mode = if executable { 0o755 } else { 0o644 };
    let open = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&goal);
    let mut file = match open {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let shown = path.display().to_string();
            return Err(refused(format!("`{}` is there twice", shown.escape_default())));
        }
        other => other.map_err(Error::file("create", &goal))?,
    };
    io::copy(content, &mut file)
        // Whatever the umask.
        .and_then(|_| file.set_permissions(std::fs::Permissions::from_mode(mode)))
        .and_then(|()| file.sync_all())
        .map_err(Error::file("write", &goal))
}

fn root(dir: &Path) -> Result<PathBuf> {
    if dir.join(MANIFEST).is_file() {
        return Ok(dir.to_owned());
    }
    let entries = std::fs::read_dir(dir).map_err(Error::file("list", dir))?;
    let names: BTreeSet<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    match names.first() {
        Some(only) if names.len() == 1 && only.join(MANIFEST).is_file() => Ok(only.clone()),
        _ => Err(refused(format!("it has no {MANIFEST}"))),
    }
}

fn refused(why: String) -> Error {
    Error::Archive { why }
}

fn damaged(error: &io::Error) -> Error {
    refused(format!("it cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tar::{Builder, EntryType, Header};

    fn header(kind: EntryType, size: usize, mode: u32) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size as u64);
        header.set_mode(mode);
        header
    }

    /// An archive whose paths and kinds no well-meaning tool would write.
    fn archive(entries: &[(&str, EntryType, &str, u32)]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (path, kind, content, mode) in entries {
            let link = kind.is_symlink() || kind.is_hard_link();
            let mut header = header(*kind, if link { 0 } else { content.len() }, *mode);
            if link {
                header.set_link_name(content).unwrap();
            }
            // Not `set_path`, which refuses what is to be tried.
            let name = &mut header.as_gnu_mut().unwrap().name;
            name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            let content = if link { &[] } else { content.as_bytes() };
            builder.append(&header, content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn check(bytes: &[u8]) -> (tempfile::TempDir, Result<PathBuf>) {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("in");
        std::fs::create_dir(&inside).unwrap();
        let result = unpack(bytes, &inside);
        // Whatever it was, there is nothing beside the directory.
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        (dir, result)
    }

    const FILE: EntryType = EntryType::Regular;

    #[test]
    fn files_are_taken_with_plain_modes_and_from_the_one_directory_in_it() {
        let bytes = archive(&[
            ("./", EntryType::Directory, "", 0o700),
            ("top/plugin.toml", FILE, "x", 0o600),
            ("top/bin/run", FILE, "y", 0o4711),
        ]);
        let (_dir, result) = check(&bytes);
        let root = result.unwrap();
        let mode = |path: &str| root.join(path).metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!([mode("plugin.toml"), mode("bin/run"), mode("bin")], [0o644, 0o755, 0o755]);
    }

    #[test]
    fn a_gzip_archive_is_recognized() {
        use std::io::Write;
        let bytes = archive(&[("plugin.toml", FILE, "x", 0o644)]);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&bytes).unwrap();
        check(&gzip.finish().unwrap()).1.unwrap();
    }

    #[test]
    fn nothing_leads_out_and_nothing_special_is_made() {
        for (path, kind, content, why) in [
            ("../evil", FILE, "x", "leads out"),
            ("a/../../evil", FILE, "x", "leads out"),
            ("/etc/evil", FILE, "x", "leads out"),
            ("link", EntryType::Symlink, "/etc/shadow", "neither"),
            ("link", EntryType::Symlink, "plugin.toml", "neither"),
            ("link", EntryType::Link, "/etc/shadow", "neither"),
            ("device", EntryType::Char, "", "neither"),
            ("device", EntryType::Block, "", "neither"),
            ("pipe", EntryType::Fifo, "", "neither"),
            ("plugin.toml", FILE, "y", "twice"),
        ] {
            let bytes = archive(&[("plugin.toml", FILE, "x", 0o644), (path, kind, content, 0o644)]);
            let error = check(&bytes).1.unwrap_err().to_string();
            assert!(error.contains(why), "{path}: {error}");
        }
    }

    #[test]
    fn a_link_cannot_lead_a_later_file_out() {
        let bytes = archive(&[
            ("plugin.toml", FILE, "x", 0o644),
            ("out", EntryType::Symlink, "/tmp", 0o777),
            ("out/evil", FILE, "x", 0o644),
        ]);
        check(&bytes).1.unwrap_err();
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_unpacked() {
        // Says that a terabyte follows.
        let mut bomb = header(FILE, 0, 0o644);
        bomb.set_size(1 << 40);
        bomb.set_path("bomb").unwrap();
        bomb.set_cksum();
        let error = check(bomb.as_bytes()).1.unwrap_err().to_string();
        assert!(error.contains("more than 64 MiB"), "{error}");
        // Many small ones.
        let mut builder = Builder::new(Vec::new());
        for index in 0..=MAX_ENTRIES {
            let mut header = header(FILE, 0, 0o644);
            builder.append_data(&mut header, format!("f{index}"), io::empty()).unwrap();
        }
        let error = check(&builder.into_inner().unwrap()).1.unwrap_err().to_string();
        assert!(error.contains("more than 4000 files"), "{error}");
    }

    #[test]
    fn a_gzip_bomb_ends_at_the_limit() {
        use std::io::Write;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let mut header = header(EntryType::GNULongName, 0, 0o644);
        header.set_size(1 << 40);
        header.set_path("././@LongLink").unwrap();
        header.set_cksum();
        gzip.write_all(header.as_bytes()).unwrap();
        for _ in 0..200 {
            gzip.write_all(&vec![b'a'; 1 << 20]).unwrap();
        }
        check(&gzip.finish().unwrap()).1.unwrap_err();
    }

    #[test]
    fn what_is_no_plugin_is_refused_with_a_sentence() {
        for (bytes, why) in [
            (archive(&[("readme", FILE, "x", 0o644)]), "it has no plugin.toml"),
            (Vec::new(), "it has no plugin.toml"),
            (b"no archive at all".repeat(100), "cannot be read"),
        ] {
            let error = check(&bytes).1.unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
