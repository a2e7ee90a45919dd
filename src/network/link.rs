//! The veth pair between a container and the host, and all that is set on its two ends.
//!
//! Both ends have fixed hardware addresses, permanent neighbor entries and no ARP or neighbor
//! discovery, so there is nothing to spoof, nothing to wait for (duplicate address detection takes
//! a second) and no first-packet delay. The same two hardware addresses serve every pair: a pair is
//! a wire of its own. Setting them also keeps systemd-udevd from doing so (systemd.link(5),
//! `MACAddressPolicy`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InetDevConf, InfoData, InfoKind,
    InfoVeth, LinkAttribute, LinkMessage, State,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteMessage, RouteScope, RouteType};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{
    AddressMessageBuilder, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
};

use super::error::{Error, Result};
use super::netlink::{Netlink, Refusal, Request, Watch};
use super::{Addresses, Bandwidth, Egress, Endpoint, bandwidth, sysctl};
use crate::sys;

/// The container's end, as its programs see it.
const CONTAINER_END: &str = "eth0";

/// `lo` is the first link of every namespace.
const LOOPBACK: u32 = 1;

/// The table that says which addresses are a namespace's own (rtnetlink(7), RT_TABLE_LOCAL).
const LOCAL_TABLE: u32 = 255;

/// Locally administered addresses ("ST") of the host's and the container's end.
const HOST_MAC: [u8; 6] = [0x02, 0x53, 0x54, 0x00, 0x00, 0x01];
const CONTAINER_MAC: [u8; 6] = [0x02, 0x53, 0x54, 0x00, 0x00, 0x02];

/// The link group that closes the outside; the firewall's rules speak of it. The group is a
/// property of the link in the kernel: no set to fill when a container starts, and it is there
/// still when the daemon is not. Any number others are unlikely to choose ("ST").
pub(super) const GROUP_CLOSED: u32 = 0x5354;
const GROUP_OPEN: u32 = 0;

/// Parameters of a container's namespace: any user may listen on low ports (there is nothing else
/// in the namespace to take them from) and use ping without CAP_NET_RAW.
const CONTAINER_SYSCTLS: [(&str, &str); 2] = [
    ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
    ("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"),
];

/// The kernel takes milliseconds to notice that a link carries packets, but shares a lock with all
/// other changes of links.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// Asking again after so long, in case the news of it was missed.
const READY_RECHECK: Duration = Duration::from_millis(20);

/// What the ends of a pair need to know beyond their endpoint.
#[derive(Debug, Clone)]
pub(super) struct Wire {
    pub(super) gateway: Addresses,
    pub(super) ipv6: bool,
    pub(super) mtu: u32,
    /// A resolver of the host listens on its loopback address, so packets redirected there must
    /// not count as martians.
    pub(super) loopback_resolver: bool,
}

/// One end of a pair, in the namespace it is in.
struct End {
    netlink: Netlink,
    watch: Watch,
    index: u32,
}

/// Makes the pair and configures both ends. Leaves the calling thread in the container's
/// namespace: it must end then.
pub(super) fn attach(wire: &Wire, netns: &OwnedFd, endpoint: &Endpoint) -> Result<()> {
    let (mut netlink, watch) =
        sockets().map_err(|source| Error::Socket { place: "on the host", source })?;
    let index = make_pair(&mut netlink, wire, netns.as_fd(), endpoint)?;
    let mut host = End { netlink, watch, index };
    let result = configure(&mut host, wire, netns.as_fd(), endpoint);
    if result.is_err() {
        // The first failure is the one to report; a link left behind is found as an orphan.
        let _ = delete(&mut host.netlink, &endpoint.link);
    }
    result
}

fn sockets() -> io::Result<(Netlink, Watch)> {
    Ok((Netlink::open()?, Watch::open()?))
}

fn configure(
    host: &mut End,
    wire: &Wire,
    netns: BorrowedFd<'_>,
    endpoint: &Endpoint,
) -> Result<()> {
    let link = endpoint.link.as_str();
    let mut inner = enter(netns, link)?;
    for (path, value) in CONTAINER_SYSCTLS {
        sysctl::set(path.as_ref(), value)?;
    }
    inner.netlink.transact(start_container_end(inner.index, wire)).map_err(refused(link))?;
    host.netlink.transact(start_host_end(host.index, wire)).map_err(refused(link))?;
    for end in [&mut inner, &mut *host] {
        wait_until_ready(end, link)?;
    }
    let requests = address_container_end(inner.index, wire, endpoint);
    inner.netlink.transact(requests).map_err(refused(link))?;
    let requests = address_host_end(host.index, wire, endpoint);
    host.netlink.transact(requests).map_err(refused(link))?;
    let Bandwidth { ingress, egress } = endpoint.bandwidth;
    for (end, rate) in [(host, ingress), (&mut inner, egress)] {
        if rate.is_some() {
            bandwidth::limit(&mut end.netlink, link, end.index, rate)?;
        }
    }
    Ok(())
}

