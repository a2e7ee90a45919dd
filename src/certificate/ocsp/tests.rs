//! Answers made here, good ones and forged ones.

use std::time::Duration;

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, SerialNumber, SigningKey,
};

use super::der::{
    BOOLEAN, ENUMERATED, INTEGER, NULL, OCTETS, OID, SEQUENCE, TIME, explicit, write,
};
use super::*;
use crate::certificate::{Trust, Validity};
use crate::domain::OcspSpan;

/// 2026-01-02T03:04:05Z.
const NOW: Timestamp = Timestamp(1_767_323_045_000);
const FROM: &str = "20260102000000Z";
const UNTIL: &str = "20260109000000Z";
/// ecdsa-with-SHA256.
const ALGORITHM: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const URL: &str = "http://ocsp.example.com/path";

struct World {
    key: KeyPair,
    issuer: CertificateParams,
    issuer_pem: String,
}

/// AuthorityInfoAccess (RFC 5280 §4.2.2.1) with one responder.
fn access(url: &str) -> CustomExtension {
    let ocsp = write(OID, &[&[0x2b, 6, 1, 5, 5, 7, 0x30, 1]]);
    let access = write(SEQUENCE, &[&write(SEQUENCE, &[&ocsp, &write(0x86, &[url.as_bytes()])])]);
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], access)
}

impl World {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut issuer = CertificateParams::new(Vec::new()).unwrap();
        issuer.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        issuer.distinguished_name.push(DnType::CommonName, "intermediate");
        // Signed by a root that nobody knows: one of its own signature would be left out.
        let mut root = CertificateParams::new(Vec::new()).unwrap();
        root.distinguished_name.push(DnType::CommonName, "root");
        let root = Issuer::new(root, KeyPair::generate().unwrap());
        let issuer_pem = issuer.signed_by(&key, &root).unwrap().pem();
        Self { key, issuer, issuer_pem }
    }

    fn signer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.issuer, &self.key)
    }

    fn pair(&self, serial: u64, url: Option<&str>) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new(vec!["a.test".into()]).unwrap();
        leaf.serial_number = Some(SerialNumber::from(serial));
        leaf.custom_extensions = url.map(access).into_iter().collect();
        let leaf = leaf.signed_by(&key, &self.signer()).unwrap().pem();
        let chain = format!("{leaf}{}", self.issuer_pem);
        let (key, trust) = (key.serialize_pem(), Trust::of_host());
        Pair::parse(&chain, &key, NOW, Validity::Waived, &trust).unwrap().pair
    }

    fn question(&self) -> Question {
        Question::about(&self.pair(7, Some(URL))).unwrap()
    }

    /// A certificate that the issuer has issued for signing answers, or for something else.
    fn delegate(&self, purpose: ExtendedKeyUsagePurpose) -> (KeyPair, Vec<u8>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "responder");
        params.extended_key_usages = vec![purpose];
        let made = params.signed_by(&key, &self.signer()).unwrap();
        (key, made.der().to_vec())
    }
}

/// An answer in the making.
struct Making<'a> {
    key: &'a KeyPair,
    name: CertificateName,
    status: Vec<u8>,
    from: &'a str,
    until: Option<&'a str>,
    certificate: Option<&'a [u8]>,
    extension: Vec<u8>,
}

impl<'a> Making<'a> {
    fn good(question: &Question, key: &'a KeyPair) -> Self {
        let (name, status) = (question.name.clone(), write(0x80, &[]));
        let extension = Vec::new();
        Self { key, name, status, from: FROM, until: Some(UNTIL), certificate: None, extension }
    }

