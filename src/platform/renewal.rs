//! The keeper of automatic certificates: orders what is due, asks authorities when they want
//! renewal and whether certificates are still good, warns of what ends soon, clears away what is not
//! needed.
//!
//! What is due follows from what is stored alone, so a restart forgets nothing.

use std::collections::HashMap;
use std::time::Duration;

use super::acme::Wanted;
use super::{Platform, Result, acme_actor, clock};
use crate::certificate::acme::Authority;
use crate::domain::{App, CertificateId, CertificateSource, Hostname, Timestamp};
use crate::store::StoredCertificate;
use crate::support::shutdown::{Phase, Shutdown};
use crate::support::{report, tasks};

/// The longest between two looks: settings in files and clocks change without a word.
pub(super) const LONGEST: Duration = Duration::from_secs(3600);
/// The shortest: a domain that is due and cannot be ordered must not spin.
const SHORTEST: Duration = Duration::from_secs(1);
/// How often an authority is asked when it wants renewal (RFC 9773 §4.3.2 lets it say; six hours is
/// what Let's Encrypt does).
const ASK: Duration = Duration::from_secs(6 * 3600);
/// Certificates that end within this are warned about, or within a quarter of their lifetime.
const WARN: Duration = Duration::from_secs(7 * 24 * 3600);
/// Between two warnings about one certificate, and between two clearances.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// When each certificate was last warned about.
type Warned = HashMap<CertificateId, Timestamp>;

impl Platform {
    /// Keeps certificates until the shutdown begins. Orders under way then are dropped.
    pub async fn keep_certificates(&self, mut shutdown: Shutdown) {
        let mut warned = Warned::new();
        let mut cleared: Option<Timestamp> = None;
        loop {
            let now = clock::now();
            if cleared.is_none_or(|at| now.since(at) >= DAY) {
                cleared = Some(now);
                if let Err(error) = self.remove_unneeded_certificates() {
                    tracing::error!(error = report(&error), "cannot clear certificates away");
                }
            }
            let pause = match self.look_at_certificates(&mut warned).await {
                Ok(next) => next.since(now).clamp(SHORTEST, LONGEST),
                Err(error) => {
                    tracing::error!(error = report(&error), "cannot look after certificates");
                    LONGEST
                }
            };
            tokio::select! {
                // Cancel-safe: observe only.
                () = shutdown.reached(Phase::Draining) => return,
                () = tokio::time::sleep(pause) => {}
                // Cancel-safe: a call is kept until the next wait.
                () = self.0.desk.woken() => {}
            }
        }
    }

    /// Starts what is due; says when to look again.
    async fn look_at_certificates(&self, warned: &mut Warned) -> Result<Timestamp> {
        let now = clock::now();
        let mut next = now.after(LONGEST);
        for app in self.store.apps()? {
            // What one app has wrong keeps no other from renewal.
            match self.look_at_app(&app, now, warned).await {
                Ok(Some(at)) => next = next.min(at),
                Ok(None) => {}
                Err(error) => {
                    let error = report(&error);
                    tracing::error!(
                        app.name = app.name.as_str(),
                        error,
                        "cannot look after certificates"
                    );
                }
            }
        }
        warned.retain(|_, at| now.since(*at) < DAY);
        self.prune_staples()?;
        Ok(next)
    }

    async fn look_at_app(
        &self,
        app: &App,
        now: Timestamp,
        warned: &mut Warned,
    ) -> Result<Option<Timestamp>> {
        self.prune_certificates(app).await?;
        self.warn_of_ends(app, now, warned)?;
        let mut next = self.look_at_staples(app, now)?;
        let Some((authority, settings)) = self.authority_of(app)? else { return Ok(next) };
        for wanted in self.wanted_certificates(app, &authority, &settings)? {
            if wanted.needs_order(now) && wanted.progress.is_due(now) {
                self.start_order(app, wanted, &authority);
                continue;
            }
            if wanted.certificate.is_some() {
                self.start_question(app, &wanted, &authority, now);
            }
            let at = wanted.next();
            next = Some(next.map_or(at, |next| next.min(at)));
        }
        Ok(next)
    }