/// Waits until the kernel has noticed that the link carries packets, which it does some time after
/// both ends are up (net/core/link_watch.c). Until then packets are dropped, which would cost a
/// program's first one a retransmission after a second.
fn wait_until_ready(end: &mut End, link: &str) -> Result<()> {
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        // Since Linux 6.8 asking makes the kernel notice.
        let request = find_request_by_index(end.index);
        let answers = end.netlink.transact(vec![request]).map_err(refused(link))?;
        let up = LinkAttribute::OperState(State::Up);
        if answers.iter().filter_map(link_of).any(|answer| answer.attributes.contains(&up)) {
            return Ok(());
        }
        let failed =
            |source| Error::Link { operation: "activation", link: link.to_owned(), source };
        if Instant::now() > deadline {
            return Err(failed(io::ErrorKind::TimedOut.into()));
        }
        end.watch.wait(READY_RECHECK).map_err(failed)?;
    }
}

/// The container's end. The calling thread is in its namespace from now on.
fn enter(netns: BorrowedFd<'_>, link: &str) -> Result<End> {
    sys::netns::enter(netns).map_err(|source| Error::Enter { link: link.to_owned(), source })?;
    let (mut netlink, watch) =
        sockets().map_err(|source| Error::Socket { place: "in a container", source })?;
    let index = find(&mut netlink, CONTAINER_END)?;
    Ok(End { netlink, watch, index })
}

fn make_pair(
    host: &mut Netlink,
    wire: &Wire,
    netns: BorrowedFd<'_>,
    endpoint: &Endpoint,
) -> Result<u32> {
    let peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(CONTAINER_END)
        .address(CONTAINER_MAC.to_vec())
        .mtu(wire.mtu)
        .setns_by_fd(netns.as_raw_fd())
        .build();
    let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(&endpoint.link)
        .address(HOST_MAC.to_vec())
        .mtu(wire.mtu)
        .link_group(group(endpoint.egress))
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build();
    let requests = vec![
        Request {
            name: "creation",
            flags: NLM_F_CREATE | NLM_F_EXCL,
            message: RouteNetlinkMessage::NewLink(pair),
        },
        find_request(&endpoint.link),
    ];
    let answers = host.transact(requests).map_err(refused(&endpoint.link))?;
    index_in(&answers).ok_or_else(|| Error::NoLink { link: endpoint.link.clone() })
}

fn start_container_end(index: u32, wire: &Wire) -> Vec<Request> {
    let mut requests = vec![up(LOOPBACK, true)];
    if wire.ipv6 {
        requests.push(no_automatic_addresses(index));
    }
    requests.push(up(index, false));
    requests
}

fn address_container_end(index: u32, wire: &Wire, endpoint: &Endpoint) -> Vec<Request> {
    let mut requests = add_addresses(index, endpoint.addresses, wire.ipv6);
    for gateway in families(wire.gateway, wire.ipv6) {
        requests.push(add_neighbor(index, gateway, HOST_MAC));
        requests.push(add_route(default_route(index, gateway)));
    }
    requests
}

fn start_host_end(index: u32, wire: &Wire) -> Vec<Request> {
    let mut requests = vec![address_checks(index, wire.loopback_resolver)];
    if wire.ipv6 {
        requests.push(no_automatic_addresses(index));
    }
    requests.push(up(index, false));
    requests
}

fn address_host_end(index: u32, wire: &Wire, endpoint: &Endpoint) -> Vec<Request> {
    let mut requests = add_addresses(index, wire.gateway, wire.ipv6);
    for address in families(endpoint.addresses, wire.ipv6) {
        requests.push(add_neighbor(index, address, CONTAINER_MAC));
    }
    requests.push(add_route(host_route_v4(index, wire.gateway, endpoint.addresses)));
    if wire.ipv6 {
        requests.push(add_route(host_route_v6(index, wire.gateway, endpoint.addresses)));
    }
    requests
}

/// Removes a link, and with it its other end, addresses and routes. Whether it was there.
pub(super) fn delete(host: &mut Netlink, link: &str) -> Result<bool> {
    let message = LinkMessageBuilder::<LinkUnspec>::new().name(link).build();
    let request =
        Request { name: "removal", flags: 0, message: RouteNetlinkMessage::DelLink(message) };
    match host.transact(vec![request]) {
        Ok(_) => Ok(true),
        Err(refusal) if is_no_device(&refusal) => Ok(false),
        Err(refusal) => Err(refused(link)(refusal)),
    }
}

