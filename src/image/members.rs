//! The members of a tar, one at a time, with the extensions for long names applied.
//!
//! The `tar` crate reads the raw headers. It would also apply the extensions, but into buffers as
//! large as the archive claims; here they have a limit.

use std::collections::HashMap;
use std::io::{self, Read};

use tar::{Archive, Entry, EntryType, PaxExtensions};

use super::tree::MAX_PATH;

/// Most bytes of one extension header. Names are at most 4 KiB; pax headers also carry extended
/// attributes, of at most 64 KiB each.
const MAX_EXTENSION: u64 = 1 << 20;

/// Kinds of members that a layer can contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MemberKind {
    File,
    Directory,
    Symlink,
    HardLink,
    /// A device node, FIFO or something unknown: skipped.
    Special,
}

/// A member's header.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) kind: MemberKind,
    pub(super) permissions: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) mtime: i64,
    pub(super) size: u64,
}

/// Calls `visit` with every member and a reader of its data.
pub(super) fn for_each<R: Read, E: From<io::Error>>(
    archive: &mut Archive<R>,
    mut visit: impl FnMut(&Member, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let mut pending = Extensions::default();
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        match entry.header().entry_type() {
            EntryType::GNULongName => pending.path = Some(read_name(&mut entry)?),
            EntryType::GNULongLink => pending.link = Some(read_name(&mut entry)?),
            EntryType::XHeader => pending.read_pax(&mut entry)?,
            // Defaults for all members: git writes its commit there; no layer needs them.
            EntryType::XGlobalHeader => {}
            _ => {
                let member = std::mem::take(&mut pending).member(&entry)?;
                visit(&member, &mut entry)?;
            }
        }
    }
    Ok(())
}

/// What extension headers say about the next member.
#[derive(Debug, Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    fields: HashMap<&'static str, u64>,
}

impl Extensions {
    fn read_pax<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> io::Result<()> {
        let data = read_extension(entry)?;
        for record in PaxExtensions::new(&data) {
            let record = record?;
            match record.key_bytes() {
                b"path" => self.path = Some(record.value_bytes().to_vec()),
                b"linkpath" => self.link = Some(record.value_bytes().to_vec()),
                b"size" => self.number("size", record.value_bytes())?,
                b"uid" => self.number("uid", record.value_bytes())?,
                b"gid" => self.number("gid", record.value_bytes())?,
                key if key.starts_with(b"GNU.sparse.") => {
                    return Err(invalid("sparse members are not supported"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn number(&mut self, field: &'static str, value: &[u8]) -> io::Result<()> {
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        self.fields.insert(field, number.ok_or_else(|| invalid("a pax number is malformed"))?);
        Ok(())
    }

    /// An id: pax's, or the header's, where a blank field has always meant 0.
    fn id(
        &self,
        field: &str,
        header: &[u8],
        parse: impl FnOnce() -> io::Result<u64>,
    ) -> io::Result<u64> {
        match self.fields.get(field) {
            Some(id) => Ok(*id),
            None if header.iter().all(|byte| matches!(byte, 0 | b' ')) => Ok(0),
            None => parse(),
        }
    }

    fn member<R: Read>(mut self, entry: &Entry<'_, R>) -> io::Result<Member> {
        let header = entry.header();
        let size = header.entry_size()?;
        // Parsers that disagree about where a member ends see different archives; and a size that
        // only pax can express is above every limit here.
        if self.fields.get("size").is_some_and(|pax| *pax != size) {
            return Err(invalid("a member has two different sizes"));
        }
        let path = self.path.take().unwrap_or_else(|| header.path_bytes().into_owned());
        let link = self
            .link
            .take()
            .or_else(|| header.link_name_bytes().map(|name| name.into_owned()))
            .unwrap_or_default();
        if path.len() > MAX_PATH || link.len() > MAX_PATH {
            return Err(invalid("a name is longer than 4095 bytes"));
        }
        let kind = kind(header.entry_type(), &path)?;
        Ok(Member {
            path,
            link,
            kind,
            permissions: header.mode()? & 0o7777,
            uid: self.id("uid", &header.as_old().uid, || header.uid())?,
            gid: self.id("gid", &header.as_old().gid, || header.gid())?,
            // A time cannot do harm, and a wrong one is no reason to refuse the content.
            mtime: header.mtime().ok().and_then(|time| i64::try_from(time).ok()).unwrap_or(0),
            size,
        })
    }
}

fn kind(kind: EntryType, path: &[u8]) -> io::Result<MemberKind> {
    Ok(match kind {
        // Before POSIX, a directory was a file whose name ends in a slash.
        EntryType::Regular if path.ends_with(b"/") => MemberKind::Directory,
        EntryType::Regular | EntryType::Continuous => MemberKind::File,
        EntryType::Directory => MemberKind::Directory,
        EntryType::Symlink => MemberKind::Symlink,
        EntryType::Link => MemberKind::HardLink,
        EntryType::GNUSparse => return Err(invalid("sparse members are not supported")),
        _ => MemberKind::Special,
    })
}

fn read_name<R: Read>(entry: &mut Entry<'_, R>) -> io::Result<Vec<u8>> {
    let mut name = read_extension(entry)?;
    if name.last() == Some(&0) {
        name.pop();
    }
    Ok(name)
}

fn read_extension<R: Read>(entry: &mut Entry<'_, R>) -> io::Result<Vec<u8>> {
    if entry.size() > MAX_EXTENSION {
        return Err(invalid("an extension header is larger than 1 MiB"));
    }
    let mut data = Vec::new();
    entry.read_to_end(&mut data)?;
    Ok(data)
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
