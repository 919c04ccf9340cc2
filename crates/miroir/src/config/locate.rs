//! Where in the file, or in the environment, a key was written: what a message points at.
//!
//! The YAML library tells lines only for what it refuses itself, so for a value that is well-formed but wrong
//! the line is looked up in the text.

/// The file's text and the variables that were used over it.
pub(super) struct Places<'a> {
    file: &'a str,
    text: &'a str,
    overridden: Vec<String>,
}

impl<'a> Places<'a> {
    pub fn new(file: &'a str, text: &'a str, overridden: Vec<String>) -> Self {
        Self { file, text, overridden }
    }

    /// The place of a key such as `bind` or `scatter.node_timeout_ms`.
    pub fn of(&self, key: &str) -> String {
        let variable = format!("MIROIR_{}", key.replace('.', "__").to_uppercase());
        if self.overridden.contains(&variable) {
            return format!("environment variable {variable}");
        }
        let levels: Vec<&str> = key.split('.').collect();
        // The innermost level that has a line of its own: `{ a: 1, b: 2 }` is found by its outer key.
        let mut line = None;
        let mut from = 0;
        for (depth, level) in levels.iter().enumerate() {
            let found = self.text.lines().enumerate().skip(from).find(|(_, text)| {
                let indented = text.starts_with([' ', '\t']);
                let starts_with_key =
                    text.trim_start().strip_prefix(level).is_some_and(|rest| rest.starts_with(':'));
                starts_with_key && indented == (depth > 0)
            });
            let Some((at, _)) = found else { break };
            line = Some(at);
            from = at;
        }
        self.at(line)
    }

    /// The place of one node of the list, by its position.
    pub fn of_node(&self, position: usize) -> String {
        let prefix = format!("MIROIR_NODES__{position}__");
        if let Some(variable) = self.overridden.iter().find(|name| name.starts_with(&prefix)) {
            return format!("environment variable {variable}");
        }
        let nodes = self.text.lines().position(|line| line.starts_with("nodes:"));
        let item = nodes.and_then(|nodes| {
            self.text
                .lines()
                .enumerate()
                .skip(nodes + 1)
                .take_while(|(_, line)| line.is_empty() || line.starts_with([' ', '-', '#', '\t']))
                .filter(|(_, line)| line.trim_start().starts_with("- "))
                .nth(position)
        });
        self.at(item.map(|(line, _)| line).or(nodes))
    }

    fn at(&self, line: Option<usize>) -> String {
        match line {
            Some(line) => format!("{}, line {}", self.file, line + 1),
            None => self.file.to_owned(),
        }
    }
}
