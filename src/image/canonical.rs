//! The canonical tar of a snapshot: the same bytes for the same content, wherever and whenever.
//!
//! GNU format with long names in `L` and `K` entries, entries in the order of [`Tree::walk`], ids
//! as numbers, no user names, one constant time. Changing anything here changes every digest;
//! a test pins the digest of an example.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

use crate::sys::fs::{self, FileKind};

use super::overlay::{self, OPAQUE_MARK, WHITEOUT_PREFIX};
use super::tree::{Entry, Tree};
use super::{Config, Digest, Result};

/// 1980-01-01T00:00:01Z, the time that Cloud Native Buildpacks give the files of their layers.
const MTIME: u64 = 315_532_801;
const BLOCK: usize = 512;

/// A layer's measures, found by writing its tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Measures {
    pub(super) digest: Digest,
    pub(super) tar_bytes: u64,
    pub(super) entries: u64,
}

/// Writes the canonical tar of `tree` to `output`.
pub(super) fn write(tree: &Tree, config: &Config, output: impl Write) -> Result<Measures> {
    let mut writer = TarWriter::new(output);
    let mut first_names: HashMap<u64, Vec<u8>> = HashMap::new();
    let mut entries = 0;
    tree.walk(config.max_layer_entries, |entry| {
        entries += 1;
        write_entry(&mut writer, &mut first_names, entry)
            .map_err(entry.error("write to the layer's tar"))
    })?;
    let (digest, tar_bytes) =
        writer.finish().map_err(super::tree::entry_error("write the end of", b"the tar"))?;
    Ok(Measures { digest, tar_bytes, entries })
}

fn write_entry<W: Write>(
    writer: &mut TarWriter<W>,
    first_names: &mut HashMap<u64, Vec<u8>>,
    entry: &Entry<'_>,
) -> io::Result<()> {
    match entry.stat.kind {
        FileKind::Directory => write_directory(writer, entry),
        FileKind::Symlink => {
            let target = fs::read_link_at(entry.directory, entry.name)?;
            writer.entry(&mut header(entry, EntryType::Symlink), entry.path, &target)
        }
        FileKind::Regular => {
            if entry.stat.links > 1 {
                if let Some(first) = first_names.get(&entry.stat.inode) {
                    return writer.entry(&mut header(entry, EntryType::Link), entry.path, first);
                }
                first_names.insert(entry.stat.inode, entry.path.to_vec());
            }
            write_file(writer, entry)
        }
        FileKind::CharDevice if overlay::is_whiteout(&entry.stat) => {
            let (directory, name) = super::tree::split(entry.path);
            writer.entry(&mut mark_header(), &mark_path(directory, WHITEOUT_PREFIX, name), b"")
        }
        FileKind::CharDevice | FileKind::Other => Err(io::Error::from(io::ErrorKind::InvalidData)),
    }
}

fn write_directory<W: Write>(writer: &mut TarWriter<W>, entry: &Entry<'_>) -> io::Result<()> {
    let mut path = entry.path.to_vec();
    path.push(b'/');
    writer.entry(&mut header(entry, EntryType::Directory), &path, b"")?;
    if overlay::is_opaque(entry.directory, entry.name)? {
        writer.entry(&mut mark_header(), &mark_path(entry.path, OPAQUE_MARK, b""), b"")?;
    }
    Ok(())
}

fn write_file<W: Write>(writer: &mut TarWriter<W>, entry: &Entry<'_>) -> io::Result<()> {
    let file = fs::open_file_at(entry.directory, entry.name)?;
    let mut header = header(entry, EntryType::Regular);
    header.set_size(entry.stat.size);
    writer.entry(&mut header, entry.path, b"")?;
    writer.data(file, entry.stat.size)
}

fn header(entry: &Entry<'_>, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    // A symbolic link's mode means nothing, and file systems differ in what they report.
    let symlink = entry.stat.kind == FileKind::Symlink;
    header.set_mode(if symlink { 0o777 } else { entry.stat.permissions });
    header.set_uid(entry.stat.uid.into());
    header.set_gid(entry.stat.gid.into());
    header.set_mtime(MTIME);
    header.set_size(0);
    header
}

/// The header of a whiteout or an opaque mark: an empty file of root's.
fn mark_header() -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(MTIME);
    header.set_size(0);
    header
}

fn mark_path(directory: &[u8], prefix: &[u8], name: &[u8]) -> Vec<u8> {
    let parts: [&[u8]; 4] =
        [directory, if directory.is_empty() { b"" } else { b"/" }, prefix, name];
    parts.concat()
}

/// Writes a tar while hashing and counting it.
#[derive(Debug)]
struct TarWriter<W> {
    output: W,
    hasher: Sha256,
    written: u64,
    buffer: Vec<u8>,
}

impl<W: Write> TarWriter<W> {
    fn new(output: W) -> Self {
        // Large enough to make the cost of the calls vanish beside the hash.
        Self { output, hasher: Sha256::new(), written: 0, buffer: vec![0; 128 * 1024] }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        self.output.write_all(bytes)
    }

    fn entry(&mut self, header: &mut Header, path: &[u8], link: &[u8]) -> io::Result<()> {
        let fields = header.as_old_mut();
        let long_path = !fill(&mut fields.name, path);
        let long_link = !fill(&mut fields.linkname, link);
        if long_link {
            self.long_name(b'K', link)?;
        }
        if long_path {
            self.long_name(b'L', path)?;
        }
        header.set_cksum();
        self.put(header.as_bytes())
    }

    /// GNU tar's way to say a name that does not fit its field: an entry before the entry.
    fn long_name(&mut self, kind: u8, name: &[u8]) -> io::Result<()> {
        let mut header = Header::new_gnu();
        fill(&mut header.as_old_mut().name, b"././@LongLink");
        header.set_entry_type(EntryType::new(kind));
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(name.len() as u64 + 1);
        header.set_cksum();
        self.put(header.as_bytes())?;
        self.put(name)?;
        self.put(&[0])?;
        self.pad(name.len() as u64 + 1)
    }

    fn data(&mut self, mut reader: impl Read, size: u64) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut left = size;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let read = reader.read(&mut buffer[..wanted])?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.put(&buffer[..read])?;
            left -= read as u64;
        }
        self.buffer = buffer;
        self.pad(size)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        if over > 0 { self.put(&[0; BLOCK][over..]) } else { Ok(()) }
    }

    fn finish(mut self) -> io::Result<(Digest, u64)> {
        self.put(&[0; 2 * BLOCK])?;
        self.output.flush()?;
        Ok((Digest::of_hasher(self.hasher), self.written))
    }
}

/// Copies as much of `value` as fits; false if that is not all.
fn fill(field: &mut [u8], value: &[u8]) -> bool {
    let length = value.len().min(field.len());
    field[..length].copy_from_slice(&value[..length]);
    length == value.len()
}
