//! The numbering plan: which container has which pair of addresses.
//!
//! Both ranges are numbered alike: container n has the nth address of each, so one set of numbers
//! says what is taken. The first numbers are the host's: 0 is the range itself, 1 the gateway, 1 to
//! 3 the resolvers.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Addresses;
use super::cidr::Cidr;
use super::error::{Error, Result};

/// Numbers below this one belong to the host.
const RESERVED: u32 = 8;

/// The smallest IPv4 range worth having: 8 reserved, 7 containers, 1 broadcast.
const LONGEST_IPV4: u8 = 28;

/// An IPv6 range must number every container of the IPv4 range; /96 always does.
const LONGEST_IPV6: u8 = 96;

/// The addresses of one instance and which of them are taken.
#[derive(Debug)]
pub struct Pool {
    ipv4: Cidr,
    base: Addresses,
    /// One more than the last number.
    end: u32,
    taken: BTreeSet<u32>,
    /// Those of the taken that are not given back with a link.
    reserved: BTreeSet<u32>,
    /// Where the next search begins. It moves on, so that an address given back is used again as
    /// late as possible: clients and the connection table may still know its former owner.
    next: u32,
}

impl Pool {
    /// A pool over two ranges, with nothing taken.
    ///
    /// # Errors
    /// A range is of the wrong family or too small.
    pub fn new(ipv4: Cidr, ipv6: Cidr) -> Result<Pool> {
        let IpAddr::V4(v4) = ipv4.address() else {
            return Err(config("ipv4_pool", format!("{ipv4} is not an IPv4 range")));
        };
        let IpAddr::V6(v6) = ipv6.address() else {
            return Err(config("ipv6_pool", format!("{ipv6} is not an IPv6 range")));
        };
        if !(8..=LONGEST_IPV4).contains(&ipv4.length()) {
            return Err(config("ipv4_pool", format!("{ipv4} must be a /8 to a /{LONGEST_IPV4}")));
        }
        if ipv6.length() > LONGEST_IPV6 {
            return Err(config("ipv6_pool", format!("{ipv6} must be a /{LONGEST_IPV6} or larger")));
        }
        // The last address is the range's broadcast address.
        let end = u32::MAX >> ipv4.length();
        let base = Addresses { v4, v6 };
        let (taken, reserved) = (BTreeSet::new(), BTreeSet::new());
        Ok(Pool { ipv4, base, end, taken, reserved, next: RESERVED })
    }

    /// The nth pair of the ranges, free or not.
    pub fn nth(&self, number: u32) -> Addresses {
        Addresses {
            v4: Ipv4Addr::from_bits(self.base.v4.to_bits().wrapping_add(number)),
            v6: Ipv6Addr::from_bits(self.base.v6.to_bits().wrapping_add(u128::from(number))),
        }
    }

    /// The host's end of every link.
    pub fn gateway(&self) -> Addresses {
        self.nth(1)
    }

    /// Takes a free pair.
    ///
    /// # Errors
    /// There is none.
    pub fn allocate(&mut self) -> Result<Addresses> {
        let free = |number: &u32| !self.taken.contains(number);
        let number = (self.next..self.end)
            .find(free)
            .or_else(|| (RESERVED..self.next).find(free))
            .ok_or_else(|| Error::PoolExhausted { pool: self.ipv4.to_string() })?;
        self.taken.insert(number);
        self.next = number + 1;
        Ok(self.nth(number))
    }

    /// Takes a pair that is in use already, as found on the host.
    ///
    /// # Errors
    /// It is not a container's pair of this pool.
    pub fn mark(&mut self, addresses: Addresses) -> Result<()> {
        let number = self.number(addresses)?;
        self.taken.insert(number);
        self.next = self.next.max(number + 1);
        Ok(())
    }

    /// Gives a pair back. One that is free, reserved or foreign is left alone.
    pub fn release(&mut self, addresses: Addresses) {
        if let Ok(number) = self.number(addresses)
            && !self.reserved.contains(&number)
        {
            self.taken.remove(&number);
        }
    }

    /// Takes a pair for longer than a link: until [`Pool::free`].
    ///
    /// # Errors
    /// It is not a container's pair of this pool.
    pub fn reserve(&mut self, addresses: Addresses) -> Result<()> {
        let number = self.number(addresses)?;
        self.taken.insert(number);
        self.reserved.insert(number);
        Ok(())
    }

    /// Whether the pair is taken for longer than a link.
    pub fn is_reserved(&self, addresses: Addresses) -> bool {
        self.number(addresses).is_ok_and(|number| self.reserved.contains(&number))
    }

