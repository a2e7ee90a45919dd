//! Commits: their names and what they say.

use std::fmt;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::str::FromStr;

use git2::{ObjectType, Oid};

use super::{Error, Quarantine, Repositories};
use crate::domain::{AppName, BranchName};

/// How many characters of a commit's subject or author are kept; the text is a stranger's.
const MAX_TEXT: usize = 200;
/// How much of a file of refs is read: some hundred thousand of them.
const MAX_REFS_FILE: u64 = 32 << 20;

/// The name of a git object: 40 lower-case hexadecimal digits. Repositories are SHA-1 ones, which
/// is what libgit2 reads and clients push by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CommitId(Oid);

/// A text that is no object name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an object name has 40 hexadecimal digits")]
pub struct InvalidCommitId;

/// What is worth knowing about a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitInfo {
    /// Its name.
    pub id: CommitId,
    /// The first line of its message, without control characters, at most 200 characters.
    pub subject: String,
    /// `Name <address>`, without control characters, at most 200 characters.
    pub author: String,
    /// When it was committed, in seconds since 1970; the committer's claim.
    pub time: i64,
}

impl CommitId {
    /// The name's first seven digits, for people.
    pub fn short(&self) -> String {
        self.0.to_string().chars().take(7).collect()
    }

    pub(super) fn parse_or_null(text: &str) -> Result<Option<Self>, InvalidCommitId> {
        let oid = parse_oid(text)?;
        Ok((!oid.is_zero()).then_some(Self(oid)))
    }

    pub(super) fn oid(&self) -> Oid {
        self.0
    }

    pub(super) fn from_oid(oid: Oid) -> Self {
        Self(oid)
    }
}

fn parse_oid(text: &str) -> Result<Oid, InvalidCommitId> {
    // Oid::from_str would also take a prefix.
    let digits = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let whole = text.len() == 40 && text.bytes().all(digits);
    whole.then(|| Oid::from_str(text).ok()).flatten().ok_or(InvalidCommitId)
}

impl FromStr for CommitId {
    type Err = InvalidCommitId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse_or_null(text)?.ok_or(InvalidCommitId)
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Repositories {
    /// What `commit` says. Blocks on the disk.
    ///
    /// # Errors
    /// The repository or the commit is missing or damaged.
    pub fn commit_info(
        &self,
        app: &AppName,
        quarantine: Option<&Quarantine>,
        commit: &CommitId,
    ) -> Result<CommitInfo, Error> {
        let objects = self.objects(app, quarantine)?;
        let unreadable = |source: git2::Error| Error::Object {
            what: "commit",
            id: commit.to_string(),
            source: source.into(),
        };
        let object = objects.find_object(commit.oid(), None).map_err(unreadable)?;
        let found = object.peel(ObjectType::Commit).map_err(unreadable)?;
        let found =
            found.into_commit().map_err(|_| unreadable(git2::Error::from_str("no commit")))?;
        let author = found.author();
        let author = [author.name_bytes(), b" <", author.email_bytes(), b">"].concat();
        Ok(CommitInfo {
            id: CommitId::from_oid(found.id()),
            subject: presentable(found.summary_bytes().unwrap_or_default()),
            author: presentable(&author),
            time: found.time().seconds(),
        })
    }

    /// The commit at the head of `branch`, or none when there is no such branch. Blocks on the
    /// disk.
    ///
    /// # Errors
    /// The repository or the commit is missing or damaged.
    pub fn head(&self, app: &AppName, branch: &BranchName) -> Result<Option<CommitInfo>, Error> {
        // Read by hand: libgit2 refuses repositories of another owner as a whole.
        let path = self.existing(app)?;
        let name = format!("refs/heads/{branch}");
        let loose = read_limited(&path.join(&name))?;
        let packed = read_limited(&path.join("packed-refs"))?;
        let commit = loose.as_deref().and_then(|text| text.trim_end().parse().ok());
        let commit = commit.or_else(|| packed_ref(packed.as_deref().unwrap_or_default(), &name));
        commit.map(|commit| self.commit_info(app, None, &commit)).transpose()
    }
}

/// The commit that `name` has in a `packed-refs` file.
fn packed_ref(text: &str, name: &str) -> Option<CommitId> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(_, found)| *found == name)?.0.parse().ok()
}

fn read_limited(path: &Path) -> Result<Option<String>, Error> {
    let file = match std::fs::File::open(path) {
        // A branch `a/b` is no file when there is a branch `a`.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        other => other.map_err(Error::io("open", path))?,
    };
    let mut bytes = Vec::new();
    match file.take(MAX_REFS_FILE).read_to_end(&mut bytes) {
        // The branch is the directory of others, `a` beside `a/b`.
        Err(error) if error.kind() == ErrorKind::IsADirectory => Ok(None),
        read => {
            read.map_err(Error::io("read", path))?;
            Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
        }
    }
}

/// Text of a stranger's, for a terminal, a log, a page.
fn presentable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_id_is_forty_lower_case_digits_and_not_zero() {
        let good = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(good.parse::<CommitId>().unwrap().to_string(), good);
        assert_eq!(good.parse::<CommitId>().unwrap().short(), "0123456");
        for bad in ["", "0123", &good.to_uppercase(), &format!("{good}0"), &"0".repeat(40)] {
            assert!(bad.parse::<CommitId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_packed_ref_is_found_by_its_whole_name() {
        let id = "0123456789abcdef0123456789abcdef01234567";
        let text =
            format!("# pack-refs with: peeled\n{id} refs/heads/main2\n^{id}\n{id} refs/heads/x\n");
        assert_eq!(packed_ref(&text, "refs/heads/x").unwrap().to_string(), id);
        assert_eq!(packed_ref(&text, "refs/heads/main"), None);
    }

    #[test]
    fn a_strangers_text_is_cut_and_cleaned() {
        assert_eq!(presentable(b"fix\x1b[2J \xff"), "fix [2J \u{fffd}");
        assert_eq!(presentable("ä".repeat(500).as_bytes()).chars().count(), MAX_TEXT);
    }
}
