//! Files in a bucket, by S3's protocol.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::HttpError;
use object_store::path::Path;
use object_store::{
    BackoffConfig, MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig,
};
use rustls::ClientConfig;
use tokio::task::JoinHandle;

use super::transport::Connector;
use super::{Entry, Error, Key, MAX_LISTED, Result};
use crate::domain::Secret;
use crate::support::tasks;

/// S3 takes 10,000 parts, so this allows files of 160 GB; two of them are in memory at a time.
const PART: usize = 16 << 20;
/// The longest that one request is tried again.
const RETRY: Duration = Duration::from_secs(30);
/// How much of a server's own words is repeated.
const SHOWN_CHARS: usize = 160;

/// A bucket, and who we are there.
#[derive(Clone)]
pub struct Bucket {
    /// `https://s3.example.com:9000`; none for Amazon's own.
    pub endpoint: Option<String>,
    /// `eu-central-1`.
    pub region: String,
    /// The bucket's name.
    pub bucket: String,
    /// What all names in it begin with.
    pub prefix: Option<Key>,
    /// The public half of the credentials.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: Secret,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket")
            .field("endpoint", &self.endpoint)
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// A client of one bucket.
#[derive(Debug)]
pub(super) struct Store {
    client: AmazonS3,
    prefix: Option<Key>,
    location: String,
}

impl Store {
    pub(super) fn open(bucket: &Bucket, tls: Arc<ClientConfig>) -> Result<Self> {
        let retry = RetryConfig {
            max_retries: 4,
            retry_timeout: RETRY,
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(2),
                base: 2.0,
            },
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&bucket.bucket)
            .with_region(&bucket.region)
            .with_access_key_id(&bucket.access_key_id)
            .with_secret_access_key(bucket.secret_access_key.expose())
            .with_virtual_hosted_style_request(false)
            .with_retry(retry)
            .with_http_connector(Connector::new(tls));
        if let Some(endpoint) = &bucket.endpoint {
            builder = builder.with_endpoint(endpoint).with_allow_http(true);
        }
        let client = builder.build().map_err(|error| Error::Settings(shortened(&error)))?;
        let prefix = bucket.prefix.as_ref().map(|prefix| format!("/{prefix}")).unwrap_or_default();
        let location = format!("s3://{}{prefix}", bucket.bucket);
        Ok(Self { client, prefix: bucket.prefix.clone(), location })
    }

    pub(super) fn location(&self) -> &str {
        &self.location
    }

    fn path(&self, key: &Key) -> Path {
        match &self.prefix {
            Some(prefix) => Path::from(format!("{prefix}/{key}")),
            None => Path::from(key.as_str()),
        }
    }

    pub(super) async fn list(&self, prefix: &Key) -> Result<Vec<Entry>> {
        let path = self.path(prefix);
        let mut listing = self.client.list(Some(&path));
        let mut entries = Vec::new();
        while let Some(object) = listing.next().await {
            let object = object.map_err(|error| self.failed(prefix, &error))?;
            let name = object.location.as_ref();
            let name = match &self.prefix {
                Some(own) => {
                    name.strip_prefix(own.as_str()).and_then(|rest| rest.strip_prefix('/'))
                }
                None => Some(name),
            };
            // Others may keep files there as well.
            let Some(key) = name.and_then(|name| name.parse::<Key>().ok()) else { continue };
            if entries.len() >= MAX_LISTED {
                let why = format!("it lists more than {MAX_LISTED} files");
                return Err(Error::Refused { location: self.location.clone(), why });
            }
            entries.push(Entry { key, bytes: object.size });
        }
        Ok(entries)
    }

    pub(super) async fn delete(&self, key: &Key) -> Result<()> {
        match self.client.delete(&self.path(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(key, &error)),
        }
    }

    async fn put(&self, key: &Key, contents: Bytes) -> Result<()> {
        let result = self.client.put(&self.path(key), PutPayload::from_bytes(contents)).await;
        result.map(drop).map_err(|error| self.failed(key, &error))
    }

    /// What the error means, in our words and the server's code.
    fn failed(&self, key: &Key, error: &object_store::Error) -> Error {
        use object_store::Error as Theirs;
        let location = self.location.clone();
        let text = error.to_string();
        let code = code_of(&text);
        if let Some(error) = http_error(error) {
            let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            return Error::Unreachable { location, why: cut(&why) };
        }
        match error {
            Theirs::NotFound { .. } => Error::Missing { key: key.to_string(), location, code },
            Theirs::PermissionDenied { .. } | Theirs::Unauthenticated { .. } => {
                Error::Denied { location, code: code.unwrap_or_else(|| "403".into()) }
            }
            _ => match code {
                Some(code) if DENIALS.contains(&code.as_str()) => Error::Denied { location, code },
                Some(code) if code == "NoSuchBucket" => {
                    Error::Missing { key: key.to_string(), location, code: Some(code) }
                }
                Some(code) => Error::Refused { location, why: code },
                None => Error::Refused { location, why: cut(&text) },
            },
        }
    }
}

