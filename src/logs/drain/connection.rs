//! A connection to whoever takes lines. What `send` returns for has left this machine: TCP's peer has
//! acknowledged it, an HTTP server has answered that it took it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use base64ct::{Base64, Encoding};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio_rustls::TlsConnector;

use super::format::Sender;
use crate::domain::{DrainHost, DrainScheme, DrainUrl};
use crate::logs::Entry;
use crate::support::tasks;
use crate::sys;

/// To connect, TLS included.
const CONNECT: Duration = Duration::from_secs(15);
/// One batch, until it was taken.
const SEND: Duration = Duration::from_secs(60);
/// Between two looks whether the peer has acknowledged a batch, at first and at last.
const ACKNOWLEDGED: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(50)];
/// An answer's body, which is read away so that the connection can be used again.
const MAX_ANSWER: usize = 64 * 1024;

/// An open connection.
pub(super) enum Connection {
    Stream { stream: Box<dyn Stream>, socket: OwnedFd },
    Datagrams(UdpSocket),
    Requests(SendRequest<Full<Bytes>>),
}

/// A connection, with or without TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

fn failed(what: impl std::fmt::Display) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{what}: {error}"))
}

fn late(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

impl Connection {
    /// Connects to what `url` leads to.
    pub(super) async fn open(
        url: &DrainUrl,
        private: bool,
        tls: &Arc<ClientConfig>,
    ) -> io::Result<Self> {
        let connect = async {
            let addresses = super::resolve(url, private).await?;
            match url.scheme() {
                DrainScheme::SyslogUdp => datagrams(addresses[0]).await,
                DrainScheme::SyslogTcp => {
                    let (stream, socket) = connect(&addresses, url).await?;
                    Ok(Self::Stream { stream: Box::new(stream), socket })
                }
                DrainScheme::SyslogTls => {
                    let (stream, socket) = connect(&addresses, url).await?;
                    let stream = Box::new(encrypt(stream, url, tls).await?);
                    Ok(Self::Stream { stream, socket })
                }
                DrainScheme::Https => {
                    let (stream, _) = connect(&addresses, url).await?;
                    let stream = TokioIo::new(encrypt(stream, url, tls).await?);
                    let made = hyper::client::conn::http1::handshake(stream).await;
                    let (requests, connection) = made.map_err(io::Error::other)?;
                    // Ends with the connection, which ends when its sender is dropped.
                    drop(tasks::spawn("drain/connection", connection));
                    Ok(Self::Requests(requests))
                }
            }
        };
        tokio::time::timeout(CONNECT, connect)
            .await
            .map_err(|_| late("it does not accept connections in time"))?
    }

    /// Whether it is worth a try: peers close what is idle for long.
    pub(super) fn is_open(&mut self) -> bool {
        match self {
            Self::Stream { stream, .. } => still_open(stream).is_ok(),
            Self::Datagrams(_) => true,
            Self::Requests(requests) => !requests.is_closed(),
        }
    }

    /// Sends lines; when this returns they were taken.
    pub(super) async fn send(
        &mut self,
        url: &DrainUrl,
        sender: &Sender,
        lines: &[Entry],
    ) -> io::Result<()> {
        let send = async {
            match self {
                Self::Datagrams(socket) => {
                    for entry in lines {
                        socket.send(sender.datagram(&entry.line).as_bytes()).await?;
                    }
                    Ok(())
                }
                Self::Stream { stream, socket } => {
                    let mut text = String::new();
                    lines.iter().for_each(|entry| sender.framed(&entry.line, &mut text));
                    still_open(stream)?;
                    stream.write_all(text.as_bytes()).await?;
                    stream.flush().await?;
                    acknowledged(stream, socket).await
                }
                Self::Requests(requests) => post(requests, url, sender, lines).await,
            }
        };
        tokio::time::timeout(SEND, send)
            .await
            .map_err(|_| late("it does not take lines in time"))?
    }
}

async fn datagrams(address: SocketAddr) -> io::Result<Connection> {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    Ok(Connection::Datagrams(socket))
}

/// The first address that accepts.
async fn connect(addresses: &[SocketAddr], url: &DrainUrl) -> io::Result<(TcpStream, OwnedFd)> {
    let mut result = Err(io::ErrorKind::AddrNotAvailable.into());
    for address in addresses {
        result = TcpStream::connect(address).await;
        if result.is_ok() {
            break;
        }
    }
    let stream = result.map_err(failed(format_args!("connect to {}", url.authority())))?;
    stream.set_nodelay(true)?;
    // Of the same socket, to ask it what is behind TLS.
    let socket = stream.as_fd().try_clone_to_owned()?;
    Ok((stream, socket))
}

async fn encrypt(
    stream: TcpStream,
    url: &DrainUrl,
    tls: &Arc<ClientConfig>,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let name = match url.host() {
        DrainHost::Address(address) => ServerName::from(*address),
        DrainHost::Name(name) => {
            ServerName::try_from(name.as_str().to_owned()).map_err(io::Error::other)?
        }
    };
    TlsConnector::from(Arc::clone(tls))
        .connect(name, stream)
        .await
        .map_err(failed(format_args!("TLS with {}", url.authority())))
}

/// Syslog has no answers: whatever there is to read is the connection's end, or nothing of ours.
fn still_open(stream: &mut Box<dyn Stream>) -> io::Result<()> {
    let mut buffer = [0; 256];
    match stream.read(&mut buffer).now_or_never() {
        None | Some(Ok(1..)) => Ok(()),
        Some(Ok(0)) => {
            Err(io::Error::new(io::ErrorKind::ConnectionReset, "it has closed the connection"))
        }
        Some(Err(error)) => Err(error),
    }
}

/// Waits until the peer's kernel has everything (tcp(7), `SIOCOUTQ`).
async fn acknowledged(stream: &mut Box<dyn Stream>, socket: &OwnedFd) -> io::Result<()> {
    let [mut wait, longest] = ACKNOWLEDGED;
    while sys::fd::unsent(socket.as_fd())? > 0 {
        // Of a connection that was reset, the count stays.
        still_open(stream)?;
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(longest);
    }
    // What was sent after the peer had closed was taken by nobody.
    still_open(stream)
}

async fn post(
    requests: &mut SendRequest<Full<Bytes>>,
    url: &DrainUrl,
    sender: &Sender,
    lines: &[Entry],
) -> io::Result<()> {
    let mut body = Vec::new();
    for entry in lines {
        sender.json(&entry.line, &mut body)?;
    }
    let mut request = Request::post(url.path())
        .header(header::HOST, url.authority().trim_end_matches(":443"))
        .header(header::CONTENT_TYPE, "application/x-ndjson")
        .header(header::USER_AGENT, concat!("staithe/", env!("CARGO_PKG_VERSION")));
    if let Some(credentials) = url.credentials() {
        let basic = format!("Basic {}", Base64::encode_string(credentials.as_bytes()));
        request = request.header(header::AUTHORIZATION, basic);
    }
    let request = request.body(Full::from(body)).map_err(io::Error::other)?;
    requests.ready().await.map_err(io::Error::other)?;
    let answer = requests.send_request(request).await.map_err(io::Error::other)?;
    let status = answer.status();
    // Also what is refused is read away; a body that is too long costs the connection.
    Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(io::Error::other)?;
    match status.is_success() {
        true => Ok(()),
        false => Err(refused(status)),
    }
}

/// Redirects are not followed: they would lead around the check of the address.
fn refused(status: StatusCode) -> io::Error {
    let kind = match status {
        StatusCode::PAYLOAD_TOO_LARGE => io::ErrorKind::FileTooLarge,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, format!("it answers {status}"))
}
