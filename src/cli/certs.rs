//! `certs:*`.

use std::io::Read;

use clap::{Args, Subcommand, ValueEnum};
use hyper::Method;

use super::context::{AppArg, Context, ReportArgs};
use super::exit::{Exit, Failure};
use super::output::{Report, time};
use crate::domain::{AppName, Hostname, OcspStatus, Secret};
use crate::wire::{
    CertificateChange, CertificateReport, GenerateCertificate, GeneratedCertificate, NewCertificate,
};

/// The largest certificate or key file that is sent.
const MAX_FILE: u64 = 256 << 10;
/// The largest tar archive that is read.
const MAX_TAR: u64 = 4 << 20;
/// The most members of one.
const MAX_MEMBERS: usize = 100;

/// `certs:<verb>`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Gives an app a certificate for its domains
    Add(Add),
    /// Replaces an app's certificate; without a key, that of the present one is kept
    Update(Add),
    /// Takes an app's own certificate away
    Remove(AppArg),
    /// Shows an app's certificates and what they are for
    Report(ReportArgs),
    /// Makes a key, a self-signed certificate and a signing request, which is printed
    Generate(Generate),
    /// Prints an app's certificate or key
    Show(Show),
}

/// `certs:add` and `certs:update`.
#[derive(Debug, Args)]
pub(super) struct Add {
    #[command(flatten)]
    app: AppArg,
    /// The certificate's file; without one, a tar archive with a .crt or .pem and a .key is read
    /// from standard input
    crt: Option<String>,
    /// The key's file
    key: Option<String>,
}

/// `certs:generate`.
#[derive(Debug, Args)]
pub(super) struct Generate {
    #[command(flatten)]
    app: AppArg,
    /// The host name, or a `*.` wildcard
    domain: Hostname,
}

/// `certs:show`.
#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    app: AppArg,
    /// What to print
    #[arg(value_enum)]
    part: Part,
}

/// What `certs:show` prints.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Part {
    /// The chain
    Crt,
    /// The key
    Key,
}

impl Verb {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::Add(args) => add(context, args, false).await,
            Self::Update(args) => add(context, args, true).await,
            Self::Remove(AppArg { app }) => remove(context, &app).await,
            Self::Report(args) => context.report(&args, "/certificate", report).await,
            Self::Generate(args) => generate(context, args).await,
            Self::Show(args) => show(context, args).await,
        }
    }
}

async fn add(context: &mut Context, args: Add, replace: bool) -> Result<(), Failure> {
    let Add { app: AppArg { app }, crt, key } = args;
    let (certificate, key) = match (crt, key) {
        (Some(crt), Some(key)) => (read(context, &crt)?, Some(read(context, &key)?)),
        (Some(crt), None) if replace => (read(context, &crt)?, None),
        (Some(_), None) => {
            return Err(Failure::usage("the key's file is missing")
                .hint("`staithe certs:update` keeps the key of the present certificate"));
        }
        (None, _) => from_tar(std::io::stdin().lock())?,
    };
    context.out.step(&format!("Checking the certificate for {app}"))?;
    let new =
        NewCertificate { certificate, key: key.map(Secret::new), replace, force: context.force };
    let path = format!("/apps/{app}/certificate");
    let change: CertificateChange = context.client.send(Method::PUT, &path, &new).await?;
    for warning in &change.warnings {
        context.out.progress(&format!(" !     {warning}"))?;
    }
    match &change.report.own {
        Some(own) => context.out.detail(&format!(
            "{} by {}, until {}",
            own.facts.subject,
            own.facts.issuer,
            time(own.facts.not_after)
        )),
        None => Ok(()),
    }
}

/// A file of the user's own machine.
fn read(context: &Context, name: &str) -> Result<String, Failure> {
    if context.settings.is_remote() {
        return Err(Failure::new(Exit::Refused, format!("`{name}` would be a file of the server"))
            .hint("over SSH, give both as a tar archive: `tar c server.crt server.key | ssh … certs:add <app>`"));
    }
    let failed = |error| Failure::new(Exit::Failed, format!("read {name}: {error}"));
    let file = std::fs::File::open(name).map_err(failed)?;
    text(file, name)
}

