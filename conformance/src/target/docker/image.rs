//! Which image is run: asked for, the official one, or a local build of the same release.
//!
//! *Not here*: how a local image is built (`compose/image/build.sh`, which says so as it goes).

use std::fmt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use testcontainers::GenericImage;
use testcontainers::bollard::Docker;
use testcontainers::runners::AsyncRunner;
use tokio::time::timeout;

use super::variable;
use crate::target::Unavailable;

/// The release that is judged unless `KAFKA_VERSION` names another.
const KAFKA_VERSION: &str = "4.3.1";
/// Longest wait for a registry.
const PULL_WAIT_MAX: Duration = Duration::from_secs(5 * 60);
/// Longest wait for a build, which downloads the jars, and where possible a JDK, at first.
const BUILD_WAIT_MAX: Duration = Duration::from_secs(20 * 60);
/// Where the recipe is, from the root of the project.
const RECIPE: &str = "compose/image/build.sh";

/// An image's name and tag.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Reference(String);

impl Reference {
    /// `latest` where no tag is given, as Docker reads it.
    fn new(given: &str) -> Self {
        match given.rsplit_once(':') {
            // What follows the last colon is the port of a registry.
            Some((_, tag)) if tag.contains('/') => Self(format!("{given}:latest")),
            Some(_) => Self(given.to_owned()),
            None => Self(format!("{given}:latest")),
        }
    }

    fn split(&self) -> (&str, &str) {
        self.0.rsplit_once(':').unwrap_or((&self.0, "latest"))
    }

    /// Everything before the tag or digest.
    pub(super) fn name(&self) -> &str {
        self.split().0
    }

    /// The tag, or the hexadecimal digits of a digest.
    pub(super) fn tag(&self) -> &str {
        self.split().1
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One place to get an image from.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Source {
    /// Present at the engine.
    Present(Reference),
    /// A registry.
    Registry(Reference),
    /// The recipe of this project.
    Recipe { version: String, image: Reference },
}

/// Where an image is looked for, in this order.
fn sources(asked: Option<&str>, version: &str) -> Vec<Source> {
    if let Some(asked) = asked {
        let asked = Reference::new(asked);
        return vec![Source::Present(asked.clone()), Source::Registry(asked)];
    }
    let official = Reference::new(&format!("apache/kafka:{version}"));
    let local = Reference::new(&format!("kafka-local:{version}"));
    vec![
        Source::Present(official.clone()),
        Source::Registry(official),
        Source::Present(local.clone()),
        Source::Recipe {
            version: version.to_owned(),
            image: local,
        },
    ]
}

/// The first image that can be had; without `asked`, the official one or its equivalent.
pub(super) async fn obtain(docker: &Docker, asked: Option<&str>) -> Result<Reference, Unavailable> {
    let version = variable("KAFKA_VERSION").unwrap_or_else(|| KAFKA_VERSION.to_owned());
    let mut reasons = Vec::new();
    for source in sources(asked, &version) {
        let found = match &source {
            Source::Present(image) => present(docker, image).await,
            Source::Registry(image) => pull(image).await,
            Source::Recipe { version, image } => build(version, image).await,
        };
        match (found, source) {
            (Ok(()), Source::Present(image) | Source::Registry(image)) => return Ok(image),
            (Ok(()), Source::Recipe { image, .. }) => return Ok(image),
            (Err(reason), _) => reasons.push(reason),
        }
    }
    let remedy = match asked {
        Some(asked) => format!("docker pull {asked}, or unset KAFKA_IMAGE"),
        None => "make kafka-image".to_owned(),
    };
    Err(Unavailable::new(reasons.join("; "), remedy))
}

async fn present(docker: &Docker, image: &Reference) -> Result<(), String> {
    match docker.inspect_image(&image.0).await {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("{image} is not at the engine")),
    }
}

async fn pull(image: &Reference) -> Result<(), String> {
    tracing::info!(%image, "pulling");
    let request = GenericImage::new(image.name(), image.tag());
    match timeout(PULL_WAIT_MAX, request.pull_image()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("{image} is not pulled within {PULL_WAIT_MAX:?}")),
    }
}

async fn build(version: &str, image: &Reference) -> Result<(), String> {
    let recipe = recipe().ok_or_else(|| format!("the recipe {RECIPE} is not here"))?;
    tracing::info!(%image, "building from the released jars");
    let mut build = tokio::process::Command::new(&recipe);
    build
        .env("KAFKA_VERSION", version)
        .env("IMAGE", &image.0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    match timeout(BUILD_WAIT_MAX, build.status()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("{RECIPE} failed ({status})")),
        Ok(Err(error)) => Err(format!("{}: {error}", recipe.display())),
        Err(_) => Err(format!("{RECIPE} does not end within {BUILD_WAIT_MAX:?}")),
    }
}

/// The recipe beside this crate's source, or below the current folder.
fn recipe() -> Option<PathBuf> {
    [concat!(env!("CARGO_MANIFEST_DIR"), "/.."), "."]
        .iter()
        .map(|root| PathBuf::from(root).join(RECIPE))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("apache/kafka:4.3.1", "apache/kafka", "4.3.1")]
    #[case("apache/kafka", "apache/kafka", "latest")]
    #[case("registry:5000/kafka", "registry:5000/kafka", "latest")]
    #[case("registry:5000/kafka:4.3.1", "registry:5000/kafka", "4.3.1")]
    #[case("apache/kafka@sha256:ab12", "apache/kafka@sha256", "ab12")]
    fn reference_is_read_as_docker_reads_it(
        #[case] given: &str,
        #[case] name: &str,
        #[case] tag: &str,
    ) {
        let reference = Reference::new(given);
        assert_eq!((reference.name(), reference.tag()), (name, tag));
    }

    #[test]
    fn image_that_is_asked_for_is_never_replaced_by_another() {
        let own = Reference::new("own/kafka:4.3.1");
        assert_eq!(
            sources(Some("own/kafka:4.3.1"), "4.3.1"),
            [Source::Present(own.clone()), Source::Registry(own)]
        );
    }

    #[test]
    fn official_image_comes_before_the_local_build() {
        let official = Reference::new("apache/kafka:4.3.1");
        let local = Reference::new("kafka-local:4.3.1");
        let recipe = Source::Recipe {
            version: "4.3.1".to_owned(),
            image: local.clone(),
        };
        assert_eq!(
            sources(None, "4.3.1"),
            [
                Source::Present(official.clone()),
                Source::Registry(official),
                Source::Present(local),
                recipe
            ]
        );
    }

    #[test]
    fn recipe_is_found_from_the_source_of_this_crate() {
        assert!(recipe().is_some());
    }
}