/// Opens or closes the outside for a link.
pub(super) fn set_egress(host: &mut Netlink, link: &str, egress: Egress) -> Result<()> {
    // SetLink with a name: NewLink would take the group for a selector of many links.
    let message =
        LinkMessageBuilder::<LinkUnspec>::new().name(link).link_group(group(egress)).build();
    let request =
        Request { name: "change", flags: 0, message: RouteNetlinkMessage::SetLink(message) };
    match host.transact(vec![request]) {
        Ok(_) => Ok(()),
        Err(refusal) if is_no_device(&refusal) => Err(Error::NoLink { link: link.to_owned() }),
        Err(refusal) => Err(refused(link)(refusal)),
    }
}

/// Changes the limits of a pair. Leaves the calling thread in the container's namespace.
pub(super) fn set_bandwidth(netns: &OwnedFd, link: &str, bandwidth: Bandwidth) -> Result<()> {
    let mut host =
        Netlink::open().map_err(|source| Error::Socket { place: "on the host", source })?;
    let index = find(&mut host, link)?;
    bandwidth::limit(&mut host, link, index, bandwidth.ingress)?;
    let mut inner = enter(netns.as_fd(), link)?;
    bandwidth::limit(&mut inner.netlink, link, inner.index, bandwidth.egress)
}

/// The index of a link in the socket's namespace.
pub(super) fn find(netlink: &mut Netlink, link: &str) -> Result<u32> {
    let no_link = || Error::NoLink { link: link.to_owned() };
    match netlink.transact(vec![find_request(link)]) {
        Ok(answers) => index_in(&answers).ok_or_else(no_link),
        Err(refusal) if is_no_device(&refusal) => Err(no_link()),
        Err(refusal) => Err(refused(link)(refusal)),
    }
}

/// Names and indices of the veth links whose names begin with `prefix`.
pub(super) fn list(host: &mut Netlink, prefix: &str) -> Result<Vec<(u32, String)>> {
    // Only links of this kind: others have attributes that a decoder may not know.
    let question = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth).build();
    let answers = host.dump(&RouteNetlinkMessage::GetLink(question)).map_err(|source| {
        Error::Link { operation: "listing", link: format!("{prefix}*"), source }
    })?;
    Ok(answers
        .iter()
        .filter_map(link_of)
        .filter_map(|link| Some((link.header.index, name_of(link)?.to_owned())))
        .filter(|(_, name)| name.starts_with(prefix))
        .collect())
}

/// The largest packet of the link with this index, if it exists.
pub(super) fn mtu(host: &mut Netlink, index: u32) -> Option<u32> {
    let answers = host.transact(vec![find_request_by_index(index)]).ok()?;
    answers.iter().filter_map(link_of).flat_map(|link| &link.attributes).find_map(|attribute| {
        match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        }
    })
}

/// Turns a refusal into an error about `link`.
pub(super) fn refused(link: &str) -> impl Fn(Refusal) -> Error + '_ {
    move |refusal| Error::Link {
        operation: refusal.name,
        link: link.to_owned(),
        source: refusal.source,
    }
}

fn is_no_device(refusal: &Refusal) -> bool {
    // ENODEV has no io::ErrorKind of its own; 19 on every Linux.
    const ENODEV: i32 = 19;
    refusal.source.raw_os_error() == Some(ENODEV)
}

fn group(egress: Egress) -> u32 {
    match egress {
        Egress::Open => GROUP_OPEN,
        Egress::Closed => GROUP_CLOSED,
    }
}

fn families(addresses: Addresses, ipv6: bool) -> impl Iterator<Item = IpAddr> {
    [IpAddr::V4(addresses.v4)].into_iter().chain(ipv6.then_some(IpAddr::V6(addresses.v6)))
}

fn find_request(link: &str) -> Request {
    let message = LinkMessageBuilder::<LinkUnspec>::new().name(link).build();
    Request { name: "look-up", flags: 0, message: RouteNetlinkMessage::GetLink(message) }
}

fn find_request_by_index(index: u32) -> Request {
    let message = LinkMessageBuilder::<LinkUnspec>::new().index(index).build();
    Request { name: "look-up", flags: 0, message: RouteNetlinkMessage::GetLink(message) }
}

fn link_of(message: &RouteNetlinkMessage) -> Option<&LinkMessage> {
    match message {
        RouteNetlinkMessage::NewLink(link) => Some(link),
        _ => None,
    }
}

fn index_in(answers: &[RouteNetlinkMessage]) -> Option<u32> {
    answers.iter().find_map(link_of).map(|link| link.header.index)
}

