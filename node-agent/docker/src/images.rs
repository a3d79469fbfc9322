//! The verbs of the port that list and remove images.

use bollard::models::ImageSummary;
use bollard::query_parameters::{ListImagesOptions, RemoveImageOptions};

use tallyman_agent_engine::{EngineError, ImageState, Moment, Verb};

use crate::faults::{Answer, answer, plain};
use crate::{DockerEngine, Failure};

impl DockerEngine {
    pub(crate) async fn images(&self) -> Result<Vec<ImageState>, EngineError> {
        let options = ListImagesOptions {
            digests: true,
            ..ListImagesOptions::default()
        };
        let call = async {
            let client = self.connection.client().await?;
            Ok(client.list_images(Some(options)).await?)
        };
        let verb = Verb::ListImages;
        let answered = self.within(verb, self.settings.list, call).await;
        let listed = answered.map_err(|failure| failure.plainly(verb))?;
        let mut images: Vec<ImageState> = listed.into_iter().map(state).collect();
        images.sort_by(|left, right| left.id.cmp(&right.id));
        Ok(images)
    }

    /// Leaves one that is being prepared for another time, and lets it not be prepared meanwhile: one that was found present
    /// is still there when its container is created, or is pulled again.
    pub(crate) async fn unmake_image(&self, name: &str) -> Result<(), EngineError> {
        let Some(_in_hand) = self.hands.remove(name) else {
            return Err(EngineError::ImageInUse {
                image: name.to_owned(),
                message: "it is being prepared for a task".to_owned(),
            });
        };
        let call = async {
            let client = self.connection.client().await?;
            let options = None::<RemoveImageOptions>;
            Ok(client.remove_image(name, options, None).await?)
        };
        let verb = Verb::RemoveImage;
        self.pulls.forget(name);
        match self.within(verb, self.settings.remove, call).await {
            Ok(_) => Ok(()),
            Err(Failure::Overdue(error)) => Err(error),
            Err(Failure::Answered(trouble)) => match answer(verb, trouble) {
                Answer::Status(404, _) => Ok(()),
                Answer::Status(409, message) => Err(EngineError::ImageInUse {
                    image: name.to_owned(),
                    message,
                }),
                other => Err(plain(verb, other)),
            },
        }
    }
}

/// Docker has `<none>` where there is nothing.
fn state(image: ImageSummary) -> ImageState {
    let real = |names: Vec<String>| -> Vec<String> {
        names
            .into_iter()
            .filter(|name| !name.contains("<none>"))
            .collect()
    };
    let mut names = real(image.repo_tags);
    if names.is_empty() {
        names = real(image.repo_digests);
    }
    names.sort();
    ImageState {
        id: image.id,
        names,
        created_at: Some(Moment(image.created.saturating_mul(1000)))
            .filter(|moment| moment.millis() > 0),
        bytes: image.size,
    }
}
