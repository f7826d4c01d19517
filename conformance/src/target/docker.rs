//! Apache Kafka in a container that this run starts and removes.

use super::{Capabilities, Target, TargetKind, Unavailable};

/// A Kafka broker in a container.
#[derive(Debug)]
pub struct DockerTarget {
    name: String,
    bootstrap: Vec<String>,
}

impl Target for DockerTarget {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> TargetKind {
        TargetKind::Docker
    }

    fn bootstrap(&self) -> Vec<String> {
        self.bootstrap.clone()
    }

    fn broker_version(&self) -> Option<String> {
        None
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }
}

pub(super) async fn start(image: Option<&str>) -> Result<DockerTarget, Unavailable> {
    let image = image.unwrap_or("apache/kafka:4.3.1");
    Err(Unavailable::new(
        format!("no way to start a container of {image} is built in yet"),
        "make up && conformance run --target 127.0.0.1:9092",
    ))
}
