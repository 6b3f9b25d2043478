//! One file of `sql/schema/`: a function, view, trigger or policy, or grants; and the order in which they can be made.
//!
//! Start at [`Text`], then [`in_order`].

use std::collections::BTreeMap;

use super::{SchemaError, digest};

/// What a text makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `create or replace function`
    Function,
    /// `create or replace view`
    View,
    /// `create or replace trigger`
    Trigger,
    /// `create policy`
    Policy,
    /// Nothing but grants.
    Rights,
}

impl Kind {
    /// All of them, in the order in which they are applied.
    pub const ALL: [Self; 5] = [
        Self::Function,
        Self::View,
        Self::Trigger,
        Self::Policy,
        Self::Rights,
    ];

    /// As in `wxnotify_schema_texts`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Function => "function",
            Self::View => "view",
            Self::Trigger => "trigger",
            Self::Policy => "policy",
            Self::Rights => "rights",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// A GRANT or REVOKE and the role it is about: it is left out where the role does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The statement, without its semicolon.
    pub sql: String,
    /// One of ours.
    pub role: String,
}

/// A file of `sql/schema/`.
#[derive(Debug, Clone)]
pub struct Text {
    /// What it makes.
    pub kind: Kind,
    /// The object's name; of a trigger or policy `table.name`.
    pub name: String,
    /// Its statements without the grants.
    pub sql: String,
    /// The grants beside it.
    pub grants: Vec<Grant>,
    /// SHA-256 of the file; of a view also of the views it reads, since `select n.*` takes its columns when it is made.
    pub hash: String,
    /// The role without which it cannot be made.
    pub needs_role: Option<String>,
}

impl Text {
    fn parse(path: &str, file: &str) -> Result<Self, SchemaError> {
        let wrong = |problem: &str| SchemaError::Text {
            file: path.to_owned(),
            problem: problem.to_owned(),
        };
        let (sql, grants) = split_grants(file);
        let code: String = sql
            .lines()
            .filter(|line| !line.starts_with("--"))
            .flat_map(|line| [line, "\n"])
            .collect();
        let (kind, name) = match object_of(&code) {
            Some(object) => object,
            None if code.trim().is_empty() && !grants.is_empty() => {
                (Kind::Rights, stem(path).to_owned())
            }
            None => {
                return Err(wrong(
                    "begins with no CREATE OR REPLACE FUNCTION, VIEW or TRIGGER, CREATE POLICY or GRANT",
                ));
            }
        };
        let file_name = match kind {
            Kind::Function | Kind::View | Kind::Rights => name.clone(),
            Kind::Trigger | Kind::Policy => {
                let own = name.split_once('.').map_or("", |(_, own)| own);
                format!("{}_{own}", kind.as_str())
            }
        };
        if stem(path) != file_name {
            return Err(wrong(&format!(
                "makes the {} {name}, so it is called {file_name}.sql",
                kind.as_str()
            )));
        }
        let grants = grants
            .iter()
            .map(|grant| {
                parse_grant(grant).ok_or_else(|| {
                    wrong(&format!(
                        "is no grant to or from one role of wxnotify: {grant}"
                    ))
                })
            })
            .collect::<Result<Vec<_>, _>>()?
            .concat();
        let needs_role = (kind == Kind::Policy)
            .then(|| code.split_whitespace().find(|word| is_role(word)))
            .flatten()
            .map(str::to_owned);
        Ok(Self {
            kind,
            name,
            sql: sql.trim().to_owned(),
            grants,
            hash: digest([file.to_owned()].iter()),
            needs_role,
        })
    }

    /// `view notifications`
    #[must_use]
    pub fn describe(&self) -> String {
        format!("{} {}", self.kind.as_str(), self.name)
    }

    /// What a view selects from, as words: its first statement.
    fn mentions(&self, name: &str) -> bool {
        let end = self.sql.find(";\n").unwrap_or(self.sql.len());
        self.sql[..end]
            .lines()
            .filter_map(|line| line.split("--").next())
            .flat_map(|line| line.split(|letter: char| !letter.is_alphanumeric() && letter != '_'))
            .any(|word| word == name)
    }
}

