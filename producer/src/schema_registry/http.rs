//! One request over HTTP/1.1, on a connection of its own: a registry is asked once per schema.
//!
//! *Not here*: what is asked, and how often (`client.rs`).

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::error::{RegistryError, RegistryErrorKind};

/// Where a registry is.
#[derive(Clone, Debug)]
pub(super) struct Base {
    host: String,
    port: u16,
    /// What stands before each path, without a slash at the end.
    path: String,
}

/// What a registry answered.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Base {
    pub(super) fn new(url: &str) -> Result<Self, RegistryError> {
        // A URL with a user is not repeated: there may be a password in it.
        let has_user = url.contains('@');
        let shown = if has_user {
            "a URL with a user"
        } else {
            url.trim()
        };
        let bad = |message: &str| RegistryError::new(RegistryErrorKind::InvalidUrl, shown, message);
        if has_user {
            return Err(bad("registries are asked without a name or password"));
        }
        let uri: Uri = url.trim().parse().map_err(|_| bad(""))?;
        let authority = uri.authority().ok_or_else(|| bad("no host"))?;
        if uri.scheme_str() != Some("http") {
            return Err(bad("only http is spoken: connections are not encrypted"));
        }
        Ok(Self {
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(80),
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// Posts a JSON text.
    pub(super) async fn post(
        &self,
        path: &str,
        body: &str,
        timeout: Duration,
    ) -> Result<Answer, RegistryError> {
        let asked = format!("http://{}:{}{}{path}", self.host, self.port, self.path);
        match tokio::time::timeout(timeout, self.exchange(path, body)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                let kind = RegistryErrorKind::Unreachable;
                Err(RegistryError::new(kind, asked, error.to_string()))
            }
            Err(_elapsed) => {
                let kind = RegistryErrorKind::TimedOut(timeout);
                Err(RegistryError::new(kind, asked, ""))
            }
        }
    }

    async fn exchange(&self, path: &str, body: &str) -> Result<Answer, BoxError> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::post(format!("{}{path}", self.path))
            .header(HOST, format!("{}:{}", self.host, self.port))
            .header(ACCEPT, MEDIA_TYPE)
            .header(CONTENT_TYPE, MEDIA_TYPE)
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))?;
        let exchange = async {
            let response = sender.send_request(request).await?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
            let body = body.collect().await?.to_bytes();
            Ok::<_, BoxError>(Answer { status, body })
        };
        // The connection moves only while it is polled; it may end before the answer was looked at.
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            biased;
            answer = &mut exchange => answer,
            ended = connection => {
                ended?;
                exchange.await
            }
        }
    }
}

const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// An answer is an id and the schema again.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("http://registry:8081", "registry", 8081, "")]
    #[case(" http://registry ", "registry", 80, "")]
    #[case("http://registry:1/api/", "registry", 1, "/api")]
    #[case("http://[::1]:8081", "::1", 8081, "")]
    fn a_url_is_read(#[case] url: &str, #[case] host: &str, #[case] port: u16, #[case] path: &str) {
        let base = Base::new(url).expect("a URL");
        assert_eq!((&*base.host, base.port, &*base.path), (host, port, path));
    }

    #[rstest]
    #[case("", "")]
    #[case("registry:8081", "not a URL")]
    #[case("https://registry", "only http")]
    #[case("http://user:topsecret@registry", "without a name or password")]
    #[case("https://user:topsecret@registry", "without a name or password")]
    #[case("http://user:topsecret@a registry", "without a name or password")]
    fn another_url_is_refused_and_tells_no_password(#[case] url: &str, #[case] told: &str) {
        let error = Base::new(url).expect_err("no registry's").to_string();
        assert!(error.contains(told), "{error}");
        assert!(!error.contains("topsecret"), "{error}");
    }
}
