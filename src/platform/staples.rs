//! What authorities say of certificates (OCSP): asked for in time, kept beside the certificate, shown
//! to visitors by the proxy.
//!
//! Answers are files; how often nobody answered is known to this process alone, so that a restart
//! asks at once.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use super::{Platform, Result, acme_actor, clock, renewal};
use crate::certificate::ocsp::{Answer, Failure, Question, Responders, Staple};
use crate::domain::{App, CertificateId, OcspProgress, OcspStatus, Timestamp};
use crate::store::StoredCertificate;
use crate::support::{report, tasks};

/// Questions at a time; a responder that hangs holds its place for less than a minute.
const MAX_QUESTIONS: usize = 4;

/// How certificates stand, and who is being asked.
#[derive(Debug)]
pub(super) struct Staples {
    known: Mutex<HashMap<CertificateId, Standing>>,
    places: Semaphore,
    /// Files that the proxy has not looked at.
    changed: AtomicBool,
    publishing: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Standing {
    /// None: there is nobody to ask.
    question: Option<Question>,
    progress: OcspProgress,
    asking: bool,
}

impl Default for Staples {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            places: Semaphore::new(MAX_QUESTIONS),
            changed: AtomicBool::default(),
            publishing: tokio::sync::Mutex::default(),
        }
    }
}

impl Staples {
    fn lock(&self) -> MutexGuard<'_, HashMap<CertificateId, Standing>> {
        // Each change is one call.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what came of a question; `None` if the certificate has gone meanwhile.
    fn settle<T>(
        &self,
        id: &CertificateId,
        change: impl FnOnce(&mut OcspProgress) -> T,
    ) -> Option<T> {
        let mut known = self.lock();
        let standing = known.get_mut(id)?;
        standing.asking = false;
        Some(change(&mut standing.progress))
    }
}

impl Platform {
    fn responders(&self) -> Responders {
        self.certificates.config.ocsp
    }

    /// Starts questions that are due about the app's certificates; says when the next one is.
    pub(super) fn look_at_staples(&self, app: &App, now: Timestamp) -> Result<Option<Timestamp>> {
        if self.responders() == Responders::Off {
            return Ok(None);
        }
        let mut next: Option<Timestamp> = None;
        for one in self.certificates_of(app.id)?.iter() {
            if one.facts.not_after <= now {
                continue;
            }
            next = next.into_iter().chain(self.look_at_staple(app, one, now)).min();
        }
        Ok(next)
    }

    fn look_at_staple(
        &self,
        app: &App,
        one: &StoredCertificate,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let id = &one.facts.id;
        if !self.0.staples.lock().contains_key(id) {
            let standing = self.standing(id, now);
            self.0.staples.lock().entry(id.clone()).or_insert(standing);
        }
        let mut known = self.0.staples.lock();
        let standing = known.get_mut(id).filter(|standing| !standing.asking)?;
        let question = standing.question.clone()?;
        if let Some(at) = standing.progress.next().filter(|at| *at > now) {
            return Some(at);
        }
        standing.asking = true;
        drop(known);
        let (platform, app, facts) = (self.clone(), app.clone(), one.facts.clone());
        // One for each certificate at most; those without a place wait here, so that not every
        // answer has the keeper look at all apps.
        tasks::spawn("certificates/ocsp", async move {
            let Ok(place) = platform.0.staples.places.acquire().await else { return };
            let answer = question.ask(platform.responders(), clock::now()).await;
            drop(place);
            platform.settle(&app, &facts.id, &facts.subject, answer).await;
            platform.wake_for_staple(&facts.id);
        });
        None
    }

    /// Has the keeper look again if it would sleep too long.
    fn wake_for_staple(&self, id: &CertificateId) {
        let next = self.0.staples.lock().get(id).and_then(|standing| standing.progress.next());
        if next.is_some_and(|at| at < clock::now().after(renewal::LONGEST)) {
            self.0.desk.wake();
        }
    }

