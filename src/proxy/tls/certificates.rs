//! Which certificate a name gets.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};

use crate::domain::{CertificateId, Hostname};
use crate::support::report;

use super::super::{Challenge, RouteTable};
use super::files::{CertificateError, CertificateFiles, Stamp, StapleFile};

/// The protocols that apps are served by, our first choice first (RFC 7301).
const SERVED: &[&[u8]] = &[b"h2", b"http/1.1"];

/// The protocol of certificate authorities that validate a name (RFC 8737).
pub(super) const ACME: &[u8] = b"acme-tls/1";

/// What all cores share for handshakes.
#[derive(Debug)]
pub(in crate::proxy) struct Tls {
    certificates: ArcSwap<Certificates>,
    files: CertificateFiles,
    provider: Arc<CryptoProvider>,
    tickets: Arc<dyn ProducesTickets>,
    /// Handshakes that came to their end.
    pub(in crate::proxy) handshakes: AtomicU64,
    /// Those that did not.
    pub(in crate::proxy) failures: AtomicU64,
}

/// A chain, its key, and how a connection that is shown them is set up.
#[derive(Debug)]
pub(in crate::proxy) struct Certificate {
    pub(in crate::proxy) id: CertificateId,
    pub(super) config: Arc<ServerConfig>,
    shown: Arc<Shown>,
}

/// The certificates of one table by name; replaced as a whole.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Certificates {
    exact: HashMap<Box<str>, Arc<Certificate>>,
    /// By what follows `*.`.
    wildcard: HashMap<Box<str>, Arc<Certificate>>,
    catch_all: Option<Arc<Certificate>>,
    /// Shown to certificate authorities only.
    challenges: HashMap<Box<str>, Arc<Certificate>>,
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Purpose {
    Serve,
    Challenge,
}

impl Tls {
    /// Without certificates yet.
    ///
    /// # Errors
    /// If the kernel has no random bytes.
    pub(in crate::proxy) fn new(files: CertificateFiles) -> io::Result<Self> {
        Ok(Self {
            certificates: ArcSwap::default(),
            files,
            provider: Arc::new(ring::default_provider()),
            tickets: ring::Ticketer::new().map_err(io::Error::other)?,
            handshakes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        })
    }

    /// The certificates in force.
    pub(in crate::proxy) fn certificates(&self) -> arc_swap::Guard<Arc<Certificates>> {
        self.certificates.load()
    }

    /// Loads what `table` names and is not loaded yet, and puts it in force. A certificate that
    /// cannot be read is logged, and its domains have none. What authorities say of certificates is
    /// read where it has changed, also for those that are loaded.
    pub(in crate::proxy) fn set_table(&self, table: &RouteTable) {
        let current = self.certificates.load();
        let mut known = current.by_id();
        let mut next = Certificates::default();
        for route in &table.routes {
            for binding in &route.bindings {
                if let Some(id) = &binding.certificate
                    && let Some(certificate) = self.get(&mut known, id, Purpose::Serve)
                {
                    next.add(&binding.domain, certificate);
                }
            }
        }
        for challenge in &table.challenges {
            if let Challenge::TlsAlpn01 { domain, certificate: id } = challenge
                && let Some(certificate) = self.get(&mut known, id, Purpose::Challenge)
            {
                next.challenges.insert(domain.as_str().into(), certificate);
            }
        }
        let mut looked = HashSet::new();
        for certificate in next.served().filter(|one| looked.insert(&one.id)) {
            self.look_for_staple(certificate);
        }
        self.certificates.store(Arc::new(next));
    }

    fn look_for_staple(&self, certificate: &Certificate) {
        let shown = &certificate.shown;
        let known = shown.stapled.load().as_ref().map(|stapled| stapled.stamp);
        match self.files.staple(&certificate.id, known) {
            Ok(StapleFile::AsBefore) => {}
            Ok(StapleFile::None) => shown.stapled.store(None),
            Ok(StapleFile::New(staple)) => {
                let mut key = CertifiedKey::clone(&shown.plain);
                key.ocsp = Some(staple.der);
                let (key, stamp, until) = (Arc::new(key), staple.stamp, staple.until);
                shown.stapled.store(Some(Arc::new(Stapled { key, stamp, until })));
            }
            // The one before is shown until its end.
            Err(error) => {
                tracing::warn!(certificate = %certificate.id, %error, "read an OCSP response");
            }
        }
    }

