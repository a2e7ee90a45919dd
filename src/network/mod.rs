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
//! There is one daemon for each prefix, by a lock in `/run`.
//!
//! **Invariant.** Every link, route and table it makes carries the instance's prefix, and
//! [`Network::close`] leaves none of them.

mod bandwidth;
mod cidr;
mod config;
mod error;
mod firewall;
mod link;
mod netlink;
mod pool;
mod prefix_lock;
mod problem;
mod resolver;
mod route;
mod sysctl;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

pub use cidr::{Cidr, ParseCidrError};
pub use config::Config;
pub use error::{Error, Result};
pub use pool::Pool;
pub use problem::Problem;

use firewall::{Nft, Rules};
use link::Wire;
use netlink::Netlink;
use prefix_lock::PrefixLock;
use resolver::Resolvers;

/// The kernel's limit for names of links (IFNAMSIZ less the closing NUL).
const LONGEST_NAME: usize = 15;

/// A prefix leaves room for a digest long enough that two containers never share one.
const LONGEST_PREFIX: usize = 7;

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

/// A TCP port of all the host's addresses that leads to a port of a container. Not from within
/// other containers; there, links open the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exposure {
    /// On the host.
    pub port: u16,
    /// Of the container.
    pub to: Addresses,
    /// Of the container.
    pub to_port: u16,
}

/// The network of one Staithe instance.
#[derive(Debug)]
pub struct Network {
    config: Config,
    nft: Nft,
    wire: Wire,
    guard: u32,
    state: Mutex<State>,
    /// Held while `nft` runs, so that the last caller's rules are the ones that stay.
    firewall: tokio::sync::Mutex<()>,
    /// Held as long as links are made and removed.
    _lock: PrefixLock,
}

/// What changes while the network is open. Its lock is never held across an await.
#[derive(Debug)]
struct State {
    pool: Pool,
    /// Which addresses to give back when a link is removed.
    owners: BTreeMap<String, Addresses>,
    resolvers: Resolvers,
    rules: Rules,
    links: Vec<(Addresses, Addresses)>,
}

impl Network {
    /// Loads the firewall table, turns forwarding on and takes over the links that are there.
    ///
    /// Safe to call while containers of an earlier daemon run: rules are replaced in one
    /// transaction and the links between apps stay.
    ///
    /// # Errors
    /// A configuration that cannot work, a prefix that another daemon has, a pool that overlaps a
    /// route of the host, or what the kernel or `nft` refused.
    pub async fn open(config: Config) -> Result<Network> {
        check_prefix(&config.prefix)?;
        let lock = PrefixLock::take(&config.prefix).await?;
        let mut pool = Pool::new(config.ipv4_pool, config.ipv6_pool)?;
        let ipv6 = sysctl::has_ipv6();
        let resolvers = Resolvers::load(&config.resolvers)?;
        let guard = route::guard_number(&config.prefix);
        let found = survey(&config, guard, ipv6).await?;
        let owners = adopt(&mut pool, &found.owners);
        let rules = rules(&config, &pool, &resolvers, ipv6);
        let wire = Wire {
            gateway: pool.gateway(),
            ipv6,
            mtu: if config.mtu == 0 { found.mtu } else { config.mtu },
            loopback_resolver: rules.resolvers.iter().any(|(_, real)| real.is_loopback()),
        };
        let network = Network {
            nft: Nft { program: config.nft.clone() },
            wire,
            guard,
            state: Mutex::new(State { pool, owners, resolvers, rules, links: Vec::new() }),
            firewall: tokio::sync::Mutex::new(()),
            config,
            _lock: lock,
        };
        network.load_rules().await?;
        // After the rules: a host must not forward for containers that nothing holds back.
        for change in sysctl::enable_forwarding(ipv6)? {
            tracing::info!(sysctl = %change, "set the kernel parameter {change}");
        }
        network.set_guards().await?;
        Ok(network)
    }

    /// The name of the host's end of the link of container `id`: the prefix and a digest.
    pub fn link_name(&self, id: &str) -> String {
        const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let room = LONGEST_NAME - self.config.prefix.len();
        let digest = Sha256::digest(id.as_bytes());
        let digits =
            digest.iter().take(room).map(|byte| char::from(DIGITS[usize::from(byte % 32)]));
        self.config.prefix.chars().chain(digits).collect()
    }

    /// The host's end of every link: where its connections to containers come from.
    pub fn gateway(&self) -> Addresses {
        self.wire.gateway
    }