fn stem(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.strip_suffix(".sql").unwrap_or(name)
}

fn is_role(word: &str) -> bool {
    matches!(
        word,
        "wxnotify_producer"
            | "wxnotify_operator"
            | "wxnotify_viewer"
            | "wxnotify_worker"
            | "wxnotify_console"
    )
}

/// Grants stand at the end of a file, each beginning its line.
fn split_grants(file: &str) -> (&str, Vec<String>) {
    let begins = |line: &str| line.starts_with("grant ") || line.starts_with("revoke ");
    let mut at = 0;
    for line in file.split_inclusive('\n') {
        if begins(line) {
            let grants = file[at..].split(';').map(|grant| grant.trim().to_owned());
            return (
                &file[..at],
                grants.filter(|grant| !grant.is_empty()).collect(),
            );
        }
        at += line.len();
    }
    (file, Vec::new())
}

/// A statement for each role that a grant names, without comments.
fn parse_grant(grant: &str) -> Option<Vec<Grant>> {
    let plain: Vec<_> = grant
        .lines()
        .filter(|line| !line.starts_with("--"))
        .collect();
    let plain = plain.join("\n");
    let plain = plain.trim();
    let word = if plain.starts_with("grant ") {
        " to "
    } else {
        " from "
    };
    let flat = plain
        .replace("\n    to ", " to ")
        .replace("\n    from ", " from ");
    let (what, roles) = flat.rsplit_once(word)?;
    roles
        .split(", ")
        .map(|role| {
            is_role(role).then(|| Grant {
                sql: format!("{what}{word}{role}"),
                role: role.to_owned(),
            })
        })
        .collect()
}

/// What the first statement makes.
fn object_of(code: &str) -> Option<(Kind, String)> {
    let code = code.trim_start();
    let name_of = |rest: &str| {
        rest.chars()
            .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
            .collect::<String>()
    };
    let on_table = |rest: &str| {
        let name = name_of(rest);
        let table = rest.split_once(" on ")?.1;
        Some(format!("{}.{name}", name_of(table)))
    };
    if let Some(rest) = code.strip_prefix("create or replace function ") {
        return Some((Kind::Function, name_of(rest)));
    }
    if let Some(rest) = code.strip_prefix("create or replace view ") {
        return Some((Kind::View, name_of(rest)));
    }
    if let Some(rest) = code.strip_prefix("create or replace trigger ") {
        return Some((Kind::Trigger, on_table(rest)?));
    }
    if let Some(rest) = code.strip_prefix("create policy ") {
        return Some((Kind::Policy, on_table(rest)?));
    }
    None
}

