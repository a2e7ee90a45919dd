//! Where names lead.

use serde::{Deserialize, Serialize};

use crate::domain::Hostname;

/// Whether a name leads to this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DnsVerdict {
    /// All its addresses are this machine's.
    Here,
    /// It has an address that is not.
    Elsewhere,
    /// It has none.
    Missing,
}

/// What the resolver says of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsReport {
    /// The name.
    pub domain: Hostname,
    /// Whether it leads here.
    pub verdict: DnsVerdict,
    /// Its addresses.
    pub addresses: Vec<std::net::IpAddr>,
    /// Why there are none, as the resolver says.
    pub why: Option<String>,
}
