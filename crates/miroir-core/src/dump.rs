//! The form of a dump: a tar archive, gzipped, of files whose names and contents are Meilisearch's (its version 6).
//!
//! ```text
//! metadata.json                     which version of the form it is
//! keys.jsonl                        a key per line
//! experimental-features.json        which are on
//! webhooks.json                     by their uuids
//! tasks/queue.jsonl                 a task per line
//! tasks/update_files/3.jsonl        the documents of a task that had not begun
//! indexes/{uid}/metadata.json       primary key and dates
//! indexes/{uid}/settings.json
//! indexes/{uid}/documents.jsonl     a document per line, in the order of insertion
//! ```
//!
//! Entries come in any order: Meilisearch packs a directory as it finds it.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::access::ApiKey;

/// The version of the form that is read and written.
pub const VERSION: &str = "V6";

/// A file of a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Which version of the form it is.
    Metadata,
    /// The API keys.
    Keys,
    /// The experimental features.
    Features,
    /// The webhooks.
    Webhooks,
    /// The tasks.
    Tasks,
    /// The metadata of the index in this directory.
    IndexMetadata(String),
    /// Its settings.
    Settings(String),
    /// Its documents.
    Documents(String),
    /// Something else, by its name.
    Other(String),
}

impl Entry {
    /// The file of a name in an archive; `None` when the name leads out of the archive.
    pub fn of(name: &str) -> Option<Self> {
        let mut parts = Vec::new();
        for part in name.split('/') {
            match part {
                ".." => return None,
                "." => {}
                // Two in a row, at the end of a directory, or at the beginning of what should not begin at the root.
                "" if parts.is_empty() && name.starts_with('/') => return None,
                "" => {}
                part => parts.push(part),
            }
        }
        Some(match parts.as_slice() {
            ["metadata.json"] => Self::Metadata,
            ["keys.jsonl"] => Self::Keys,
            ["experimental-features.json"] => Self::Features,
            ["webhooks.json"] => Self::Webhooks,
            ["tasks", "queue.jsonl"] => Self::Tasks,
            ["indexes", index, "metadata.json"] => Self::IndexMetadata((*index).to_owned()),
            ["indexes", index, "settings.json"] => Self::Settings((*index).to_owned()),
            ["indexes", index, "documents.jsonl"] => Self::Documents((*index).to_owned()),
            _ => Self::Other(parts.join("/")),
        })
    }
}

/// The file that says which version of the form it is.
pub fn metadata(made_by: &str, date: &str) -> Value {
    json!({ "dumpVersion": VERSION, "dbVersion": made_by, "dumpDate": date })
}

/// What is wrong with the version that a dump says it has; nothing if it can be read.
pub fn check_version(metadata: &[u8]) -> Result<(), String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata {
        dump_version: String,
        #[serde(default)]
        db_version: String,
    }
    let metadata: Metadata = serde_json::from_slice(metadata)
        .map_err(|error| format!("its metadata.json cannot be read ({error})"))?;
    if metadata.dump_version == VERSION {
        return Ok(());
    }
    Err(format!(
        "it is of version {}, made by Meilisearch {}, and only dumps of version {VERSION} can be read, which \
         Meilisearch makes since 1.0. Import it into a single Meilisearch 1.21 with --import-dump, make a dump there, \
         and import that one",
        metadata.dump_version, metadata.db_version
    ))
}

/// What is known of an index besides its settings and documents.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IndexMetadata {
    /// Its uid.
    pub uid: String,
    /// The field that identifies documents, once known.
    pub primary_key: Option<String>,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// When it changed last, RFC 3339.
    pub updated_at: String,
}

impl IndexMetadata {
    /// As a dump holds it.
    pub fn to_json(&self) -> Value {
        json!({
            "uid": self.uid,
            "primaryKey": self.primary_key,
            "createdAt": self.created_at,
            "updatedAt": self.updated_at,
        })
    }
}

/// A key as a dump holds it. Texts that are not there are left out.
pub fn key_to_json(key: &ApiKey) -> Value {
    let mut fields = Map::new();
    for (name, text) in [("description", &key.description), ("name", &key.name)] {
        fields.extend(text.as_ref().map(|text| (name.to_owned(), json!(text))));
    }
    let rest = json!({
        "uid": key.uid,
        "actions": key.actions,
        "indexes": key.indexes,
        "expires_at": key.expires_at,
        "created_at": key.created_at,
        "updated_at": key.updated_at,
    });
    fields.extend(rest.as_object().cloned().unwrap_or_default());
    Value::Object(fields)
}

/// Reads a key of a dump.
pub fn key_from_json(line: &[u8]) -> Result<ApiKey, String> {
    #[derive(Deserialize)]
    struct Dumped {
        #[serde(default)]
        description: Option<String>,
        #[serde(default)]
        name: Option<String>,
        uid: String,
        actions: Vec<String>,
        indexes: Vec<String>,
        expires_at: Option<String>,
        created_at: String,
        updated_at: String,
    }
    let key: Dumped = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    Ok(ApiKey {
        name: key.name,
        description: key.description,
        uid: key.uid.to_ascii_lowercase(),
        actions: key.actions,
        indexes: key.indexes,
        expires_at: key.expires_at,
        created_at: key.created_at,
        updated_at: key.updated_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_names() {
        assert_eq!(Entry::of("metadata.json"), Some(Entry::Metadata));
        assert_eq!(Entry::of("./keys.jsonl"), Some(Entry::Keys));
        assert_eq!(Entry::of("indexes/a/documents.jsonl"), Some(Entry::Documents("a".to_owned())));
        assert_eq!(Entry::of("indexes//a/./settings.json"), Some(Entry::Settings("a".to_owned())));
        assert_eq!(Entry::of("indexes/a/"), Some(Entry::Other("indexes/a".to_owned())));
        assert_eq!(Entry::of("./"), Some(Entry::Other(String::new())));
        for out in ["../metadata.json", "indexes/../../x", "/etc/passwd", "//x", "indexes/a/.."] {
            assert_eq!(Entry::of(out), None, "{out}");
        }
    }

    #[test]
    fn older_versions_are_refused_with_a_way_out() {
        let version = |version| json!({ "dumpVersion": version, "dbVersion": "0.25.0" }).to_string();
        assert_eq!(check_version(version("V6").as_bytes()), Ok(()));
        for old in ["V1", "V5", "V7"] {
            let why = check_version(version(old).as_bytes()).unwrap_err();
            assert!(why.contains(old) && why.contains("--import-dump"), "{why}");
        }
        assert!(check_version(b"{}").is_err());
    }

    #[test]
    fn keys_are_read_back_as_they_were() {
        let whole = ApiKey {
            name: Some("n".to_owned()),
            description: None,
            uid: "55459ffc-1bf7-4566-979e-219d897803b8".to_owned(),
            actions: vec!["search".to_owned()],
            indexes: vec!["a*".to_owned()],
            expires_at: Some("2999-01-02T00:00:00Z".to_owned()),
            created_at: "2026-11-23T01:32:18.218226352Z".to_owned(),
            updated_at: "2026-11-23T01:32:18.218226352Z".to_owned(),
        };
        let dumped = key_to_json(&whole);
        assert!(dumped.get("description").is_none() && dumped.get("expires_at").is_some());
        assert_eq!(key_from_json(dumped.to_string().as_bytes()), Ok(whole));
    }
}
