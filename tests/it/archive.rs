//! Files in a bucket, at a real server that speaks S3's protocol (moto, of PyPI).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use staithe::archive::{Archive, Bucket, Entry, Error, Key, Place, Sum};
use staithe::domain::Secret;

use super::support::bucket::Moto;

fn tls() -> Arc<rustls::ClientConfig> {
    staithe::certificate::Trust::of_host().client().unwrap()
}

fn archive(endpoint: &str, bucket: &str, secret: &str) -> Archive {
    let bucket = Bucket {
        endpoint: Some(endpoint.to_owned()),
        region: "us-east-1".into(),
        bucket: bucket.to_owned(),
        prefix: Some(key("of/ours")),
        access_key_id: "AKIAEXAMPLE".into(),
        secret_access_key: Secret::new(secret),
    };
    Archive::open(&Place::Bucket(bucket), tls()).unwrap()
}

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(work)
}

/// Contents of which no two pieces are equal.
fn contents(bytes: usize) -> Vec<u8> {
    (0u32..).flat_map(u32::to_le_bytes).take(bytes).collect()
}

#[test]
fn what_goes_into_a_bucket_comes_out_of_it() {
    let Some(moto) = Moto::start() else { return };
    moto.make_bucket("kept");
    let archive = archive(&moto.endpoint(), "kept", "secret");
    block_on(async {
        // More than two parts, and one that is not full.
        let contents = contents((2 * (16 << 20)) + 12345);
        let mut writer = archive.create(&key("a/dump"), u64::MAX).await.unwrap();
        for piece in contents.chunks(1 << 20) {
            writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        assert_eq!(archive.list(&key("a")).await.unwrap(), [], "it has no name before its end");
        let stored = writer.finish().await.unwrap();
        let small = archive.put(&key("a/manifest.json"), Bytes::from_static(b"{}")).await.unwrap();
        let mut sum = Sum::default();
        sum.update(&contents);
        assert_eq!(stored, sum.finish());

        let mut reader = archive.open_file(&key("a/dump")).await.unwrap();
        let mut sum = Sum::default();
        while let Some(piece) = reader.next().await.unwrap() {
            sum.update(&piece);
        }
        assert_eq!(sum.finish(), stored);
        assert_eq!(
            archive.list(&key("a")).await.unwrap(),
            [
                Entry { key: key("a/dump"), bytes: stored.bytes },
                Entry { key: key("a/manifest.json"), bytes: small.bytes },
            ]
        );
        for name in ["a/dump", "a/manifest.json", "a/never"] {
            archive.delete(&key(name)).await.unwrap();
        }
        assert_eq!(archive.list(&key("a")).await.unwrap(), []);
        let error = archive.get(&key("a/dump"), 10).await.unwrap_err();
        assert!(matches!(error, Error::Missing { .. }), "{error}");
        assert_eq!(archive.location(), "s3://kept/of/ours");
    });
    assert_eq!(moto.uploads("kept"), 0, "no upload is left open");
}

#[test]
fn an_upload_that_is_given_up_leaves_nothing_in_the_bucket() {
    let Some(moto) = Moto::start() else { return };
    moto.make_bucket("kept");
    let archive = archive(&moto.endpoint(), "kept", "secret");
    block_on(async {
        let mut writer = archive.create(&key("a/dump"), 33 << 20).await.unwrap();
        writer.write(contents(33 << 20).into()).await.unwrap();
        let error = writer.write(Bytes::from_static(b"x")).await.unwrap_err();
        assert!(matches!(error, Error::TooMuch { .. }), "{error}");
        writer.abort().await;
        assert_eq!(archive.list(&key("a")).await.unwrap(), []);
    });
    assert_eq!(moto.uploads("kept"), 0);
}

#[test]
fn what_is_wrong_with_a_bucket_is_said() {
    let Some(moto) = Moto::start() else { return };
    block_on(async {
        let absent = archive(&moto.endpoint(), "absent", "secret");
        let error = absent.put(&key("a/b"), Bytes::from_static(b"x")).await.unwrap_err();
        assert!(
            matches!(&error, Error::Missing { code: Some(code), .. } if code == "NoSuchBucket")
        );
        assert!(error.hint().unwrap().contains("make the bucket"), "{error}");
    });
}

#[test]
fn wrong_credentials_are_told_apart_from_a_server_that_is_down() {
    let Some(moto) = Moto::start() else { return };
    let id = moto.make_user_and_bucket("kept");
    let denied = Bucket {
        endpoint: Some(moto.endpoint()),
        region: "us-east-1".into(),
        bucket: "kept".into(),
        prefix: None,
        access_key_id: id,
        secret_access_key: Secret::new("not-the-secret"),
    };
    let endpoint = moto.endpoint();
    block_on(async {
        let archive = Archive::open(&Place::Bucket(denied), tls()).unwrap();
        let error = archive.put(&key("a/b"), Bytes::from_static(b"x")).await.unwrap_err();
        assert!(matches!(error, Error::Denied { .. }), "{error}");
        assert_eq!(
            error.to_string(),
            "`s3://kept` refuses the credentials (SignatureDoesNotMatch)"
        );
        assert!(error.hint().unwrap().contains("s3-secret-access-key"));
    });
    drop(moto);
    let archive = archive(&endpoint, "kept", "secret");
    let error = block_on(async {
        let key = key("a/b");
        let put = archive.put(&key, Bytes::from_static(b"x"));
        tokio::time::timeout(Duration::from_secs(60), put).await.unwrap().unwrap_err()
    });
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("Connection refused"), "{error}");
    assert!(error.hint().unwrap().contains("s3-endpoint"));
}
