//! Reading sequences: a line for a request, below it what does not fit there.
//!
//! ```text
//! what comes before the first title is done once, for all sequences of the file
//! == title of a sequence
//! POST /indexes/$/documents?csvDelimiter=; > number /taskUid
//!   ~ content-type: text/csv
//!   | id;title
//!   | 7;seven
//! POST /indexes/$/search {"q":"seven"}
//! ```
//!
//! `$` is the uid of the sequence's index, `$shared` that of the file's. `> name /pointer` keeps a value of the answer
//! as `$name`, for each server its own; `$task` is always the last task. A header without a value is not sent. Lines after
//! `|` are the body; one that starts on the line of the request is JSON. `TOKEN name ALGORITHM $key {claims}` makes a
//! tenant token. A sequence with a line `! why` is known to differ, and must. `@ alone` at the top of a file is for sequences that look at the whole server.

use std::path::Path;

/// The sequences of one file.
#[derive(Debug)]
pub struct Subject {
    /// The name of the file.
    pub name: String,
    /// Whether its sequences need the servers for themselves.
    pub alone: bool,
    /// What is done first, for all of them.
    pub given: Vec<Step>,
    /// The sequences.
    pub sequences: Vec<Sequence>,
}

/// Requests that are sent one after the other.
#[derive(Debug, Default)]
pub struct Sequence {
    /// What it shows.
    pub title: String,
    /// The uid of its index.
    pub index: String,
    /// Why the servers differ, where they are known to.
    pub differs: Option<String>,
    /// Its requests.
    pub steps: Vec<Step>,
}

/// One line of a sequence and what belongs to it. Texts still have their `$names`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// The method, or `TOKEN`.
    pub method: String,
    /// Where it is sent; for a token, its name, algorithm and key.
    pub target: String,
    /// Headers, those without a value included.
    pub headers: Vec<(String, String)>,
    /// The body, if any.
    pub body: Option<String>,
    /// Values to keep: name and JSON pointer.
    pub kept: Vec<(String, String)>,
}

/// All subjects, in the order of their names.
pub fn subjects() -> Vec<Subject> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("parity");
    let entries = std::fs::read_dir(&directory).expect("the sequences are there");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a directory can be read").path()).collect();
    files.sort();
    let read = |path: &std::path::PathBuf| {
        let name = path.file_stem().and_then(|name| name.to_str()).expect("file names are ASCII");
        subject(name, &std::fs::read_to_string(path).expect("a file of sequences can be read"))
    };
    files.iter().map(read).collect()
}

fn subject(name: &str, text: &str) -> Subject {
    let mut subject =
        Subject { name: name.to_owned(), alone: false, given: Vec::new(), sequences: Vec::new() };
    for (number, line) in text.lines().enumerate() {
        let steps = match subject.sequences.last_mut() {
            Some(sequence) => &mut sequence.steps,
            None => &mut subject.given,
        };
        let trimmed = line.trim();
        if let Some(title) = line.strip_prefix("== ") {
            let index = format!("{name}-{}", slug(title));
            let taken = subject.sequences.iter().any(|sequence| sequence.index == index);
            assert!(!taken, "{name}: two sequences are called {title:?}");
            let title = title.to_owned();
            subject.sequences.push(Sequence { title, index, ..Sequence::default() });
        } else if let Some(why) = line.strip_prefix("! ") {
            let sequence =
                subject.sequences.last_mut().unwrap_or_else(|| panic!("{name}: nothing differs yet"));
            sequence.differs = Some(why.to_owned());
        } else if line == "@ alone" {
            subject.alone = true;
        } else if trimmed.is_empty() || line.starts_with('#') {
        } else if line.starts_with(' ') {
            let step = steps.last_mut().unwrap_or_else(|| panic!("{name}:{}: nothing is above", number + 1));
            continuation(step, trimmed);
        } else {
            steps.push(first_line(line));
        }
    }
    subject
}

fn first_line(line: &str) -> Step {
    let (method, rest) = line.split_once(' ').unwrap_or_else(|| panic!("no request: {line:?}"));
    // A token's target is three words.
    let words = if method == "TOKEN" { 3 } else { 1 };
    let end = rest.match_indices(' ').nth(words - 1).map_or(rest.len(), |(at, _)| at);
    let mut step = Step { method: method.to_owned(), target: rest[..end].to_owned(), ..Step::default() };
    match rest[end..].trim_start() {
        "" => {}
        kept if kept.starts_with("> ") => continuation(&mut step, kept),
        body => step.body = Some(body.to_owned()),
    }
    step
}

fn continuation(step: &mut Step, line: &str) {
    let (mark, rest) = line.split_at(1);
    let rest = rest.strip_prefix(' ').unwrap_or(rest);
    match mark {
        "~" => {
            let (name, value) = rest.split_once(':').unwrap_or_else(|| panic!("no header: {line:?}"));
            step.headers.push((name.to_owned(), value.trim().to_owned()));
        }
        "|" => {
            let body = step.body.get_or_insert_with(String::new);
            body.push_str(rest);
            body.push('\n');
        }
        ">" => {
            let (name, pointer) = rest.split_once(' ').unwrap_or_else(|| panic!("no pointer: {line:?}"));
            step.kept.push((name.to_owned(), pointer.trim().to_owned()));
        }
        _ => panic!("neither header, body nor value to keep: {line:?}"),
    }
}

/// A title as a part of an index's uid.
fn slug(title: &str) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    title.chars().map(kept).take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_read_as_it_is_written() {
        let text = "GET /health\n\n# not this\n== One, two\nPOST /indexes/$/documents > t /taskUid\n  ~ content-type: \
                    text/csv\n  ~ x:\n  | id\n  |  7\nPUT /a {\"a\":[1]}\nPUT /b [\"x > y\"]\nPUT /c 7\n";
        let subject = subject("some", text);
        assert_eq!((subject.given.len(), subject.alone, subject.sequences.len()), (1, false, 1));
        let Sequence { index, steps, .. } = &subject.sequences[0];
        assert_eq!(index, "some-one__two");
        let expected = Step {
            method: "POST".to_owned(),
            target: "/indexes/$/documents".to_owned(),
            headers: vec![("content-type".into(), "text/csv".into()), ("x".into(), String::new())],
            body: Some("id\n 7\n".to_owned()),
            kept: vec![("t".into(), "/taskUid".into())],
        };
        assert_eq!(steps[0], expected);
        let bodies: Vec<_> = steps[1..].iter().map(|step| step.body.as_deref().unwrap_or_default()).collect();
        assert_eq!(bodies, ["{\"a\":[1]}", "[\"x > y\"]", "7"]);
        assert_eq!(steps[1].target, "/a");
    }
}
