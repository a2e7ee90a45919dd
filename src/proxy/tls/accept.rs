//! A handshake, from the first byte to the choice of protocol.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustls::ProtocolVersion;
use rustls::server::{Accepted as Hello, AcceptedAlert, Acceptor};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::super::buffer::Buffer;
use super::super::stream::Sink;
use super::certificates::{ACME, Certificate, Tls};
use super::stream::TlsStream;

/// `unrecognized_name`, fatal, as a record (RFC 8446 §5.1 and §6).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// The type of a handshake record.
const HANDSHAKE: u8 = 22;

/// How a connection to an HTTPS port began.
#[derive(Debug)]
pub(in crate::proxy) enum Accepted {
    /// With a handshake that was completed.
    Secured {
        stream: Box<RefCell<TlsStream>>,
        session: Session,
        /// HTTP/2 was agreed on.
        http2: bool,
    },
    /// With something that looks like plain HTTP.
    PlainHttp(TcpStream),
    /// It has ended: refused, given up by the client, or too slow.
    Ended,
}

/// What a connection was promised in its handshake.
#[derive(Debug)]
pub(in crate::proxy) struct Session {
    /// The name that the client asked for, folded.
    name: Option<Box<str>>,
    certificate: Arc<Certificate>,
    /// For the log.
    pub(in crate::proxy) version: &'static str,
}

impl Session {
    /// Whether requests for `host` may be answered here: it is the name that was asked for, or shares
    /// its certificate. Otherwise the client took the server of one name for that of another
    /// (RFC 9110 §15.5.20).
    pub(in crate::proxy) fn serves(&self, tls: &Tls, host: &str) -> bool {
        self.name.as_deref() == Some(host)
            || tls
                .certificates()
                .find(Some(host))
                .is_some_and(|other| other.id == self.certificate.id)
    }
}

/// Takes a connection in, until `deadline` from now.
pub(in crate::proxy) async fn accept(tls: &Tls, tcp: TcpStream, deadline: Duration) -> Accepted {
    let result = tokio::time::timeout(deadline, handshake(tls, tcp)).await;
    let accepted = result.unwrap_or(Accepted::Ended);
    let counter = match accepted {
        Accepted::Secured { .. } => &tls.handshakes,
        Accepted::PlainHttp(_) | Accepted::Ended => &tls.failures,
    };
    counter.fetch_add(1, Ordering::Relaxed);
    accepted
}

async fn handshake(tls: &Tls, mut tcp: TcpStream) -> Accepted {
    let mut incoming = Buffer::default();
    let hello = match read_hello(&mut tcp, &mut incoming).await {
        Ok(Some(hello)) => hello,
        Ok(None) => return Accepted::PlainHttp(tcp),
        Err(alert) => {
            tell(&mut tcp, &alert).await;
            return Accepted::Ended;
        }
    };
    let (name, certificate, validation) = match choose(tls, &hello) {
        (name, Some(certificate), validation) => (name, certificate, validation),
        (_, None, _) => {
            tell(&mut tcp, &UNRECOGNIZED_NAME).await;
            return Accepted::Ended;
        }
    };
    let session = match hello.into_connection(Arc::clone(&certificate.config)) {
        Ok(session) => session,
        Err((_, alert)) => {
            tell(&mut tcp, &bytes_of(alert)).await;
            return Accepted::Ended;
        }
    };
    let mut stream = TlsStream::new(tcp, session, incoming);
    if std::future::poll_fn(|cx| stream.poll_handshake(cx)).await.is_err() {
        return Accepted::Ended;
    }
    if validation {
        // RFC 8737 §3: the handshake was the answer. The authority may have gone already.
        let _ = std::future::poll_fn(|cx| stream.poll_shutdown(cx)).await;
        return Accepted::Ended;
    }
    let agreed = stream.session();
    let http2 = agreed.alpn_protocol() == Some(b"h2");
    let version = match agreed.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "TLSv1.2",
    };
    let session = Session { name, certificate, version };
    Accepted::Secured { stream: Box::new(RefCell::new(stream)), session, http2 }
}

/// Reads the ClientHello; `None` for plain HTTP.
///
/// # Errors
/// The alert that answers anything else.
async fn read_hello(tcp: &mut TcpStream, incoming: &mut Buffer) -> Result<Option<Hello>, Vec<u8>> {
    let mut acceptor = Acceptor::default();
    let mut first = true;
    loop {
        if incoming.is_empty() && !matches!(incoming.fill(tcp).await, Ok(length) if length > 0) {
            return Err(Vec::new());
        }
        let byte = incoming.data().first().copied().unwrap_or_default();
        if std::mem::take(&mut first) && byte != HANDSHAKE && byte.is_ascii_uppercase() {
            return Ok(None);
        }
        let mut records = incoming.data();
        // Fails, or takes none, when the message grows beyond what rustls allows.
        let taken = acceptor.read_tls(&mut records).unwrap_or(0);
        if taken == 0 {
            return Err(Vec::new());
        }
        incoming.consume(taken);
        match acceptor.accept() {
            Ok(Some(hello)) => return Ok(Some(hello)),
            Ok(None) => {}
            Err((_, alert)) => return Err(bytes_of(alert)),
        }
    }
}

/// The name that is asked for, its certificate, and whether the handshake only validates the name.
fn choose(tls: &Tls, hello: &Hello) -> (Option<Box<str>>, Option<Arc<Certificate>>, bool) {
    let hello = hello.client_hello();
    let name = hello.server_name().map(|name| name.to_ascii_lowercase().into_boxed_str());
    let mut protocols = hello.alpn().into_iter().flatten();
    // RFC 8737 §3: the one protocol that is offered.
    let validation = protocols.next() == Some(ACME) && protocols.next().is_none();
    let certificates = tls.certificates();
    let certificate = match validation {
        true => name.as_deref().and_then(|name| certificates.challenge(name)),
        false => certificates.find(name.as_deref()),
    };
    (name, certificate.cloned(), validation)
}

fn bytes_of(mut alert: AcceptedAlert) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A Vec takes everything.
    let _ = alert.write_all(&mut bytes);
    bytes
}

/// Sends an alert and says that it is the last.
async fn tell(tcp: &mut TcpStream, alert: &[u8]) {
    // Errors mean that the client has gone, which is as good.
    let _: io::Result<()> = async {
        tcp.write_all(alert).await?;
        tcp.shutdown().await
    }
    .await;
}
