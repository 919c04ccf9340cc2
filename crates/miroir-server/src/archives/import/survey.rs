//! Reading a dump through before anything is done: what is in it, and whether all of it can be taken in.

use std::collections::BTreeMap;
use std::io::{BufReader, Read};
use std::path::Path;

use miroir_core::access::{Action, ApiKey};
use miroir_core::documents::reserved_name;
use miroir_core::dump::{Entry, IndexMetadata, check_version, key_from_json};
use miroir_core::hidden::RESERVED_PREFIX;
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::reading::{Fault, Lines, walk};
use crate::features::is_offered;
use crate::index_uid;
use crate::webhooks::WebhookChange;

/// All that is kept of a dump in memory: everything but documents and tasks.
const MOST_KEPT: usize = 256 * 1024 * 1024;
/// Settings that mean nothing here.
const SETTINGS_LEFT_OUT: [&str; 2] = ["chat", "vectorStore"];

const OURS: &str = "names that begin with `_miroir_` are Miroir's own. The dump of a node behind a Miroir has such \
                    names: make it through Miroir";

/// What is in a dump.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// The indexes, in the order of their uids.
    pub indexes: Vec<DumpedIndex>,
    /// The keys, the one made first at the beginning.
    pub keys: Vec<ApiKey>,
    /// The experimental features that are on and can be on here.
    pub features: Vec<String>,
    /// The webhooks.
    pub webhooks: Vec<(Uuid, WebhookChange)>,
    /// What is in it and is not taken in, in words.
    pub left_out: Vec<String>,
}

/// An index in a dump.
#[derive(Debug)]
pub(crate) struct DumpedIndex {
    /// The directory it is in.
    pub directory: String,
    /// What is known of it.
    pub metadata: IndexMetadata,
    /// Its settings.
    pub settings: Map<String, Value>,
    /// How many documents it has.
    pub documents: u64,
}

/// The parts of an index as they are found.
#[derive(Default)]
struct Parts {
    metadata: Option<IndexMetadata>,
    settings: Option<Map<String, Value>>,
    documents: Option<u64>,
}

#[derive(Deserialize)]
struct Task {
    uid: u64,
    status: String,
}

impl Survey {
    /// Reads a dump. Blocks for as long as it takes to unpack it.
    pub(super) fn of(path: &Path, longest_line: usize) -> Result<Self, Fault> {
        let mut survey = Self::default();
        let mut indexes: BTreeMap<String, Parts> = BTreeMap::new();
        let (mut has_metadata, mut has_keys) = (false, false);
        let mut room = MOST_KEPT;
        walk(path, |entry, content| {
            match entry {
                Entry::Metadata => {
                    check_version(&read_whole(content, &mut room)?).map_err(Fault::Wrong)?;
                    has_metadata = true;
                }
                Entry::Keys => {
                    survey.keys = read_keys(&read_whole(content, &mut room)?)?;
                    has_keys = true;
                }
                Entry::Features => survey.add_features(&read_whole(content, &mut room)?)?,
                Entry::Webhooks => survey.webhooks = read_webhooks(&read_whole(content, &mut room)?)?,
                Entry::Tasks => check_tasks(Lines::new(BufReader::new(content), longest_line))?,
                Entry::IndexMetadata(directory) => {
                    let metadata = parse(&read_whole(content, &mut room)?, &directory, "metadata.json")?;
                    indexes.entry(directory).or_default().metadata = Some(metadata);
                }
                Entry::Settings(directory) => {
                    let settings = parse(&read_whole(content, &mut room)?, &directory, "settings.json")?;
                    indexes.entry(directory).or_default().settings = Some(settings);
                }
                Entry::Documents(directory) => {
                    let lines = Lines::new(BufReader::with_capacity(1 << 16, content), longest_line);
                    let documents = count_documents(lines, &directory)?;
                    indexes.entry(directory).or_default().documents = Some(documents);
                }
                Entry::Other(name) => survey.left_out.extend(what_is_left_out(&name, content, &mut room)?),
            }
            Ok(())
        })?;
        for (is_there, name) in [(has_metadata, "metadata.json"), (has_keys, "keys.jsonl")] {
            if !is_there {
                return Err(Fault::wrong(format!(
                    "it has no `{name}`, so it is no dump, or not the whole of one. (A snapshot is something else: \
                     start a Meilisearch from it, and make a dump there)"
                )));
            }
        }
        for (directory, parts) in indexes {
            survey.add_index(directory, parts)?;
        }
        survey.keys.sort_by(|left, right| left.created_at.cmp(&right.created_at));
        survey.left_out.sort();
        survey.left_out.dedup();
        Ok(survey)
    }

