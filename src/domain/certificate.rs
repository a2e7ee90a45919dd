//! Certificates: what they say, and which domains they are for.

use serde::{Deserialize, Serialize};

use super::{CertificateId, Hostname, Timestamp};

/// Where a certificate came from.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateSource {
    /// Given by the app's owner (`certs:add`).
    Custom,
    /// Made here, and signed by nobody else (`certs:generate`).
    SelfSigned,
    /// Issued by a certificate authority at our request (`letsencrypt:*`).
    Acme,
}

impl CertificateSource {
    /// As reports show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Custom => "custom",
            Self::SelfSigned => "self-signed",
            Self::Acme => "acme",
        }
    }
}

/// What a certificate says about itself; never its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CertificateFacts {
    /// Names the file with chain and key.
    pub id: CertificateId,
    /// `CN=shop.example.com`.
    pub subject: String,
    /// `C=US, O=Let's Encrypt, CN=R11`.
    pub issuer: String,
    /// The host names it is for (`subjectAltName`).
    pub names: Vec<Hostname>,
    /// The first moment it is valid.
    pub not_before: Timestamp,
    /// The last moment it is valid.
    pub not_after: Timestamp,
    /// `RSA 2048`, `EC P-256`, `Ed25519`.
    pub key: String,
    /// Whether the authorities that this machine trusts vouch for it.
    pub verified: bool,
}

impl CertificateFacts {
    /// Whether clients that ask for `domain` accept it: the name itself, or a wildcard in place of
    /// its first label (RFC 6125 §6.4.3). A wildcard domain is covered by the same wildcard only.
    pub fn covers(&self, domain: &Hostname) -> bool {
        self.names.iter().any(|name| {
            name == domain
                || match (name.as_str().strip_prefix("*."), domain.as_str().split_once('.')) {
                    (Some(parent), Some((label, rest))) => label != "*" && rest == parent,
                    _ => false,
                }
        })
    }

    /// The span for which it was issued.
    pub fn lifetime(&self) -> std::time::Duration {
        self.not_after.since(self.not_before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(names: &[&str]) -> CertificateFacts {
        CertificateFacts {
            id: "0".repeat(64).parse().unwrap(),
            subject: String::new(),
            issuer: String::new(),
            names: names.iter().map(|name| name.parse().unwrap()).collect(),
            not_before: Timestamp(0),
            not_after: Timestamp(1000),
            key: String::new(),
            verified: false,
        }
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        let facts = facts(&["shop.test", "*.example.com"]);
        for (domain, covered) in [
            ("shop.test", true),
            ("a.shop.test", false),
            ("a.example.com", true),
            ("a.b.example.com", false),
            ("example.com", false),
            ("*.example.com", true),
            ("*.b.example.com", false),
            ("_", false),
        ] {
            assert_eq!(facts.covers(&domain.parse().unwrap()), covered, "{domain}");
        }
    }
}
