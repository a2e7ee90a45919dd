//! The host's routes: what they say about a pool, and the one that guards it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};

use super::cidr::Cidr;
use super::error::{Error, Result};
use super::netlink::{Netlink, Request};

/// The "protocol" of our guard routes: who made them (rtnetlink(7), `rtm_protocol`; 'S').
const PROTOCOL: RouteProtocol = RouteProtocol::Other(0x53);

/// A route of the host, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) destination: Cidr,
    /// Index of the link it leads to; 0 for none.
    pub(super) link: u32,
    pub(super) main_table: bool,
    /// Made by an instance of ours to guard its pool; the number says by which.
    pub(super) guard: Option<u32>,
}

/// All routes of the host, in all tables.
pub(super) fn list(host: &mut Netlink, ipv6: bool) -> Result<Vec<Route>> {
    let mut routes = dump(host, &RouteMessageBuilder::<Ipv4Addr>::new().build())?;
    if ipv6 {
        routes.extend(dump(host, &RouteMessageBuilder::<Ipv6Addr>::new().build())?);
    }
    Ok(routes)
}

fn dump(host: &mut Netlink, like: &RouteMessage) -> Result<Vec<Route>> {
    // Only the family counts in a question; the builder also chose a table and a type.
    let mut question = RouteMessage::default();
    question.header.address_family = like.header.address_family;
    let answers = host
        .dump(&RouteNetlinkMessage::GetRoute(question))
        .map_err(|source| Error::Link { operation: "listing", link: "routes".into(), source })?;
    Ok(answers
        .iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(route) => read(route),
            _ => None,
        })
        .collect())
}

fn read(message: &RouteMessage) -> Option<Route> {
    let any = match message.header.address_family {
        rtnetlink::packet_route::AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        rtnetlink::packet_route::AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let mut address = any;
    let mut link = 0;
    let mut priority = 0;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(v4)) => address = IpAddr::V4(*v4),
            RouteAttribute::Destination(RouteAddress::Inet6(v6)) => address = IpAddr::V6(*v6),
            RouteAttribute::Oif(index) => link = *index,
            RouteAttribute::MultiPath(hops) if link == 0 => {
                link = hops.first().map_or(0, |hop| hop.interface_index);
            }
            RouteAttribute::Priority(value) => priority = *value,
            _ => {}
        }
    }
    Some(Route {
        destination: Cidr::constant(address, message.header.destination_prefix_length),
        link,
        main_table: message.header.table == RouteHeader::RT_TABLE_MAIN,
        guard: (message.header.protocol == PROTOCOL).then_some(priority),
    })
}

/// The link that carries the host's default route, if there is one.
pub(super) fn uplink(routes: &[Route]) -> Option<u32> {
    let is_default = |route: &&Route| route.destination.length() == 0 && route.main_table;
    routes.iter().filter(is_default).map(|route| route.link).find(|link| *link != 0)
}

/// The first route that makes `pool` ambiguous. Not counted are default routes, routes to `own`
/// links and this instance's guard.
pub(super) fn overlap<'a>(
    routes: &'a [Route],
    pool: Cidr,
    own: &[u32],
    guard: u32,
) -> Option<&'a Route> {
    routes.iter().find(|route| {
        route.destination.length() != 0
            && route.destination.overlaps(&pool)
            && !own.contains(&route.link)
            && route.guard != Some(guard)
    })
}

/// A route for the whole pool that leads nowhere: an address without a container is refused at once
/// instead of being looked for on the uplink, and other instances see that the pool is taken.
pub(super) fn guard(pool: Cidr, guard: u32) -> Request {
    Request {
        name: "guarding",
        flags: NLM_F_CREATE | NLM_F_REPLACE,
        message: RouteNetlinkMessage::NewRoute(guard_route(pool, guard)),
    }
}

/// Removes the guard.
pub(super) fn remove_guard(pool: Cidr, guard: u32) -> Request {
    Request {
        name: "removal",
        flags: 0,
        message: RouteNetlinkMessage::DelRoute(guard_route(pool, guard)),
    }
}

fn guard_route(pool: Cidr, guard: u32) -> RouteMessage {
    match pool.address() {
        IpAddr::V4(v4) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(v4, pool.length())
            .kind(RouteType::Unreachable)
            .protocol(PROTOCOL)
            .priority(guard)
            .build(),
        IpAddr::V6(v6) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(v6, pool.length())
            .kind(RouteType::Unreachable)
            .protocol(PROTOCOL)
            .priority(guard)
            .build(),
    }
}

/// The number by which an instance knows its guard: a digest of its prefix (FNV-1a, 32 bit), which
/// is also the route's metric and so never 0.
pub(super) fn guard_number(prefix: &str) -> u32 {
    let digest = prefix
        .bytes()
        .fold(0x811c_9dc5_u32, |digest, byte| (digest ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    digest.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(destination: &str, link: u32, guard: Option<u32>) -> Route {
        Route { destination: destination.parse().unwrap(), link, main_table: true, guard }
    }

    #[test]
    fn a_pool_may_lie_under_the_default_route_and_over_its_own_links_only() {
        let pool: Cidr = "10.83.0.0/16".parse().unwrap();
        let ours = guard_number("st-");
        let fine = [
            route("0.0.0.0/0", 2, None),
            route("192.0.2.0/24", 2, None),
            route("10.83.0.8/32", 7, None),
            route("10.83.0.0/16", 0, Some(ours)),
        ];
        assert_eq!(overlap(&fine, pool, &[7], ours), None);
        for taken in [
            route("10.0.0.0/8", 3, None),
            route("10.83.4.0/24", 3, None),
            route("10.83.0.0/16", 0, Some(guard_number("other-"))),
        ] {
            assert_eq!(overlap(std::slice::from_ref(&taken), pool, &[7], ours), Some(&taken));
        }
    }

    #[test]
    fn the_uplink_is_where_the_main_tables_default_route_leads() {
        let mut routes = vec![route("10.0.0.0/8", 3, None), route("0.0.0.0/0", 2, None)];
        assert_eq!(uplink(&routes), Some(2));
        routes.pop();
        assert_eq!(uplink(&routes), None);
    }
}