    /// Takes a free pair of addresses. One given back is used again as late as possible.
    ///
    /// # Errors
    /// The pool is exhausted.
    pub fn allocate(&self) -> Result<Addresses> {
        self.state().pool.allocate()
    }

    /// Gives back a pair that was not used; [`Network::detach`] gives back those of a link.
    pub fn release(&self, addresses: Addresses) {
        self.state().pool.release(addresses);
    }

    /// Takes a pair of addresses for longer than a link: until [`Network::free`].
    ///
    /// # Errors
    /// It is not of this instance's pools.
    pub fn reserve(&self, addresses: Addresses) -> Result<()> {
        self.state().pool.reserve(addresses)
    }

    /// Gives back a pair that was reserved.
    pub fn free(&self, addresses: Addresses) {
        self.state().pool.free(addresses);
    }

    /// Joins the namespace `netns` to the host as `endpoint` says: `eth0` in it, up, with
    /// addresses and a default route; `lo` up; low ports and ping open to every user in it.
    ///
    /// # Errors
    /// A foreign link name or address, or what the kernel refused. The link is gone again then; its
    /// addresses stay taken until [`Network::detach`] or [`Network::release`].
    ///
    /// # Cancellation
    /// When dropped, the work goes on to its end.
    pub async fn attach(&self, netns: BorrowedFd<'_>, endpoint: &Endpoint) -> Result<()> {
        self.check_link(&endpoint.link)?;
        bandwidth::check(endpoint.bandwidth)?;
        self.state().pool.mark(endpoint.addresses)?;
        let netns = duplicate(netns, &endpoint.link)?;
        let wire = self.wire.clone();
        let wanted = endpoint.clone();
        self.state().owners.insert(endpoint.link.clone(), endpoint.addresses);
        worker("attach", move || link::attach(&wire, &netns, &wanted)).await?;
        self.open_to_loopback()
    }

    /// Removes a link; one that is gone already is no error. Its addresses are given back, and
    /// nothing stays open for whoever has them next.
    ///
    /// # Errors
    /// A foreign name, or what the kernel or `nft` refused; the addresses stay taken then.
    pub async fn detach(&self, link: &str) -> Result<()> {
        self.check_link(link)?;
        let name = link.to_owned();
        on_host("detach", move |host| link::delete(host, &name)).await?;
        let _turn = self.firewall.lock().await;
        let Some(addresses) = self.state().owners.get(link).copied() else { return Ok(()) };
        let left = {
            let state = self.state();
            let concerned = |(from, to): &&(Addresses, Addresses)| {
                !state.pool.is_reserved(addresses) && (*from == addresses || *to == addresses)
            };
            let left: Vec<_> =
                state.links.iter().filter(|pair| !concerned(pair)).copied().collect();
            (left.len() < state.links.len()).then_some(left)
        };
        if let Some(left) = left {
            self.apply_links(left).await?;
        }
        let mut state = self.state();
        state.owners.remove(link);
        state.pool.release(addresses);
        Ok(())
    }

    /// This instance's links on the host, sorted. The kernel removes a link with its container's
    /// namespace, soon but not at once.
    ///
    /// # Errors
    /// What the kernel refused.
    pub async fn links(&self) -> Result<Vec<String>> {
        let prefix = self.config.prefix.clone();
        let links = on_host("list", move |host| link::list(host, &prefix)).await?;
        let mut names: Vec<_> = links.into_iter().map(|(_, name)| name).collect();
        names.sort();
        Ok(names)
    }

    /// Sets all the pairs `(from, to)` of containers of which the first may connect to the second.
    /// Connections of pairs no longer listed are cut. Pairs with addresses that belong to nobody
    /// (any more) are left out.
    ///
    /// # Errors
    /// What `nft` refused; nothing is changed then.
    pub async fn set_links(&self, pairs: &[(Addresses, Addresses)]) -> Result<()> {
        let _turn = self.firewall.lock().await;
        let pairs: Vec<_> = {
            let state = self.state();
            let belongs = |addresses: &Addresses| {
                state.pool.is_reserved(*addresses)
                    || state.owners.values().any(|owned| owned == addresses)
            };
            pairs.iter().filter(|(from, to)| belongs(from) && belongs(to)).copied().collect()
        };
        self.apply_links(pairs).await
    }

    /// The caller holds the turn.
    async fn apply_links(&self, pairs: Vec<(Addresses, Addresses)>) -> Result<()> {
        let transaction = self.state().rules.links(&pairs);
        self.nft.apply("set the links between apps", &transaction).await?;
        self.state().links = pairs;
        Ok(())
    }

