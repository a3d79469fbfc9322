//! The verbs of the port that list and remove images.

use bollard::models::ImageSummary;
use bollard::query_parameters::{ListImagesOptions, RemoveImageOptions};

use tallyman_agent_engine::{EngineError, ImageState, Moment, Reference, Verb};

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

/// Docker has `<none>` where there is nothing. A digest in a repository that has a tag of the image, too, goes with the tag;
/// in another one it holds the image, and Docker with containerd's store tells it among the tags.
fn state(image: ImageSummary) -> ImageState {
    let told = image.repo_tags.into_iter().chain(image.repo_digests);
    let real = told.filter(|name| !name.contains("<none>"));
    let (digests, mut names): (Vec<String>, Vec<String>) =
        real.partition(|name| name.contains('@'));
    for digest in digests {
        let repository = Reference::split(&digest).repository;
        let holds = |name: &String| Reference::split(name).repository == repository;
        if !names.iter().any(holds) {
            names.push(digest);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_a_name_where_the_repository_has_no_tag() {
        let names = |tags: &[&str], digests: &[&str]| {
            let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
            let summary = ImageSummary {
                repo_tags: owned(tags),
                repo_digests: owned(digests),
                ..ImageSummary::default()
            };
            state(summary).names
        };
        assert_eq!(names(&["a:2", "a:1"], &["a@sha256:1"]), ["a:1", "a:2"]);
        let both = ["a:1", "h:5/b@sha256:1"];
        assert_eq!(names(&["a:1"], &["a@sha256:1", "h:5/b@sha256:1"]), both);
        // As containerd's store tells it.
        let told = ["a@sha256:1", "h:5/b@sha256:1", "a:1"];
        assert_eq!(names(&told, &["a@sha256:1"]), both);
        assert_eq!(names(&["<none>:<none>"], &["a@sha256:1"]), ["a@sha256:1"]);
        let nothing: [&str; 0] = [];
        assert_eq!(names(&["<none>:<none>"], &["<none>@<none>"]), nothing);
        assert_eq!(names(&[], &[]), nothing);
    }
}
