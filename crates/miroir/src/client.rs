//! Talking to a running Miroir, for the commands that do.

use std::time::Duration;

use clap::Args;
use reqwest::{Method, RequestBuilder};
use serde::de::DeserializeOwned;

use crate::failure::Failure;

/// Where Miroir is, and the key it wants.
#[derive(Args)]
pub struct Target {
    /// Where Miroir answers.
    #[arg(long, env = "MIROIR_URL", default_value = "http://127.0.0.1:7700")]
    url: String,
    /// The key to present, when Miroir requires one.
    #[arg(long, env = "MIROIR_API_KEY", hide_env_values = true, value_name = "KEY")]
    api_key: Option<String>,
}

/// Where Miroir is, and the key to its own routes.
#[derive(Args)]
pub struct OperatorTarget {
    #[command(flatten)]
    target: Target,
    /// The key to Miroir's own routes [default: the API key].
    #[arg(long, env = "MIROIR_ADMIN_API_KEY", hide_env_values = true, value_name = "KEY")]
    admin_key: Option<String>,
}

/// A client of one Miroir.
pub struct Client {
    http: reqwest::Client,
    url: String,
    api_key: Option<String>,
}

/// The part of an error body that is worth showing.
#[derive(serde::Deserialize)]
struct ErrorBody {
    message: String,
    code: String,
}

impl Client {
    /// Prepares to talk to `target`.
    pub fn new(target: &Target) -> Result<Self, Failure> {
        Self::with_key(target, None)
    }

    /// Prepares to use Miroir's own routes.
    pub fn for_operator(target: &OperatorTarget) -> Result<Self, Failure> {
        Self::with_key(&target.target, target.admin_key.as_deref())
    }

    /// Prepares to do as clients do where an operator's target was given.
    pub fn for_client(target: &OperatorTarget) -> Result<Self, Failure> {
        Self::new(&target.target)
    }

    /// [`Client::new`] with another key than the target's, if given.
    fn with_key(target: &Target, key: Option<&str>) -> Result<Self, Failure> {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(300))
            .build()
            .map_err(|error| Failure::new(format!("cannot prepare to talk HTTP: {error}")))?;
        Ok(Self {
            http,
            url: target.url.trim_end_matches('/').to_owned(),
            api_key: key.map(ToOwned::to_owned).or_else(|| target.api_key.clone()),
        })
    }

    /// A request to a path under the URL, with the key.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        match &self.api_key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// GETs and reads JSON.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.send(self.request(Method::GET, path)).await.map_err(SendError::into_failure)
    }

    /// Sends a request and reads its answer as JSON.
    pub async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, SendError> {
        let unreachable = |error: reqwest::Error| {
            SendError::Again(Failure::new(format!("no answer from {}: {}", self.url, root_cause(&error))))
        };
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(unreachable)?;
        if !status.is_success() {
            let explained = match serde_json::from_slice::<ErrorBody>(&body) {
                Ok(error) => format!("{} ({})", error.message, error.code),
                Err(_) => format!("{} answered {status}", self.url),
            };
            let remedy = match status.as_u16() {
                401 => "; give the key with --api-key or MIROIR_API_KEY",
                403 => "; give another key with --api-key or MIROIR_API_KEY",
                _ => "",
            };
            let failure = Failure::new(format!("{explained}{remedy}"));
            let worth_retrying = matches!(status.as_u16(), 408 | 429 | 502 | 503 | 504);
            return Err(if worth_retrying { SendError::Again(failure) } else { SendError::Never(failure) });
        }
        serde_json::from_slice(&body).map_err(|error| {
            SendError::Never(Failure::new(format!(
                "{} answered something else than expected ({error}); is it a Miroir?",
                self.url
            )))
        })
    }
}

/// Why a request failed, and whether it may succeed later.
pub enum SendError {
    /// Trying again may help.
    Again(Failure),
    /// It will not.
    Never(Failure),
}

impl SendError {
    /// What to tell, when nothing more is tried.
    pub fn into_failure(self) -> Failure {
        match self {
            Self::Again(failure) | Self::Never(failure) => failure,
        }
    }
}

/// The innermost cause: the outer ones only say that sending a request failed.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
