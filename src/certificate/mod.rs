//! Certificates: read, checked, kept, made, and had from authorities that speak ACME (RFC 8555).
//!
//! ```text
//!  PEM from the owner ─► Pair::parse ─┐
//!  rcgen ─► issue ────────────────────┼─► Files ─► <data_dir>/certificates/<id>.pem ─► the proxy
//!  authority ─► acme::Client::obtain ─┘
//!                 │  preflight ─► order ─► Presenter (route table, DNS program) ─► finalize
//!                 └─ account key in <data_dir>/keys/acme
//!  responder ─► ocsp::Question::ask ──────► Files ─► <id>.ocsp ─► the proxy
//! ```
//!
//! One certificate for each domain: a name that cannot be validated keeps no other from renewal, and
//! none tells the names of others. When something is tried again is a pure function of what happened
//! (`domain::AcmeProgress`); who remembers it is the caller's matter, and so is the route table.
//!
//! **Invariants.** A key is in its file and nowhere else: no error, event, log line or report holds
//! it. A pair's file never changes once it has its name. What an authority, a resolver or a name's server
//! answers is bounded in size and time, and is shown but never obeyed.

mod address;
mod config;
mod error;
mod fetch;
mod files;
pub mod issue;
mod pair;
mod trust;

pub mod acme;
pub mod ocsp;

use std::path::Path;

pub use config::{Config, HookUser, LETS_ENCRYPT};
pub use error::{Error, Refused};
pub use files::Files;
pub use pair::{Checked, Pair, Validity};
pub use trust::{BadBundle, Trust};

/// What the control plane works with: the directory of certificates, whom this machine trusts, and
/// the client of authorities.
#[derive(Debug)]
pub struct Certificates {
    /// The operator's settings.
    pub config: Config,
    /// The kept ones.
    pub files: Files,
    /// The authorities that this machine trusts.
    pub trust: Trust,
    /// Speaks with authorities.
    pub acme: acme::Client,
}

impl Certificates {
    /// Opens or makes the directories below `data_dir`; `group` is the proxy's, which reads the
    /// certificates.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn open(config: Config, data_dir: &Path, group: u32) -> Result<Self, Error> {
        let files = Files::open(&data_dir.join("certificates"), group)?;
        let accounts = data_dir.join("keys").join("acme");
        let trust = Trust::of_host();
        let acme = acme::Client::new(config.clone(), accounts, trust.clone(), files.clone());
        Ok(Self { config, files, trust, acme })
    }
}
