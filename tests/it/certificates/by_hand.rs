//! `certs:*`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::world::visit;
use crate::support::Staithe;
use crate::support::staithe::free_address;

struct World {
    staithe: Staithe,
    https: SocketAddr,
    directory: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl World {
    fn start() -> Self {
        let https = free_address();
        let listen = format!("proxy.https_listen=[\"{https}\"]");
        let staithe = Staithe::start_with(false, &[&listen]);
        staithe.cli(&["apps:create", "shop"]).succeeds();
        let directory = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = ca.self_signed(&key).unwrap().pem();
        let world = Self { staithe, https, directory, issuer: Issuer::new(ca, key) };
        world.write("root.pem", &root);
        world
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        staithe::support::atomic_file::write(&path, text.as_bytes(), 0o600).unwrap();
        path
    }

    /// Files of a certificate for `names`, ending `years` after 2025.
    fn certificate(&self, names: &[&str], end: i32) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "shop");
        params.not_after = rcgen::date_time_ymd(end, 1, 1);
        let made = params.signed_by(&key, &self.issuer).unwrap();
        (self.write("server.crt", &made.pem()), self.write("server.key", &key.serialize_pem()))
    }

    fn add(
        &self,
        verb: &str,
        (crt, key): &(PathBuf, PathBuf),
    ) -> crate::support::staithe::Finished {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        self.staithe.cli(&[verb, "shop", &text(crt), &text(key)])
    }

    fn visit(&self, domain: &str) -> crate::support::staithe::Finished {
        visit(self.https, domain, &self.directory.path().join("root.pem"))
    }
}

#[test]
fn a_certificate_is_added_shown_replaced_and_removed() {
    let world = World::start();
    let staithe = &world.staithe;
    staithe.cli(&["domains:set", "shop", "shop.test", "a.shop.test", "else.test"]).succeeds();
    world.visit("shop.test").fails_with(35);
    world.add("certs:update", &world.certificate(&["shop.test"], 2099)).fails_with(20);
    let added = world.add("certs:add", &world.certificate(&["shop.test", "*.shop.test"], 2099));
    added.succeeds().says("the certificate is not for `else.test`");
    for name in ["shop.test", "a.shop.test"] {
        world.visit(name).succeeds();
    }
    // The name is wrong, and the visitor is told so instead of being turned away.
    world.visit("else.test").fails_with(60);
    let report = staithe.cli(&["certs:report", "shop"]).succeeds();
    report
        .says("Ssl enabled:                   true")
        .says("Ssl expires at:                2099-01-01T00:00:00Z")
        .says("Ssl hostnames:                 *.shop.test shop.test")
        .says("Ssl domains without:           else.test");
    let key = std::fs::read_to_string(world.directory.path().join("server.key")).unwrap();
    let shown = staithe.cli(&["certs:show", "shop", "key"]).succeeds();
    assert_eq!(shown.stdout.trim(), key.replace("\r\n", "\n").trim());
    staithe.cli(&["certs:show", "shop", "crt"]).succeeds().says("BEGIN CERTIFICATE");

    // An archive on standard input, over SSH's way in as well as here.
    let directory = world.directory.path();
    let mut tar = std::process::Command::new("sh");
    let program = crate::support::staithe::PROGRAM;
    tar.arg("-c")
        .arg(format!("tar c server.crt server.key | {program} certs:update shop"))
        .current_dir(directory)
        .env("STAITHE_RUN_DIR", staithe.run_dir());
    crate::support::staithe::Finished::of(tar, "").succeeds();
    staithe.cli(&["certs:remove", "shop"]).succeeds();
    world.visit("shop.test").fails_with(35);
    staithe.cli(&["certs:show", "shop", "crt"]).fails_with(20).says("no certificate of its own");
    let left = std::fs::read_dir(staithe.data_dir().join("certificates")).unwrap().count();
    assert_eq!(left, 0, "a key was left behind");
}

#[test]
fn what_cannot_be_used_is_refused_and_changes_nothing() {
    let world = World::start();
    let good = world.certificate(&["shop.test"], 2099);
    world.add("certs:add", &good).succeeds();
    let other = world.write("other.key", &KeyPair::generate().unwrap().serialize_pem());
    let mismatch = world.add("certs:add", &(good.0.clone(), other));
    mismatch.fails_with(4).says("the key does not belong to the certificate");
    let nonsense = world.write("nonsense.crt", "hello");
    world.add("certs:add", &(nonsense, good.1.clone())).fails_with(4).says("is not PEM");
    let mut openssl = std::process::Command::new("openssl");
    openssl
        .args(["req", "-x509", "-newkey", "rsa:1024", "-nodes", "-subj", "/CN=shop.test"])
        .args(["-keyout", "weak.key", "-out", "weak.crt"])
        .current_dir(world.directory.path());
    crate::support::staithe::Finished::of(openssl, "").succeeds();
    let weak = ["weak.crt", "weak.key"].map(|name| world.directory.path().join(name));
    let [crt, key] = weak;
    world.add("certs:add", &(crt, key)).fails_with(4).says("the key is RSA 1024");
    world.visit("shop.test").succeeds();

    let expired = world.certificate(&["shop.test"], 2020);
    let refused = world.add("certs:add", &expired).fails_with(4);
    refused.says("the certificate expired on 2020-01-01").says("--force takes it all the same");
    world.visit("shop.test").succeeds();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let forced = ["--force", "certs:add", "shop", &text(&expired.0), &text(&expired.1)];
    world.staithe.cli(&forced).succeeds().says("expired on 2020-01-01");
    world.visit("shop.test").fails_with(60);
}

#[test]
fn a_generated_key_serves_at_once_and_is_completed_by_an_authoritys_signature() {
    let world = World::start();
    let staithe = &world.staithe;
    let made = staithe.cli(&["certs:generate", "shop", "shop.test"]).succeeds();
    assert!(made.stdout.starts_with("-----BEGIN CERTIFICATE REQUEST-----"), "{}", made.stdout);
    staithe.cli(&["certs:report", "shop", "--ssl-source"]).succeeds().says("self-signed");
    world.visit("shop.test").fails_with(60);
    world.write("request.csr", &made.stdout);
    // The authority's part.
    let key = KeyPair::from_pem(&staithe.cli(&["certs:show", "shop", "key"]).succeeds().stdout);
    let mut params = CertificateParams::new(vec!["shop.test".into()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "shop");
    let signed = params.signed_by(&key.unwrap(), &world.issuer).unwrap();
    let signed = world.write("signed.crt", &signed.pem());
    staithe.cli(&["certs:update", "shop", signed.to_str().unwrap()]).succeeds();
    world.visit("shop.test").succeeds();
    staithe.cli(&["certs:generate", "shop", "shop.test"]).fails_with(4).says("would be lost");
}
