//! A route netlink socket that sends several requests in one system call.
//!
//! The kernel does the work of a request inside sendmsg(2), so an asynchronous socket would block
//! its executor anyhow. These run on a worker thread, which also may be in another namespace.

use std::io;
use std::time::Duration;

use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

/// The kernel answers at once; what takes longer is a lock held by someone else's change. Removing
/// thousands of links can hold it for seconds.
const REPLY_TIMEOUT: Duration = Duration::from_secs(20);

/// A change during a dump makes it inconsistent; so many tries meet a quiet moment.
const DUMP_TRIES: usize = 5;

/// Set on answers of a dump that a change interrupted (linux/netlink.h).
const NLM_F_DUMP_INTR: u16 = 0x10;

/// One request: what to say, the flags beyond "request" and "acknowledge", and its name in errors.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) name: &'static str,
    pub(super) flags: u16,
    pub(super) message: RouteNetlinkMessage,
}

/// The first request of a batch that the kernel refused.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) name: &'static str,
    pub(super) source: io::Error,
}

/// A socket of the network namespace it was opened in, also after its thread entered another.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    pub(super) fn open() -> io::Result<Netlink> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Acknowledgements then do not repeat the request.
        socket.set_cap_ack(true)?;
        socket2::SockRef::from(&socket).set_read_timeout(Some(REPLY_TIMEOUT))?;
        Ok(Netlink { socket, sequence: 0 })
    }

    /// Sends all requests at once and reads all answers. The kernel carries out each of them, also
    /// those after one it refused; the first refusal is returned.
    pub(super) fn transact(
        &mut self,
        requests: Vec<Request>,
    ) -> Result<Vec<RouteNetlinkMessage>, Refusal> {
        let Some(first) = requests.first().map(|request| request.name) else {
            return Ok(Vec::new());
        };
        let names: Vec<_> = requests.iter().map(|request| request.name).collect();
        let start = self.sequence.wrapping_add(1);
        let mut buffer = Vec::new();
        for request in requests {
            let flags = NLM_F_REQUEST | NLM_F_ACK | request.flags;
            self.append(&mut buffer, flags, request.message);
        }
        let refused = |name, source| Refusal { name, source };
        self.socket.send(&buffer, 0).map_err(|source| refused(first, source))?;

        let mut answers = Vec::new();
        let mut refusal = None;
        let mut pending = names.len();
        while pending > 0 {
            let messages = self.receive().map_err(|source| refused(first, source))?;
            for message in messages {
                let index = message.header.sequence_number.wrapping_sub(start);
                let Some(name) = usize::try_from(index).ok().and_then(|index| names.get(index))
                else {
                    continue;
                };
                match message.payload {
                    NetlinkPayload::Error(answer) => {
                        pending -= 1;
                        if answer.code.is_some() && refusal.is_none() {
                            refusal = Some(refused(name, answer.to_io()));
                        }
                    }
                    NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                    _ => {}
                }
            }
        }
        refusal.map_or(Ok(answers), Err)
    }

    /// Everything of a kind that the kernel has, consistent.
    pub(super) fn dump(
        &mut self,
        question: &RouteNetlinkMessage,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        for _ in 0..DUMP_TRIES {
            if let Some(answers) = self.dump_once(question.clone())? {
                return Ok(answers);
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "it kept changing while it was read"))
    }

    fn dump_once(
        &mut self,
        question: RouteNetlinkMessage,
    ) -> io::Result<Option<Vec<RouteNetlinkMessage>>> {
        let mut buffer = Vec::new();
        self.append(&mut buffer, NLM_F_REQUEST | NLM_F_DUMP, question);
        let sequence = self.sequence;
        self.socket.send(&buffer, 0)?;
        let mut answers = Vec::new();
        let mut consistent = true;
        loop {
            for message in self.receive()? {
                if message.header.sequence_number != sequence {
                    continue;
                }
                consistent &= message.header.flags & NLM_F_DUMP_INTR == 0;
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok(consistent.then_some(answers)),
                    NetlinkPayload::Error(answer) => return Err(answer.to_io()),
                    NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                    _ => {}
                }
            }
        }
    }

    fn append(&mut self, buffer: &mut Vec<u8>, flags: u16, message: RouteNetlinkMessage) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        message.finalize();
        let start = buffer.len();
        buffer.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut buffer[start..]);
    }

    fn receive(&self) -> io::Result<Vec<NetlinkMessage<RouteNetlinkMessage>>> {
        let (datagram, _) = loop {
            match self.socket.recv_from_full() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        let mut messages = Vec::new();
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let length = usize::try_from(message.header.length).unwrap_or(usize::MAX).max(1);
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            messages.push(message);
        }
        Ok(messages)
    }
}

/// Wakes up when links of its namespace change.
#[derive(Debug)]
pub(super) struct Watch {
    socket: Socket,
}

impl Watch {
    pub(super) fn open() -> io::Result<Watch> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.add_membership(MulticastGroup::Link as u32)?;
        Ok(Watch { socket })
    }

    /// Returns at the next change, or earlier, after `at_most`. What changed is to be asked for: the
    /// kernel leaves out news when there are too many.
    pub(super) fn wait(&self, at_most: Duration) -> io::Result<()> {
        socket2::SockRef::from(&self.socket).set_read_timeout(Some(at_most))?;
        let _ = self.socket.recv(&mut Vec::with_capacity(1), 0);
        Ok(())
    }
}