    fn der(&self) -> Vec<u8> {
        let time = |text: &str| write(TIME, &[text.as_bytes()]);
        let algorithm = write(SEQUENCE, &[&write(OID, &[SHA1]), &write(NULL, &[])]);
        let name = write(
            SEQUENCE,
            &[
                &algorithm,
                &write(OCTETS, &[&self.name.issuer_name]),
                &write(OCTETS, &[&self.name.issuer_key]),
                &write(INTEGER, &[&self.name.serial]),
            ],
        );
        let until = self.until.map(|until| write(explicit(0), &[&time(until)]));
        let until = until.unwrap_or_default();
        let single = write(SEQUENCE, &[&name, &self.status, &time(self.from), &until]);
        let key_hash = sha1(self.key.public_key_raw());
        let responder = write(explicit(2), &[&write(OCTETS, &[&key_hash])]);
        let singles = write(SEQUENCE, &[&single]);
        let data = write(SEQUENCE, &[&responder, &time(self.from), &singles, &self.extension]);
        let signature = write(3, &[&[0], &self.key.sign(&data).unwrap()]);
        let algorithm = write(SEQUENCE, &[&write(OID, &[ALGORITHM])]);
        let certificates =
            self.certificate.map(|der| write(explicit(0), &[&write(SEQUENCE, &[der])]));
        let certificates = certificates.unwrap_or_default();
        let basic = write(SEQUENCE, &[&data, &algorithm, &signature, &certificates]);
        let oid = write(OID, &[&[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1]]);
        let bytes = write(SEQUENCE, &[&oid, &write(OCTETS, &[&basic])]);
        write(SEQUENCE, &[&write(ENUMERATED, &[&[0]]), &write(explicit(0), &[&bytes])])
    }

    fn read(&self, question: &Question) -> Result<Answer, Failure> {
        answer::read(&self.der(), &question.name, &question.issuer, NOW)
    }
}

#[test]
fn who_names_a_plain_responder_and_an_issuer_is_asked() {
    let world = World::new();
    let question = world.question();
    assert_eq!(question.responder.to_string(), URL);
    assert_eq!(question.name.serial, [7]);
    for url in ["https://ocsp.example.com/", "ldap://x/", "http://user:word@x.test/", "http://"] {
        assert!(Question::about(&world.pair(7, Some(url))).is_none(), "{url}");
    }
    assert!(Question::about(&world.pair(7, None)).is_none());
}

#[test]
fn a_good_answer_becomes_a_staple_that_survives_its_file() {
    let world = World::new();
    let question = world.question();
    let answer = Making::good(&question, &world.key).read(&question).unwrap();
    let Answer::Good(staple) = answer else { panic!("{answer:?}") };
    let from = Timestamp(1_767_312_000_000);
    let until = from.after(Duration::from_secs(7 * 24 * 3600));
    assert_eq!(staple.span, OcspSpan { from, until });
    assert_eq!(Staple::from_bytes(&staple.to_bytes()), Some(staple));
}

#[test]
fn whom_the_issuer_named_for_it_may_sign_and_nobody_else() {
    let (world, other) = (World::new(), World::new());
    let question = world.question();
    let signed = |(key, certificate): &(KeyPair, Vec<u8>)| {
        let good = Making::good(&question, key);
        Making { certificate: Some(certificate), ..good }.read(&question)
    };
    let ocsp = world.delegate(ExtendedKeyUsagePurpose::OcspSigning);
    assert!(matches!(signed(&ocsp), Ok(Answer::Good(_))));
    let server = world.delegate(ExtendedKeyUsagePurpose::ServerAuth);
    assert_eq!(signed(&server), Err(Failure::Signature), "of another purpose");
    let stranger = other.delegate(ExtendedKeyUsagePurpose::OcspSigning);
    assert_eq!(signed(&stranger), Err(Failure::Signature), "of another issuer");
    let foreign = Making::good(&question, &other.key).read(&question);
    assert_eq!(foreign, Err(Failure::Signature));
}