    /// Lets these ports of the host lead to containers, and no others.
    ///
    /// # Errors
    /// What `nft` refused; nothing is changed then.
    pub async fn set_exposures(&self, exposures: &[Exposure]) -> Result<()> {
        let _turn = self.firewall.lock().await;
        let before = std::mem::replace(&mut self.state().rules.exposures, exposures.to_vec());
        if before != exposures {
            let loaded = self.load_rules().await;
            if loaded.is_err() {
                self.state().rules.exposures = before;
            }
            loaded?;
        }
        self.open_to_loopback()
    }

    /// Whoever connects to an exposed port by the host's loopback address is sent over a link on
    /// which the kernel would take that address for a martian; the firewall lets no other such
    /// packet pass.
    fn open_to_loopback(&self) -> Result<()> {
        let links: Vec<String> = {
            let state = self.state();
            let exposed = |addresses: &Addresses| {
                state.rules.exposures.iter().any(|exposure| exposure.to == *addresses)
            };
            let owners = state.owners.iter().filter(|(_, addresses)| exposed(addresses));
            owners.map(|(link, _)| link.clone()).collect()
        };
        for link in links {
            let path = format!("/proc/sys/net/ipv4/conf/{link}/route_localnet");
            sysctl::set(path.as_ref(), "1")?;
        }
        Ok(())
    }

    /// Lets containers reach `more` of the host's ports beside the configured ones, and no others.
    ///
    /// # Errors
    /// What `nft` refused; the ports are tried again with the next call.
    pub async fn set_open_ports(&self, more: &[u16]) -> Result<()> {
        let _turn = self.firewall.lock().await;
        let mut ports = self.config.open_host_ports.clone();
        ports.extend(more.iter().filter(|port| !self.config.open_host_ports.contains(port)));
        let before = std::mem::replace(&mut self.state().rules.open_host_ports, ports.clone());
        if before == ports {
            return Ok(());
        }
        let loaded = self.load_rules().await;
        if loaded.is_err() {
            self.state().rules.open_host_ports = before;
        }
        loaded
    }

    /// Opens or closes the outside for the container behind `link`, at once and also for the
    /// connections it has.
    ///
    /// # Errors
    /// There is no such link, or what the kernel refused.
    pub async fn set_egress(&self, link: &str, egress: Egress) -> Result<()> {
        self.check_link(link)?;
        let link = link.to_owned();
        on_host("set egress", move |host| link::set_egress(host, &link, egress)).await
    }

    /// Changes the limits of a link that is in use; `netns` is its container's namespace.
    ///
    /// # Errors
    /// There is no such link, a limit too low to work, or what the kernel refused.
    pub async fn set_bandwidth(
        &self,
        netns: BorrowedFd<'_>,
        link: &str,
        bandwidth: Bandwidth,
    ) -> Result<()> {
        self.check_link(link)?;
        bandwidth::check(bandwidth)?;
        let netns = duplicate(netns, link)?;
        let link = link.to_owned();
        worker("set bandwidth", move || link::set_bandwidth(&netns, &link, bandwidth)).await
    }

    /// What to mount at `/etc/resolv.conf` in a container.
    pub fn resolv_conf(&self) -> String {
        let state = self.state();
        state.resolvers.resolv_conf(&state.rules.resolvers)
    }

    /// What to mount at `/etc/hosts` in a container with this host name and these addresses;
    /// `others` are the names of what it is linked with.
    pub fn hosts(
        &self,
        hostname: &str,
        addresses: Addresses,
        others: &[(String, Addresses)],
    ) -> String {
        let mut text = resolver::hosts(hostname, addresses, self.wire.ipv6);
        for (name, addresses) in others {
            text += &resolver::host_lines(name, *addresses, self.wire.ipv6);
        }
        text
    }

    /// What on this host keeps containers from the network; empty when all is well.
    ///
    /// # Errors
    /// What `nft` refused.
    pub async fn problems(&self) -> Result<Vec<Problem>> {
        let mut problems = Vec::new();
        let (table, resolvable) = {
            let state = self.state();
            (state.rules.table.clone(), !state.rules.resolvers.is_empty())
        };
        if !resolvable {
            problems.push(problem::no_resolver());
        }
        if !sysctl::forwards_ipv4() {
            problems.push(problem::no_forwarding());
        }
        let chains = self.nft.list(&["-j", "list", "chains"]).await?;
        if !firewall::is_loaded(&chains, &table) {
            problems.push(problem::no_table(&table));
        }
        for chain in problem::dropping_chains(&chains, &table) {
            let listing = self.nft.list(&["list", "table", &chain.family, &chain.table]).await?;
            problems.extend(problem::forward_policy(&chain, &listing, &self.config.prefix));
        }
        if let Some(rules) = firewall::legacy_forward_rules().await {
            problems.extend(problem::legacy_forward_policy(&rules, &self.config.prefix));
        }
        Ok(problems)
    }

