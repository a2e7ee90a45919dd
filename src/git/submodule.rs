//! Fetching submodules.
//!
//! The URLs are a stranger's. `git` runs as the repositories' owner, in a repository of its own
//! that is thrown away, with no protocol allowed but the configured ones, and with limits on time
//! and file size.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::repositories::remove_directory;
use super::{CommitId, Error, Repositories};
use crate::sys::session::GroupGuard;

/// The largest `.gitmodules` that is read.
const MAX_GITMODULES: u64 = 1 << 20;
/// How much of git's complaint is kept.
const MAX_COMPLAINT: usize = 2000;
/// How long `git config` may take over a file of at most [`MAX_GITMODULES`].
const PARSE_TIMEOUT: Duration = Duration::from_secs(10);

/// An entry of a tree that names a commit of another repository.
#[derive(Debug)]
pub(super) struct Gitlink {
    /// Where it is, from the top of the exported tree.
    pub(super) path: PathBuf,
    pub(super) commit: CommitId,
}

/// A submodule whose repository is known.
#[derive(Debug)]
pub(super) struct Submodule {
    pub(super) path: PathBuf,
    pub(super) commit: CommitId,
    url: String,
}

/// A repository fetched for one submodule; its files go when this is dropped.
#[derive(Debug)]
pub(super) struct Fetched(PathBuf);

impl Fetched {
    /// An empty repository to fetch into.
    pub(super) fn new(repositories: &Repositories) -> Result<Self, Error> {
        Ok(Self(repositories.init_scratch()?))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn objects(&self) -> PathBuf {
        self.0.join("objects")
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        if let Err(error) = remove_directory(&self.0) {
            tracing::warn!(%error, "cannot remove the repository of a submodule");
        }
    }
}

/// Looks `links` up in the `.gitmodules` of the tree that was written at `tree` below
/// `destination`.
pub(super) async fn located(
    repositories: &Repositories,
    destination: &Path,
    tree: &Path,
    links: Vec<Gitlink>,
) -> Result<Vec<Submodule>, Error> {
    if links.is_empty() {
        return Ok(Vec::new());
    }
    let text = read_gitmodules(&destination.join(tree).join(".gitmodules"))?;
    let urls = urls_by_path(&parse(repositories, text).await?);
    let locate = |link: Gitlink| {
        let inside = link.path.strip_prefix(tree).unwrap_or(&link.path);
        let url = urls.get(&*inside.to_string_lossy()).cloned().unwrap_or_default();
        let allowed = check_url(&url, &repositories.config.submodule_protocols);
        match allowed {
            Ok(()) => Ok(Submodule { path: link.path, commit: link.commit, url }),
            Err(reason) => Err(failure(&link.path, &url, reason)),
        }
    };
    links.into_iter().map(locate).collect()
}

/// Fetches the one commit; servers that do not hand out single commits are asked for everything.
pub(super) async fn fetch(
    repositories: &Repositories,
    module: &Submodule,
) -> Result<Fetched, Error> {
    let fetched = Fetched::new(repositories)?;
    let commit = module.commit.to_string();
    let shallow = ["--depth=1", "--", &module.url, &commit];
    let all = ["--", &module.url, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
    if run_fetch(repositories, &fetched.0, &shallow).await.is_err() {
        let complete = run_fetch(repositories, &fetched.0, &all).await;
        complete.map_err(|reason| failure(&module.path, &module.url, reason))?;
    }
    Ok(fetched)
}

fn failure(path: &Path, url: &str, reason: impl Into<String>) -> Error {
    let path = path.to_string_lossy().escape_debug().to_string();
    let url = if url.is_empty() { "no URL".to_owned() } else { redacted(url) };
    Error::Submodule { path, url, reason: reason.into() }
}

/// The URL without what may be a password, safe for a terminal.
pub(super) fn redacted(url: &str) -> String {
    let shown = match url.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find('/').unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => url.to_owned(),
    };
    shown.escape_debug().take(300).collect()
}

pub(super) fn check_url(url: &str, protocols: &[String]) -> Result<(), String> {
    if url.is_empty() {
        return Err("`.gitmodules` names no URL for it".to_owned());
    }
    if url.starts_with("./") || url.starts_with("../") {
        return Err("a relative URL has nothing to be relative to in a pushed repository; \
            write the whole URL into `.gitmodules`"
            .to_owned());
    }
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    if protocols.iter().any(|allowed| allowed == scheme) {
        return Ok(());
    }
    let allowed = protocols.iter().map(|p| format!("`{p}://`")).collect::<Vec<_>>().join(", ");
    Err(if allowed.is_empty() {
        "submodules are switched off on this server; commit the files instead".to_owned()
    } else {
        format!("only URLs that begin with {allowed} are fetched")
    })
}

fn read_gitmodules(path: &Path) -> Result<Vec<u8>, Error> {
    let mut text = Vec::new();
    // The tree may hold a link of this name, which must not be followed.
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
        let file = std::fs::File::open(path).map_err(Error::io("open", path))?;
        file.take(MAX_GITMODULES).read_to_end(&mut text).map_err(Error::io("read", path))?;
    }
    Ok(text)
}

