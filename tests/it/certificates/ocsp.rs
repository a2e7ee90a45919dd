//! What an authority says of a certificate, shown to visitors: a real responder (`openssl ocsp`), and
//! a visitor who asks for it (`openssl s_client -status`).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, SerialNumber,
};

use crate::support::staithe::{Finished, free_address};
use crate::support::{Staithe, eventually};

const SOON: Duration = Duration::from_secs(30);

/// An intermediate authority with two responders: one that it has named, and an impostor.
struct World {
    staithe: Staithe,
    https: SocketAddr,
    directory: tempfile::TempDir,
    issuer: Rc<Issuer<'static, KeyPair>>,
    issuer_pem: String,
    responders: Vec<Child>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop_responders();
    }
}

/// AuthorityInfoAccess (RFC 5280 §4.2.2.1): the responder at `address`, in DER by hand.
fn access(address: SocketAddr) -> CustomExtension {
    let url = format!("http://{address}/");
    let short = |length: usize| u8::try_from(length).unwrap();
    let mut one = vec![6, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 0x86, short(url.len())];
    one.extend(url.bytes());
    let mut access = vec![0x30, short(one.len() + 2), 0x30, short(one.len())];
    access.extend(one);
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], access)
}

impl World {
    fn start() -> Self {
        let https = free_address();
        let listen = format!("proxy.https_listen=[\"{https}\"]");
        let staithe = Staithe::start_with(false, &[&listen, "certificates.ocsp=any"]);
        let directory = tempfile::tempdir().unwrap();
        let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let authority = |name: &str| {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, name);
            params
        };
        let (root, issuer) = (authority("root"), authority("intermediate"));
        let issuer_pem = issuer.signed_by(&key, &Issuer::new(root, root_key)).unwrap().pem();
        let issuer = Rc::new(Issuer::new(issuer, key));
        let world = Self { staithe, https, directory, issuer, issuer_pem, responders: Vec::new() };
        world.write("issuer.pem", &world.issuer_pem);
        world.write(
            "index.txt",
            "V\t20990101000000Z\t\t01\tunknown\t/CN=good\n\
             R\t20990101000000Z\t250101000000Z\t02\tunknown\t/CN=revoked\n\
             V\t20990101000000Z\t\t03\tunknown\t/CN=forged\n",
        );
        world
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        staithe::support::atomic_file::write(&path, text.as_bytes(), 0o600).unwrap();
        path
    }

    /// Starts a responder that signs with a certificate for this, issued by `signer`.
    fn responder(&mut self, name: &str, signer: &Issuer<'_, KeyPair>) -> SocketAddr {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
        let made = params.signed_by(&key, signer).unwrap();
        self.write(&format!("{name}.pem"), &made.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
        let address = free_address();
        let log = self.write(&format!("{name}.log"), "");
        let output = std::fs::OpenOptions::new().append(true).open(&log).unwrap();
        let mut command = Command::new("openssl");
        command
            .args(["ocsp", "-index", "index.txt", "-CA", "issuer.pem", "-ndays", "7"])
            .args(["-rsigner", &format!("{name}.pem"), "-rkey", &format!("{name}.key")])
            .args(["-port", &address.port().to_string(), "-ignore_err"])
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output);
        self.responders.push(command.spawn().unwrap());
        // Not by a connection: one that says nothing is the last that it takes.
        eventually(SOON, "the responder listens", || {
            let said = std::fs::read_to_string(&log).unwrap();
            said.contains("waiting for").then_some(()).ok_or(said)
        });
        address
    }

    fn stop_responders(&mut self) {
        for mut child in self.responders.drain(..) {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Gives an app of that name a certificate with a serial number.
    fn app(&self, name: &str, serial: u64, responder: Option<SocketAddr>) {
        self.staithe.cli(&["apps:create", name]).succeeds();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![format!("{name}.test")]).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        params.distinguished_name.push(DnType::CommonName, name);
        params.custom_extensions = responder.map(access).into_iter().collect();
        let made = params.signed_by(&key, &*self.issuer).unwrap().pem();
        let crt = self.write("server.crt", &format!("{made}{}", self.issuer_pem));
        let key = self.write("server.key", &key.serialize_pem());
        let paths = [crt, key].map(|path| path.to_str().unwrap().to_owned());
        self.staithe.cli(&["certs:add", name, &paths[0], &paths[1]]).succeeds();
    }

    /// Waits until the app's report shows `words`.
    fn reports(&self, app: &str, words: &str) {
        eventually(SOON, words, || {
            let shown = self.staithe.cli(&["certs:report", app, "--ssl-ocsp"]).succeeds().stdout;
            shown.contains(words).then_some(()).ok_or(shown)
        });
    }

    /// What a visitor is shown, in openssl's words.
    fn visit(&self, app: &str) -> String {
        let mut command = Command::new("openssl");
        command
            .args(["s_client", "-connect", &self.https.to_string(), "-status"])
            .args(["-servername", &format!("{app}.test")]);
        Finished::of(command, "").stdout
    }

    /// The file of an app's staple.
    fn file(&self, app: &str) -> PathBuf {
        let report = self.staithe.json(&["certs:report", app]);
        let id = report["own"]["id"].as_str().unwrap();
        self.staithe.data_dir().join(format!("certificates/{id}.ocsp"))
    }
}

