//! TLS as clients see it: certificates by name, refusals, resumption, validation.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    AlertDescription, ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion,
};
use staithe::domain::CertificateId;
use staithe::proxy::{Challenge, Config, Route, RouteTable};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::world::*;

const TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
const TLS12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];

/// A proxy with certificates, and clients that trust them.
struct Secure {
    world: World,
    address: SocketAddr,
    trusted: RootCertStore,
    table: RouteTable,
}

impl Secure {
    async fn start(config: Config) -> Self {
        let world = World::start_with(config).await;
        let address = world.supervisor.listening().unwrap().https[0];
        let table = world.table(&[]);
        Self { world, address, trusted: RootCertStore::empty(), table }
    }

    /// An app behind domains that share a certificate.
    async fn with_app(domains: &[&str], app: &App) -> Self {
        let mut secure = Self::start(Config::default()).await;
        secure.add(domains, app);
        secure.publish().await;
        secure
    }

    fn add(&mut self, domains: &[&str], app: &App) {
        let (id, _) = self.certificate(domains);
        let name = format!("app-{}", self.table.routes.len()).parse().unwrap();
        let hosts = domains.iter().map(|domain| domain.parse().unwrap()).collect();
        let mut route = Route::web(name, hosts, live(&[app.address]));
        for binding in &mut route.bindings {
            binding.certificate = Some(id.clone());
        }
        self.table.routes.push(route);
    }

    /// Makes a certificate that clients will trust, and puts it where the proxy looks.
    fn certificate(&mut self, domains: &[&str]) -> (CertificateId, CertificateDer<'static>) {
        let names: Vec<String> = domains.iter().map(|domain| (*domain).into()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let id: CertificateId = format!("{:064x}", self.trusted.len() + 1).parse().unwrap();
        let pem = made.cert.pem() + &made.signing_key.serialize_pem();
        let directory = self.world.spec.data_dir.join("certificates");
        let path = directory.join(format!("{id}.pem"));
        staithe::support::atomic_file::write_volatile(&path, pem.as_bytes(), 0o644).unwrap();
        self.trusted.add(made.cert.der().clone()).unwrap();
        (id, made.cert.der().clone())
    }

    async fn publish(&mut self) {
        self.table.version += 1;
        self.world.supervisor.set_routes(&self.table).await.unwrap();
    }

    fn config(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.trusted.clone())
            .with_no_client_auth()
    }

    async fn connect(&self, name: &str) -> Client<TlsStream<TcpStream>> {
        self.connect_with(name, self.config(TLS13)).await.unwrap()
    }

    async fn connect_with(
        &self,
        name: &str,
        config: impl Into<Arc<ClientConfig>>,
    ) -> std::io::Result<Client<TlsStream<TcpStream>>> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let stream = TcpStream::connect(self.address).await.unwrap();
        let connect = TlsConnector::from(config.into()).connect(name, stream);
        let stream = tokio::time::timeout(SOON, connect).await.expect("a handshake in time")?;
        Ok(Client { stream, read: Vec::new() })
    }
}