    /// Gives back a reserved pair.
    pub fn free(&mut self, addresses: Addresses) {
        if let Ok(number) = self.number(addresses) {
            self.reserved.remove(&number);
            self.taken.remove(&number);
        }
    }

    /// The pair that goes with an IPv4 address of the pool.
    pub fn pair(&self, v4: Ipv4Addr) -> Option<Addresses> {
        let number = v4.to_bits().checked_sub(self.base.v4.to_bits())?;
        (RESERVED..self.end).contains(&number).then(|| self.nth(number))
    }

    fn number(&self, addresses: Addresses) -> Result<u32> {
        let pair = self
            .pair(addresses.v4)
            .ok_or(Error::ForeignAddress { address: IpAddr::V4(addresses.v4) })?;
        if pair.v6 != addresses.v6 {
            return Err(Error::ForeignAddress { address: IpAddr::V6(addresses.v6) });
        }
        Ok(addresses.v4.to_bits() - self.base.v4.to_bits())
    }
}

fn config(field: &'static str, reason: String) -> Error {
    Error::Config { field, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(ipv4: &str, ipv6: &str) -> Result<Pool> {
        Pool::new(ipv4.parse().unwrap(), ipv6.parse().unwrap())
    }

    fn small() -> Pool {
        pool("10.9.0.0/28", "fd09::/64").unwrap()
    }

    #[test]
    fn containers_are_numbered_after_the_reserved_addresses_alike_in_both_families() {
        let mut pool = pool("10.83.0.0/16", "fd53:7461::/64").unwrap();
        assert_eq!(pool.gateway().v4.to_string(), "10.83.0.1");
        assert_eq!(pool.gateway().v6.to_string(), "fd53:7461::1");
        let first = pool.allocate().unwrap();
        assert_eq!((first.v4.to_string(), first.v6.to_string()), {
            ("10.83.0.8".to_owned(), "fd53:7461::8".to_owned())
        });
    }

    #[test]
    fn every_address_is_given_once_and_never_the_broadcast_address() {
        let mut pool = small();
        let all: Vec<_> = (0..7).map(|_| pool.allocate().unwrap().v4.octets()[3]).collect();
        assert_eq!(all, [8, 9, 10, 11, 12, 13, 14]);
        assert_eq!(pool.allocate().unwrap_err().to_string(), "no free address in 10.9.0.0/28");
    }

    #[test]
    fn an_address_given_back_is_used_again_last() {
        let mut pool = small();
        let first = pool.allocate().unwrap();
        pool.release(first);
        for _ in 0..6 {
            assert_ne!(pool.allocate().unwrap(), first);
        }
        assert_eq!(pool.allocate().unwrap(), first);
    }

    #[test]
    fn an_address_found_on_the_host_is_not_given_again() {
        let mut pool = small();
        let found = pool.pair("10.9.0.8".parse().unwrap()).unwrap();
        pool.mark(found).unwrap();
        assert_ne!(pool.allocate().unwrap(), found);
    }

    #[test]
    fn a_pair_that_is_taken_for_longer_outlives_its_links() {
        let mut pool = small();
        let first = pool.allocate().unwrap();
        pool.reserve(first).unwrap();
        pool.release(first);
        assert!(pool.is_reserved(first));
        (0..6).for_each(|_| assert_ne!(pool.allocate().unwrap(), first));
        assert!(pool.allocate().is_err());
        pool.free(first);
        assert_eq!(pool.allocate().unwrap(), first);
    }

    #[test]
    fn reserved_foreign_and_mismatched_addresses_are_refused() {
        let mut pool = small();
        assert!(pool.pair("10.9.0.1".parse().unwrap()).is_none());
        assert!(pool.pair("10.9.0.15".parse().unwrap()).is_none());
        assert!(pool.pair("10.8.255.255".parse().unwrap()).is_none());
        let crossed = Addresses { v4: pool.nth(8).v4, v6: pool.nth(9).v6 };
        assert_eq!(
            pool.mark(crossed).unwrap_err().to_string(),
            "address fd09::9 is not in this instance's pool"
        );
    }

    #[test]
    fn a_range_that_cannot_work_is_refused_with_its_field() {
        let message = |v4, v6| pool(v4, v6).unwrap_err().to_string();
        assert_eq!(
            message("10.0.0.0/30", "fd00::/64"),
            "network.ipv4_pool: 10.0.0.0/30 must be a /8 to a /28"
        );
        assert_eq!(
            message("10.0.0.0/16", "fd00::/120"),
            "network.ipv6_pool: fd00::/120 must be a /96 or larger"
        );
        assert_eq!(
            message("fd00::/64", "fd00::/64"),
            "network.ipv4_pool: fd00::/64 is not an IPv4 range"
        );
    }
}
