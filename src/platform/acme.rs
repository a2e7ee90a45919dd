//! Certificates issued by themselves: whose, for which domains, and the orders for them.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::{Error, Kind, Platform, Result, clock};
use crate::certificate::acme::{Authority, Failure, Presenter, Proof, Wish};
use crate::domain::{
    AcmeFailure, AcmeProgress, AcmeSettings, App, AppId, CertificateFacts, CertificateSource,
    Hostname, Timestamp, renew_at,
};
use crate::plugin::Hook;
use crate::proxy::Challenge;
use crate::store::StoredCertificate;
use crate::support::report;

/// How long a user waits for an order of the same domain that is under way: about as long as one
/// takes at worst.
const TURN: Duration = Duration::from_secs(10 * 60);

/// What is going on with authorities at this moment; none of it survives a restart, or must.
#[derive(Debug)]
pub(super) struct Desk {
    challenges: Mutex<Vec<Challenge>>,
    /// Domains that are being ordered.
    ordering: Arc<Mutex<HashSet<(AppId, Hostname)>>>,
    places: Arc<Semaphore>,
    changed: Notify,
    released: Arc<Notify>,
}

impl Desk {
    pub(super) fn new(max_orders: usize) -> Self {
        Self {
            challenges: Mutex::default(),
            ordering: Arc::default(),
            places: Arc::new(Semaphore::new(max_orders.max(1))),
            changed: Notify::new(),
            released: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Challenge>> {
        // Each change is one call.
        self.challenges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn challenges(&self) -> Vec<Challenge> {
        self.lock().clone()
    }

    /// Has the keeper look at what is due: something has changed.
    pub(super) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Returns after [`Desk::wake`]. Cancel-safe: a call that came meanwhile is kept.
    pub(super) async fn woken(&self) {
        self.changed.notified().await;
    }

    /// A place for an order, if one is free.
    pub(super) fn free_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// A place for an order, once one is free.
    async fn place(&self) -> Result<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        place.map_err(|error| Error::internal("orders have ended", error))
    }

    /// Claims a domain; none while it is being ordered.
    pub(super) fn claim(&self, app: AppId, domain: &Hostname) -> Option<Claim> {
        let key = (app, domain.clone());
        let mut ordering = self.ordering.lock().unwrap_or_else(PoisonError::into_inner);
        ordering.insert(key.clone()).then(|| Claim {
            key,
            ordering: Arc::clone(&self.ordering),
            released: Arc::clone(&self.released),
        })
    }

    /// Claims a domain once nobody else orders it.
    async fn claim_in_turn(&self, app: AppId, domain: &Hostname) -> Claim {
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            // Registered before the look, so that a release in between is not missed.
            released.as_mut().enable();
            if let Some(claim) = self.claim(app, domain) {
                return claim;
            }
            released.await;
        }
    }
}

/// A domain that is being ordered, until dropped.
#[derive(Debug)]
pub(super) struct Claim {
    key: (AppId, Hostname),
    ordering: Arc<Mutex<HashSet<(AppId, Hostname)>>>,
    released: Arc<Notify>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.ordering.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        self.released.notify_waiters();
    }
}

/// The proxy, as certificate authorities need it.
struct Door<'a>(&'a Platform);

fn challenge(proof: &Proof) -> Challenge {
    match proof.clone() {
        Proof::Http01 { domain, token, answer } => Challenge::Http01 { domain, token, answer },
        Proof::TlsAlpn01 { domain, certificate } => Challenge::TlsAlpn01 { domain, certificate },
    }
}

impl Presenter for Door<'_> {
    async fn present(&self, proof: &Proof) -> std::result::Result<(), String> {
        self.0.0.desk.lock().push(challenge(proof));
        self.0.publish_routes().await.map_err(|error| report(&error))
    }

    async fn withdraw(&self, proof: &Proof) {
        let gone = challenge(proof);
        self.0.0.desk.lock().retain(|challenge| *challenge != gone);
        if let Err(error) = self.0.publish_routes().await {
            // The next table is without it.
            tracing::error!(error = report(&error), "cannot withdraw a challenge");
        }
    }

    fn door(&self) -> Option<SocketAddr> {
        self.0.proxy.listening().ok()?.listen.first().copied()
    }
}

/// A domain with what is known about its certificate.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) domain: Hostname,
    /// The certificate that was issued for it.
    pub(super) certificate: Option<StoredCertificate>,
    pub(super) progress: AcmeProgress,
    /// When the certificate is to be renewed.
    pub(super) renew_at: Option<Timestamp>,
}