    fn add_features(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let features: Map<String, Value> = parse_file(bytes, "experimental-features.json")?;
        let turned_on = features.into_iter().filter(|(_, is_on)| *is_on == true);
        for (name, _) in turned_on {
            match is_offered(&name) {
                true => self.features.push(name),
                false => self.left_out.push(format!("experimental feature `{name}`")),
            }
        }
        Ok(())
    }

    fn add_index(&mut self, directory: String, parts: Parts) -> Result<(), Fault> {
        let (Some(metadata), Some(mut settings), Some(documents)) =
            (parts.metadata, parts.settings, parts.documents)
        else {
            return Err(Fault::wrong(format!("a part of its index in `indexes/{directory}` is missing")));
        };
        let uid = &metadata.uid;
        if uid.starts_with(RESERVED_PREFIX) {
            return Err(Fault::wrong(format!(
                "it has an index `{uid}`, and names that begin with `{RESERVED_PREFIX}` are Miroir's own. Delete that \
                 index in the Meilisearch that it comes from, or give it another name there, and make another dump"
            )));
        }
        index_uid::check(uid).map_err(|error| {
            Fault::wrong(format!("it has an index whose name cannot be: {}", error.message))
        })?;
        if self.indexes.iter().any(|other| other.metadata.uid == *uid) {
            return Err(Fault::wrong(format!("it has two indexes `{uid}`")));
        }
        if Value::Object(settings.clone()).to_string().contains(RESERVED_PREFIX) {
            return Err(Fault::wrong(format!(
                "the settings of its index `{uid}` name fields of Miroir's, and {OURS}"
            )));
        }
        for name in SETTINGS_LEFT_OUT {
            let value = settings.shift_remove(name).unwrap_or_default();
            // Every index has settings for chats, which say nothing as long as nobody has set any.
            if name != "chat" && !value.is_null() {
                self.left_out.push(format!("setting `{name}` of index `{uid}`"));
            }
        }
        self.indexes.push(DumpedIndex { directory, metadata, settings, documents });
        Ok(())
    }
}

fn read_whole(content: &mut dyn Read, room: &mut usize) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    content.take(*room as u64 + 1).read_to_end(&mut bytes)?;
    *room = room.checked_sub(bytes.len()).ok_or_else(|| {
        Fault::wrong(format!("its settings and keys come to more than {} MiB", MOST_KEPT >> 20))
    })?;
    Ok(bytes)
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8], directory: &str, name: &str) -> Result<T, Fault> {
    parse_file(bytes, &format!("indexes/{directory}/{name}"))
}

fn parse_file<'a, T: Deserialize<'a>>(bytes: &'a [u8], name: &str) -> Result<T, Fault> {
    serde_json::from_slice(bytes)
        .map_err(|error| Fault::wrong(format!("its `{name}` cannot be read ({error})")))
}

