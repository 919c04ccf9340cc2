//! What a client may make of a webhook: Meilisearch's rules, in its order, with its errors.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};
use miroir_core::error::ApiError;
use serde_json::{Map, Value};
use url::Url;
use uuid::Uuid;

use super::Webhook;

/// Meilisearch's limit.
const MOST_HEADERS: usize = 200;

/// What a body asks for. A field is not there, or takes away what there is, or has a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WebhookChange {
    pub url: Option<Option<String>>,
    pub headers: HeaderChanges,
}

/// What a body asks for of the headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HeaderChanges {
    /// Nothing.
    None,
    /// No headers.
    Clear,
    /// Values, or nothing, by name.
    Some(BTreeMap<String, Option<String>>),
}

impl WebhookChange {
    /// Reads a body; `None` when it has another form, of which a node can tell what is wrong.
    pub fn read(fields: &Map<String, Value>) -> Option<Self> {
        let mut change = Self { url: None, headers: HeaderChanges::None };
        for (name, value) in fields {
            match (name.as_str(), value) {
                ("url", value) => change.url = Some(text(value)?),
                ("headers", Value::Null) => change.headers = HeaderChanges::Clear,
                ("headers", Value::Object(headers)) => {
                    let header = |(name, value): (&String, &Value)| Some((name.clone(), text(value)?));
                    change.headers = HeaderChanges::Some(headers.iter().map(header).collect::<Option<_>>()?);
                }
                _ => return None,
            }
        }
        Some(change)
    }

    /// What is looked at before all else.
    pub fn check_number_of_headers(&self, uuid: Uuid) -> Result<(), ApiError> {
        match &self.headers {
            HeaderChanges::Some(headers) if headers.len() > MOST_HEADERS => Err(too_many_headers(uuid)),
            _ => Ok(()),
        }
    }

    /// A new webhook.
    pub fn make(self, uuid: Uuid, told: u64) -> Result<Webhook, ApiError> {
        let url = self.url.flatten().ok_or_else(|| missing_url(uuid))?;
        let headers = match self.headers {
            // Here a header of nothing is an empty one.
            HeaderChanges::Some(headers) => {
                headers.into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect()
            }
            HeaderChanges::None | HeaderChanges::Clear => BTreeMap::new(),
        };
        checked(uuid, Webhook { url, headers, told })
    }

    /// A webhook that was there, changed.
    pub fn apply(self, uuid: Uuid, mut webhook: Webhook) -> Result<Webhook, ApiError> {
        if let Some(url) = self.url {
            webhook.url = url.ok_or_else(|| missing_url(uuid))?;
        }
        match self.headers {
            HeaderChanges::None => {}
            HeaderChanges::Clear => webhook.headers.clear(),
            HeaderChanges::Some(headers) => {
                for (name, value) in headers {
                    match value {
                        Some(value) => webhook.headers.insert(name, value),
                        None => webhook.headers.remove(&name),
                    };
                }
            }
        }
        checked(uuid, webhook)
    }
}

fn text(value: &Value) -> Option<Option<String>> {
    match value {
        Value::Null => Some(None),
        Value::String(text) => Some(Some(text.clone())),
        _ => None,
    }
}

fn checked(uuid: Uuid, webhook: Webhook) -> Result<Webhook, ApiError> {
    if webhook.headers.len() > MOST_HEADERS {
        return Err(too_many_headers(uuid));
    }
    if webhook.url.is_empty() {
        return Err(missing_url(uuid));
    }
    for (name, value) in &webhook.headers {
        HeaderName::from_bytes(name.as_bytes())
            .map_err(|error| wrong_header(format!("Invalid header name `{name}`: {error}")))?;
        HeaderValue::from_str(value)
            .map_err(|error| wrong_header(format!("Invalid header value `{name}`: {error}")))?;
    }
    if let Err(error) = Url::parse(&webhook.url) {
        return Err(wrong_url(format!("Invalid URL `{}`: {error}", webhook.url)));
    }
    Ok(webhook)
}

fn too_many_headers(uuid: Uuid) -> ApiError {
    wrong_header(format!(
        "Too many headers for the webhook `{uuid}`. Please limit the number of headers to 200. Hint: To remove an \
         already defined header set its value to `null`"
    ))
}

fn missing_url(uuid: Uuid) -> ApiError {
    wrong_url(format!("The URL for the webhook `{uuid}` is missing."))
}

fn wrong_header(message: String) -> ApiError {
    ApiError::bad_request("invalid_webhook_headers", message)
}

fn wrong_url(message: String) -> ApiError {
    ApiError::bad_request("invalid_webhook_url", message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Value) -> Option<WebhookChange> {
        WebhookChange::read(body.as_object().unwrap())
    }

    #[test]
    fn bodies_of_another_form_are_not_read() {
        for body in
            [json!({"url": 7}), json!({"headers": []}), json!({"headers": {"a": 1}}), json!({"uuid": ""})]
        {
            assert_eq!(read(body.clone()), None, "{body}");
        }
    }

    #[test]
    fn headers_are_added_replaced_and_removed() {
        let made = read(json!({"url": "http://a", "headers": {"b": "1", "c": null}})).unwrap();
        let webhook = made.make(Uuid::nil(), 3).unwrap();
        assert_eq!(json!(webhook.headers), json!({"b": "1", "c": ""}));
        let change = read(json!({"headers": {"b": null, "d": "2"}})).unwrap();
        let webhook = change.apply(Uuid::nil(), webhook).unwrap();
        assert_eq!((json!(webhook.headers), &*webhook.url), (json!({"c": "", "d": "2"}), "http://a"));
        let webhook = read(json!({"headers": null})).unwrap().apply(Uuid::nil(), webhook).unwrap();
        assert_eq!((webhook.headers.len(), webhook.told), (0, 3));
        let code = |body: Value| {
            let error = read(body).unwrap().apply(Uuid::nil(), webhook.clone()).unwrap_err();
            error.code.into_owned()
        };
        assert_eq!(code(json!({"url": null})), "invalid_webhook_url");
        assert_eq!(code(json!({"url": "no"})), "invalid_webhook_url");
        assert_eq!(code(json!({"headers": {"a b": ""}})), "invalid_webhook_headers");
        assert_eq!(code(json!({"headers": {"a": "b\n"}})), "invalid_webhook_headers");
    }
}
