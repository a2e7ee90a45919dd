//! What a verb can fail with, and which kind of failure that is.

use crate::domain::access::{Forbidden, On};
use crate::domain::{AppName, Invalid};
use crate::support::report;
use crate::wire::Kind;

/// A refusal or failure of a verb.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: Kind,
    message: String,
    hint: Option<String>,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind`; `message` is one sentence for the user, lower case, no full stop.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, source: None }
    }

    /// What to do next, as a sentence: ``run `staithe apps:list` to see them``.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What it came from.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Which kind of failure it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What to do next, if anything can be done.
    pub fn next_step(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The platform's own failure at `what`.
    pub(super) fn internal(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::new(Kind::Internal, what).because(source)
    }

    /// The named app does not exist.
    pub(super) fn no_app(name: &AppName) -> Self {
        Self::new(Kind::NotFound, format!("app `{name}` does not exist"))
            .hint("run `staithe apps:list` to see the apps, or `staithe apps:create` to make one")
    }

    /// The app has never been deployed, which `what` needs.
    pub(super) fn not_deployed(name: &AppName) -> Self {
        Self::new(Kind::Conflict, format!("app `{name}` has not been deployed yet"))
            .hint("push its source first: `git push staithe main`")
    }

    /// The verb was asked to stop.
    pub(super) fn canceled(why: &str) -> Self {
        Self::new(Kind::Conflict, why.to_owned())
    }
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Self::new(Kind::Invalid, invalid.to_string())
    }
}

/// What a person reads who may not.
impl From<Forbidden> for Error {
    fn from(forbidden: Forbidden) -> Self {
        match forbidden {
            Forbidden::Hidden(app) => Self::no_app(&app),
            Forbidden::Scope { verb } => {
                Self::new(Kind::Denied, format!("this token is not for `{}`", verb.name))
                    .hint("make one with a scope that includes it: `staithe tokens:create`")
            }
            Forbidden::Role { verb, app, held } => {
                let place = match (&app, verb.on) {
                    (Some(app), On::App) => format!("on app `{app}`"),
                    _ => "on the platform".to_owned(),
                };
                let held = held.map_or("none".to_owned(), |role| format!("`{role}`"));
                let message = format!(
                    "`{}` needs the role `{}` {place}; you have {held}",
                    verb.name, verb.needs
                );
                Self::new(Kind::Denied, message)
                    .hint("ask an admin for it: `staithe access:add <user> <role> [<app>]`")
            }
        }
    }
}

impl From<crate::store::Error> for Error {
    fn from(error: crate::store::Error) -> Self {
        use crate::store::Error as Store;
        match error {
            Store::Exists { .. } | Store::Full { .. } => {
                Self::new(Kind::Conflict, error.to_string())
            }
            error => Self::internal("the database failed", error),
        }
    }
}

impl From<crate::plugin::Error> for Error {
    fn from(error: crate::plugin::Error) -> Self {
        use crate::plugin::Error as Plugin;
        match error {
            Plugin::Manifest { .. } | Plugin::Archive { .. } => {
                Self::new(Kind::Invalid, error.to_string())
                    .hint("docs/PLUGINS.md says what a plugin must be like")
            }
            Plugin::Data { .. } => Self::new(Kind::Failed, error.to_string()),
            error => Self::internal("a plugin's files cannot be used", error),
        }
    }
}

impl From<crate::container::Error> for Error {
    fn from(error: crate::container::Error) -> Self {
        Self::internal("a container operation failed", error)
    }
}

impl From<crate::network::Error> for Error {
    fn from(error: crate::network::Error) -> Self {
        Self::internal("a network operation failed", error)
    }
}

impl From<crate::image::Error> for Error {
    fn from(error: crate::image::Error) -> Self {
        Self::internal("the image store failed", error)
    }
}

impl From<crate::proxy::Error> for Error {
    fn from(error: crate::proxy::Error) -> Self {
        match error {
            crate::proxy::Error::Port { port, source } => {
                let message = format!("host port {port} cannot be opened: {source}");
                let hint = format!(
                    "choose another, or end what holds it; `ss -ltnp 'sport = :{port}'` shows it"
                );
                Self::new(Kind::Conflict, message).hint(hint)
            }
            error @ crate::proxy::Error::EndedAtStart { .. } => {
                Self::internal("a new process of the proxy does not start", error)
            }
            error => Self::internal("the proxy cannot be told", error),
        }
    }
}

impl From<crate::series::Error> for Error {
    fn from(error: crate::series::Error) -> Self {
        Self::internal("the metrics cannot be read", error)
    }
}

impl From<crate::git::Error> for Error {
    fn from(error: crate::git::Error) -> Self {
        Self::internal("the app's repository cannot be read", error)
    }
}

impl From<crate::certificate::Error> for Error {
    fn from(error: crate::certificate::Error) -> Self {
        Self::internal("a certificate cannot be kept or read", error)
    }
}

impl From<crate::archive::Error> for Error {
    fn from(error: crate::archive::Error) -> Self {
        use crate::archive::Error as Archive;
        let kind = match &error {
            Archive::Settings(_) => Kind::Invalid,
            Archive::Missing { code: None, .. } => Kind::NotFound,
            Archive::Unreachable { .. } => Kind::Unavailable,
            _ => Kind::Failed,
        };
        let made = Self::new(kind, report(&error));
        match error.hint() {
            Some(hint) => made.hint(hint),
            None => made,
        }
    }
}

impl From<crate::certificate::Refused> for Error {
    fn from(refused: crate::certificate::Refused) -> Self {
        use crate::certificate::Refused;
        let late = matches!(refused, Refused::Expired { .. } | Refused::NotYetValid { .. });
        let error = Self::new(Kind::Invalid, refused.to_string());
        if late { error.hint("--force takes it all the same") } else { error }
    }
}
