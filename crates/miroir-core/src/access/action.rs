//! What a key can allow. A name is `what.verb`; `what.*` stands for every verb, `*` for all, and `*.get` for all that
//! only reads, but not for keys, which would let a reader become anybody.

/// One of Meilisearch's actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Action(&'static str);

/// Every name that a key may list, and whether it is one of those that only read.
const KNOWN: [(&str, bool); 50] = [
    ("*", false),
    ("*.get", false),
    ("search", true),
    ("documents.*", false),
    ("documents.add", false),
    ("documents.get", true),
    ("documents.delete", false),
    ("indexes.*", false),
    ("indexes.create", false),
    ("indexes.get", true),
    ("indexes.update", false),
    ("indexes.delete", false),
    ("indexes.swap", false),
    ("tasks.*", false),
    ("tasks.cancel", false),
    ("tasks.delete", false),
    ("tasks.get", true),
    ("settings.*", false),
    ("settings.get", true),
    ("settings.update", false),
    ("stats.*", false),
    ("stats.get", true),
    ("metrics.*", false),
    ("metrics.get", true),
    ("dumps.*", false),
    ("dumps.create", false),
    ("snapshots.*", false),
    ("snapshots.create", false),
    ("version", true),
    ("keys.create", false),
    ("keys.get", false),
    ("keys.update", false),
    ("keys.delete", false),
    ("experimental.get", true),
    ("experimental.update", false),
    ("export", true),
    ("network.get", true),
    ("network.update", false),
    ("chatCompletions", false),
    ("chats.*", false),
    ("chats.get", true),
    ("chats.delete", false),
    ("chatsSettings.*", false),
    ("chatsSettings.get", true),
    ("chatsSettings.update", false),
    ("webhooks.*", false),
    ("webhooks.get", true),
    ("webhooks.update", false),
    ("webhooks.delete", false),
    ("webhooks.create", false),
];

macro_rules! actions {
    ($($name:ident = $text:literal,)*) => {
        impl Action {
            $(#[doc = concat!("`", $text, "`.")] pub const $name: Self = Self($text);)*
        }
    };
}

actions! {
    SEARCH = "search",
    DOCUMENTS_ALL = "documents.*",
    DOCUMENTS_ADD = "documents.add",
    DOCUMENTS_GET = "documents.get",
    DOCUMENTS_DELETE = "documents.delete",
    INDEXES_CREATE = "indexes.create",
    INDEXES_GET = "indexes.get",
    INDEXES_UPDATE = "indexes.update",
    INDEXES_DELETE = "indexes.delete",
    INDEXES_SWAP = "indexes.swap",
    TASKS_CANCEL = "tasks.cancel",
    TASKS_DELETE = "tasks.delete",
    TASKS_GET = "tasks.get",
    SETTINGS_GET = "settings.get",
    SETTINGS_UPDATE = "settings.update",
    STATS_GET = "stats.get",
    METRICS_GET = "metrics.get",
    DUMPS_CREATE = "dumps.create",
    SNAPSHOTS_CREATE = "snapshots.create",
    VERSION = "version",
    KEYS_CREATE = "keys.create",
    KEYS_GET = "keys.get",
    KEYS_UPDATE = "keys.update",
    KEYS_DELETE = "keys.delete",
    EXPERIMENTAL_GET = "experimental.get",
    EXPERIMENTAL_UPDATE = "experimental.update",
    EXPORT = "export",
    NETWORK_GET = "network.get",
    NETWORK_UPDATE = "network.update",
    CHAT_COMPLETIONS = "chatCompletions",
    CHATS_GET = "chats.get",
    CHATS_DELETE = "chats.delete",
    CHATS_SETTINGS_GET = "chatsSettings.get",
    CHATS_SETTINGS_UPDATE = "chatsSettings.update",
    WEBHOOKS_GET = "webhooks.get",
    WEBHOOKS_UPDATE = "webhooks.update",
    WEBHOOKS_DELETE = "webhooks.delete",
    WEBHOOKS_CREATE = "webhooks.create",
}

impl Action {
    /// The name by which a key lists it.
    pub fn name(self) -> &'static str {
        self.0
    }

    /// Whether a key may list this name.
    pub fn is_known(name: &str) -> bool {
        KNOWN.iter().any(|(known, _)| *known == name)
    }

    /// Whether it is about keys, which nobody manages on a server without a master key.
    pub fn is_about_keys(self) -> bool {
        self.0.starts_with("keys.")
    }

    /// Whether a name in the list of a key allows it.
    pub fn is_granted_by(self, name: &str) -> bool {
        match name {
            "*" => true,
            "*.get" => KNOWN.iter().any(|(known, only_reads)| *known == self.0 && *only_reads),
            // A family stands for its members, and `documents.*` is not one of them.
            name => match name.strip_suffix('*') {
                Some(family) => self.0.starts_with(family) && self.0 != name,
                None => self.0 == name,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_stand_for_their_members() {
        assert!(Action::DOCUMENTS_ADD.is_granted_by("documents.*"));
        assert!(!Action::DOCUMENTS_ALL.is_granted_by("documents.*"), "editing takes everything");
        assert!(Action::DOCUMENTS_ALL.is_granted_by("*"));
        assert!(!Action::SETTINGS_GET.is_granted_by("documents.*"));
        assert!(!Action::CHATS_GET.is_granted_by("chatsSettings.*"));
    }

    #[test]
    fn who_may_read_everything_may_not_read_keys() {
        assert!(Action::SEARCH.is_granted_by("*.get") && Action::TASKS_GET.is_granted_by("*.get"));
        assert!(!Action::KEYS_GET.is_granted_by("*.get") && !Action::DOCUMENTS_ADD.is_granted_by("*.get"));
    }

    #[test]
    fn what_is_asked_for_can_be_listed() {
        for action in [Action::SEARCH, Action::KEYS_CREATE, Action::VERSION, Action::WEBHOOKS_UPDATE] {
            assert!(Action::is_known(action.0));
        }
        assert!(!Action::is_known("documents.write"));
    }
}
