//! Pairs, good and bad.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::*;

const NOW: Timestamp = Timestamp(1_767_323_045_000);

struct Chain {
    root: String,
    middle: String,
    leaf: String,
    key: String,
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn chain(names: &[&str]) -> Chain {
    let (root_key, middle_key, leaf_key) =
        (KeyPair::generate().unwrap(), KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let (root, middle) = (authority("test root"), authority("test middle"));
    let root_pem = root.self_signed(&root_key).unwrap().pem();
    let root = Issuer::new(root, root_key);
    let middle_pem = middle.signed_by(&middle_key, &root).unwrap().pem();
    let middle = Issuer::new(middle, middle_key);
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut leaf = CertificateParams::new(names).unwrap();
    leaf.distinguished_name.push(DnType::CommonName, "leaf");
    leaf.not_before = rcgen::date_time_ymd(2026, 1, 1);
    leaf.not_after = rcgen::date_time_ymd(2026, 3, 1);
    let leaf = leaf.signed_by(&leaf_key, &middle).unwrap().pem();
    Chain { root: root_pem, middle: middle_pem, leaf, key: leaf_key.serialize_pem() }
}

fn parse(certificates: &str, key: &str) -> Result<Checked, Refused> {
    Pair::parse(certificates, key, NOW, Validity::Required, &Trust::of_host())
}

fn refusal(certificates: &str, key: &str) -> String {
    parse(certificates, key).unwrap_err().to_string()
}

#[test]
fn a_chain_in_any_order_is_sorted_and_its_root_left_out() {
    let chain = chain(&["shop.test", "*.shop.test"]);
    let text = format!("{}{}{}", chain.root, chain.middle, chain.leaf);
    let Checked { pair, warnings } = parse(&text, &chain.key).unwrap();
    let normal = |pem: &str| pem.replace("\r\n", "\n");
    assert_eq!(pair.certificate_pem(), normal(&format!("{}{}", chain.leaf, chain.middle)));
    assert_eq!(pair.key_pem(), normal(&chain.key));
    let facts = pair.facts();
    let names: Vec<_> = facts.names.iter().map(Hostname::as_str).collect();
    assert_eq!(names, ["shop.test", "*.shop.test"]);
    assert_eq!((facts.subject.as_str(), facts.issuer.as_str()), ("CN=leaf", "CN=test middle"));
    assert_eq!(facts.lifetime().as_secs(), 59 * 86_400);
    // The root is nobody's that this machine trusts.
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("the chain ends at `CN=test root`"), "{warnings:?}");
}

#[test]
fn an_id_stands_for_the_whole_chain() {
    let chain = chain(&["shop.test"]);
    let short = parse(&chain.leaf, &chain.key).unwrap().pair;
    let long = parse(&format!("{}{}", chain.leaf, chain.middle), &chain.key).unwrap().pair;
    assert_ne!(short.facts().id, long.facts().id);
}

#[test]
fn a_missing_intermediate_and_a_stray_one_are_told() {
    let (chain, other) = (chain(&["shop.test"]), chain(&["x.test"]));
    let warnings = parse(&format!("{}{}", chain.leaf, other.middle), &chain.key).unwrap().warnings;
    assert!(warnings[0].contains("`CN=test middle` does not belong to the chain"), "{warnings:?}");
    assert!(warnings[1].contains("add the intermediate certificates"), "{warnings:?}");
}

#[test]
fn what_is_no_pair_is_refused_with_a_reason() {
    let (chain, other) = (chain(&["shop.test"]), chain(&["x.test"]));
    let encrypted = chain.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    for (certificates, key, reason) in [
        (chain.leaf.as_str(), other.key.as_str(), "the key does not belong to the certificate"),
        ("", &chain.key, "the certificate is not PEM"),
        (&chain.key, &chain.key, "the certificate is not PEM"),
        (&chain.leaf, &chain.leaf, "the key is not PEM"),
        (&chain.leaf, &encrypted, "the key is encrypted"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            &chain.key,
            "certificate 1 of the file cannot be read",
        ),
        (&chain.leaf.repeat(17), &chain.key, "the file holds more than 16 certificates"),
        (&" ".repeat(100 << 10), &chain.key, "the certificate is larger than 96 KiB"),
    ] {
        let refusal = refusal(certificates, key);
        assert!(refusal.contains(reason), "{refusal}");
    }
}

#[test]
fn time_is_checked_unless_waived() {
    let chain = chain(&["shop.test"]);
    let at = |now: i64, validity| {
        Pair::parse(&chain.leaf, &chain.key, Timestamp(now), validity, &Trust::of_host())
    };
    let early = NOW.0 - 86_400_000 * 10;
    let late = NOW.0 + 86_400_000 * 100;
    let sentence = |now| at(now, Validity::Required).unwrap_err().to_string();
    assert_eq!(sentence(early), "the certificate is not valid before 2026-01-01");
    assert_eq!(sentence(late), "the certificate expired on 2026-03-01");
    assert_eq!(at(late, Validity::Waived).unwrap().warnings[0], sentence(late));
}

#[test]
fn a_curve_that_clients_refuse_is_refused_and_no_message_repeats_a_key() {
    let chain = chain(&["shop.test"]);
    let broken = chain.key.replacen("M", "A", 1);
    let refusal = parse(&chain.leaf, &broken).unwrap_err();
    let body: String = chain.key.lines().filter(|line| !line.starts_with('-')).collect();
    assert!(!format!("{refusal} {refusal:?}").contains(&body[4..20]));
    let pair = parse(&chain.leaf, &chain.key).unwrap();
    assert!(!format!("{pair:?}").contains(&body[4..20]));
}