    fn get(
        &self,
        known: &mut Known,
        id: &CertificateId,
        purpose: Purpose,
    ) -> Option<Arc<Certificate>> {
        let load = || match self.load(id, purpose) {
            Ok(certificate) => Some(Arc::new(certificate)),
            Err(error) => {
                tracing::error!(certificate = %id, error = report(&error), "load a certificate");
                None
            }
        };
        known.entry((id.clone(), purpose)).or_insert_with(load).clone()
    }

    fn load(&self, id: &CertificateId, purpose: Purpose) -> Result<Certificate, CertificateError> {
        let key = self.files.load(id, &self.provider)?;
        let shown = Arc::new(Shown { plain: Arc::new(key), stapled: ArcSwapOption::empty() });
        let config = self.config(Arc::clone(&shown), purpose);
        let config = config.map_err(|source| CertificateError::Unusable { source })?;
        Ok(Certificate { id: id.clone(), config: Arc::new(config), shown })
    }

    fn config(&self, shown: Arc<Shown>, purpose: Purpose) -> Result<ServerConfig, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(shown);
        // Tickets serve both versions; a cache of sessions would be a lock between the cores.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        match purpose {
            Purpose::Serve => {
                config.alpn_protocols = SERVED.iter().map(|name| name.to_vec()).collect();
                config.ticketer = Arc::clone(&self.tickets);
            }
            Purpose::Challenge => {
                config.alpn_protocols = vec![ACME.to_vec()];
                config.send_tls13_tickets = 0;
            }
        }
        Ok(config)
    }
}

/// What was loaded, or found broken, so far. Those of the table in force are kept as they are: an
/// id is made of the content.
type Known = HashMap<(CertificateId, Purpose), Option<Arc<Certificate>>>;

impl Certificates {
    /// Those shown to clients; one of several names several times.
    fn served(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        self.exact.values().chain(self.wildcard.values()).chain(&self.catch_all)
    }

    fn by_id(&self) -> Known {
        let served = self.served().map(|certificate| (certificate, Purpose::Serve));
        let challenges = self.challenges.values();
        let challenges = challenges.map(|certificate| (certificate, Purpose::Challenge));
        served
            .chain(challenges)
            .map(|(known, purpose)| ((known.id.clone(), purpose), Some(Arc::clone(known))))
            .collect()
    }

    fn add(&mut self, domain: &Hostname, certificate: Arc<Certificate>) {
        let name = domain.as_str();
        match (name, name.strip_prefix("*.")) {
            ("_", _) => self.catch_all = Some(certificate),
            (_, Some(parent)) => {
                self.wildcard.insert(parent.into(), certificate);
            }
            (_, None) => {
                self.exact.insert(name.into(), certificate);
            }
        }
    }

    /// The certificate for a folded name, by the order in which routes are found; the one of `_` for
    /// a client that names none.
    pub(in crate::proxy) fn find(&self, name: Option<&str>) -> Option<&Arc<Certificate>> {
        let Some(name) = name else { return self.catch_all.as_ref() };
        if let Some(certificate) = self.exact.get(name) {
            return Some(certificate);
        }
        let mut rest = name;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(certificate) = self.wildcard.get(parent) {
                return Some(certificate);
            }
            rest = parent;
        }
        self.catch_all.as_ref()
    }

    /// The certificate that proves to an authority that `name` is ours.
    pub(super) fn challenge(&self, name: &str) -> Option<&Arc<Certificate>> {
        self.challenges.get(name)
    }
}

/// One certificate, whatever is asked for: the choice was made by then. What its authority says of
/// it comes along as long as that holds, whether or not there is somebody to bring the next answer.
#[derive(Debug)]
struct Shown {
    plain: Arc<CertifiedKey>,
    stapled: ArcSwapOption<Stapled>,
}

#[derive(Debug)]
struct Stapled {
    key: Arc<CertifiedKey>,
    stamp: Stamp,
    until: SystemTime,
}

impl Shown {
    fn at(&self, now: impl Fn() -> SystemTime) -> Arc<CertifiedKey> {
        match &*self.stapled.load() {
            Some(stapled) if now() < stapled.until => Arc::clone(&stapled.key),
            _ => Arc::clone(&self.plain),
        }
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.at(SystemTime::now))
    }
}

#[cfg(test)]
mod tests {
    use crate::support::atomic_file;

    use super::super::super::{Route, RouteState};
    use super::*;

    fn id(digit: char) -> CertificateId {
        digit.to_string().repeat(64).parse().unwrap()
    }

