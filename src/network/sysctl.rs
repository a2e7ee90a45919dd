//! Kernel parameters of the network.
//!
//! `/proc/sys/net` shows the namespace of the thread that opens a file in it.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::error::{Error, Result};

const IPV4_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
const IPV6_CONF: &str = "/proc/sys/net/ipv6/conf";

/// Sets a parameter. Whether that changed it.
pub(super) fn set(path: &Path, value: &str) -> Result<bool> {
    if get(path).is_some_and(|current| current == value) {
        return Ok(false);
    }
    let write = || -> io::Result<()> {
        fs::OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
    };
    write().map_err(|source| Error::Sysctl {
        path: path.to_owned(),
        value: value.to_owned(),
        source,
    })?;
    Ok(true)
}

/// The value of a parameter; `None` where the kernel does not have it.
pub(super) fn get(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim_end().to_owned())
}

/// Whether new links get IPv6 addresses: the kernel has IPv6 and nobody turned it off.
pub(super) fn has_ipv6() -> bool {
    ["all", "default"].iter().all(|scope| {
        let path = PathBuf::from(IPV6_CONF).join(scope).join("disable_ipv6");
        get(&path).is_some_and(|value| value == "0")
    })
}

/// Whether the host forwards IPv4 packets.
pub(super) fn forwards_ipv4() -> bool {
    get(IPV4_FORWARD.as_ref()).is_some_and(|value| value == "1")
}

/// Makes the host a router and returns what it changed for that, as `name=value`.
///
/// A host that forwards IPv6 ignores router advertisements, from which it may have its address and
/// default route, unless `accept_ra` is 2 (kernel: Documentation/networking/ip-sysctl.rst). So
/// links that listened to them are told to go on.
pub(super) fn enable_forwarding(ipv6: bool) -> Result<Vec<String>> {
    let mut changes = Vec::new();
    change(&mut changes, IPV4_FORWARD.into(), "1")?;
    let all = PathBuf::from(IPV6_CONF).join("all/forwarding");
    if ipv6 && get(&all).is_some_and(|value| value == "0") {
        for link in listening_to_routers() {
            change(&mut changes, link, "2")?;
        }
        change(&mut changes, all, "1")?;
    }
    Ok(changes)
}

fn change(changes: &mut Vec<String>, path: PathBuf, value: &str) -> Result<()> {
    if set(&path, value)? {
        let name = path.strip_prefix("/proc/sys").unwrap_or(&path).display();
        changes.push(format!("{name}={value}"));
    }
    Ok(())
}

/// The `accept_ra` files of links that take router advertisements only while not forwarding.
fn listening_to_routers() -> Vec<PathBuf> {
    let Ok(links) = fs::read_dir(IPV6_CONF) else {
        return Vec::new();
    };
    links
        .flatten()
        .filter(|link| !["all", "default", "lo"].iter().any(|name| link.file_name() == *name))
        .filter(|link| get(&link.path().join("forwarding")).is_some_and(|value| value == "0"))
        .map(|link| link.path().join("accept_ra"))
        .filter(|path| get(path).is_some_and(|value| value == "1"))
        .collect()
}
