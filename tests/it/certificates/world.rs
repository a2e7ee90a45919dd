//! A certificate authority of one's own: Pebble, Let's Encrypt's test server, and a name server whose
//! answers a test decides.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::support::staithe::{Finished, free_address};
use crate::support::{Staithe, eventually};

const START: Duration = Duration::from_secs(30);

/// What differs from one authority to another.
pub(crate) struct Habits {
    /// Of a hundred good nonces, how many are refused.
    pub(crate) refused_nonces: u32,
    /// For how long certificates are valid, in seconds.
    pub(crate) validity_s: u64,
}

impl Default for Habits {
    fn default() -> Self {
        Self { refused_nonces: 0, validity_s: 90 * 24 * 3600 }
    }
}

pub(crate) struct Authority {
    directory: tempfile::TempDir,
    habits: Habits,
    directory_address: SocketAddr,
    management: SocketAddr,
    dns: SocketAddr,
    dns_management: SocketAddr,
    /// Where it looks for HTTP-01 and TLS-ALPN-01.
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
    pebble: Option<Child>,
    names: Option<Child>,
}

impl Authority {
    pub(crate) fn start(habits: Habits) -> Self {
        let directory = tempfile::Builder::new().prefix("staithe-ca-").tempdir().unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(directory.path(), mode).unwrap();
        let mut authority = Self {
            directory,
            habits,
            directory_address: free_address(),
            management: free_address(),
            dns: free_address(),
            dns_management: free_address(),
            http: free_address(),
            https: free_address(),
            pebble: None,
            names: None,
        };
        authority.make_certificate();
        authority.write_config();
        authority.start_names();
        authority.start_pebble();
        authority
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        staithe::support::atomic_file::write(&path, text.as_bytes(), 0o644).unwrap();
        path
    }

    /// The certificate of its HTTPS endpoints, and the authority behind it.
    fn make_certificate(&self) {
        let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let issuer = Issuer::new(ca, ca_key);
        let mut leaf = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
        leaf.distinguished_name.push(rcgen::DnType::CommonName, "pebble");
        let leaf = leaf.signed_by(&key, &issuer).unwrap().pem();
        self.write("ca.pem", &ca_pem);
        self.write("cert.pem", &leaf);
        self.write("key.pem", &key.serialize_pem());
    }

    fn write_config(&self) {
        let config = serde_json::json!({ "pebble": {
            "listenAddress": self.directory_address.to_string(),
            "managementListenAddress": self.management.to_string(),
            "certificate": self.path("cert.pem"),
            "privateKey": self.path("key.pem"),
            "httpPort": self.http.port(),
            "tlsPort": self.https.port(),
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
            "certificateValidityPeriod": self.habits.validity_s,
        }});
        self.write("pebble.json", &config.to_string());
    }

    fn start_names(&mut self) {
        let mut command = Command::new("pebble-challtestsrv");
        command
            .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""])
            .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
            .args(["-dns01", &self.dns.to_string()])
            .args(["-management", &self.dns_management.to_string()]);
        self.names = Some(self.spawn(command, "names.log"));
        wait_for(self.dns_management);
        wait_for(self.dns);
    }

    pub(crate) fn start_pebble(&mut self) {
        let mut command = Command::new("pebble");
        command
            .arg("-config")
            .arg(self.path("pebble.json"))
            .args(["-dnsserver", &self.dns.to_string()])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_AUTHZREUSE", "0")
            .env("PEBBLE_WFE_NONCEREJECT", self.habits.refused_nonces.to_string());
        self.pebble = Some(self.spawn(command, "pebble.log"));
        wait_for(self.directory_address);
        wait_for(self.management);
    }

    fn spawn(&self, mut command: Command, log: &str) -> Child {
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.path(log)).unwrap();
        let errors = log.try_clone().unwrap();
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    pub(crate) fn stop_pebble(&mut self) {
        end(self.pebble.take());
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("pebble.log")).unwrap_or_default()
    }

    /// A Staithe that knows the authority; `settings` come on top.
    pub(crate) fn staithe(&self, settings: &[&str]) -> Staithe {
        let mut all = vec![
            format!("proxy.http_listen=[\"{}\"]", self.http),
            format!("proxy.https_listen=[\"{}\"]", self.https),
            format!("certificates.http_port={}", self.http.port()),
            format!("certificates.directory_url=https://{}/dir", self.directory_address),
            format!("certificates.ca_bundle={}", self.path("ca.pem").display()),
            format!("certificates.resolvers=[\"{}\"]", self.dns),
        ];
        all.extend(settings.iter().map(ToString::to_string));
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        Staithe::start_with(false, &all)
    }

    /// Tells the name server what to answer.
    pub(crate) fn names(&self, verb: &str, what: &serde_json::Value) {
        let url = format!("http://{}/{verb}", self.dns_management);
        curl(&["--data", &what.to_string(), &url]).succeeds();
    }

    /// A program that sets the records of the name server.
    pub(crate) fn dns_hook(&self) -> PathBuf {
        let script = format!(
            "#!/bin/sh\nset -e\ncase $1 in\n\
             present) verb=set-txt ;;\ncleanup) verb=clear-txt ;;\n*) exit 2 ;;\nesac\n\
             [ \"$(id -u)\" = 65534 ]\n\
             curl -sSf --data \"{{\\\"host\\\":\\\"$2.\\\",\\\"value\\\":\\\"$3\\\"}}\" \
             \"http://{}/$verb\"\n",
            self.dns_management
        );
        let path = self.write("hook", &script);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).unwrap();
        path
    }

    /// The root that its certificates end at; another one after each start.
    fn root(&self) -> PathBuf {
        let url = format!("https://{}/roots/0", self.management);
        let ca = self.path("ca.pem");
        let root = curl(&["--cacert", ca.to_str().unwrap(), &url]).succeeds();
        self.write("root.pem", &root.stdout)
    }

    /// `GET https://<domain>/` by somebody who trusts the authority.
    pub(crate) fn visit(&self, domain: &str) -> Finished {
        visit(self.https, domain, &self.root())
    }
}

/// `GET https://<domain>/` from `address` by somebody who trusts `root`: the answer's status.
pub(crate) fn visit(address: SocketAddr, domain: &str, root: &std::path::Path) -> Finished {
    let resolve = format!("{domain}:{}:{}", address.port(), address.ip());
    let url = format!("https://{domain}:{}/", address.port());
    let root = root.to_str().unwrap();
    curl(&["--cacert", root, "--resolve", &resolve, "-o", "/dev/null", "-w", "%{http_code}", &url])
}

fn curl(arguments: &[&str]) -> Finished {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "30", "--noproxy", "*"]).args(arguments);
    Finished::of(command, "")
}

fn wait_for(address: SocketAddr) {
    eventually(START, "a server of the authority listens", || {
        std::net::TcpStream::connect(address).map_err(|error| format!("{address}: {error}"))
    });
}

fn end(child: Option<Child>) {
    if let Some(mut child) = child {
        // It may have ended by itself.
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- log of the authority ----\n{}", self.log());
        }
        end(self.pebble.take());
        end(self.names.take());
    }
}
