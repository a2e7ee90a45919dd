//! A user's repository, worked on with the system's git.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Staithe;
use super::staithe::Finished;

pub(crate) struct Repo {
    directory: tempfile::TempDir,
    ssh: String,
    remote: String,
}

impl Repo {
    /// A repository with a copy of `tests/fixtures/apps/<fixture>`, committed on `main`, with the
    /// remote `staithe`.
    pub(crate) fn of_fixture(staithe: &Staithe, fixture: &str, app: &str) -> Self {
        let repo = Self::empty(staithe, app);
        let source =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/apps").join(fixture);
        let mut command = Command::new("cp");
        command.arg("-rT").arg(source).arg(repo.path());
        Finished::of(command, "").succeeds();
        repo.commit("First version");
        repo
    }

    /// A repository without a commit.
    pub(crate) fn empty(staithe: &Staithe, app: &str) -> Self {
        let repo = Self {
            directory: tempfile::tempdir().unwrap(),
            ssh: staithe.ssh_words().join(" "),
            remote: staithe.remote(app),
        };
        repo.git(&["init", "-q", "-b", "main"]).succeeds();
        repo.git(&["remote", "add", "staithe", &repo.remote]).succeeds();
        repo
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::File::create(&path)
            .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
            .unwrap();
    }

    pub(crate) fn commit(&self, message: &str) {
        self.git(&["add", "-A"]).succeeds();
        self.git(&["commit", "-q", "--allow-empty", "-m", message]).succeeds();
    }

    /// `git push staithe main`.
    pub(crate) fn push(&self) -> Finished {
        self.git(&["push", "staithe", "main"])
    }

    /// Changes a file, commits and pushes.
    pub(crate) fn push_change(&self, name: &str, text: &str) -> Finished {
        self.write(name, text);
        self.commit(&format!("Change {name}"));
        self.push()
    }

    pub(crate) fn git(&self, arguments: &[&str]) -> Finished {
        Finished::of(self.git_command(arguments), "")
    }

    pub(crate) fn git_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.args(arguments).current_dir(self.path()).envs([
            ("GIT_SSH_COMMAND", self.ssh.as_str()),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_AUTHOR_NAME", "Alice"),
            ("GIT_AUTHOR_EMAIL", "alice@example.com"),
            ("GIT_COMMITTER_NAME", "Alice"),
            ("GIT_COMMITTER_EMAIL", "alice@example.com"),
        ]);
        command
    }

    /// The commit at `HEAD`.
    pub(crate) fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"]).succeeds().stdout.trim().to_owned()
    }
}