fn read_webhooks(bytes: &[u8]) -> Result<Vec<(Uuid, WebhookChange)>, Fault> {
    #[derive(Deserialize)]
    struct Dumped {
        #[serde(default)]
        webhooks: BTreeMap<Uuid, Map<String, Value>>,
    }
    let Dumped { webhooks } = parse_file(bytes, "webhooks.json")?;
    let webhook = |(uuid, fields): (Uuid, Map<String, Value>)| {
        let wrong = |reason: &str| {
            Fault::wrong(format!(
                "its webhook `{uuid}` cannot be: {reason} Take it away in the Meilisearch that it comes from, and make \
                 another dump"
            ))
        };
        if uuid.is_nil() {
            return Err(wrong("that is the uuid of one that is in no dump."));
        }
        let change = WebhookChange::read(&fields).ok_or_else(|| wrong("its form is unknown."))?;
        change.clone().make(uuid, 0).map_err(|error| wrong(&error.message))?;
        Ok((uuid, change))
    };
    webhooks.into_iter().map(webhook).collect()
}

fn read_keys(bytes: &[u8]) -> Result<Vec<ApiKey>, Fault> {
    let mut keys = Vec::new();
    let mut lines = Lines::new(bytes, bytes.len());
    while let Some(line) = lines.next()? {
        let mut key = key_from_json(line)
            .map_err(|error| Fault::wrong(format!("its `keys.jsonl` cannot be read ({error})")))?;
        let uid = Uuid::parse_str(&key.uid)
            .map_err(|_| Fault::wrong(format!("its key `{}` has a uid that is no UUID", key.uid)))?;
        key.uid = uid.to_string();
        if let Some(action) = key.actions.iter().find(|action| !Action::is_known(action)) {
            return Err(Fault::wrong(format!(
                "its key `{uid}` has an action `{action}` that this version of Miroir does not know. Take the key \
                 away in the Meilisearch that it comes from, and make another dump"
            )));
        }
        keys.push(key);
    }
    Ok(keys)
}

/// A Meilisearch carries out what was waiting when the dump was made. Miroir does not, and must not lose it silently.
fn check_tasks<R: std::io::BufRead>(mut lines: Lines<R>) -> Result<(), Fault> {
    while let Some(line) = lines.next()? {
        let task: Task = serde_json::from_slice(line)
            .map_err(|error| Fault::wrong(format!("its `tasks/queue.jsonl` cannot be read ({error})")))?;
        if task.status == "enqueued" || task.status == "processing" {
            return Err(Fault::wrong(format!(
                "tasks were waiting when it was made (task {} was {}), and what they do is not in it yet. Make another \
                 dump when no task is enqueued or processing; if the Meilisearch is gone, start one from this dump \
                 and wait for its tasks first",
                task.uid, task.status
            )));
        }
    }
    Ok(())
}

fn count_documents<R: std::io::BufRead>(mut lines: Lines<R>, directory: &str) -> Result<u64, Fault> {
    let mut documents = 0;
    while let Some(line) = lines.next()? {
        documents += 1;
        let wrong = |what: &str| {
            Fault::Wrong(format!("document {documents} of its index in `indexes/{directory}` {what}"))
        };
        let reserved =
            reserved_name(line).map_err(|error| wrong(&format!("is no object on one line ({error})")))?;
        if let Some(name) = reserved {
            return Err(wrong(&format!("has a field `{name}`, and {OURS}")));
        }
    }
    Ok(documents)
}

/// What else a dump may hold that its owner might miss.
fn what_is_left_out(name: &str, content: &mut dyn Read, room: &mut usize) -> Result<Vec<String>, Fault> {
    if name.starts_with("chat-completions-settings/") {
        return Ok(vec!["settings of chats".to_owned()]);
    }
    if name != "network.json" {
        return Ok(Vec::new());
    }
    let network: Value = parse_file(&read_whole(content, room)?, name)?;
    let has_remotes = network["remotes"].as_object().is_some_and(|remotes| !remotes.is_empty());
    Ok(if has_remotes { vec!["remotes of `network`".to_owned()] } else { Vec::new() })
}
