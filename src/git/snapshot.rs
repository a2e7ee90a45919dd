//! The tree of somebody else's repository as a tar, for whoever takes it apart with care.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::submodule::{Fetched, check_url, redacted, run_fetch};
use super::{Error, Repositories};
use crate::sys::session::GroupGuard;

/// The largest tar that is held in memory.
const MAX_TAR: u64 = 64 << 20;
/// How long `git archive` may take over a repository that is there already.
const ARCHIVE_TIMEOUT: Duration = Duration::from_secs(60);

impl Repositories {
    /// Fetches one commit of the repository at `url`, by the rules for submodules, and answers its
    /// tree as a tar; `committish` is a branch, a tag or a whole commit id, by default what the
    /// repository's `HEAD` is.
    ///
    /// # Errors
    /// [`Error::Git`] with what git said.
    pub async fn snapshot(&self, url: &str, committish: Option<&str>) -> Result<Vec<u8>, Error> {
        let operation = "fetch";
        let failed = |detail: String| Error::Git { operation, detail };
        check_url(url, &self.config.submodule_protocols).map_err(failed)?;
        let committish = committish.unwrap_or("HEAD");
        let plain = |c: u8| c.is_ascii_alphanumeric() || b"._/-+".contains(&c);
        if committish.starts_with('-') || !committish.bytes().all(plain) || committish.len() > 250 {
            return Err(failed("the name of the branch or tag is not a valid one".into()));
        }
        let fetched = Fetched::new(self)?;
        let arguments = ["--depth=1", "--", url, committish];
        let fetch = run_fetch(self, fetched.path(), &arguments).await;
        fetch.map_err(|reason| failed(format!("{}: {reason}", redacted(url))))?;
        self.archive(&fetched).await
    }

    async fn archive(&self, fetched: &Fetched) -> Result<Vec<u8>, Error> {
        let operation = "archive";
        let failed = |detail: String| Error::Git { operation, detail };
        let mut command = Command::new("git");
        command.args(["-c", "safe.directory=*", "archive", "--format=tar", "FETCH_HEAD"]);
        self.confine(&mut command);
        command.current_dir(fetched.path()).stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
        let _helpers_end_too = child.id().map(GroupGuard::new);
        let read = async {
            let mut tar = Vec::new();
            if let Some(output) = child.stdout.take() {
                output.take(MAX_TAR + 1).read_to_end(&mut tar).await?;
            }
            Ok::<_, std::io::Error>(tar)
        };
        let tar = match tokio::time::timeout(ARCHIVE_TIMEOUT, read).await {
            Ok(tar) => tar.map_err(|error| failed(error.to_string()))?,
            Err(_) => return Err(failed("took too long".into())),
        };
        if tar.len() as u64 > MAX_TAR {
            return Err(Error::Limit { what: "bytes", limit: MAX_TAR });
        }
        match tokio::time::timeout(ARCHIVE_TIMEOUT, child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(tar),
            _ => Err(failed("the fetched commit cannot be read".into())),
        }
    }
}