/// Lets `git` itself read its syntax, as the unprivileged owner; prints `key`, line feed, value,
/// null byte for each setting.
async fn parse(repositories: &Repositories, text: Vec<u8>) -> Result<String, Error> {
    let operation = "config --file .gitmodules";
    let failed = |detail: String| Error::Git { operation, detail };
    // An unnamed file of a size that is known, so that no pipe has to be fed while it is read.
    let scratch = repositories.scratch()?;
    let file = unnamed_file(&scratch, &text).map_err(Error::io("write", &scratch))?;
    let mut command = Command::new("git");
    command.args(["config", "--file", "-", "--no-includes", "-z", "--list"]);
    repositories.confine(&mut command);
    command.stdin(file).stdout(Stdio::piped()).stderr(Stdio::null()).current_dir("/");
    let output = tokio::time::timeout(PARSE_TIMEOUT, command.output()).await;
    let output = output.map_err(|_| failed("took too long".to_owned()))?;
    let output = output.map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed("`.gitmodules` is not in git's configuration syntax".to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn unnamed_file(path: &Path, contents: &[u8]) -> std::io::Result<std::fs::File> {
    use std::io::Seek;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.read(true).write(true).create_new(true).open(path)?;
    std::fs::remove_file(path)?;
    file.write_all(contents)?;
    file.rewind()?;
    Ok(file)
}

/// From `git config -z --list` to the URL of each path.
fn urls_by_path(listing: &str) -> HashMap<String, String> {
    let (mut paths, mut urls) = (HashMap::new(), HashMap::new());
    for (key, value) in listing.split('\0').filter_map(|setting| setting.split_once('\n')) {
        let Some(rest) = key.strip_prefix("submodule.") else { continue };
        match rest.rsplit_once('.') {
            Some((name, "path")) => _ = paths.insert(name, value),
            Some((name, "url")) => _ = urls.insert(name, value),
            _ => {}
        }
    }
    let url_of = |(name, path): (&str, &str)| Some((path.to_owned(), urls.get(name)?.to_string()));
    paths.into_iter().filter_map(url_of).collect()
}

/// Runs `git fetch`; an error is what git said last.
pub(super) async fn run_fetch(
    repositories: &Repositories,
    repository: &Path,
    arguments: &[&str],
) -> Result<(), String> {
    let config = &repositories.config;
    let mut command = Command::new("/bin/sh");
    // The server may send without end: no file may become larger than the whole tree may be. The
    // unit of ulimit(1) is 512 bytes.
    let script = format!("ulimit -f {} && exec \"$@\"", config.max_export_bytes / 512);
    command.args(["-c", &script, "sh", "git", "-c", "protocol.allow=never"]);
    for protocol in &config.submodule_protocols {
        command.arg("-c").arg(format!("protocol.{protocol}.allow=always"));
    }
    command.args(["-c", "transfer.fsckObjects=true", "-c", "safe.directory=*"]);
    command.args(["fetch", "--quiet", "--no-tags", "--no-recurse-submodules"]).args(arguments);
    repositories.confine(&mut command);
    command.current_dir(repository).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("git cannot be started: {error}"))?;
    let _helpers_end_too = child.id().map(GroupGuard::new);
    let limit = Duration::from_secs(config.submodule_timeout_secs);
    let wait = async {
        let mut complaint = Vec::new();
        if let Some(errors) = child.stderr.take() {
            let limit = u64::try_from(MAX_COMPLAINT).unwrap_or(u64::MAX);
            // A read error only costs the explanation.
            let _ = errors.take(limit).read_to_end(&mut complaint).await;
        }
        (child.wait().await, complaint)
    };
    match tokio::time::timeout(limit, wait).await {
        Ok((Ok(status), _)) if status.success() => Ok(()),
        Ok((_, complaint)) => Err(complaint_line(&complaint)),
        Err(_) => Err(format!("fetching took longer than {} s", limit.as_secs())),
    }
}

/// The first thing that git calls fatal: what follows it are consequences.
fn complaint_line(complaint: &[u8]) -> String {
    let text = String::from_utf8_lossy(complaint);
    let said = text.lines().map(str::trim).find(|line| line.starts_with("fatal:"));
    let said = said.or_else(|| text.lines().last()).unwrap_or("git did not say why");
    let clean = said.trim_start_matches("fatal: ").escape_debug().take(300).collect::<String>();
    // git repeats the URL, which may hold a password.
    clean
        .split(' ')
        .map(|word| if word.contains("://") { "…" } else { word })
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expected: Result<(), &str>) {
        let protocols = vec!["https".to_owned()];
        assert_eq!(check_url(url, &protocols), expected.map_err(str::to_owned), "{url}");
    }

    #[test]
    fn only_configured_protocols_are_fetched() {
        let only = Err("only URLs that begin with `https://` are fetched");
        check("https://example.org/lib.git", Ok(()));
        for url in ["git@example.org:lib.git", "file:///etc", "/etc", "ext::sh -c id", "http://x/"]
        {
            check(url, only);
        }
        check("--upload-pack=id", only);
        check("", Err("`.gitmodules` names no URL for it"));
        assert!(check_url("../lib.git", &["https".to_owned()]).unwrap_err().contains("relative"));
        assert!(check_url("https://x/", &[]).unwrap_err().contains("switched off"));
    }

    #[test]
    fn a_password_in_a_url_is_not_shown() {
        assert_eq!(redacted("https://me:secret@example.org/lib"), "https://example.org/lib");
        assert_eq!(redacted("https://example.org/a@b"), "https://example.org/a@b");
        assert!(!complaint_line(b"fatal: unable to access 'https://a:b@c/'").contains("a:b"));
    }

    #[test]
    fn paths_and_urls_are_matched_by_name() {
        let listing = "submodule.a.b.path\nvendor/lib\0submodule.a.b.url\nhttps://x/\0\
            submodule.c.path\nother\0core.bare\ntrue\0";
        let urls = urls_by_path(listing);
        assert_eq!(urls.get("vendor/lib").map(String::as_str), Some("https://x/"));
        assert_eq!(urls.len(), 1);
    }
}
