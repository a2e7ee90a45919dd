//! HTTP/1.1 for `object_store`: one connection for each request, everything bounded in time, and in
//! size where an answer is not a file.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use http::header::HOST;
use http::{HeaderValue, Method, Uri};
use http_body_util::{BodyExt, Limited, StreamBody};
use hyper_util::rt::TokioIo;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::tasks;

/// To connect, TLS included.
const CONNECT: Duration = Duration::from_secs(10);
/// From the request's first byte to the answer's head: a part of 16 MiB over a slow line.
const ANSWER: Duration = Duration::from_secs(300);
/// Between two pieces of an answer.
const SILENCE: Duration = Duration::from_secs(60);
/// The largest answer that is not a file: a listing has a thousand names of at most 1,024 bytes,
/// which XML may make six times longer.
const MAX_ANSWER: usize = 16 << 20;

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Makes [`Transport`]s.
#[derive(Debug)]
pub(super) struct Connector(Transport);

impl Connector {
    pub(super) fn new(tls: Arc<ClientConfig>) -> Self {
        Self(Transport { tls })
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

#[derive(Debug, Clone)]
struct Transport {
    tls: Arc<ClientConfig>,
}

impl HttpService for Transport {
    // What `async_trait` would write.
    fn call<'a, 'b>(
        &'a self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(self.exchange(request))
    }
}

impl Transport {
    async fn exchange(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let target = Target::of(request.uri()).map_err(error(HttpErrorKind::Unknown))?;
        let is_file = request.method() == Method::GET && request.uri().query().is_none();
        let host = HeaderValue::from_str(&target.authority)
            .map_err(|bad| HttpError::new(HttpErrorKind::Unknown, bad))?;
        request.headers_mut().insert(HOST, host);
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() =
            path.parse::<Uri>().map_err(|bad| HttpError::new(HttpErrorKind::Unknown, bad))?;
        let late = |what: &str| -> Failed { format!("{} {what}", target.authority).into() };
        let stream = tokio::time::timeout(CONNECT, self.connect(&target))
            .await
            .map_err(|_| late("does not accept connections in time"))
            .and_then(|connected| connected)
            .map_err(error(HttpErrorKind::Connect))?;
        let answer = async {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
            // Ends with the answer's body, which holds the other end.
            drop(tasks::spawn("archive/connection", connection));
            sender.send_request(request).await
        };
        let response = tokio::time::timeout(ANSWER, answer)
            .await
            .map_err(|_| error(HttpErrorKind::Timeout)(late("does not answer in time")))?
            .map_err(|broken| {
                let why = format!("{}: {}", target.authority, crate::support::report(&broken));
                error(HttpErrorKind::Interrupted)(why.into())
            })?;
        let (parts, body) = response.into_parts();
        let limit = if is_file && parts.status.is_success() { usize::MAX } else { MAX_ANSWER };
        Ok(HttpResponse::from_parts(parts, patient(Limited::new(body, limit))))
    }

    async fn connect(&self, target: &Target) -> Result<TokioIo<Box<dyn Stream>>, Failed> {
        let (host, port) = (target.host.as_str(), target.port);
        let stream = TcpStream::connect((host, port))
            .await
            .map_err(|error| format!("connect to {}: {error}", target.authority))?;
        stream.set_nodelay(true)?;
        if !target.tls {
            return Ok(TokioIo::new(Box::new(stream)));
        }
        let name = ServerName::try_from(host.to_owned())?;
        let stream = TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, stream)
            .await
            .map_err(|error| format!("TLS with {}: {error}", target.authority))?;
        Ok(TokioIo::new(Box::new(stream)))
    }
}

/// A connection, with or without TLS.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A body each piece of which arrives in time or fails.
fn patient(body: Limited<hyper::body::Incoming>) -> HttpResponseBody {
    let frames = stream::unfold(Some(body), |body| async move {
        let mut body = body?;
        match tokio::time::timeout(SILENCE, body.frame()).await {
            Ok(Some(Ok(frame))) => Some((Ok(frame), Some(body))),
            Ok(Some(Err(broken))) => Some((Err(error(HttpErrorKind::Interrupted)(broken)), None)),
            Ok(None) => None,
            Err(_) => {
                let why = "nothing more comes of its answer";
                Some((Err(error(HttpErrorKind::Timeout)(why.into())), None))
            }
        }
    });
    HttpResponseBody::new(StreamBody::new(frames))
}

fn error(kind: HttpErrorKind) -> impl FnOnce(Failed) -> HttpError {
    move |source| HttpError::new_boxed(kind, source)
}

/// Where a request goes.
struct Target {
    tls: bool,
    host: String,
    port: u16,
    authority: String,
}

impl Target {
    fn of(url: &Uri) -> Result<Self, Failed> {
        let tls = match url.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(format!("`{url}` is no http or https URL").into()),
        };
        let host = url.host().ok_or("a URL without a host")?;
        Ok(Self {
            tls,
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: url.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            authority: url.authority().map(ToString::to_string).unwrap_or_default(),
        })
    }
}