fn text(reader: impl Read, name: &str) -> Result<String, Failure> {
    let mut text = String::new();
    let count = reader.take(MAX_FILE + 1).read_to_string(&mut text);
    let count =
        count.map_err(|error| Failure::new(Exit::Failed, format!("read {name}: {error}")))?;
    match count as u64 > MAX_FILE {
        true => Err(Failure::usage(format!("{name} is larger than 256 KiB"))),
        false => Ok(text),
    }
}

/// Certificate and key of an archive that has exactly one of each, as Dokku takes them. Nothing is
/// unpacked: paths do not matter.
fn from_tar(input: impl Read) -> Result<(String, Option<String>), Failure> {
    let damaged = |error: std::io::Error| {
        Failure::usage(format!("standard input is no tar archive: {error}")).hint(
            "for example `tar c server.crt server.key | staithe certs:add <app>`, or name both files",
        )
    };
    let mut archive = tar::Archive::new(input.take(MAX_TAR));
    let (mut certificates, mut keys) = (Vec::new(), Vec::new());
    for (index, entry) in archive.entries().map_err(damaged)?.enumerate() {
        let entry = entry.map_err(damaged)?;
        if index >= MAX_MEMBERS {
            return Err(Failure::usage("the archive has more than 100 members"));
        }
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        // macOS puts metadata beside each file.
        if name.rsplit('/').next().is_some_and(|base| base.starts_with("._")) {
            continue;
        }
        match name.rsplit_once('.') {
            Some((_, "crt" | "pem")) => certificates.push(text(entry, &name)?),
            Some((_, "key")) => keys.push(text(entry, &name)?),
            _ => {}
        }
    }
    match (certificates.pop(), keys.pop()) {
        (Some(certificate), Some(key)) if certificates.is_empty() && keys.is_empty() => {
            Ok((certificate, Some(key)))
        }
        _ => Err(Failure::usage(
            "the archive must have exactly one certificate (.crt or .pem) and one key (.key)",
        )
        .hint(
            "put the intermediate certificates into the certificate's file, after the app's own",
        )),
    }
}

async fn remove(context: &mut Context, app: &AppName) -> Result<(), Failure> {
    context.out.step(&format!("Removing the certificate of {app}"))?;
    let path = format!("/apps/{app}/certificate");
    let _: CertificateReport = context.client.send(Method::DELETE, &path, &()).await?;
    Ok(())
}

async fn generate(context: &mut Context, args: Generate) -> Result<(), Failure> {
    let Generate { app: AppArg { app }, domain } = args;
    let path = format!("/apps/{app}/certificate/generate");
    let made: GeneratedCertificate =
        context.client.send(Method::POST, &path, &GenerateCertificate { domain }).await?;
    context.out.text(&made.request)
}

async fn show(context: &mut Context, args: Show) -> Result<(), Failure> {
    let Show { app: AppArg { app }, part } = args;
    match part {
        Part::Crt => {
            let chain: String =
                context.client.get(&format!("/apps/{app}/certificate/chain")).await?;
            context.out.text(&chain)
        }
        Part::Key => {
            let path = format!("/apps/{app}/certificate/key");
            let key: Secret = context.client.send(Method::POST, &path, &()).await?;
            context.out.text(key.expose())
        }
    }
}

fn report(app: &AppName, certificates: &CertificateReport) -> Report {
    let mut report = Report::new(format!("{app} ssl information"));
    let own = certificates.own.as_ref();
    let shown = own.or(certificates.automatic.first());
    let fact = |value: Option<String>| value.unwrap_or_default();
    report.row("Ssl dir", &certificates.directory);
    report.row("Ssl enabled", shown.is_some());
    report.row("Ssl expires at", fact(shown.map(|one| time(one.facts.not_after))));
    report.row("Ssl days left", fact(shown.map(|one| one.days_left.to_string())));
    let mut names: Vec<&str> = Vec::new();
    for one in own.into_iter().chain(&certificates.automatic) {
        names.extend(one.facts.names.iter().map(Hostname::as_str));
    }
    names.sort_unstable();
    names.dedup();
    report.row("Ssl hostnames", names.join(" "));
    report.row("Ssl issuer", fact(shown.map(|one| one.facts.issuer.clone())));
    report.row("Ssl ocsp", fact(shown.map(|one| ocsp(&one.ocsp))));
    report.row("Ssl source", fact(shown.map(|one| one.source.as_str().to_owned())));
    report.row("Ssl starts at", fact(shown.map(|one| time(one.facts.not_before))));
    report.row("Ssl subject", fact(shown.map(|one| one.facts.subject.clone())));
    report.row("Ssl verified", fact(shown.map(|one| one.facts.verified.to_string())));
    let bare = certificates.domains.iter().filter(|domain| !domain.covered);
    let bare: Vec<&str> = bare.map(|domain| domain.domain.as_str()).collect();
    report.row("Ssl domains without", bare.join(" "));
    report
}

