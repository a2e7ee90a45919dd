//! Which certificate is shown for a domain, and what certificate authorities look for.

use super::{Platform, Result};
use crate::domain::{App, CertificateId, Hostname};
use crate::proxy::Challenge;

impl Platform {
    /// The certificate of `domain`, which `app` has.
    pub(super) fn certificate_for(
        &self,
        _app: &App,
        _domain: &Hostname,
    ) -> Result<Option<CertificateId>> {
        Ok(None)
    }

    /// What certificate authorities look for at this moment.
    pub(super) fn challenges(&self) -> Vec<Challenge> {
        Vec::new()
    }
}
