//! What can go wrong between a container and the wire.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The result of a network operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An operation on links, addresses or the firewall that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot work; the sentence says which field and why.
    #[error("network.{field}: {reason}")]
    Config {
        /// Name of the field in the operator's file.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The address pool is in use by something else on this host.
    #[error("network.{field} {pool} overlaps the host's route {route}; choose another range")]
    PoolOverlap {
        /// `ipv4_pool` or `ipv6_pool`.
        field: &'static str,
        /// The configured range.
        pool: String,
        /// Destination and device of the route.
        route: String,
    },
    /// Another daemon looks after the links of this name; each would remove the other's.
    #[error(
        "another Staithe on this host has network.prefix `{prefix}`; stop it, or give this one \
         another server.instance, network.prefix and pools"
    )]
    PrefixInUse {
        /// The configured prefix.
        prefix: String,
    },
    /// The lock on the prefix cannot be made or taken.
    #[error("lock {}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Every address of the pool is taken.
    #[error("no free address in {pool}")]
    PoolExhausted {
        /// The configured IPv4 range.
        pool: String,
    },
    /// A link name that is not one of this instance's.
    #[error("link name `{link}` is not `{prefix}` and 1 to {room} characters of a-z and 0-9")]
    LinkName {
        /// The name as given.
        link: String,
        /// This instance's prefix.
        prefix: String,
        /// How many characters may follow it.
        room: usize,
    },
    /// There is no such link on the host.
    #[error("link `{link}` does not exist")]
    NoLink {
        /// The name as given.
        link: String,
    },
    /// The kernel refused a change of a link, an address or a route.
    #[error("{operation} of `{link}`")]
    Link {
        /// What was asked, in words.
        operation: &'static str,
        /// The link, or the object the change was for.
        link: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A netlink socket could not be made.
    #[error("open a netlink socket {place}")]
    Socket {
        /// Which namespace it was for.
        place: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The container's network namespace could not be entered.
    #[error("enter the network namespace of `{link}`")]
    Enter {
        /// The link that was to lead there.
        link: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A kernel parameter could not be set.
    #[error("set {} to `{value}`", path.display())]
    Sysctl {
        /// The file below `/proc/sys`.
        path: PathBuf,
        /// The value that was to be written.
        value: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// `nft` could not be started.
    #[error("run `{}`; is the package nftables installed?", program.display())]
    StartNft {
        /// The program as configured.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// `nft` did not answer in time.
    #[error("`nft` took longer than {} s", limit.as_secs())]
    NftTimeout {
        /// The deadline.
        limit: Duration,
    },
    /// `nft` refused a transaction. Nothing of it was applied.
    #[error("`nft` refused to {operation}: {message}")]
    Nft {
        /// What the transaction was for.
        operation: &'static str,
        /// First lines of its standard error.
        message: String,
    },
    /// The host's resolver configuration could not be read.
    #[error("read {}", path.display())]
    ResolverFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A limit that would cut the container off.
    #[error("{rate} bytes per second is too slow for a link; the least is {slowest}")]
    Bandwidth {
        /// The limit as given.
        rate: u64,
        /// The least that works.
        slowest: u64,
    },
    /// A thread could not be started.
    #[error("start a thread for `{operation}`")]
    Thread {
        /// What it was to do.
        operation: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A worker thread ended without a result.
    #[error("the thread for `{operation}` ended early")]
    Worker {
        /// What it was doing.
        operation: &'static str,
    },
    /// An address that is not of this instance's pool.
    #[error("address {address} is not in this instance's pool")]
    ForeignAddress {
        /// The address as given.
        address: IpAddr,
    },
}