    fn directory(ids: &[char]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for digit in ids {
            let made = rcgen::generate_simple_self_signed(vec!["a.example".into()]).unwrap();
            let pem = made.cert.pem() + &made.signing_key.serialize_pem();
            let path = directory.path().join(format!("{}.pem", id(*digit)));
            atomic_file::write_volatile(&path, pem.as_bytes(), 0o600).unwrap();
        }
        directory
    }

    fn table(bindings: &[(&str, char)]) -> RouteTable {
        let route = |(index, (domain, digit)): (usize, &(&str, char))| {
            let app = format!("app-{index}").parse().unwrap();
            let mut route = Route::web(app, vec![domain.parse().unwrap()], RouteState::Stopped);
            route.bindings[0].certificate = Some(id(*digit));
            route
        };
        let routes = bindings.iter().enumerate().map(route).collect();
        RouteTable { routes, ..RouteTable::default() }
    }

    fn found(tls: &Tls, name: Option<&str>) -> Option<char> {
        tls.certificates().find(name).map(|found| found.id.as_str().chars().next().unwrap())
    }

    #[test]
    fn the_most_exact_name_wins_and_no_name_gets_the_catch_all() {
        let directory = directory(&['1', '2', '3', '4']);
        let tls = Tls::new(CertificateFiles::open(directory.path())).unwrap();
        let domains =
            [("a.example.com", '1'), ("*.b.example.com", '2'), ("*.example.com", '3'), ("_", '4')];
        tls.set_table(&table(&domains));
        for (name, expected) in [
            (Some("a.example.com"), '1'),
            (Some("x.b.example.com"), '2'),
            (Some("x.a.example.com"), '3'),
            (Some("example.com"), '4'),
            (None, '4'),
        ] {
            assert_eq!(found(&tls, name), Some(expected), "{name:?}");
        }
        tls.set_table(&table(&domains[..1]));
        assert_eq!(found(&tls, Some("b.example.com")), None);
        assert_eq!(found(&tls, None), None);
    }

    #[test]
    fn a_loaded_certificate_needs_its_file_no_more_and_a_broken_one_costs_only_its_domain() {
        let directory = directory(&['1']);
        let tls = Tls::new(CertificateFiles::open(directory.path())).unwrap();
        tls.set_table(&table(&[("a.test", '1')]));
        std::fs::remove_file(directory.path().join(format!("{}.pem", id('1')))).unwrap();
        tls.set_table(&table(&[("a.test", '1'), ("b.test", '2')]));
        assert_eq!(found(&tls, Some("a.test")), Some('1'));
        assert_eq!(found(&tls, Some("b.test")), None);
    }

    #[test]
    fn a_challenge_is_no_certificate_of_the_domain() {
        let directory = directory(&['1']);
        let tls = Tls::new(CertificateFiles::open(directory.path())).unwrap();
        let domain = "a.test".parse().unwrap();
        let challenges = vec![Challenge::TlsAlpn01 { domain, certificate: id('1') }];
        tls.set_table(&RouteTable { challenges, ..RouteTable::default() });
        assert_eq!(found(&tls, Some("a.test")), None);
        assert!(tls.certificates().challenge("a.test").is_some());
    }

    /// What the certificate of `a.test` comes with, `seconds` after 1970.
    fn staple(tls: &Tls, seconds: u64) -> Option<Vec<u8>> {
        let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        tls.certificates().find(Some("a.test")).unwrap().shown.at(|| at).ocsp.clone()
    }

    #[test]
    fn a_staple_is_shown_until_its_end_and_changes_with_its_file() {
        let directory = directory(&['1']);
        let tls = Tls::new(CertificateFiles::open(directory.path())).unwrap();
        let table = table(&[("a.test", '1')]);
        let path = directory.path().join(format!("{}.ocsp", id('1')));
        let write = |content: &[u8]| {
            crate::support::atomic_file::write(&path, content, 0o640).unwrap();
            tls.set_table(&table);
        };
        tls.set_table(&table);
        assert_eq!(staple(&tls, 100), None);
        write(b"100 200\none\n");
        assert_eq!(staple(&tls, 199).as_deref(), Some(&b"one\n"[..]));
        assert_eq!(staple(&tls, 200), None);
        write(b"150 250\ntwo");
        assert_eq!(staple(&tls, 200).as_deref(), Some(&b"two"[..]));
        write(b"damaged");
        assert_eq!(staple(&tls, 200).as_deref(), Some(&b"two"[..]));
        std::fs::remove_file(&path).unwrap();
        tls.set_table(&table);
        assert_eq!(staple(&tls, 200), None);
    }
}
