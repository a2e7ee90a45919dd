//! Newer packages for a service: another image of the same recipe, with a way back.
//!
//! An image is made once and a service keeps the one it was made with, so that nothing changes under
//! its data unasked. The recipe names one major version of each server, and Debian's updates within
//! it read the same files.

use std::sync::Arc;

use super::images::ImageFor;
use crate::build::Output;
use crate::domain::{Actor, PluginName, Service, ServiceName};
use crate::platform::{Error, Journal, Kind, Operation, Platform, Result};

impl Platform {
    /// Makes the image of the service's type anew out of the newest packages, and restarts the
    /// service on it. One that does not start on it is put back on the image it had.
    ///
    /// # Errors
    /// `NotFound`; the operation fails with `Failed` where packages cannot be had or the server does
    /// not start, and the service is as it was then.
    pub async fn upgrade_service(
        &self,
        actor: &Actor,
        kind: &PluginName,
        name: &ServiceName,
    ) -> Result<Operation<()>> {
        self.enabled_plugin(kind)?;
        let about = self.service_type(kind)?;
        let id = self.find_service(kind, name)?.id;
        let actor = actor.clone();
        Ok(self.operate(Journal::new(), move |platform, output, _cancel| async move {
            let (kind, packages) = (&about.manifest().name, &about.service().packages);
            let image = platform.renew_image(ImageFor::Service, kind, packages, &output).await?;
            let _lane = platform.0.services.lane(id).await;
            let service = platform
                .store
                .service_by_id(id)?
                .ok_or_else(|| Error::new(Kind::NotFound, "the service was destroyed meanwhile"))?;
            let image = image.to_string();
            if image == service.image {
                output.detail(&format!("{} has the newest packages already", service.title()));
                return Ok(());
            }
            platform.move_to_image(&service, image, &output).await?;
            let message = format!("{} upgraded", service.title());
            platform.note_named(None, "service.upgraded", &message, &actor);
            Ok(())
        }))
    }

    async fn move_to_image(
        &self,
        service: &Service,
        image: String,
        output: &Arc<Output>,
    ) -> Result<()> {
        let upgraded = Service { image, ..service.clone() };
        self.store.set_service(&upgraded)?;
        if self.service_alive(service.id).is_none() {
            output.detail(&format!("{} does not run; it starts with them", service.title()));
            return Ok(());
        }
        output.step(&format!("Restarting {} with the newest packages", service.title()));
        self.stop_service_container(&upgraded, self.service_grace(&upgraded)).await;
        let Err(failed) = self.start_service_container(&upgraded).await else { return Ok(()) };
        output.notice("it does not start with them; going back to the packages it had");
        self.store.set_service(service)?;
        self.begin(service).await?;
        Err(Error::new(Kind::Failed, format!("{} was not upgraded: {failed}", service.title()))
            .hint("it runs with the packages it had before"))
    }
}
