//! What a client asks for in its exec request; pure.

use crate::domain::{AppName, Invalid};

/// The longest command line: what a user types, or a few environment variables with long values.
const MAX_COMMAND: usize = 128 * 1024;

/// One of git's server programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GitService {
    /// `git push`.
    ReceivePack,
    /// `git fetch`, `git clone`.
    UploadPack,
    /// `git archive --remote`.
    UploadArchive,
}

/// What an exec request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A git service on an app's repository.
    Git(GitService, AppName),
    /// A command of Staithe's; at least one word.
    Command(Vec<String>),
    /// An empty command line, which is what a shell request is too.
    Greeting,
}

/// A command line that asks for nothing sensible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not UTF-8, or a null byte.
    #[error("the command is not text")]
    Text,
    /// Too long.
    #[error("the command is longer than {MAX_COMMAND} bytes")]
    Length,
    /// A quotation mark without its partner.
    #[error("the command has an open quotation mark")]
    Quotes,
    /// `git-receive-pack` with anything but one path.
    #[error("`{0}` needs the name of one app")]
    Path(&'static str),
    /// Not a name of an app.
    #[error("`{path}` names no app: {reason}")]
    App {
        /// What was given, cut and cleaned.
        path: String,
        /// What is wrong with it.
        reason: Invalid,
    },
}

impl GitService {
    /// The name that git's clients use.
    pub fn name(self) -> &'static str {
        match self {
            Self::ReceivePack => "git-receive-pack",
            Self::UploadPack => "git-upload-pack",
            Self::UploadArchive => "git-upload-archive",
        }
    }

    fn by_name(name: &str) -> Option<Self> {
        [Self::ReceivePack, Self::UploadPack, Self::UploadArchive]
            .into_iter()
            .find(|service| service.name() == name)
    }
}

impl Request {
    /// Reads the command line of an exec request, in the quoting of a POSIX shell. Nothing is
    /// expanded, and no shell ever sees it.
    ///
    /// # Errors
    /// Why it cannot be understood, for the user.
    pub fn parse(command: &[u8]) -> Result<Self, RequestError> {
        if command.len() > MAX_COMMAND {
            return Err(RequestError::Length);
        }
        let text = std::str::from_utf8(command).map_err(|_| RequestError::Text)?;
        if text.contains('\0') {
            return Err(RequestError::Text);
        }
        let words = shlex::split(text).ok_or(RequestError::Quotes)?;
        let (service, paths) = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] => return Ok(Self::Greeting),
            // `git receive-pack` beside `git-receive-pack`: what git_connect of old clients sends.
            ["git", name, ..] => (GitService::by_name(&format!("git-{name}")), &words[2..]),
            [name, ..] => (GitService::by_name(name), &words[1..]),
        };
        match (service, paths) {
            (None, _) => Ok(Self::Command(words)),
            (Some(service), [path]) => Ok(Self::Git(service, app(path)?)),
            (Some(service), _) => Err(RequestError::Path(service.name())),
        }
    }
}

/// The app that a path of a remote names: `shop`, `/shop`, `shop.git`, `~/shop`.
fn app(path: &str) -> Result<AppName, RequestError> {
    let name = path.strip_prefix("~/").or(path.strip_prefix('/')).unwrap_or(path);
    let name = name.strip_suffix('/').unwrap_or(name);
    let name = name.strip_suffix(".git").unwrap_or(name);
    name.parse().map_err(|reason| {
        let path = path.escape_debug().take(100).collect();
        RequestError::App { path, reason }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_git(command: &str, expected: &str) {
        let Ok(Request::Git(service, app)) = Request::parse(command.as_bytes()) else {
            panic!("{command}: {:?}", Request::parse(command.as_bytes()));
        };
        assert_eq!(format!("{} {app}", service.name()), expected);
    }

    #[track_caller]
    fn check_words(command: &str, expected: &[&str]) {
        let expected = expected.iter().map(ToString::to_string).collect();
        assert_eq!(Request::parse(command.as_bytes()), Ok(Request::Command(expected)));
    }

    #[track_caller]
    fn check_error(command: &[u8], expected: &str) {
        let error = Request::parse(command).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains('\u{1b}'), "{error}");
    }

    #[test]
    fn remotes_of_every_usual_form_name_the_app() {
        for path in ["'shop'", "'/shop'", "'shop.git'", "'/shop.git/'", "shop", "'~/shop'"] {
            check_git(&format!("git-receive-pack {path}"), "git-receive-pack shop");
            check_git(&format!("git receive-pack {path}"), "git-receive-pack shop");
            check_git(&format!("git-upload-pack {path}"), "git-upload-pack shop");
        }
        check_git("git-upload-archive 'my.app'", "git-upload-archive my.app");
    }

    #[test]
    fn paths_that_name_no_app_are_refused() {
        for path in ["'../shop'", "'a/b'", "'Shop'", "''", "'/'", "'\u{1b}[2J'", "--upload-pack=x"]
        {
            check_error(format!("git-receive-pack {path}").as_bytes(), "names no app");
        }
        check_error(b"git-receive-pack", "needs the name of one app");
        check_error(b"git-receive-pack a b", "needs the name of one app");
    }

    #[test]
    fn commands_are_split_like_a_shell_would_and_never_expanded() {
        check_words("ps:scale shop web=2", &["ps:scale", "shop", "web=2"]);
        check_words(
            "config:set shop A='x y' B=\"$HOME\"",
            &["config:set", "shop", "A=x y", "B=$HOME"],
        );
        check_words("config:set shop A=1#2", &["config:set", "shop", "A=1#2"]);
        check_words("run shop -- sh -c 'a; b'", &["run", "shop", "--", "sh", "-c", "a; b"]);
        check_words("git:set shop deploy-branch x", &["git:set", "shop", "deploy-branch", "x"]);
        check_words("git status", &["git", "status"]);
        assert_eq!(Request::parse(b"  "), Ok(Request::Greeting));
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        check_error(b"run 'shop", "open quotation mark");
        check_error(b"run \xff", "not text");
        check_error(b"run a\0b", "not text");
        check_error(&vec![b'a'; MAX_COMMAND + 1], "longer than");
    }
}
