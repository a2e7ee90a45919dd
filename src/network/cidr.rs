//! Ranges of addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::Deserialize;

/// A range of addresses, `10.83.0.0/16` or `fd00::/8`. An address alone is a range of one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Cidr {
    address: IpAddr,
    length: u8,
}

/// Why a text is not a range.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseCidrError {
    /// The part before the slash is no address.
    #[error("`{0}` is not an IP address")]
    Address(String),
    /// The part after the slash is no length for that family.
    #[error("`/{0}` is not a prefix length from 0 to {1}")]
    Length(String, u8),
    /// Bits are set that the length does not cover.
    #[error("{0} has bits set beyond its prefix length; {1} is the range it lies in")]
    HostBits(String, String),
}

impl Cidr {
    /// A range known to be well-formed; bits beyond `length` are cleared.
    pub(super) fn constant(address: IpAddr, length: u8) -> Self {
        let length = length.min(width(address));
        Self { address: masked(address, length), length }
    }

    /// The first address of the range.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The number of leading bits all its addresses share.
    pub fn length(&self) -> u8 {
        self.length
    }

    /// Whether `address` lies in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        width(address) == width(self.address) && masked(address, self.length) == self.address
    }

    /// Whether the two ranges share an address.
    pub fn overlaps(&self, other: &Cidr) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

impl FromStr for Cidr {
    type Err = ParseCidrError;

    fn from_str(text: &str) -> Result<Self, ParseCidrError> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr =
            address.parse().map_err(|_| ParseCidrError::Address(address.to_owned()))?;
        let widest = width(address);
        let length = match length {
            None => widest,
            Some(digits) => digits
                .parse()
                .ok()
                .filter(|length| *length <= widest)
                .ok_or_else(|| ParseCidrError::Length(digits.to_owned(), widest))?,
        };
        let range = Self::constant(address, length);
        if range.address == address {
            Ok(range)
        } else {
            Err(ParseCidrError::HostBits(text.to_owned(), range.to_string()))
        }
    }
}

impl TryFrom<String> for Cidr {
    type Error = ParseCidrError;

    fn try_from(text: String) -> Result<Self, ParseCidrError> {
        text.parse()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.length)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    fn refused(text: &str) -> String {
        text.parse::<Cidr>().unwrap_err().to_string()
    }

    #[test]
    fn a_range_reads_back_as_written() {
        for text in ["10.83.0.0/16", "0.0.0.0/0", "::/0", "fd53:7461::/64", "1.2.3.4/32"] {
            assert_eq!(cidr(text).to_string(), text);
        }
        assert_eq!(cidr("fd00:ec2::254").to_string(), "fd00:ec2::254/128");
    }

    #[test]
    fn a_refusal_says_what_to_write_instead() {
        assert_eq!(refused("ten/8"), "`ten` is not an IP address");
        assert_eq!(refused("10.0.0.0/33"), "`/33` is not a prefix length from 0 to 32");
        assert_eq!(
            refused("10.1.2.3/16"),
            "10.1.2.3/16 has bits set beyond its prefix length; 10.1.0.0/16 is the range it lies in"
        );
    }

    #[test]
    fn ranges_overlap_when_one_holds_the_other() {
        assert!(cidr("10.0.0.0/8").overlaps(&cidr("10.83.0.0/16")));
        assert!(cidr("10.83.5.0/24").overlaps(&cidr("10.83.0.0/16")));
        assert!(!cidr("10.84.0.0/16").overlaps(&cidr("10.83.0.0/16")));
        assert!(!cidr("::/0").overlaps(&cidr("10.83.0.0/16")));
    }
}