impl Wanted {
    /// Whether an order makes sense now, waits after failures aside.
    pub(super) fn needs_order(&self, now: Timestamp) -> bool {
        self.renew_at.is_none_or(|at| now >= at)
    }

    /// When the next order is made by itself.
    pub(super) fn next(&self) -> Timestamp {
        let renew = self.renew_at.unwrap_or(Timestamp(0));
        renew.max(self.progress.next_attempt.unwrap_or(Timestamp(0)))
    }
}

impl Platform {
    /// What the operator's file says.
    fn acme_defaults(&self) -> AcmeSettings {
        let config = &self.certificates.config;
        let days = u64::from(config.renew_before_days);
        AcmeSettings {
            enabled: None,
            email: config.email.clone(),
            server: Some(config.directory_url.clone()),
            ca_bundle: config.ca_bundle.clone(),
            challenge: Some(config.challenge),
            dns_hook: config.dns_hook.clone(),
            grace_s: (days > 0).then_some(days * 24 * 3600),
        }
    }

    /// The settings in force for `app`, or for apps that set nothing.
    pub(super) fn acme_in_force(&self, app: Option<AppId>) -> Result<AcmeSettings> {
        let own = app.map(|app| self.store.acme_settings(app)).transpose()?.unwrap_or_default();
        Ok(own.or(self.store.global_acme()?).or(self.acme_defaults()))
    }

    /// The authority that `settings` name; none without an e-mail address.
    pub(super) fn authority(&self, settings: &AcmeSettings) -> Option<Authority> {
        let config = &self.certificates.config;
        Some(Authority {
            email: settings.email.clone()?,
            directory_url: settings.server.clone().unwrap_or(config.directory_url.clone()),
            ca_bundle: settings.ca_bundle.clone(),
            challenge: settings.challenge.unwrap_or(config.challenge),
            dns_hook: settings.dns_hook.clone(),
        })
    }

    /// The authority that `app` has certificates from; none where it has none by itself.
    pub(super) fn authority_of(&self, app: &App) -> Result<Option<(Authority, AcmeSettings)>> {
        let settings = self.acme_in_force(Some(app.id))?;
        match settings.enabled {
            Some(false) => Ok(None),
            Some(true) | None => {
                Ok(self.authority(&settings).map(|authority| (authority, settings)))
            }
        }
    }

    /// Why no certificate is asked for, for a domain of `app`; none: one is.
    pub(super) fn skipped(
        &self,
        app: &App,
        domains: &[Hostname],
        domain: &Hostname,
        authority: &Authority,
    ) -> Result<Option<String>> {
        let name = domain.as_str();
        if name == "_" {
            return Ok(Some("it stands for all names".into()));
        }
        if !authority.can_issue(domain) {
            return Ok(Some(match name.starts_with('*') && authority.dns_hook.is_none() {
                true => "a wildcard needs a DNS program (`dns_hook` in the operator's file)".into(),
                false => "it is no name of the public DNS".into(),
            }));
        }
        let now = clock::now();
        let certificates = self.certificates_of(app.id)?;
        let own = certificates.iter().find(|one| one.domain.is_none());
        if own.is_some_and(|own| {
            own.source == CertificateSource::Custom
                && own.facts.not_after > now
                && own.facts.covers(domain)
        }) {
            return Ok(Some("the app's own certificate is for it".into()));
        }
        let wildcard = name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        let covering = domains
            .iter()
            .find(|other| wildcard.as_deref() == Some(other.as_str()) && *other != domain)
            .filter(|other| authority.can_issue(other));
        Ok(covering.map(|other| format!("`{other}` covers it")))
    }

    /// The domains of `app` that are to have certificates by themselves.
    pub(super) fn wanted_certificates(
        &self,
        app: &App,
        authority: &Authority,
        settings: &AcmeSettings,
    ) -> Result<Vec<Wanted>> {
        let domains = self.domains_of(app)?;
        let mut progress = self.store.acme_progress(app.id)?;
        let certificates = self.certificates_of(app.id)?;
        let mut wanted = Vec::new();
        for domain in &domains {
            if self.skipped(app, &domains, domain, authority)?.is_some() {
                continue;
            }
            let certificate =
                certificates.iter().find(|one| one.domain.as_ref() == Some(domain)).cloned();
            let progress = progress.remove(domain).unwrap_or_default();
            let grace = settings.grace_s.map(Duration::from_secs);
            let renew_at = certificate.as_ref().map(|one| {
                let planned = renew_at(&one.facts, grace, domain);
                progress.suggested.map_or(planned, |suggested| suggested.min(planned))
            });
            wanted.push(Wanted { domain: domain.clone(), certificate, progress, renew_at });
        }
        Ok(wanted)
    }