const STAPLED: &str = "OCSP Response Status: successful";
const BARE: &str = "OCSP response: no response sent";

#[test]
fn a_good_certificate_is_stapled_while_that_holds_and_no_other_is() {
    use std::os::unix::fs::PermissionsExt;
    let mut world = World::start();
    let key = KeyPair::generate().unwrap();
    let mut stranger = CertificateParams::new(Vec::new()).unwrap();
    stranger.distinguished_name.push(DnType::CommonName, "stranger");
    let stranger = Issuer::new(stranger, key);
    let issuer = Rc::clone(&world.issuer);
    let responder = world.responder("responder", &issuer);
    let impostor = world.responder("impostor", &stranger);

    world.app("good", 1, Some(responder));
    world.app("revoked", 2, Some(responder));
    world.app("forged", 3, Some(impostor));
    world.app("unknown", 4, Some(responder));
    world.app("silent", 5, None);
    world.reports("good", "good until");
    world.reports("revoked", "revoked at 2025-01-01T00:00:00Z");
    world.reports("forged", "is not signed by the certificate's issuer; tried again at");
    world.reports("unknown", "does not know the certificate");
    world.reports("silent", "not offered");
    let shown = world.visit("good");
    assert!(shown.contains(STAPLED) && shown.contains("Cert Status: good"), "{shown}");
    for app in ["revoked", "forged", "unknown", "silent"] {
        assert!(world.visit(app).contains(BARE), "{app}");
        assert!(!world.file(app).exists(), "{app}");
    }
    let events = world.staithe.cli(&["events"]).succeeds();
    events.says("the authority has revoked the certificate of CN=revoked");
    let file = world.file("good");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o640);

    // Nobody answers any more, and the control plane has forgotten all but its files.
    world.stop_responders();
    world.staithe.kill_daemon();
    assert!(world.visit("good").contains(STAPLED), "without a control plane");
    world.staithe.launch();
    world.reports("good", "good until");
    world.reports("forged", "cannot be reached");
    assert!(world.visit("good").contains(STAPLED), "without a responder");

    // Its time is over.
    let kept = std::fs::read(&file).unwrap();
    let der = kept.splitn(2, |byte| *byte == b'\n').nth(1).unwrap();
    let over = [b"1735689600 1735776000\n", der].concat();
    staithe::support::atomic_file::write(&file, &over, 0o644).unwrap();
    world.staithe.cli(&["apps:create", "another"]).succeeds();
    assert!(world.visit("good").contains(BARE), "shown after its end");

    world.staithe.cli(&["certs:remove", "good"]).succeeds();
    assert!(!file.exists(), "left behind");
}
