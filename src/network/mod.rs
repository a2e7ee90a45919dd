//! Links, addresses, firewall and resolver: how a container reaches the wire, and nothing else.
//!
//! Each container has a network namespace of its own, joined to the host by one veth pair. There
//! is no bridge: a container sees a wire with one neighbor, the host, which routes.
//!
//! ```text
//!  container's namespace            host
//!  eth0 10.83.0.8/32 ===veth=== st-k3x9… 10.83.0.1/32   route 10.83.0.8/32 dev st-k3x9…
//!  default via 10.83.0.1            |
//!                                   +-- table inet staithe_st: sources checked, app -> app closed
//!                                       unless linked, app -> host closed, NAT to the outside,
//!                                       DNS to the gateway sent on to the host's resolvers
//! ```
//!
//! Rules speak of links by the prefix of their names and are loaded once; starting a container
//! runs no firewall program. All state lives in the kernel, so containers keep their network while
//! the daemon is away, and a new daemon finds it again with [`Network::open`].
//!
//! **Invariant.** Every link, route and table it makes carries the instance's prefix, and
//! [`Network::close`] leaves none of them.

mod cidr;
mod config;
mod error;
mod pool;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;

pub use cidr::{Cidr, ParseCidrError};
pub use config::Config;
pub use error::{Error, Result};

/// The two addresses of one container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Addresses {
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address; not configured where the host has no IPv6.
    pub v6: Ipv6Addr,
}

/// Whether a container may open connections to the outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Egress {
    /// To everywhere but the closed destinations.
    #[default]
    Open,
    /// Only to what it is linked with; not even DNS, since questions leave the machine.
    Closed,
}

/// Limits of a container's link, in bytes per second. `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bandwidth {
    /// What it may receive. Shaped: packets wait.
    pub ingress: Option<u64>,
    /// What it may send. Policed: packets beyond it are dropped, which TCP answers by slowing down.
    pub egress: Option<u64>,
}

/// What [`Network::attach`] makes for one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Name of the host's end of the link, from [`Network::link_name`].
    pub link: String,
    /// The container's addresses, from [`Network::allocate`].
    pub addresses: Addresses,
    /// Whether it may reach the outside.
    pub egress: Egress,
    /// Limits of the link.
    pub bandwidth: Bandwidth,
}

/// Something on the host that keeps containers from the network as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Stable identifier, such as `network.forward-policy`.
    pub code: &'static str,
    /// What is wrong, in one sentence.
    pub sentence: String,
    /// What to do about it.
    pub remedy: String,
}

/// The network of one Staithe instance.
#[derive(Debug)]
pub struct Network {
    config: Config,
}

impl Network {
    /// Loads the firewall table, turns forwarding on and takes over the links that are there.
    ///
    /// Safe to call while containers of an earlier daemon run: rules are replaced in one
    /// transaction and the links between apps stay.
    ///
    /// # Errors
    /// A configuration that cannot work, a pool that overlaps a route of the host, or what the
    /// kernel or `nft` refused.
    pub async fn open(config: Config) -> Result<Network> {
        Ok(Network { config })
    }

    /// The name of the host's end of the link of container `id`: the prefix and a digest.
    pub fn link_name(&self, id: &str) -> String {
        format!("{}{id}", self.config.prefix)
    }

    /// Takes a free pair of addresses. One given back is used again as late as possible.
    ///
    /// # Errors
    /// The pool is exhausted.
    pub fn allocate(&self) -> Result<Addresses> {
        unimplemented!("façade only")
    }

    /// Gives a pair of addresses back; one that is not taken is left alone.
    pub fn release(&self, _addresses: Addresses) {}

    /// Joins the namespace `netns` to the host as `endpoint` says: `eth0` in it, up, with
    /// addresses and a default route; `lo` up; low ports and ping open to every user in it.
    ///
    /// # Errors
    /// What the kernel refused; the link is gone again then.
    pub async fn attach(&self, _netns: BorrowedFd<'_>, _endpoint: &Endpoint) -> Result<()> {
        Ok(())
    }

    /// Removes a link; one that is gone already is no error. Its addresses are released.
    ///
    /// # Errors
    /// What the kernel refused.
    pub async fn detach(&self, _link: &str) -> Result<()> {
        Ok(())
    }

    /// This instance's links on the host, sorted: also those of containers that are no more.
    ///
    /// # Errors
    /// What the kernel refused.
    pub async fn links(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Sets all the pairs `(from, to)` of containers of which the first may connect to the second.
    /// Connections of pairs no longer listed are cut.
    ///
    /// # Errors
    /// What `nft` refused; nothing is changed then.
    pub async fn set_links(&self, _pairs: &[(Addresses, Addresses)]) -> Result<()> {
        Ok(())
    }

    /// Opens or closes the outside for the container behind `link`, at once and also for the
    /// connections it has.
    ///
    /// # Errors
    /// There is no such link, or what the kernel refused.
    pub async fn set_egress(&self, _link: &str, _egress: Egress) -> Result<()> {
        Ok(())
    }

    /// Changes the limits of a link that is in use.
    ///
    /// # Errors
    /// There is no such link, or what the kernel refused.
    pub async fn set_bandwidth(&self, _link: &str, _bandwidth: Bandwidth) -> Result<()> {
        Ok(())
    }

    /// What to mount at `/etc/resolv.conf` in a container.
    pub fn resolv_conf(&self) -> String {
        String::new()
    }

    /// What to mount at `/etc/hosts` in a container with this host name and these addresses.
    pub fn hosts(&self, _hostname: &str, _addresses: Addresses) -> String {
        String::new()
    }

    /// What on this host keeps containers from the network; empty when all is well.
    ///
    /// # Errors
    /// What `nft` or the kernel refused.
    pub async fn problems(&self) -> Result<Vec<Problem>> {
        Ok(Vec::new())
    }

    /// Loads the firewall table again if something removed it (reloading Debian's nftables service
    /// flushes all tables). Returns whether it had to.
    ///
    /// # Errors
    /// What `nft` refused.
    pub async fn repair(&self) -> Result<bool> {
        Ok(false)
    }

    /// Removes the table, all links and routes of this instance. Forwarding stays on, since others
    /// may rely on it by now.
    ///
    /// # Errors
    /// The first removal that failed; the others are tried all the same.
    pub async fn close(self) -> Result<()> {
        Ok(())
    }
}
