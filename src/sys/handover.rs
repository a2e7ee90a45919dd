//! Descriptors handed from process to process: packets with SCM_RIGHTS, files in memory.

use std::ffi::CStr;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, getsockopt,
    recvmsg, sendmsg, socketpair, sockopt::PeerCredentials,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Most descriptors in one packet: a spec and three standard streams, with room to spare.
pub const MAX_DESCRIPTORS: usize = 8;
/// Longest packet: bounds the buffer of whoever receives.
pub const MAX_PACKET: usize = 8192;

/// socketpair(2) of SOCK_SEQPACKET: each packet arrives whole or not at all, and the end of the
/// other side is seen.
///
/// # Errors
/// Of the system call.
pub fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// sendmsg(2) of one packet; no SIGPIPE.
///
/// # Errors
/// Of the system call; EPIPE if the other side has gone.
pub fn send(
    socket: BorrowedFd<'_>,
    packet: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    let data = [IoSlice::new(packet)];
    sendmsg::<()>(socket.as_raw_fd(), &data, control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// recvmsg(2) of one packet; empty once the other side has gone.
///
/// # Errors
/// Of the system call; EMSGSIZE for a packet above the limits.
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut buffer = [0; MAX_PACKET];
    let mut space = nix::cmsg_space!([RawFd; MAX_DESCRIPTORS]);
    let mut data = [IoSliceMut::new(&mut buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut data, Some(&mut space), flags)?;
    let mut descriptors = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            // SAFETY: recvmsg has just installed these descriptors for us, nobody else has them.
            descriptors.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    if message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    let length = message.bytes;
    Ok((buffer[..length].to_vec(), descriptors))
}

/// The user at the other end, as it was when the connection was made: SO_PEERCRED, unix(7).
///
/// # Errors
/// Of the system call.
pub fn peer_user(socket: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(getsockopt(&socket, PeerCredentials)?.uid())
}

/// memfd_create(2): an unnamed file in memory, close-on-exec.
///
/// # Errors
/// Of the system call.
pub fn memory_file(name: &CStr) -> io::Result<OwnedFd> {
    Ok(memfd_create(name, MFdFlags::MFD_CLOEXEC)?)
}

/// epoll(7) through tokio: a descriptor whose readiness can be awaited. The caller makes it
/// non-blocking if it reads or writes.
///
/// # Errors
/// Of epoll_ctl(2).
pub fn watch(file: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` keeps its descriptor open and gives the same one back for as long as
    // it lives, and `AsyncFd` deregisters it before dropping it.
    unsafe { AsyncFd::register_with_interest(file, interest) }.map_err(Into::into)
}

/// read(2).
///
/// # Errors
/// Of the system call.
pub fn read(file: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(nix::unistd::read(file, buffer)?)
}

/// write(2).
///
/// # Errors
/// Of the system call.
pub fn write(file: BorrowedFd<'_>, buffer: &[u8]) -> io::Result<usize> {
    Ok(nix::unistd::write(file, buffer)?)
}

/// Whether a call failed because a terminal's last slave was closed.
pub fn is_hangup(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EIO)
}
