//! A small JSON client for Meilisearch's API, whoever answers it: a node or Miroir.
//!
//! It is deliberately not `miroir-node`'s client: a mistake there would then hide itself from the tests.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::Value;

/// Longest wait for one answer.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);
/// Longest wait for one task.
const TASK_LIMIT: Duration = Duration::from_secs(300);

/// A server's address and the key to present to it.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base_url: String,
    key: Option<String>,
}

/// An answer: its status, headers, and body (`Null` when empty, a string when not JSON).
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Value,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    /// The body of a success; panics with the error of a failure.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "answered {}: {}", self.status, self.body);
        self.body
    }

    /// The uid of the task the answer announces.
    pub fn task_uid(&self) -> Option<u64> {
        self.body.get("taskUid").and_then(Value::as_u64)
    }
}

impl Client {
    /// A client for the server at `base_url` (`http://host:port`).
    pub fn new(base_url: impl Into<String>, key: Option<&str>) -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .tcp_nodelay(true)
            .timeout(REQUEST_LIMIT)
            .build()
            .expect("the HTTP client has no configuration that could be wrong");
        Self { http, base_url: base_url.into(), key: key.map(str::to_owned) }
    }

    /// The same server with another key, or none.
    pub fn with_key(&self, key: Option<&str>) -> Self {
        Self { key: key.map(str::to_owned), ..self.clone() }
    }

    /// Where the server is.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Sends any bytes; the error is a connection that failed or an answer that never came.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<Answer, reqwest::Error> {
        let mut request = self.http.request(method, format!("{}{path}", self.base_url));
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let bytes = response.bytes().await?;
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()))
        };
        Ok(Answer { status, headers, body })
    }

    /// Sends any bytes; panics when nothing answers.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Answer {
        match self.try_send(method.clone(), path, headers, body).await {
            Ok(answer) => answer,
            Err(error) => panic!("{method} {}{path} got no answer: {error:?}", self.base_url),
        }
    }

    /// Sends a JSON body, or none.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let bytes = body.map(|body| serde_json::to_vec(body).expect("a value is always JSON"));
        let headers: &[(&str, &str)] =
            if bytes.is_some() { &[("content-type", "application/json")] } else { &[] };
        self.send(method, path, headers, bytes).await
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None).await
    }

    /// `POST` of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call(Method::POST, path, Some(body)).await
    }

    /// `PUT` of JSON.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.call(Method::PUT, path, Some(body)).await
    }

    /// `PATCH` of JSON.
    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.call(Method::PATCH, path, Some(body)).await
    }

    /// `DELETE` without a body.
    pub async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, None).await
    }

    /// Waits until a task is over, and returns it whatever its end.
    pub async fn wait_task(&self, uid: u64) -> Value {
        let started = Instant::now();
        let mut pause = Duration::from_millis(2);
        loop {
            let task = self.get(&format!("/tasks/{uid}")).await.ok();
            if matches!(task["status"].as_str(), Some("succeeded" | "failed" | "canceled")) {
                return task;
            }
            assert!(started.elapsed() < TASK_LIMIT, "task {uid} is not over after {TASK_LIMIT:?}: {task}");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Waits for the task an answer announces, and panics unless it succeeded.
    pub async fn wait_success(&self, answer: Answer) -> Value {
        let uid = answer.task_uid().unwrap_or_else(|| {
            panic!("{} announced no task: {} {}", self.base_url, answer.status, answer.body)
        });
        let task = self.wait_task(uid).await;
        assert_eq!(task["status"], "succeeded", "task {uid} of {}: {task}", self.base_url);
        task
    }
}