/// Codes that are about who we are, which some servers send with status 400.
const DENIALS: [&str; 6] = [
    "AccessDenied",
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
];

/// The error of the transport among the sources.
fn http_error(error: &object_store::Error) -> Option<&HttpError> {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(http) = cause.downcast_ref::<HttpError>() {
            return Some(http);
        }
        source = cause.source();
    }
    None
}

/// The server's `<Code>`; its other words may repeat what it was sent.
fn code_of(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let sound =
        !code.is_empty() && code.len() <= 64 && code.bytes().all(|c| c.is_ascii_alphanumeric());
    sound.then(|| code.to_owned())
}

fn shortened(error: &object_store::Error) -> String {
    cut(&crate::support::report(error))
}

/// Text of a stranger's, fit for one line.
fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect()
}

/// A file that goes to the bucket in parts; a small one at once.
#[derive(Debug)]
pub(super) struct Upload {
    store: Arc<Store>,
    key: Key,
    buffer: BytesMut,
    multipart: Option<Box<dyn MultipartUpload>>,
    /// The part under way: while it is sent, the next one is collected.
    sending: Option<JoinHandle<object_store::Result<()>>>,
}

impl Upload {
    pub(super) fn new(store: Arc<Store>, key: Key) -> Self {
        Self { store, key, buffer: BytesMut::new(), multipart: None, sending: None }
    }

    pub(super) async fn write(&mut self, mut piece: &[u8]) -> Result<()> {
        while !piece.is_empty() {
            let taken = piece.len().min(PART - self.buffer.len());
            self.buffer.extend_from_slice(&piece[..taken]);
            piece = &piece[taken..];
            if self.buffer.len() == PART {
                self.send_part().await?;
            }
        }
        Ok(())
    }

    async fn send_part(&mut self) -> Result<()> {
        self.part_sent().await?;
        let part = PutPayload::from_bytes(self.buffer.split().freeze());
        let multipart = match &mut self.multipart {
            Some(multipart) => multipart,
            empty => {
                let begun = self.store.client.put_multipart(&self.store.path(&self.key)).await;
                empty.insert(begun.map_err(|error| self.store.failed(&self.key, &error))?)
            }
        };
        self.sending = Some(tasks::spawn("archive/part", multipart.put_part(part)));
        Ok(())
    }

    async fn part_sent(&mut self) -> Result<()> {
        let Some(sending) = self.sending.take() else { return Ok(()) };
        let result = sending.await.map_err(|error| Error::Refused {
            location: self.store.location.clone(),
            why: format!("the upload's task ended: {error}"),
        })?;
        result.map_err(|error| self.store.failed(&self.key, &error))
    }

    pub(super) async fn finish(mut self) -> Result<()> {
        if self.multipart.is_none() {
            return self.store.put(&self.key, self.buffer.split().freeze()).await;
        }
        let sent = async {
            if !self.buffer.is_empty() {
                self.send_part().await?;
            }
            self.part_sent().await
        };
        let sent = sent.await;
        let Some(multipart) = &mut self.multipart else { return sent };
        let done = match sent {
            Ok(()) => multipart
                .complete()
                .await
                .map(drop)
                .map_err(|error| self.store.failed(&self.key, &error)),
            Err(error) => Err(error),
        };
        if done.is_err() {
            self.abort().await;
        }
        done
    }

    /// Takes back what was sent. What cannot be taken back is named in the log: it is no file, but
    /// the store may charge for it until a rule of the bucket's clears it away.
    pub(super) async fn abort(mut self) {
        if let Some(sending) = self.sending.take() {
            sending.abort();
            let _ = sending.await;
        }
        let Some(mut multipart) = self.multipart.take() else { return };
        if let Err(error) = multipart.abort().await {
            let error = crate::support::report(&self.store.failed(&self.key, &error));
            tracing::warn!(key = self.key.as_str(), error, "parts of an upload may be left");
        }
    }
}

/// A file that comes from the bucket.
pub(super) struct Download {
    store: Arc<Store>,
    key: Key,
    pieces: BoxStream<'static, object_store::Result<Bytes>>,
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Download {
    pub(super) async fn open(store: Arc<Store>, key: &Key) -> Result<Self> {
        let result = store.client.get(&store.path(key)).await;
        let result = result.map_err(|error| store.failed(key, &error))?;
        let pieces = result.into_stream();
        Ok(Self { store, key: key.clone(), pieces })
    }

    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        let piece = self.pieces.next().await.transpose();
        piece.map_err(|error| self.store.failed(&self.key, &error))
    }
}