/// Reads the texts, and puts each view after those it reads.
pub(super) fn in_order(files: &[(String, String)]) -> Result<Vec<Text>, SchemaError> {
    let mut by_name = BTreeMap::new();
    for (path, file) in files {
        let text = Text::parse(path, file)?;
        let key = (text.kind, text.name.clone());
        if by_name.insert(key, text).is_some() {
            return Err(SchemaError::Text {
                file: path.clone(),
                problem: "makes what another file makes, too".to_owned(),
            });
        }
    }
    let (mut views, others): (Vec<_>, Vec<_>) = by_name
        .into_values()
        .partition(|text| text.kind == Kind::View);
    let mut texts: Vec<Text> = Vec::with_capacity(views.len() + others.len());
    while !views.is_empty() {
        let waiting = |view: &Text| {
            views
                .iter()
                .any(|other| other.name != view.name && view.mentions(&other.name))
        };
        let Some(next) = views.iter().position(|view| !waiting(view)) else {
            return Err(SchemaError::Text {
                file: views
                    .iter()
                    .map(|view| view.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", "),
                problem: "read each other in a circle".to_owned(),
            });
        };
        let mut view = views.remove(next);
        let read = texts.iter().filter(|other| view.mentions(&other.name));
        view.hash = digest(
            [&view.hash]
                .into_iter()
                .chain(read.map(|other| &other.hash)),
        );
        texts.push(view);
    }
    texts.extend(others);
    // Stable: within a kind the order stays.
    texts.sort_by_key(|text| text.kind);
    Ok(texts)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn read(path: &str, file: &str) -> Result<Text, SchemaError> {
        Text::parse(path, file)
    }

    #[test]
    fn a_file_is_what_its_first_statement_makes() {
        let function = read(
            "kernel/f.sql",
            "-- why\ncreate or replace function f(p int) returns int language sql as $$ select 1 $$;\n\ngrant execute on function f to wxnotify_worker, wxnotify_viewer;\n",
        )
        .unwrap();
        assert_eq!(
            (function.kind, function.name.as_str()),
            (Kind::Function, "f")
        );
        assert!(!function.sql.contains("grant"));
        let roles: Vec<_> = function
            .grants
            .iter()
            .map(|grant| grant.role.as_str())
            .collect();
        assert_eq!(roles, ["wxnotify_worker", "wxnotify_viewer"]);
        assert_eq!(
            function.grants[1].sql,
            "grant execute on function f to wxnotify_viewer"
        );
        let trigger = read(
            "kernel/trigger_t.sql",
            "create or replace trigger t before insert on rows for each row execute function f();",
        )
        .unwrap();
        assert_eq!(trigger.describe(), "trigger rows.t");
        let policy = read(
            "rights/policy_p.sql",
            "create policy p on rows to wxnotify_worker using (true);",
        )
        .unwrap();
        assert_eq!(policy.needs_role.as_deref(), Some("wxnotify_worker"));
    }

    #[test]
    fn a_file_under_another_name_is_refused() {
        let error = read(
            "kernel/g.sql",
            "create or replace function f() returns int language sql as $$ select 1 $$;",
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "kernel/g.sql: makes the function f, so it is called f.sql"
        );
    }

    #[test]
    fn a_file_that_drops_or_grants_to_strangers_is_refused() {
        for file in [
            "drop view v;",
            "create function f() returns int language sql as $$ select 1 $$;",
            "create or replace view f as select 1;\ngrant select on f to public;",
            "create or replace view f as select 1;\ngrant select on f to wxnotify_viewer;\nselect 1;",
            "",
        ] {
            assert!(read("x/f.sql", file).is_err(), "{file}");
        }
    }

    #[test]
    fn a_view_comes_after_those_it_reads_and_changes_with_them() {
        let file = |name: &str, sql: &str| (format!("v/{name}.sql"), sql.to_owned());
        let inner = file("z", "create or replace view z as select 1 as one;\n");
        let outer = file(
            "a",
            "create or replace view a as\nselect z.* from z;\ncomment on view a is 'not y';\n",
        );
        let other = file(
            "y",
            "create or replace view y as -- not a\nselect 2 as two;\n",
        );
        let texts = in_order(&[outer.clone(), inner, other.clone()]).unwrap();
        let names: Vec<_> = texts.iter().map(|text| text.name.as_str()).collect();
        assert_eq!(names, ["y", "z", "a"]);
        let wider = file(
            "z",
            "create or replace view z as select 1 as one, 2 as two;\n",
        );
        let wider = in_order(&[outer, wider, other]).unwrap();
        assert_ne!(texts[2].hash, wider[2].hash);
        assert_eq!(texts[0].hash, wider[0].hash);
    }

    #[test]
    fn views_that_read_each_other_are_refused() {
        let a = (
            "v/a.sql".to_owned(),
            "create or replace view a as select * from b;".to_owned(),
        );
        let b = (
            "v/b.sql".to_owned(),
            "create or replace view b as select * from a;".to_owned(),
        );
        assert_eq!(
            in_order(&[a, b]).unwrap_err().to_string(),
            "a, b: read each other in a circle"
        );
    }
}
