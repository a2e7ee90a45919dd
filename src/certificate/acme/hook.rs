//! The operator's program that sets and removes DNS records for DNS-01 (RFC 8555 §8.4).
//!
//! `<program> present|cleanup <record name> <value>`, with an empty environment but for `PATH`, as a
//! user without privileges. Ending with 0 says that the record is served.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::Failure;
use crate::certificate::config::HookUser;

/// How much of what it prints is read; more is cut off, and the program gets a broken pipe.
const MAX_OUTPUT: u64 = 16 << 10;
/// How much of it is told.
const MAX_SHOWN: usize = 400;

/// What is asked of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Present,
    Cleanup,
}

/// A call.
#[derive(Debug)]
pub(super) struct Hook<'a> {
    pub(super) program: &'a Path,
    pub(super) user: HookUser,
    pub(super) deadline: Duration,
}

impl Hook<'_> {
    pub(super) async fn call(&self, verb: Verb, record: &str, value: &str) -> Result<(), Failure> {
        let verb = match verb {
            Verb::Present => "present",
            Verb::Cleanup => "cleanup",
        };
        let what = format!("the DNS program `{} {verb} {record}`", self.program.display());
        let mut command = Command::new(self.program);
        command
            .args([verb, record, value])
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            // std clears the supplementary groups when it changes the user as root.
            .gid(self.user.gid)
            .uid(self.user.uid);
        let mut child = command
            .spawn()
            .map_err(|error| Failure::ours(format!("{what} cannot be started: {error}")))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let run = async {
            let (out, err, status) = tokio::join!(read(stdout), read(stderr), child.wait());
            (format!("{err} {out}"), status)
        };
        match tokio::time::timeout(self.deadline, run).await {
            Ok((_, Ok(status))) if status.success() => Ok(()),
            Ok((said, Ok(status))) => {
                Err(Failure::ours(format!("{what} ended with {status}: {}", shown(&said))))
            }
            Ok((_, Err(error))) => Err(Failure::ours(format!("{what} was lost: {error}"))),
            // Dropped, the child is killed.
            Err(_) => Err(Failure::ours(format!(
                "{what} took longer than {} s and was killed",
                self.deadline.as_secs()
            ))),
        }
    }
}

async fn read(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let mut text = Vec::new();
    if let Some(pipe) = pipe {
        // What cannot be read is not told.
        let _ = pipe.take(MAX_OUTPUT).read_to_end(&mut text).await;
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn shown(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    let clean = words.join(" ");
    match clean.is_empty() {
        true => "it printed nothing".into(),
        false => clean.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    async fn call(script: &str, deadline: Duration) -> Result<(), Failure> {
        let directory = tempfile::tempdir().unwrap();
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(directory.path(), open.clone()).unwrap();
        let (text, program) = (directory.path().join("text"), directory.path().join("hook"));
        crate::support::atomic_file::write(&text, script.as_bytes(), 0o644).unwrap();
        // By another process: a child that some other test forks meanwhile must not have the program
        // open for writing, ETXTBSY of execve(2).
        let copied = Command::new("cp").args([&text, &program]).status().await.unwrap();
        assert!(copied.success());
        std::fs::set_permissions(&program, open).unwrap();
        let me = std::fs::metadata("/proc/self").unwrap();
        let user = HookUser { uid: me.uid(), gid: me.gid() };
        let hook = Hook { program: &program, user, deadline };
        hook.call(Verb::Present, "_acme-challenge.shop.test", "value").await
    }

    #[tokio::test]
    async fn a_hook_gets_verb_record_and_value_and_no_environment() {
        let script = "#!/bin/sh\n[ \"$*\" = 'present _acme-challenge.shop.test value' ] && [ -z \"$HOME\" ]\n";
        call(script, Duration::from_secs(30)).await.unwrap();
    }

    #[tokio::test]
    async fn a_failing_hook_is_told_with_what_it_printed() {
        let script = "#!/bin/sh\necho 'no such zone' >&2\nexit 3\n";
        let failure = call(script, Duration::from_secs(30)).await.unwrap_err().to_string();
        assert!(failure.ends_with("ended with exit status: 3: no such zone"), "{failure}");
    }

    #[tokio::test]
    async fn a_hook_that_hangs_is_killed() {
        let script = "#!/bin/sh\nexec sleep 1000\n";
        let failure = call(script, Duration::from_millis(200)).await.unwrap_err().to_string();
        assert!(failure.ends_with("took longer than 0 s and was killed"), "{failure}");
    }
}