    /// Orders a certificate for one domain and puts it in force. Its outcome is remembered.
    pub(super) async fn order_certificate(
        &self,
        app: &App,
        wanted: Wanted,
        authority: &Authority,
        say: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<std::result::Result<CertificateFacts, Failure>> {
        let Wanted { domain, certificate, mut progress, .. } = wanted;
        let now = clock::now();
        let previous = self.previous_pair(certificate.as_ref(), authority, now);
        let wish = Wish { domain: &domain, authority, replaces: previous.as_ref(), now };
        let result = match self.certificates.acme.obtain(&wish, &Door(self), say).await {
            Ok(pair) => match self.keep_issued(app, &domain, &pair, authority).await {
                Ok(facts) => return Ok(Ok(facts)),
                // Waited for like a refusal: what was issued and lost counts at the authority.
                Err(error) => (report(&error), AcmeFailure::Refused, Err(error)),
            },
            Err(failure) => (failure.to_string(), failure.kind, Ok(Err(failure))),
        };
        let (why, kind, result) = result;
        // Once for each row of failures; the report tells the rest.
        if progress.failures == 0 {
            let message = format!("no certificate for {domain}: {why}");
            self.note(app.id, "certificate.failed", &message, &super::acme_actor());
            let told = serde_json::json!({ "domain": domain, "reason": why });
            self.notify(Hook::CertificateFailed, Some(&app.name), told);
        }
        progress.failed(why, kind, &domain, clock::now());
        if self.store.app_by_id(app.id)?.is_some() {
            self.store.set_acme_progress(app.id, &domain, &progress)?;
        }
        result
    }

    async fn keep_issued(
        &self,
        app: &App,
        domain: &Hostname,
        pair: &crate::certificate::Pair,
        authority: &Authority,
    ) -> Result<CertificateFacts> {
        // The app or the domain may have gone meanwhile.
        let still = self.store.app_by_id(app.id)?.filter(|found| found.name == app.name);
        let has = |found: &App| self.domains_of(found).is_ok_and(|all| all.contains(domain));
        let app = still.filter(has).ok_or_else(|| {
            Error::new(Kind::Conflict, format!("`{domain}` was taken away meanwhile"))
        })?;
        let stored = StoredCertificate {
            source: CertificateSource::Acme,
            domain: Some(domain.clone()),
            facts: pair.facts().clone(),
            added_at: clock::now(),
            server: Some(authority.directory_url.clone()),
        };
        self.keep_certificate(&app, pair, &stored).await?;
        self.store.set_acme_progress(app.id, domain, &AcmeProgress::default())?;
        let message = format!("certificate for {domain} issued by {}", stored.facts.issuer);
        self.note(app.id, "certificate.issued", &message, &super::acme_actor());
        let told = serde_json::json!({ "domain": domain, "issuer": stored.facts.issuer });
        self.notify(Hook::CertificateIssued, Some(&app.name), told);
        Ok(stored.facts)
    }

    /// The certificate that an order replaces, if the same authority issued it.
    fn previous_pair(
        &self,
        certificate: Option<&StoredCertificate>,
        authority: &Authority,
        now: Timestamp,
    ) -> Option<crate::certificate::Pair> {
        let certificate = certificate
            .filter(|one| one.server.as_deref() == Some(authority.directory_url.as_str()))?;
        let trust = &self.certificates.trust;
        self.certificates.files.read(&certificate.facts.id, now, trust).ok()
    }

    /// The domain's claim and a place to order in, for a user who waits: for whoever orders it now,
    /// then for a place.
    pub(super) async fn order_turn(
        &self,
        app: &App,
        domain: &Hostname,
    ) -> Result<(Claim, OwnedSemaphorePermit)> {
        let claim = self.0.desk.claim_in_turn(app.id, domain);
        let claim = tokio::time::timeout(TURN, claim).await.map_err(|_| {
            let message = format!("a certificate for `{domain}` is being ordered right now");
            Error::new(Kind::Conflict, message)
                .hint(format!("`staithe letsencrypt:report {}` tells when it is there", app.name))
        })?;
        Ok((claim, self.0.desk.place().await?))
    }
}