    /// Orders in the background, if there is a place; the end of another order wakes the keeper.
    fn start_order(&self, app: &App, wanted: Wanted, authority: &Authority) {
        let Some(place) = self.0.desk.free_place() else { return };
        let Some(claim) = self.0.desk.claim(app.id, &wanted.domain) else { return };
        let (platform, app, authority) = (self.clone(), app.clone(), authority.clone());
        tasks::spawn("certificates/order", async move {
            let domain = wanted.domain.clone();
            let say = |_: &str| {};
            match platform.order_certificate(&app, wanted, &authority, &say).await {
                Ok(Ok(_)) => {}
                Ok(Err(failure)) => {
                    tracing::warn!(app.name = app.name.as_str(), %domain, error = %failure, "no certificate");
                }
                Err(error) => {
                    let error = report(&error);
                    tracing::error!(app.name = app.name.as_str(), %domain, error, "cannot order a certificate");
                }
            }
            drop((place, claim));
            platform.0.desk.wake();
        });
    }

    /// Asks the authority when it wants a certificate to be renewed, now and then.
    fn start_question(&self, app: &App, wanted: &Wanted, authority: &Authority, now: Timestamp) {
        let asked = wanted.progress.asked_at;
        let Some(certificate) = &wanted.certificate else { return };
        let same = certificate.server.as_deref() == Some(authority.directory_url.as_str());
        if !same || asked.is_some_and(|at| now.since(at) < ASK) {
            return;
        }
        let Some(place) = self.0.desk.free_place() else { return };
        let Some(claim) = self.0.desk.claim(app.id, &wanted.domain) else { return };
        let (platform, app, authority) = (self.clone(), app.clone(), authority.clone());
        let (domain, certificate) = (wanted.domain.clone(), certificate.clone());
        let mut progress = wanted.progress.clone();
        tasks::spawn("certificates/renewal-info", async move {
            progress.asked_at = Some(now);
            match platform.ask_for_window(&certificate, &authority, now).await {
                Ok(Some(window)) => progress.suggest(window, &domain),
                Ok(None) => progress.suggested = None,
                Err(error) => {
                    tracing::debug!(%domain, error, "cannot ask when to renew");
                }
            }
            if let Err(error) = platform.store.set_acme_progress(app.id, &domain, &progress) {
                tracing::error!(error = report(&error), "cannot remember when to renew");
            }
            drop((place, claim));
            platform.0.desk.wake();
        });
    }

    async fn ask_for_window(
        &self,
        certificate: &StoredCertificate,
        authority: &Authority,
        now: Timestamp,
    ) -> std::result::Result<Option<(Timestamp, Timestamp)>, String> {
        let trust = &self.certificates.trust;
        let pair = self.certificates.files.read(&certificate.facts.id, now, trust);
        let pair = pair.map_err(|error| report(&error))?;
        let window = self.certificates.acme.renewal_window(authority, &pair).await;
        window.map_err(|failure| failure.to_string())
    }

    /// Removes what was issued for domains that the app does not have any more.
    async fn prune_certificates(&self, app: &App) -> Result<()> {
        let domains = self.domains_of(app)?;
        let certificates = self.certificates_of(app.id)?;
        let orphans: Vec<&Hostname> = certificates
            .iter()
            .filter_map(|one| one.domain.as_ref())
            .filter(|domain| !domains.contains(domain))
            .collect();
        for domain in &orphans {
            self.store.remove_certificate(app.id, Some(domain))?;
        }
        if !orphans.is_empty() {
            self.certificates_changed(app.id).await?;
        }
        self.store.forget_acme_progress(app.id, &domains)?;
        Ok(())
    }

    fn warn_of_ends(&self, app: &App, now: Timestamp, warned: &mut Warned) -> Result<()> {
        for one in self.certificates_of(app.id)?.iter() {
            let facts = &one.facts;
            let soon = WARN.min(facts.lifetime() / 4);
            if now.after(soon) < facts.not_after || warned.contains_key(&facts.id) {
                continue;
            }
            warned.insert(facts.id.clone(), now);
            let name = one.domain.as_ref().map_or(facts.subject.as_str(), Hostname::as_str);
            let days = (facts.not_after.0 - now.0).div_euclid(24 * 3600 * 1000);
            let when = match days {
                ..0 => "has expired".to_owned(),
                0 => "expires within a day".to_owned(),
                days => format!("expires in {days} days"),
            };
            let next = match one.source {
                CertificateSource::Acme => {
                    format!("`staithe letsencrypt:report {}` says why", app.name)
                }
                _ => format!("`staithe certs:update {}` replaces it", app.name),
            };
            let message = format!("the certificate of {name} {when}; {next}");
            self.note(app.id, "certificate.expires", &message, &acme_actor());
        }
        Ok(())
    }
}