#[test]
fn only_a_status_of_this_certificate_for_this_time_is_taken() {
    let world = World::new();
    let question = world.question();
    let good = || Making::good(&question, &world.key);
    let read = |making: Making<'_>| making.read(&question);
    let revoked = write(explicit(1), &[&write(TIME, &[FROM.as_bytes()])]);
    let at = Timestamp(1_767_312_000_000);
    assert_eq!(read(Making { status: revoked, ..good() }), Ok(Answer::Revoked { at }));
    let unknown = Making { status: write(0x82, &[]), ..good() };
    assert_eq!(read(unknown), Err(Failure::UnknownCertificate));
    let late = Making { from: "20260101000000Z", until: Some("20260102030405Z"), ..good() };
    assert_eq!(read(late), Err(Failure::OutOfTime));
    let early = Making { from: "20260102030406Z", ..good() };
    assert_eq!(read(early), Err(Failure::OutOfTime));
    assert!(matches!(read(Making { until: None, ..good() }), Err(Failure::Unusable(_))));
    for change in [
        |name: &mut CertificateName| name.serial = vec![8],
        |name: &mut CertificateName| name.issuer_key[0] ^= 1,
        |name: &mut CertificateName| name.issuer_name[0] ^= 1,
    ] {
        let mut making = good();
        change(&mut making.name);
        assert!(matches!(read(making), Err(Failure::Unusable(_))), "another certificate's");
    }
    let oid = write(OID, &[&[0x2a, 3]]);
    let critical = write(BOOLEAN, &[&[0xff]]);
    let extension = write(SEQUENCE, &[&oid, &critical, &write(OCTETS, &[])]);
    let extension = write(explicit(1), &[&write(SEQUENCE, &[&extension])]);
    assert!(matches!(read(Making { extension, ..good() }), Err(Failure::Unusable(_))));
    let refused = answer::read(&[0x30, 3, 0x0a, 1, 6], &question.name, &question.issuer, NOW);
    assert_eq!(refused, Err(Failure::Refused("unauthorized")));
}

#[test]
fn no_changed_byte_is_overlooked() {
    let world = World::new();
    let question = world.question();
    let der = Making::good(&question, &world.key).der();
    for index in 0..der.len() {
        let mut changed = der.clone();
        changed[index] ^= 1;
        answer::read(&changed, &question.name, &question.issuer, NOW).unwrap_err();
        answer::read(&der[..index], &question.name, &question.issuer, NOW).unwrap_err();
    }
}

#[tokio::test]
async fn responders_in_networks_of_ones_own_are_asked_where_that_is_allowed() {
    for (host, port, public) in [
        ("127.0.0.1", 80, false),
        ("169.254.169.254", 80, false),
        ("[::1]", 80, false),
        ("[::ffff:10.0.0.1]", 80, false),
        ("8.8.8.8", 80, true),
        ("8.8.8.8", 22, false),
    ] {
        let found = addresses(host, port, Responders::Public).await;
        assert_eq!(found.is_ok(), public, "{host}:{port}");
        assert!(addresses(host, port, Responders::Any).await.is_ok(), "{host}:{port}");
    }
}

proptest! {
    #[test]
    fn nothing_that_is_sent_panics(
        noise in proptest::collection::vec(any::<u8>(), 0..300),
        place in any::<prop::sample::Index>(),
    ) {
        // Made once: keys take long.
        static MADE: std::sync::OnceLock<(Question, Vec<u8>)> = std::sync::OnceLock::new();
        let (question, der) = MADE.get_or_init(|| {
            let world = World::new();
            let (key, certificate) = world.delegate(ExtendedKeyUsagePurpose::OcspSigning);
            let question = world.question();
            let good = Making::good(&question, &key);
            let der = Making { certificate: Some(&certificate), ..good }.der();
            (question, der)
        });
        let read = |der: &[u8]| answer::read(der, &question.name, &question.issuer, NOW);
        prop_assert!(read(&noise).is_err());
        let _ = Staple::from_bytes(&noise);
        let mut changed = der.clone();
        let start = place.index(changed.len());
        changed.splice(start..(start + noise.len()).min(der.len()), noise.iter().copied());
        // May be good still, if what was changed is not looked at.
        let _ = read(&changed);
    }
}