/// What the authority says of a certificate, in a few words.
fn ocsp(status: &OcspStatus) -> String {
    match status {
        OcspStatus::NotOffered => "not offered".into(),
        OcspStatus::Off => "off".into(),
        OcspStatus::Waiting => "not asked yet".into(),
        OcspStatus::Good { until, last_failure: None } => format!("good until {}", time(*until)),
        OcspStatus::Good { until, last_failure: Some(why) } => {
            format!("good until {}; no newer answer: {why}", time(*until))
        }
        OcspStatus::Failed { why, next_attempt } => {
            format!("{why}; tried again at {}", time(*next_attempt))
        }
        OcspStatus::Revoked { at } => format!("revoked at {}", time(*at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::rendered;
    use crate::domain::{CertificateFacts, CertificateSource, Timestamp};
    use crate::wire::{CertificateReportEntry, DomainCertificate};

    fn archive(members: &[(&str, &str)]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, content) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o600);
            archive.append_data(&mut header, name, content.as_bytes()).unwrap();
        }
        archive.into_inner().unwrap()
    }

    #[test]
    fn an_archive_has_one_certificate_and_one_key() {
        let good =
            archive(&[("a/._server.crt", "x"), ("a/server.crt", "C"), ("a/server.key", "K")]);
        let read = from_tar(good.as_slice()).unwrap();
        assert_eq!(read, ("C".to_owned(), Some("K".to_owned())));
        for bad in [
            archive(&[("server.crt", "C")]),
            archive(&[("a.crt", "C"), ("b.pem", "C"), ("c.key", "K")]),
            b"not a tar archive, but long enough to be taken for one".repeat(20),
            Vec::new(),
        ] {
            from_tar(bad.as_slice()).unwrap_err();
        }
    }

    #[test]
    fn a_certificate_is_reported_under_dokkus_labels() {
        let host = |name: &str| name.parse::<Hostname>().unwrap();
        let facts = CertificateFacts {
            id: "0".repeat(64).parse().unwrap(),
            subject: "CN=shop.test".into(),
            issuer: "CN=R11".into(),
            names: vec![host("shop.test")],
            not_before: Timestamp(1_767_323_045_000),
            not_after: Timestamp(1_775_099_045_000),
            key: "EC P-256".into(),
            verified: true,
        };
        let own = CertificateReportEntry {
            source: CertificateSource::Custom,
            facts,
            days_left: 90,
            added_at: Timestamp(0),
            ocsp: OcspStatus::Good { until: Timestamp(1_767_323_045_000), last_failure: None },
        };
        let domain =
            |name, covered| DomainCertificate { domain: host(name), certificate: None, covered };
        let certificates = CertificateReport {
            directory: "/var/lib/staithe/certificates".into(),
            own: Some(own),
            automatic: Vec::new(),
            domains: vec![domain("shop.test", true), domain("www.test", false)],
        };
        let expected = "\
=====> shop ssl information
       Ssl dir:                       /var/lib/staithe/certificates
       Ssl enabled:                   true
       Ssl expires at:                2026-04-02T03:04:05Z
       Ssl days left:                 90
       Ssl hostnames:                 shop.test
       Ssl issuer:                    CN=R11
       Ssl ocsp:                      good until 2026-01-02T03:04:05Z
       Ssl source:                    custom
       Ssl starts at:                 2026-01-02T03:04:05Z
       Ssl subject:                   CN=shop.test
       Ssl verified:                  true
       Ssl domains without:           www.test";
        assert_eq!(rendered(&report(&"shop".parse().unwrap(), &certificates)), expected);
    }
}