    /// Loads the firewall table again if something removed it (reloading Debian's nftables service
    /// flushes all tables), and follows changes of the host's resolvers. Returns whether there was
    /// something to do. Cheap enough to run every few seconds.
    ///
    /// # Errors
    /// What `nft` refused, or a resolver file that cannot be read.
    pub async fn repair(&self) -> Result<bool> {
        // systemd-networkd removes routes it does not know when it starts.
        self.set_guards().await?;
        let resolvers = Resolvers::load(&self.config.resolvers)?;
        let chains = self.nft.list(&["-j", "list", "chains"]).await?;
        let (loaded, current) = {
            let state = self.state();
            (firewall::is_loaded(&chains, &state.rules.table), state.resolvers == resolvers)
        };
        if loaded && current {
            return Ok(false);
        }
        {
            let mut state = self.state();
            state.rules = Rules {
                open_host_ports: state.rules.open_host_ports.clone(),
                exposures: state.rules.exposures.clone(),
                ..rules(&self.config, &state.pool, &resolvers, self.wire.ipv6)
            };
            state.resolvers = resolvers;
        }
        let _turn = self.firewall.lock().await;
        let transaction = {
            let state = self.state();
            state.rules.recreate() + &state.rules.links(&state.links)
        };
        self.nft.apply("load the rules again", &transaction).await?;
        Ok(true)
    }

