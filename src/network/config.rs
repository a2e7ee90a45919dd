//! What the operator may set.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::cidr::Cidr;

/// Settings of the network, the section `[network]` of the operator's file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// First characters of every link name on the host, up to and with a hyphen; also names the
    /// firewall table. Several instances on one host need different ones. Default `st-`.
    pub prefix: String,
    /// Range of the containers' IPv4 addresses; the first 8 stay reserved for gateway and
    /// resolvers. Must not overlap any route of the host. Default `10.83.0.0/16`.
    pub ipv4_pool: Cidr,
    /// Range of the containers' IPv6 addresses, a /96 or larger, numbered like the IPv4 ones.
    /// Default `fd53:7461::/64`, a unique local range (RFC 4193).
    pub ipv6_pool: Cidr,
    /// Resolvers that containers' DNS questions go to. Empty (the default): those of the host.
    pub resolvers: Vec<IpAddr>,
    /// Destinations closed to every container, besides the link-local and metadata ranges, which
    /// always are. Private ranges are open by default, since databases often live there.
    pub deny_destinations: Vec<Cidr>,
    /// TCP ports of the host itself that containers may reach, beside the proxy's, which are always
    /// open so that an app can call another by its public URL. Default: none.
    pub open_host_ports: Vec<u16>,
    /// Connections one container may have opened at once, so that one cannot fill the host's
    /// connection table. 0 means no limit. Default 8192.
    pub connection_limit: u32,
    /// Largest packet on the containers' links, in bytes. 0 (the default) takes that of the host's
    /// default route.
    pub mtu: u32,
    /// The firewall program. Default `nft`.
    pub nft: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            prefix: "st-".into(),
            ipv4_pool: Cidr::constant(IpAddr::V4([10, 83, 0, 0].into()), 16),
            ipv6_pool: Cidr::constant(IpAddr::V6([0xfd53, 0x7461, 0, 0, 0, 0, 0, 0].into()), 64),
            resolvers: Vec::new(),
            deny_destinations: Vec::new(),
            open_host_ports: Vec::new(),
            connection_limit: 8192,
            mtu: 0,
            nft: "nft".into(),
        }
    }
}
