//! Real receivers of drains: rsyslog with TLS, and an HTTPS server of Python's.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::staithe::{Finished, free_address};
use crate::support::{eventually, skip};

const PATIENCE: Duration = Duration::from_secs(60);
const RSYSLOG: &str = "/usr/sbin/rsyslogd";

fn write(path: &Path, text: &str) {
    std::fs::File::create(path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
        .unwrap();
}

/// An authority with a certificate for 127.0.0.1.
pub(super) struct Authority {
    directory: tempfile::TempDir,
}

impl Authority {
    /// None, and a skip, where rsyslog is not installed.
    pub(super) fn new() -> Option<Self> {
        if !Path::new(RSYSLOG).exists() {
            skip("rsyslog is not installed: see need_packages_to_test in script/lib/packages");
            return None;
        }
        let authority = Self { directory: tempfile::tempdir().unwrap() };
        let openssl = |arguments: &str| {
            let mut command = Command::new("openssl");
            command.args(arguments.split(' ')).current_dir(authority.directory.path());
            Finished::of(command, "").succeeds();
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -batch";
        openssl(&format!(
            "req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=Test -addext basicConstraints=critical,CA:TRUE"
        ));
        openssl(&format!("req {key} -keyout key.pem -out csr.pem -subj /CN=receiver"));
        write(&authority.file("san"), "subjectAltName=IP:127.0.0.1\n");
        openssl(
            "x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out cert.pem",
        );
        Some(authority)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn bundle(&self) -> PathBuf {
        self.file("ca.pem")
    }
}

/// A program that takes lines and writes them to a file; ends when dropped.
struct Receiver {
    directory: tempfile::TempDir,
    address: SocketAddr,
    command: Box<dyn Fn(&Path) -> Command>,
    child: Option<Child>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Receiver {
    fn start(address: SocketAddr, command: impl Fn(&Path) -> Command + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut receiver = Self { directory, address, command: Box::new(command), child: None };
        receiver.restart();
        receiver
    }

    fn restart(&mut self) {
        let mut command = (self.command)(self.directory.path());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(child.spawn().unwrap());
        eventually(PATIENCE, "the receiver listens", || {
            std::net::TcpStream::connect(self.address).map_err(|error| error.to_string())
        });
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn text(&self) -> String {
        let bytes = std::fs::read(self.directory.path().join("out")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[track_caller]
    fn gets(&self, text: &str) {
        eventually(PATIENCE, text, || {
            let all = self.text();
            all.contains(text).then_some(()).ok_or(all)
        });
    }
}

/// rsyslog, as Debian has it.
pub(super) struct Rsyslog(Receiver);

impl Rsyslog {
    pub(super) fn start(authority: &Authority) -> Self {
        let address = free_address();
        let [ca, cert, key] = ["ca.pem", "cert.pem", "key.pem"].map(|name| authority.file(name));
        Self(Receiver::start(address, move |directory| {
            let config = directory.join("rsyslog.conf");
            let text = format!(
                r#"global(DefaultNetstreamDriver="gtls" DefaultNetstreamDriverCAFile="{}" DefaultNetstreamDriverCertFile="{}" DefaultNetstreamDriverKeyFile="{}" workDirectory="{directory}")
module(load="imtcp" StreamDriver.Name="gtls" StreamDriver.Mode="1" StreamDriver.AuthMode="anon")
template(name="plain" type="string" string="%app-name% %procid% %msgid% %syslogseverity-text% %msg%\n")
input(type="imtcp" port="{}" address="127.0.0.1")
*.* action(type="omfile" file="{directory}/out" template="plain")
"#,
                ca.display(),
                cert.display(),
                key.display(),
                address.port(),
                directory = directory.display(),
            );
            write(&config, &text);
            let mut command = Command::new(RSYSLOG);
            command.arg("-n").arg("-f").arg(config).arg("-i").arg(directory.join("pid"));
            command
        }))
    }

    pub(super) fn url(&self) -> String {
        format!("syslog+tls://{}", self.0.address)
    }

    pub(super) fn kill(&mut self) {
        self.0.kill();
    }

    pub(super) fn restart(&mut self) {
        self.0.restart();
    }

    #[track_caller]
    pub(super) fn gets(&self, text: &str) {
        self.0.gets(text);
    }
}

/// Appends the bodies of requests to a file; of the first request it says that it is busy.
const COLLECTOR: &str = r#"
import http.server, ssl, sys
address, cert, key, out = sys.argv[1:]
busy = [True]
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = 503 if busy else 204
        busy.clear()
        if status == 204 and self.path == "/in?token=t" and self.headers["Content-Type"] == "application/x-ndjson":
            with open(out, "ab") as file:
                file.write(body)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *arguments):
        pass
host, port = address.split(":")
server = http.server.ThreadingHTTPServer((host, int(port)), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;

/// A server that takes lines of JSON.
pub(super) struct Collector(Receiver);

impl Collector {
    pub(super) fn start(authority: &Authority) -> Self {
        let address = free_address();
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| authority.file(name));
        Self(Receiver::start(address, move |directory| {
            let mut command = Command::new("python3");
            command.arg("-c").arg(COLLECTOR).arg(address.to_string());
            command.arg(&cert).arg(&key).arg(directory.join("out"));
            command
        }))
    }

    pub(super) fn url(&self) -> String {
        format!("https://{}/in?token=t", self.0.address)
    }

    pub(super) fn kill(&mut self) {
        self.0.kill();
    }

    pub(super) fn restart(&mut self) {
        self.0.restart();
    }

    #[track_caller]
    pub(super) fn gets(&self, text: &str) {
        self.0.gets(text);
    }

    #[track_caller]
    pub(super) fn has_nothing(&self) {
        assert_eq!(self.0.text(), "");
    }
}
