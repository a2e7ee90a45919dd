//! HTTPS to an authority: one connection for each request, everything bounded.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, RETRY_AFTER};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::tasks;

/// To connect, TLS included.
const CONNECT: Duration = Duration::from_secs(15);
/// One request and its answer.
const EXCHANGE: Duration = Duration::from_secs(60);
/// The largest answer: a chain of certificates has some 8 KiB.
const MAX_BODY: usize = 1 << 20;

/// What the authority asked for in `Retry-After` (RFC 8555 §6.6), which the protocol's library does
/// not tell.
#[derive(Debug, Clone, Default)]
pub(super) struct Limits(Arc<Mutex<Option<u64>>>);

impl Limits {
    /// Seconds, from the last answer that had any.
    pub(super) fn retry_after_s(&self) -> Option<u64> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, seconds: Option<u64>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = seconds;
    }
}

/// A client of one authority.
#[derive(Debug, Clone)]
pub(super) struct Https {
    tls: Arc<ClientConfig>,
    limits: Limits,
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

impl Https {
    pub(super) fn new(tls: Arc<ClientConfig>, limits: Limits) -> Self {
        Self { tls, limits }
    }

    /// The body of `GET url`.
    pub(super) async fn get(&self, url: &str) -> Result<Bytes, Failed> {
        let request = Request::get(url).body(Full::default())?;
        let response = self.exchange(request).await?;
        match response.status().is_success() {
            true => Ok(response.into_body()),
            false => Err(format!("{url} answers {}", response.status()).into()),
        }
    }

    async fn exchange(&self, mut request: Request<Full<Bytes>>) -> Result<Response<Bytes>, Failed> {
        let (host, port) = target(request.uri())?;
        let authority = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        request.headers_mut().insert(HOST, HeaderValue::from_str(&authority)?);
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse::<Uri>()?;
        let late = |what: &str| format!("{host}:{port} {what}");
        let stream = tokio::time::timeout(CONNECT, self.connect(&host, port))
            .await
            .map_err(|_| late("does not accept connections in time"))??;
        let answer = async {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
            // Ends with the connection, which ends with this function: the sender is dropped.
            drop(tasks::spawn("acme/connection", connection));
            let (parts, body) = sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, MAX_BODY).collect().await?.to_bytes();
            Ok::<_, Failed>(Response::from_parts(parts, body))
        };
        let response = tokio::time::timeout(EXCHANGE, answer)
            .await
            .map_err(|_| late("does not answer in time"))??;
        // RFC 9110 §10.2.3 also allows a date; authorities send seconds.
        let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        self.limits.set(after.and_then(|seconds| seconds.trim().parse().ok()));
        Ok(response)
    }

    async fn connect(
        &self,
        host: &str,
        port: u16,
    ) -> Result<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>, Failed> {
        let name = ServerName::try_from(host.to_owned())?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((bare, port))
            .await
            .map_err(|error| format!("connect to {host}:{port}: {error}"))?;
        stream.set_nodelay(true)?;
        let stream = TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, stream)
            .await
            .map_err(|error| format!("TLS with {host}:{port}: {error}"))?;
        Ok(TokioIo::new(stream))
    }
}

/// Host and port of an HTTPS URL; RFC 8555 §6.1 knows no other.
fn target(url: &Uri) -> Result<(String, u16), Failed> {
    match (url.scheme_str(), url.host()) {
        (Some("https"), Some(host)) => Ok((host.to_owned(), url.port_u16().unwrap_or(443))),
        _ => Err(format!("`{url}` is not an https URL").into()),
    }
}

impl HttpClient for Https {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let client = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let Ok(body) = body.collect().await;
            let request = Request::from_parts(parts, Full::new(body.to_bytes()));
            let response = client.exchange(request).await.map_err(instant_acme::Error::Other)?;
            Ok(BytesResponse::from(response.map(Full::new)))
        })
    }
}
