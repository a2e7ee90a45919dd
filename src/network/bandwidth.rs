//! Limits of a link: a token bucket filter on each end (tc-tbf(8)), so that packets wait instead of
//! being dropped and a sender's own socket feels the limit.
//!
//! What the container receives is shaped on the host's end, what it sends on its own end, which
//! it may not change without CAP_NET_ADMIN.

use rtnetlink::packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcHeader, TcMessage, TcOption};

use super::Bandwidth;
use super::error::{Error, Result};
use super::link::refused;
use super::netlink::{Netlink, Request};

/// What may pass at once. At least two of the largest packets that segmentation offload makes, or
/// they would be cut up one by one; at most what a slow timer lets through unnoticed.
const SMALLEST_BURST: u64 = 128 << 10;
const LARGEST_BURST: u64 = 16 << 20;
/// A burst is this part of a second at the full rate.
const BURSTS_PER_SECOND: u64 = 100;
/// A queue holds this part of a second at the full rate, beyond a burst: enough for TCP to find
/// its rate, short enough to keep answers quick.
const QUEUES_PER_SECOND: u64 = 10;

/// Slower than this no handshake would finish in time.
const SLOWEST: u64 = 1 << 10;

/// Sets what the link with this index may send; `None` removes a limit, if there is one.
pub(super) fn limit(
    netlink: &mut Netlink,
    link: &str,
    index: u32,
    rate: Option<u64>,
) -> Result<()> {
    let result = match rate {
        Some(rate) => netlink.transact(vec![shape(index, rate)]),
        None => match netlink.transact(vec![unlimited(index)]) {
            // There was no limit: ENOENT, or EINVAL from older kernels.
            Err(refusal) if matches!(refusal.source.raw_os_error(), Some(2 | 22)) => Ok(vec![]),
            other => other,
        },
    };
    result.map(drop).map_err(refused(link))
}

/// Refuses limits that would cut a container off.
pub(super) fn check(bandwidth: Bandwidth) -> Result<()> {
    let slow = |rate: &u64| *rate < SLOWEST;
    match [bandwidth.ingress, bandwidth.egress].iter().flatten().find(|rate| slow(rate)) {
        None => Ok(()),
        Some(rate) => Err(Error::Bandwidth { rate: *rate, slowest: SLOWEST }),
    }
}

fn header(index: u32, handle: u16) -> TcHeader {
    TcHeader {
        // The kernel's indices are positive ints; netlink headers differ in how they write them.
        index: i32::try_from(index).unwrap_or(i32::MAX),
        handle: TcHandle { major: handle, minor: 0 },
        parent: TcHandle::ROOT,
        ..TcHeader::default()
    }
}

fn unlimited(index: u32) -> Request {
    // Handle 0: whatever queue there is.
    let message = TcMessage::from_parts(header(index, 0), Vec::new());
    Request {
        name: "unlimiting",
        flags: 0,
        message: RouteNetlinkMessage::DelQueueDiscipline(message),
    }
}

fn shape(index: u32, rate: u64) -> Request {
    let attributes = vec![
        TcAttribute::Kind("tbf".to_owned()),
        TcAttribute::Options(options(rate).into_iter().map(TcOption::Other).collect()),
    ];
    let message = TcMessage::from_parts(header(index, 1), attributes);
    Request {
        name: "limiting",
        flags: NLM_F_CREATE | NLM_F_REPLACE,
        message: RouteNetlinkMessage::NewQueueDiscipline(message),
    }
}

/// The attributes of a token bucket filter (linux/pkt_sched.h, `struct tc_tbf_qopt`).
fn options(rate: u64) -> Vec<DefaultNla> {
    const PARAMETERS: u16 = 1;
    const RATE64: u16 = 4;
    const BURST: u16 = 6;
    const ETHERNET: u8 = 1;

    let burst = clamp_u32((rate / BURSTS_PER_SECOND).clamp(SMALLEST_BURST, LARGEST_BURST));
    let queue = clamp_u32((rate / QUEUES_PER_SECOND).saturating_add(u64::from(burst)));
    let mut parameters = Vec::with_capacity(36);
    // struct tc_ratespec: cell_log, linklayer, overhead, cell_align, mpu, rate. A given link layer
    // spares the table that older kernels computed with.
    parameters.extend([0, ETHERNET, 0, 0, 0, 0, 0, 0]);
    parameters.extend(clamp_u32(rate).to_ne_bytes());
    parameters.extend([0; 12]); // No peak rate.
    parameters.extend(queue.to_ne_bytes());
    parameters.extend([0; 8]); // Bursts are given below, in bytes.
    vec![
        DefaultNla::new(PARAMETERS, parameters),
        DefaultNla::new(RATE64, rate.to_ne_bytes().to_vec()),
        DefaultNla::new(BURST, burst.to_ne_bytes().to_vec()),
    ]
}

fn clamp_u32(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
