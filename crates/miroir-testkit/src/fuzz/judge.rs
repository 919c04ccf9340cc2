//! What no answer may be, whatever the request was.

use serde_json::Value;

use crate::client::Answer;

/// What is said of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is one that a request can have.
    Right,
    /// It is none that any request can have, for this reason.
    Wrong(String),
}

/// The statuses of 500 and more that say something about the request or about what goes on.
const MAY_BE: [(u16, &str); 3] =
    [(501, "miroir_unsupported"), (503, "miroir_cannot_verify"), (503, "miroir_no_quorum")];

/// Looks at an answer, which for some verbs has no body.
pub(super) fn judge(answer: &Answer, has_body: bool) -> Verdict {
    let wrong = |why: &str| Verdict::Wrong(format!("{why}: {} {}", answer.status, answer.body));
    let code = answer.body["code"].as_str().unwrap_or_default();
    if !has_body {
        return if answer.status < 500 || answer.status == 501 {
            Verdict::Right
        } else {
            wrong("an internal error")
        };
    }
    if answer.status >= 500 && !MAY_BE.contains(&(answer.status, code)) {
        return wrong("an internal error");
    }
    // Without a body: what was deleted, a route or a verb that is not there, a request that is no HTTP.
    if answer.body.is_null() && !answer.header("content-type").is_some_and(|kind| kind.contains("json")) {
        let may_be_empty = matches!(answer.status, 200 | 204 | 400 | 404 | 405 | 414 | 431);
        return if may_be_empty { Verdict::Right } else { wrong("an answer without a body") };
    }
    // The client hands on what it cannot read as JSON as a text.
    let is_said_to_be = answer.header("content-type").is_some_and(|kind| kind.contains("application/json"));
    if !is_said_to_be {
        return wrong("a body that is not JSON");
    }
    let is_error = |body: &Value| {
        ["message", "code", "type", "link"].into_iter().all(|field| body[field].is_string())
            && body["message"].as_str().is_some_and(|message| !message.is_empty())
    };
    // A setting is any JSON; but text where there should be an object is what could not be read.
    if answer.status >= 400 && !is_error(&answer.body) && answer.body.get("ready").is_none() {
        return wrong("an error in another form");
    }
    Verdict::Right
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn verdict(status: u16, kind: &str, body: Value) -> Verdict {
        let headers = vec![("content-type".to_owned(), kind.to_owned())];
        judge(&Answer { status, headers, body }, true)
    }

    #[test]
    fn what_may_never_be_is_wrong() {
        let json = "application/json";
        let error = |code: &str| json!({ "message": "m", "code": code, "type": "internal", "link": "l" });
        assert_eq!(verdict(200, json, json!({})), Verdict::Right);
        assert_eq!(verdict(400, json, error("bad_request")), Verdict::Right);
        assert_eq!(verdict(501, json, error("miroir_unsupported")), Verdict::Right);
        assert_eq!(verdict(404, "", Value::Null), Verdict::Right);
        for (status, kind, body) in [
            (500, json, error("internal")),
            (501, json, error("internal")),
            (502, "", Value::Null),
            (401, "", Value::Null),
            (200, "text/plain", json!("fine")),
            (400, json, json!({ "message": "m" })),
            (400, json, json!("not even JSON")),
        ] {
            assert_ne!(verdict(status, kind, body.clone()), Verdict::Right, "{status} {kind} {body}");
        }
    }
}
