//! What is said about certificates.

use serde::{Deserialize, Serialize};

use crate::domain::{
    AcmeSettings, AppName, CertificateFacts, CertificateId, CertificateSource, ChallengeKind,
    Hostname, OcspStatus, Secret, Timestamp,
};

/// `PUT /apps/{app}/certificate`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCertificate {
    /// The chain in PEM, in any order.
    pub certificate: String,
    /// The key in PEM; none: that of the certificate the app has.
    #[serde(default)]
    pub key: Option<Secret>,
    /// Whether the app must have a certificate already (`certs:update`).
    #[serde(default)]
    pub replace: bool,
    /// Takes a certificate that is expired or not yet valid.
    #[serde(default)]
    pub force: bool,
}

/// What became of a new certificate.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CertificateChange {
    /// How the app stands now.
    pub report: CertificateReport,
    /// Sentences for the owner.
    pub warnings: Vec<String>,
}

/// An app's certificates.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CertificateReport {
    /// Where the files are.
    pub directory: String,
    /// The app's own.
    pub own: Option<CertificateReportEntry>,
    /// Those that were issued by themselves.
    pub automatic: Vec<CertificateReportEntry>,
    /// Which one each domain shows.
    pub domains: Vec<DomainCertificate>,
}

/// One certificate.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CertificateReportEntry {
    /// Where it came from.
    pub source: CertificateSource,
    /// What it says.
    #[serde(flatten)]
    pub facts: CertificateFacts,
    /// Whole days until its end; negative once it is over.
    pub days_left: i64,
    /// When it was kept.
    pub added_at: Timestamp,
    /// Whether its authority vouches for it.
    pub ocsp: OcspStatus,
}

/// The certificate of a domain.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DomainCertificate {
    /// The domain.
    pub domain: Hostname,
    /// Its certificate; without one, HTTPS is refused.
    pub certificate: Option<CertificateId>,
    /// Whether the certificate is for the domain.
    pub covered: bool,
}

/// `POST /apps/{app}/certificate/generate`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GenerateCertificate {
    /// For which name.
    pub domain: Hostname,
}

/// What was generated.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct GeneratedCertificate {
    /// The signing request in PEM, for an authority.
    pub request: String,
    /// How the app stands now.
    pub report: CertificateReport,
}

/// `PATCH /letsencrypt` and `PATCH /apps/{app}/letsencrypt`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AcmeChange {
    /// `email`, `server`, `ca-bundle`, `challenge`, `dns-hook` or `graceperiod`.
    pub key: String,
    /// The value; none: that of the next wider scope.
    pub value: Option<String>,
}

/// `POST /apps/{app}/letsencrypt/renew` and `POST /letsencrypt/renew`.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AcmeRenew {
    /// Renews what is not due as well.
    pub force: bool,
}

/// What is in force for automatic certificates, of one app or of all.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AcmeReport {
    /// Whether certificates are had by themselves.
    pub enabled: bool,
    /// What is set for the app.
    pub app: AcmeSettings,
    /// What is set for all apps.
    pub global: AcmeSettings,
    /// The address in force.
    pub email: Option<String>,
    /// The directory in force.
    pub server: String,
    /// The way of validation in force.
    pub challenge: ChallengeKind,
    /// The app's domains; none in a report about all apps.
    pub domains: Vec<AcmeDomain>,
}

/// How far a domain has come.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AcmeDomain {
    /// The app that has it.
    pub app: AppName,
    /// The domain.
    pub domain: Hostname,
    /// The end of its certificate, if it has one.
    pub not_after: Option<Timestamp>,
    /// When it is renewed.
    pub renew_at: Option<Timestamp>,
    /// Milliseconds until the end.
    pub expires_in_ms: Option<i64>,
    /// Milliseconds until it is renewed.
    pub renewed_in_ms: Option<i64>,
    /// Failed attempts since the last success.
    pub failures: u32,
    /// Why the last attempt failed.
    pub last_failure: Option<String>,
    /// When the next attempt is made after a failure.
    pub next_attempt: Option<Timestamp>,
    /// Why none is asked for, if so.
    pub skipped: Option<String>,
}

/// What an operation on certificates came to.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AcmeOutcome {
    /// Domains with a new certificate; of a revocation, those whose certificate is void.
    pub done: Vec<Hostname>,
    /// Domains whose certificate needs nothing.
    pub kept: Vec<Hostname>,
}