    /// How a certificate stands that was not looked at yet.
    fn standing(&self, id: &CertificateId, now: Timestamp) -> Standing {
        let pair = self.certificates.files.read(id, now, &self.certificates.trust);
        let pair = pair.inspect_err(|error| {
            tracing::error!(error = report(error), "cannot ask about a certificate");
        });
        let question = pair.ok().and_then(|pair| Question::about(&pair));
        let kept = question.as_ref().and_then(|_| self.certificates.files.staple(id));
        let progress = kept.map(|staple| OcspProgress::kept(staple.span)).unwrap_or_default();
        Standing { question, progress, asking: false }
    }

    /// Puts an answer in force, or takes note that there is none.
    async fn settle(
        &self,
        app: &App,
        id: &CertificateId,
        subject: &str,
        answer: std::result::Result<Answer, Failure>,
    ) {
        let now = clock::now();
        let in_force = match answer {
            Ok(Answer::Good(staple)) => {
                let fresh = OcspProgress::fresh(staple.span, now);
                match self.keep_staple(id, &staple) {
                    Ok(()) => {
                        self.0.staples.settle(id, |known| *known = fresh);
                        self.publish_staples().await
                    }
                    Err(error) => Err(error),
                }
            }
            Ok(Answer::Revoked { at }) => {
                if self.0.staples.settle(id, |known| known.revoked(at, now)) == Some(true) {
                    let message = format!(
                        "the authority has revoked the certificate of {subject}, which clients may refuse; replace it"
                    );
                    self.note(app.id, "certificate.revoked", &message, &acme_actor());
                }
                match self.certificates.files.remove_staple(id) {
                    Ok(()) => self.publish_staples().await,
                    Err(error) => Err(error.into()),
                }
            }
            Err(failure) => {
                self.note_no_staple(app, id, failure.to_string(), now);
                Ok(())
            }
        };
        if let Err(error) = in_force {
            self.note_no_staple(app, id, report(&error), now);
        }
    }

    fn note_no_staple(&self, app: &App, id: &CertificateId, why: String, now: Timestamp) {
        let first = self.0.staples.settle(id, |known| known.failed(why.clone(), now));
        // Once for each row of failures; the report tells the rest.
        if first == Some(true) {
            tracing::warn!(app.name = app.name.as_str(), certificate = %id, error = why, "no OCSP response");
        }
    }

    fn keep_staple(&self, id: &CertificateId, staple: &Staple) -> Result<()> {
        // The certificate may have gone meanwhile, with its files.
        match self.store.certificate_ids()?.contains(id) {
            true => Ok(self.certificates.files.keep_staple(id, staple)?),
            false => Ok(()),
        }
    }

    /// Has the proxy look at the files, which it does whenever it gets a table. Answers that come
    /// while one is on its way share the next one.
    async fn publish_staples(&self) -> Result<()> {
        let changed = &self.0.staples.changed;
        changed.store(true, Ordering::SeqCst);
        let _turn = self.0.staples.publishing.lock().await;
        match changed.swap(false, Ordering::SeqCst) {
            true => self.publish_routes().await,
            false => Ok(()),
        }
    }

    /// Forgets certificates that are gone.
    pub(super) fn prune_staples(&self) -> Result<()> {
        let needed: HashSet<CertificateId> = self.store.certificate_ids()?.into_iter().collect();
        self.0.staples.lock().retain(|id, _| needed.contains(id));
        Ok(())
    }

    /// What an authority says of a certificate, for reports.
    pub(super) fn ocsp_status(&self, id: &CertificateId, now: Timestamp) -> OcspStatus {
        if self.responders() == Responders::Off {
            return OcspStatus::Off;
        }
        match self.0.staples.lock().get(id) {
            Some(Standing { question: None, .. }) => OcspStatus::NotOffered,
            Some(standing) => standing.progress.status(now),
            None => OcspStatus::Waiting,
        }
    }
}
