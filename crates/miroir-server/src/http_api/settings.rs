//! `/indexes/{uid}/settings` and everything below it, including routes newer than this code: what is changed
//! goes to the nodes, what is read comes from what was last committed.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode};
use miroir_core::access::Access;
use miroir_core::settings::{SettingsMethod, SettingsRoute, camel_case};
use miroir_node::Call;

use super::answer::{self, Failure};
use super::marks::Marks;
use crate::cluster::Cluster;
use crate::index_uid::Target;
use crate::write::{WriteRequest, encode};

/// The whole settings.
pub async fn whole(
    State(cluster): State<Arc<Cluster>>,
    Path(uid): Path<String>,
    Extension(access): Extension<Access>,
    method: Method,
    headers: HeaderMap,
    marks: Marks,
    body: Body,
) -> Result<Response, Failure> {
    serve(&cluster, Target::new(&uid, &access)?, None, method, &headers, marks, body).await
}

/// One setting.
pub async fn one(
    State(cluster): State<Arc<Cluster>>,
    Path((uid, name)): Path<(String, String)>,
    Extension(access): Extension<Access>,
    method: Method,
    headers: HeaderMap,
    marks: Marks,
    body: Body,
) -> Result<Response, Failure> {
    serve(&cluster, Target::new(&uid, &access)?, Some(name), method, &headers, marks, body).await
}

async fn serve(
    cluster: &Arc<Cluster>,
    target: Target<'_>,
    name: Option<String>,
    method: Method,
    headers: &HeaderMap,
    marks: Marks,
    body: Body,
) -> Result<Response, Failure> {
    let Target { uid, may_create } = target;
    // It becomes part of what is sent to nodes, where nothing else would be understood.
    let is_name = |name: &String| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !name.as_ref().is_none_or(is_name) {
        return Ok(StatusCode::NOT_FOUND.into_response());
    }
    if method == Method::GET {
        let settings = &cluster.readable_index(uid)?.record.settings;
        return Ok(match name {
            None => answer::json(StatusCode::OK, settings),
            Some(name) => match settings.get(camel_case(&name)) {
                Some(value) => answer::json(StatusCode::OK, value),
                None => StatusCode::NOT_FOUND.into_response(),
            },
        });
    }
    let asked = method.clone();
    let method = match method {
        Method::PATCH => SettingsMethod::Patch,
        Method::PUT => SettingsMethod::Put,
        Method::DELETE => SettingsMethod::Delete,
        _ => return Ok(StatusCode::METHOD_NOT_ALLOWED.into_response()),
    };
    let body = match method {
        SettingsMethod::Delete => None,
        _ => {
            super::body::require_json(headers)?;
            let body = cluster.read_body(headers, body).await?;
            // No JSON, whatever comes of newer versions.
            if std::str::from_utf8(&body).is_err() {
                let suffix = name.map(|name| format!("/{}", encode(&name))).unwrap_or_default();
                let path = format!("/indexes/{}/settings{suffix}", encode(uid));
                let call = Call::new(asked, path, cluster.config.node_timeout).json(body);
                return Err(cluster.refusal_of_one_node(None, &call).await.into());
            }
            Some(body)
        }
    };
    let marks = marks.with_body(body.as_deref().unwrap_or_default());
    let route = name.map_or(SettingsRoute::Whole, SettingsRoute::Sub);
    let request = WriteRequest::ChangeSettings { route, method, body, may_create };
    Ok(answer::accepted(&cluster.submit(uid, request, marks).await?))
}