    /// Removes all links and routes and the table of this instance. Forwarding stays on, since
    /// others may rely on it by now.
    ///
    /// # Errors
    /// The first removal that failed; the others are tried all the same.
    pub async fn close(&self) -> Result<()> {
        let prefix = self.config.prefix.clone();
        let links = on_host("close", move |host| {
            let links = link::list(host, &prefix)?;
            links.iter().try_for_each(|(_, name)| link::delete(host, name).map(drop))
        });
        let links = links.await;
        let guards = self.remove_guards().await;
        // Last, so that there is no moment in which containers are not held back.
        let table = firewall::remove(&self.state().rules.table);
        let table = self.nft.apply("remove the table", &table).await;
        links.and(guards).and(table)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment or insertion, so a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_link(&self, link: &str) -> Result<()> {
        let prefix = self.config.prefix.as_str();
        let room = LONGEST_NAME - prefix.len();
        let good = link.strip_prefix(prefix).is_some_and(|rest| {
            (1..=room).contains(&rest.len())
                && rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        });
        if good {
            Ok(())
        } else {
            Err(Error::LinkName { link: link.to_owned(), prefix: prefix.to_owned(), room })
        }
    }

    /// Replaces the rules and keeps the links. A table of another version whose sets or chains do
    /// not fit is made anew.
    async fn load_rules(&self) -> Result<()> {
        let (replace, recreate) = {
            let state = self.state();
            (state.rules.replace(), state.rules.recreate())
        };
        match self.nft.apply("replace the rules", &replace).await {
            Err(Error::Nft { .. }) => self.nft.apply("load the rules", &recreate).await,
            other => other,
        }
    }

    async fn set_guards(&self) -> Result<()> {
        let requests = self.pools().map(|pool| route::guard(pool, self.guard)).collect();
        on_host("guard the pools", move |host| {
            host.transact(requests).map(drop).map_err(link::refused("pool"))
        })
        .await
    }

    async fn remove_guards(&self) -> Result<()> {
        let requests = self.pools().map(|pool| route::remove_guard(pool, self.guard)).collect();
        on_host("free the pools", move |host| {
            host.transact(requests).map(drop).map_err(link::refused("pool"))
        })
        .await
    }

    fn pools(&self) -> impl Iterator<Item = Cidr> + use<> {
        let ipv6 = self.wire.ipv6.then_some(self.config.ipv6_pool);
        [self.config.ipv4_pool].into_iter().chain(ipv6)
    }
}

/// What the host was found to have.
struct Survey {
    mtu: u32,
    /// Links of this instance and the IPv4 addresses behind them.
    owners: Vec<(String, Ipv4Addr)>,
}

/// Looks at the host's routes: whether the pools are free, who lives in them, how large packets may
/// be.
async fn survey(config: &Config, guard: u32, ipv6: bool) -> Result<Survey> {
    let Config { prefix, ipv4_pool, ipv6_pool, .. } = config.clone();
    on_host("survey", move |host| {
        let links = link::list(host, &prefix)?;
        let own: Vec<u32> = links.iter().map(|(index, _)| *index).collect();
        let routes = route::list(host, ipv6)?;
        for (field, pool) in [("ipv4_pool", ipv4_pool), ("ipv6_pool", ipv6_pool)] {
            if let Some(route) = route::overlap(&routes, pool, &own, guard) {
                let route = route.destination.to_string();
                return Err(Error::PoolOverlap { field, pool: pool.to_string(), route });
            }
        }
        let owners = routes.iter().filter_map(|route| {
            let (_, name) = links.iter().find(|(index, _)| *index == route.link)?;
            match route.destination.address() {
                std::net::IpAddr::V4(v4) => Some((name.clone(), v4)),
                std::net::IpAddr::V6(_) => None,
            }
        });
        let owners = owners.collect();
        let uplink = route::uplink(&routes);
        let mtu = uplink.and_then(|index| link::mtu(host, index)).unwrap_or(ETHERNET_MTU);
        Ok(Survey { mtu: mtu.clamp(SMALLEST_MTU, ETHERNET_MTU), owners })
    })
    .await
}

/// Packets larger than this are not what paths on the internet carry.
const ETHERNET_MTU: u32 = 1500;

/// What IPv6 demands of every link (RFC 8200, section 5).
const SMALLEST_MTU: u32 = 1280;

/// Takes the addresses of links that are there already; the gateway's are not a container's.
fn adopt(pool: &mut Pool, owners: &[(String, Ipv4Addr)]) -> BTreeMap<String, Addresses> {
    let mut adopted = BTreeMap::new();
    for (link, v4) in owners {
        if let Some(addresses) = pool.pair(*v4)
            && pool.mark(addresses).is_ok()
        {
            adopted.insert(link.clone(), addresses);
        }
    }
    adopted
}

fn rules(config: &Config, pool: &Pool, resolvers: &Resolvers, ipv6: bool) -> Rules {
    Rules {
        table: format!("staithe_{}", config.prefix.trim_end_matches('-')),
        prefix: config.prefix.clone(),
        pools: [config.ipv4_pool, config.ipv6_pool],
        gateway: pool.gateway(),
        resolvers: resolvers.redirections(pool, ipv6),
        deny_destinations: config.deny_destinations.clone(),
        open_host_ports: config.open_host_ports.clone(),
        connection_limit: config.connection_limit,
        exposures: Vec::new(),
    }
}

/// The hyphen ends a prefix and occurs nowhere else, so no instance's prefix begins another's.
fn check_prefix(prefix: &str) -> Result<()> {
    let good = prefix.len() <= LONGEST_PREFIX
        && prefix.strip_suffix('-').is_some_and(|name| {
            name.starts_with(|first: char| first.is_ascii_lowercase())
                && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        });
    if good {
        return Ok(());
    }
    Err(Error::Config {
        field: "prefix",
        reason: format!(
            "`{prefix}` is not a letter, up to {} letters or digits, and a hyphen",
            LONGEST_PREFIX - 2
        ),
    })
}

fn duplicate(netns: BorrowedFd<'_>, link: &str) -> Result<OwnedFd> {
    netns.try_clone_to_owned().map_err(|source| Error::Enter { link: link.to_owned(), source })
}

/// Runs `work` with a netlink socket of the host's namespace.
async fn on_host<T: Send + 'static>(
    operation: &'static str,
    work: impl FnOnce(&mut Netlink) -> Result<T> + Send + 'static,
) -> Result<T> {
    worker(operation, move || {
        let mut host =
            Netlink::open().map_err(|source| Error::Socket { place: "on the host", source })?;
        work(&mut host)
    })
    .await
}

/// Runs `work` on a thread that ends with it, since it may leave the thread in another namespace.
/// Starting one takes some 50 µs.
async fn worker<T: Send + 'static>(
    operation: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let thread = move || {
        // Nobody waits any more if the future was dropped.
        let _ = sender.send(work());
    };
    std::thread::Builder::new()
        .name("network".into())
        .spawn(thread)
        .map_err(|source| Error::Thread { operation, source })?;
    receiver.await.map_err(|_| Error::Worker { operation })?
}