fn name_of(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

fn up(index: u32, arp: bool) -> Request {
    let message = LinkMessageBuilder::<LinkUnspec>::new().index(index).up();
    let message = if arp { message } else { message.arp(false) }.build();
    Request { name: "activation", flags: 0, message: RouteNetlinkMessage::SetLink(message) }
}

fn no_automatic_addresses(index: u32) -> Request {
    let inet6 = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    per_family(index, "IPv6 mode", inet6)
}

/// Source check in the kernel, besides the firewall's; loopback destinations only where needed.
fn address_checks(index: u32, loopback_resolver: bool) -> Request {
    let mut conf = InetDevConf::default();
    conf.rp_filter = 1;
    conf.route_localnet = i32::from(loopback_resolver);
    per_family(index, "source check", AfSpecUnspec::Inet(vec![AfSpecInet::DevConfRequest(conf)]))
}

fn per_family(index: u32, name: &'static str, spec: AfSpecUnspec) -> Request {
    let message = LinkMessageBuilder::<LinkUnspec>::new()
        .index(index)
        .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![spec]))
        .build();
    Request { name, flags: 0, message: RouteNetlinkMessage::SetLink(message) }
}

fn add_addresses(index: u32, addresses: Addresses, ipv6: bool) -> Vec<Request> {
    let mut requests: Vec<_> =
        families(addresses, ipv6).map(|address| add_address(index, address)).collect();
    if ipv6 {
        // The kernel makes this route as well, but some time later, from a work queue
        // (net/ipv6/addrconf.c, addrconf_dad_start), and until then packets to it go astray.
        requests.push(add_route(local_route_v6(index, addresses)));
    }
    requests
}

fn add_address(index: u32, address: IpAddr) -> Request {
    let message: AddressMessage = match address {
        IpAddr::V4(v4) => {
            AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(v4, 32).build()
        }
        IpAddr::V6(v6) => {
            let mut message =
                AddressMessageBuilder::<Ipv6Addr>::new().index(index).address(v6, 128).build();
            // A wire has no third party whose address this could be.
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            message
        }
    };
    Request {
        name: "addressing",
        flags: NLM_F_CREATE | NLM_F_REPLACE,
        message: RouteNetlinkMessage::NewAddress(message),
    }
}

fn add_neighbor(index: u32, address: IpAddr, mac: [u8; 6]) -> Request {
    let (family, destination) = match address {
        IpAddr::V4(v4) => (AddressFamily::Inet, NeighbourAddress::Inet(v4)),
        IpAddr::V6(v6) => (AddressFamily::Inet6, NeighbourAddress::Inet6(v6)),
    };
    let mut message = NeighbourMessage::default();
    message.header.family = family;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![
        NeighbourAttribute::Destination(destination),
        NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
    ];
    Request {
        name: "neighbor entry",
        flags: NLM_F_CREATE | NLM_F_REPLACE,
        message: RouteNetlinkMessage::NewNeighbour(message),
    }
}

/// A new route. One to an address that has a route already is refused, so that two containers
/// never share an address.
fn add_route(message: RouteMessage) -> Request {
    Request {
        name: "routing",
        flags: NLM_F_CREATE | NLM_F_EXCL,
        message: RouteNetlinkMessage::NewRoute(message),
    }
}

/// The gateway is not in the range of any address of the link, hence "onlink".
fn default_route(index: u32, gateway: IpAddr) -> RouteMessage {
    match gateway {
        IpAddr::V4(v4) => RouteMessageBuilder::<Ipv4Addr>::new()
            .output_interface(index)
            .gateway(v4)
            .onlink()
            .build(),
        IpAddr::V6(v6) => RouteMessageBuilder::<Ipv6Addr>::new()
            .output_interface(index)
            .gateway(v6)
            .onlink()
            .build(),
    }
}

fn local_route_v6(index: u32, own: Addresses) -> RouteMessage {
    RouteMessageBuilder::<Ipv6Addr>::new()
        .destination_prefix(own.v6, 128)
        .output_interface(index)
        .kind(RouteType::Local)
        // The gateway's address is on every link: routes to it must differ, each goes with its link.
        .priority(index)
        .table_id(LOCAL_TABLE)
        .build()
}

/// The preferred source makes the host's own connections come from the gateway's address, whatever
/// other addresses the host has.
fn host_route_v4(index: u32, gateway: Addresses, own: Addresses) -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(own.v4, 32)
        .output_interface(index)
        .scope(RouteScope::Link)
        .pref_source(gateway.v4)
        .build()
}

fn host_route_v6(index: u32, gateway: Addresses, own: Addresses) -> RouteMessage {
    RouteMessageBuilder::<Ipv6Addr>::new()
        .destination_prefix(own.v6, 128)
        .output_interface(index)
        .pref_source(gateway.v6)
        .build()
}