fn get(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

fn alert_of<T>(result: std::io::Result<T>) -> AlertDescription {
    let error = result.err().expect("a refused handshake");
    let error = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match error {
        Some(rustls::Error::AlertReceived(alert)) => *alert,
        other => panic!("no alert but {other:?}"),
    }
}

#[tokio::test]
async fn each_name_gets_its_certificate_and_its_app() {
    let (first, second) = (App::echoing_heads().await, App::answering(|_, _| ok("second")).await);
    let mut secure = Secure::start(Config::default()).await;
    secure.add(&["a.test"], &first);
    secure.add(&["*.wild.test", "b.test"], &second);
    secure.publish().await;
    let mut client = secure.connect("a.test").await;
    client.send(get("a.test")).await;
    let answer = client.answer().await;
    let head = Answer { head: answer.text().to_owned(), body: Vec::new() };
    assert_eq!(head.field("X-Forwarded-Proto"), Some("https"));
    assert_eq!(head.field("X-Forwarded-Port"), Some(&*secure.address.port().to_string()));
    for name in ["x.wild.test", "b.test"] {
        let mut client = secure.connect(name).await;
        for _ in 0..3 {
            client.send(get(name)).await;
            assert_eq!(client.answer().await.text(), "second");
        }
    }
    secure.world.end().await;
}

#[tokio::test]
async fn a_name_without_a_certificate_is_refused_and_so_is_no_name() {
    let app = App::echoing_heads().await;
    let secure = Secure::with_app(&["a.test"], &app).await;
    for name in ["b.test", "127.0.0.1"] {
        let refused = secure.connect_with(name, secure.config(TLS13)).await;
        assert_eq!(alert_of(refused), AlertDescription::UnrecognisedName, "{name}");
    }
    secure.world.end().await;
}

#[tokio::test]
async fn the_catch_all_serves_clients_that_name_nobody() {
    let app = App::answering(|_, _| ok("rest")).await;
    let mut secure = Secure::start(Config::default()).await;
    let (id, _) = secure.certificate(&["127.0.0.1"]);
    let mut route =
        Route::web("rest".parse().unwrap(), vec!["_".parse().unwrap()], live(&[app.address]));
    route.bindings[0].certificate = Some(id);
    secure.table.routes.push(route);
    secure.publish().await;
    let mut client = secure.connect("127.0.0.1").await;
    client.send(get("127.0.0.1")).await;
    assert_eq!(client.answer().await.text(), "rest");
    secure.world.end().await;
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_at_once_and_old_connections_go_on() {
    let app = App::answering(|_, _| ok("here")).await;
    let mut secure = Secure::with_app(&["a.test"], &app).await;
    let mut before = secure.connect("a.test").await;
    let (id, renewed) = secure.certificate(&["a.test"]);
    secure.table.routes[0].bindings[0].certificate = Some(id);
    secure.publish().await;
    let mut after = secure.connect("a.test").await;
    let shown = after.stream.get_ref().1.peer_certificates().unwrap();
    assert_eq!(shown, [renewed]);
    for client in [&mut before, &mut after] {
        client.send(get("a.test")).await;
        assert_eq!(client.answer().await.text(), "here");
    }
    secure.world.end().await;
}

#[tokio::test]
async fn sessions_are_resumed_on_every_core() {
    let app = App::answering(|_, _| ok("here")).await;
    let secure = Secure::with_app(&["a.test"], &app).await;
    for versions in [TLS13, TLS12] {
        let config = Arc::new(secure.config(versions));
        for round in 0..8 {
            let mut client = secure.connect_with("a.test", Arc::clone(&config)).await.unwrap();
            client.send(get("a.test")).await;
            // Tickets come at the latest with the answer.
            assert_eq!(client.answer().await.text(), "here");
            let kind = client.stream.get_ref().1.handshake_kind();
            let expected = if round == 0 { HandshakeKind::Full } else { HandshakeKind::Resumed };
            assert_eq!(kind, Some(expected), "round {round}");
        }
    }
    secure.world.end().await;
}

#[tokio::test]
async fn protocols_are_agreed_on_or_refused() {
    let app = App::echoing_heads().await;
    let secure = Secure::with_app(&["a.test"], &app).await;
    let offer = |protocols: &[&str]| {
        let mut config = secure.config(TLS13);
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    };
    let client = secure.connect_with("a.test", offer(&["spdy/3", "http/1.1"])).await.unwrap();
    assert_eq!(client.stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let refused = secure.connect_with("a.test", offer(&["spdy/3"])).await;
    assert_eq!(alert_of(refused), AlertDescription::NoApplicationProtocol);
    secure.world.end().await;
}

#[tokio::test]
async fn an_authority_that_validates_a_name_sees_the_challenge_and_nobody_else() {
    let app = App::echoing_heads().await;
    let mut secure = Secure::with_app(&["a.test"], &app).await;
    let (id, shown) = secure.certificate(&["a.test"]);
    let domain = "a.test".parse().unwrap();
    secure.table.challenges.push(Challenge::TlsAlpn01 { domain, certificate: id });
    secure.publish().await;
    let validation = |protocols: &[&[u8]]| {
        let mut config = secure.config(TLS13);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        config
    };
    let acme: &[u8] = b"acme-tls/1";
    let mut client = secure.connect_with("a.test", validation(&[acme])).await.unwrap();
    let session = client.stream.get_ref().1;
    assert_eq!(session.alpn_protocol(), Some(acme));
    assert_eq!(session.peer_certificates().unwrap(), std::slice::from_ref(&shown));
    // RFC 8737 §3: nothing is said over it.
    assert_eq!(client.rest().await, b"");
    // An offer beside others is no validation.
    let client = secure.connect_with("a.test", validation(&[acme, b"http/1.1"])).await.unwrap();
    assert_ne!(client.stream.get_ref().1.peer_certificates().unwrap(), [shown]);
    let refused = secure.connect_with("b.test", validation(&[acme])).await;
    assert_eq!(alert_of(refused), AlertDescription::UnrecognisedName);
    secure.world.end().await;
}

#[tokio::test]
async fn plain_http_on_an_https_port_is_told_so() {
    let app = App::echoing_heads().await;
    let secure = Secure::with_app(&["a.test"], &app).await;
    let mut client = Client::connect(secure.address).await;
    client.send(get("a.test")).await;
    let answer = client.answer().await;
    assert_eq!(answer.status(), 400);
    assert!(answer.text().contains("https://"), "{}", answer.text());
    // Other bytes get no HTTP.
    let mut client = Client::connect(secure.address).await;
    client.send(b"\x80\x2e\x01\x03\x01 and more").await;
    let rest = client.rest().await;
    assert!(!rest.starts_with(b"HTTP"), "{rest:?}");
    secure.world.end().await;
}

#[tokio::test]
async fn a_request_for_a_name_with_another_certificate_is_misdirected() {
    let (first, second) =
        (App::answering(|_, _| ok("first")).await, App::answering(|_, _| ok("second")).await);
    let mut secure = Secure::start(Config::default()).await;
    secure.add(&["a.test", "c.test"], &first);
    secure.add(&["b.test"], &second);
    secure.publish().await;
    let mut client = secure.connect("a.test").await;
    for (host, status) in [("a.test", 200), ("b.test", 421), ("c.test", 200), ("d.test", 421)] {
        client.send(get(host)).await;
        assert_eq!(client.answer().await.status(), status, "{host}");
    }
    secure.world.end().await;
}

#[tokio::test]
async fn large_bodies_pass_both_ways_and_whole() {
    let app = App::answering(|_, body| ok(std::str::from_utf8(body).unwrap())).await;
    let secure = Secure::with_app(&["a.test"], &app).await;
    let body: String = (0..400_000).map(|n| format!("{n:07} ")).collect();
    let mut client = secure.connect("a.test").await;
    let length = body.len();
    for _ in 0..2 {
        let head = format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {length}\r\n\r\n");
        client.send(head + &body).await;
        assert!(client.answer().await.body == body.as_bytes());
    }
    secure.world.end().await;
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_handshake_is_let_go() {
    let config = quick(|config| config.request_head_timeout_ms = millis(200));
    let secure = Secure::start(config).await;
    let mut silent = Client::connect(secure.address).await;
    assert_eq!(silent.rest().await, b"");
    let mut begun = Client::connect(secure.address).await;
    begun.send([22, 3, 1, 2, 0, 1]).await;
    assert_eq!(begun.rest().await, b"");
    secure.world.end().await;
}

#[tokio::test]
async fn an_answer_that_ends_with_the_connection_ends_with_a_goodbye() {
    let app = App::raw(|mut connection| async move {
        connection.head().await;
        connection.send("HTTP/1.0 200 OK\r\n\r\nuntil the end").await;
    })
    .await;
    let secure = Secure::with_app(&["a.test"], &app).await;
    let mut client = secure.connect("a.test").await;
    client.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n").await;
    let mut answer = String::new();
    // Without the goodbye rustls says `UnexpectedEof`.
    let read = client.stream.read_to_string(&mut answer).await;
    assert!(!matches!(&read, Err(error) if error.kind() == ErrorKind::UnexpectedEof));
    assert!(answer.ends_with("\r\n\r\nuntil the end"), "{answer}");
    secure.world.end().await;
}

#[tokio::test]
async fn an_app_learns_at_once_that_its_client_left() {
    let (told, mut hears) = tokio::sync::mpsc::channel(1);
    let app = App::raw(move |mut connection| {
        let told = told.clone();
        async move {
            connection.head().await;
            connection.rest().await;
            told.send(()).await.unwrap();
        }
    })
    .await;
    let secure = Secure::with_app(&["a.test"], &app).await;
    let mut client = secure.connect("a.test").await;
    client.send(get("a.test")).await;
    super::world::eventually(async || match app.connections() {
        1 => Ok(()),
        other => Err(format!("{other} connections")),
    })
    .await;
    drop(client);
    tokio::time::timeout(SOON, hears.recv()).await.expect("the end in time").unwrap();
    secure.world.end().await;
}

#[tokio::test]
async fn clients_that_offer_http_2_get_it() {
    let app = App::echoing_heads().await;
    let secure = Secure::with_app(&["a.test"], &app).await;
    let mut config = secure.config(TLS13);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let client = secure.connect_with("a.test", config).await.unwrap();
    assert_eq!(client.stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) = h2::client::handshake(client.stream).await.unwrap();
    let task = spawn(connection);
    for (host, status) in [("a.test", 200), ("b.test", 421), ("a.test", 200)] {
        let request = http::Request::get(format!("https://{host}/")).body(()).unwrap();
        let mut sender = sender.clone().ready().await.unwrap();
        let (response, _) = sender.send_request(request, true).unwrap();
        let answer = super::h2::whole(response).await.unwrap();
        assert_eq!(answer.status(), status, "{host}");
        if status == 200 {
            assert!(answer.text().contains("\r\nX-Forwarded-Proto: https\r\n"), "{answer:?}");
        }
    }
    drop(sender);
    // Ends with a close_notify; without one the client sees an error.
    tokio::time::timeout(SOON, task).await.expect("an end in time").unwrap().unwrap();
    secure.world.end().await;
}
