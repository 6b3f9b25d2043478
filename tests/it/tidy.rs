//! The map in `src/lib.rs` is true: every module is on it, nobody knows whom they should not, no circle, no function too
//! long to see whole, every large file says where to begin, and policy and tests do not look at the clock.
//!
//! The sources are read as tokens, so that neither a comment nor a string counts, and a path in a macro does.
//! Start at [`Source::paths`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Who must not know whom, and why. A name is a file's or a module's with all below it.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    (
        "store",
        &["crate::http", "reqwest", "axum", "hyper"],
        "the store knows no HTTP",
    ),
    (
        "wechat",
        &["crate::store", "sqlx"],
        "the client knows no SQL",
    ),
    (
        "config",
        &[
            "crate::cli",
            "crate::delivery",
            "crate::http",
            "crate::operate",
            "crate::store::Store",
            "crate::worker",
        ],
        "settings know nobody who uses them",
    ),
    (
        "http",
        &["crate::worker", "crate::delivery"],
        "the listener serves whatever runs behind it",
    ),
    (
        "delivery",
        &["sqlx", "crate::worker", "crate::http"],
        "an attempt needs no database: the worker writes its outcome",
    ),
    (
        "simulate",
        &[
            "crate::wechat::callback::cipher",
            "crate::wechat::callback::sign",
            "crate::store",
            "crate::worker",
        ],
        "the fake tests what ours computes, so it must compute it by itself",
    ),
    (
        "operate::verbs",
        &[
            "clap",
            "crate::cli",
            "crate::operate::report",
            "comfy_table",
        ],
        "verbs serve other surfaces than the command line",
    ),
];

/// The modules that decide: they are given the time, and do no I/O.
const POLICY: &[&str] = &[
    "retry",
    "concurrency",
    "reminder::calendar",
    "reminder::pattern",
    "reminder::zone",
    "delivery::breaker",
    "delivery::judgement",
    "wechat::errcode",
    "worker::leasing::agenda",
];

/// What policy must not name.
const IMPURE: &[&str] = &[
    "Instant::now",
    "Utc::now",
    "SystemTime::now",
    "sqlx",
    "reqwest",
    "tokio::time",
    "crate::store::Store",
];

/// Modules that speak SQL themselves, besides the store and the schema.
const SQL_ELSEWHERE: &[(&str, &str)] = &[
    ("demo", "plays a business system"),
    ("worker::waking", "listens"),
];

/// Functions of more than [`LINES_MAX`] lines, and why each is better whole.
const LONG: &[(&str, &str)] = &[("simulate::reply::usual_text", "a list of WeChat's texts")];

const LINES_MAX: usize = 70;

/// A file of more lines says where to begin.
const HEADER_FROM: usize = 300;

/// Tests that may let time pass.
const SLEEPERS: &[(&str, &str)] = &[(
    "hammer.rs",
    "its producers and workers keep a pace, and it asks nothing of the moment",
)];

/// What else is still to be mended. It only shrinks: what is no longer true must go.
const KNOWN: &[&str] = &[];

/// One file of a source folder, without what it compiles for tests alone.
struct Source {
    /// The file, from the folder.
    file: String,
    /// Its module: `delivery::breaker`; `lib` and `main` are "".
    module: String,
    text: String,
    tokens: Vec<TokenTree>,
}

impl Source {
    fn read(folder: &Path, path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        Self::of(path.strip_prefix(folder).unwrap().to_str().unwrap(), text)
    }

    fn of(file: &str, text: String) -> Self {
        let tokens: TokenStream = text
            .parse()
            .unwrap_or_else(|error| panic!("{file}: {error}"));
        let module = file.strip_suffix(".rs").unwrap().replace('/', "::");
        Self {
            file: file.to_owned(),
            module: if matches!(module.as_str(), "lib" | "main") {
                String::new()
            } else {
                module
            },
            text,
            tokens: without_tests(tokens),
        }
    }

    /// Every path it names; `crate::`, `super::` and `self::` are spelled from the root.
    fn paths(&self) -> BTreeSet<String> {
        let mut paths = BTreeSet::new();
        collect_paths(&self.tokens, &self.module, &mut paths);
        paths
    }

    /// Name and number of lines of each function.
    fn functions(&self) -> Vec<(String, usize)> {
        let mut functions = Vec::new();
        collect_functions(&self.tokens, &mut functions);
        functions
    }

    /// The comment that it begins with.
    fn header(&self) -> String {
        let lines = self.text.lines().take_while(|line| line.starts_with("//!"));
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// The sources below a folder, in order.
fn sources_below(folder: &str) -> Vec<Source> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files.iter().map(|path| Source::read(&root, path)).collect()
}

/// The program's own sources.
fn sources() -> Vec<Source> {
    let mut sources = sources_below("src");
    sources.retain(|source| !source.module.ends_with("::tests"));
    sources
}

/// Drops what stands behind `#[cfg(test)]`.
fn without_tests(tokens: TokenStream) -> Vec<TokenTree> {
    let mut kept = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let is_test = |token: &TokenTree| {
            let text = token.to_string();
            text.starts_with('[') && text.replace(' ', "") == "[cfg(test)]"
        };
        if !tokens.peek().is_some_and(is_test) {
            kept.push(token);
            continue;
        }
        for dropped in tokens.by_ref() {
            let ends = match &dropped {
                TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
                TokenTree::Punct(punct) => punct.as_char() == ';',
                _ => false,
            };
            if ends {
                break;
            }
        }
    }
    kept
}

fn is_punct(token: Option<&TokenTree>, expected: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == expected)
}

fn is_path_separator(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')
}

fn collect_paths(tokens: &[TokenTree], module: &str, paths: &mut BTreeSet<String>) {
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Group(group) => {
                let inside: Vec<TokenTree> = group.stream().into_iter().collect();
                collect_paths(&inside, module, paths);
                at += 1;
            }
            TokenTree::Ident(first) if is_path_separator(tokens, at + 1) => {
                let start = root_of(&first.to_string(), module);
                at = follow_path(tokens, at + 3, start, paths);
            }
            _ => at += 1,
        }
    }
}

/// What a path's first word stands for.
fn root_of(first: &str, module: &str) -> String {
    let parent = || module.rsplit_once("::").map_or("", |(parent, _)| parent);
    let from_root = |module: &str| match module {
        "" => "crate".to_owned(),
        module => format!("crate::{module}"),
    };
    match first {
        "self" => from_root(module),
        "super" => from_root(parent()),
        first => first.to_owned(),
    }
}

/// Follows a path, or a tree of them in braces, from behind a `::`; gives the place behind it.
fn follow_path(
    tokens: &[TokenTree],
    mut at: usize,
    mut path: String,
    paths: &mut BTreeSet<String>,
) -> usize {
    loop {
        match tokens.get(at) {
            Some(TokenTree::Ident(word)) => {
                path = match (word.to_string().as_str(), path.rsplit_once("::")) {
                    ("self", _) => path,
                    ("super", Some((parent, _))) => parent.to_owned(),
                    (word, _) => format!("{path}::{word}"),
                };
                at += 1;
            }
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inside: Vec<TokenTree> = group.stream().into_iter().collect();
                for branch in inside.split(|token| is_punct(Some(token), ',')) {
                    follow_path(branch, 0, path.clone(), paths);
                }
                return at + 1;
            }
            _ => break,
        }
        if !is_path_separator(tokens, at) {
            break;
        }
        at += 2;
    }
    paths.insert(path);
    at
}

fn collect_functions(tokens: &[TokenTree], functions: &mut Vec<(String, usize)>) {
    for (at, token) in tokens.iter().enumerate() {
        if let TokenTree::Group(group) = token {
            let inside: Vec<TokenTree> = group.stream().into_iter().collect();
            collect_functions(&inside, functions);
        }
        let (TokenTree::Ident(word), Some(TokenTree::Ident(name))) = (token, tokens.get(at + 1))
        else {
            continue;
        };
        if word != "fn" {
            continue;
        }
        let rest = tokens[at..].iter();
        let body = rest.take_while(|token| !is_punct(Some(token), ';')).find(
            |token| matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace),
        );
        if let Some(body) = body {
            let lines = body.span().end().line - word.span().start().line + 1;
            functions.push((name.to_string(), lines));
        }
    }
}

/// Whether a module or path is this one or below it.
fn is_within(name: &str, outer: &str) -> bool {
    name.strip_prefix(outer)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The module of the root that a path leads to.
fn first_module(path: &str) -> Option<&str> {
    path.strip_prefix("crate::")?.split("::").next()
}

/// Fails with what is wrong and not known, and with what is known and no longer wrong.
fn assert_tidy(rule: &str, wrong: Vec<String>) {
    let prefix = format!("{rule}: ");
    let wrong: BTreeSet<String> = wrong
        .into_iter()
        .map(|what| format!("{prefix}{what}"))
        .collect();
    let known: BTreeSet<String> = KNOWN
        .iter()
        .filter(|known| known.starts_with(&prefix))
        .map(|known| (*known).to_owned())
        .collect();
    let new: Vec<_> = wrong.difference(&known).collect();
    let mended: Vec<_> = known.difference(&wrong).collect();
    assert!(
        new.is_empty() && mended.is_empty(),
        "wrong: {new:#?}\nmended, so take it from KNOWN: {mended:#?}"
    );
}

/// Which module of the root names which others.
fn imports(sources: &[Source]) -> BTreeMap<String, BTreeSet<String>> {
    let modules: BTreeSet<&str> = sources
        .iter()
        .filter_map(|source| source.module.split("::").next())
        .filter(|module| !module.is_empty())
        .collect();
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.module.is_empty()) {
        let own = source.module.split("::").next().unwrap();
        let known = imports.entry(own.to_owned()).or_default();
        known.extend(
            source
                .paths()
                .iter()
                .filter_map(|path| first_module(path))
                .filter(|module| *module != own && modules.contains(module))
                .map(str::to_owned),
        );
    }
    imports
}

/// The imports that lie on a circle, or between two: what is left when nobody's and nobody's users are taken away.
fn circles_of(mut imports: BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    loop {
        let users: BTreeSet<String> = imports.values().flatten().cloned().collect();
        let before = imports.len();
        imports.retain(|module, known| !known.is_empty() && users.contains(module));
        let left: BTreeSet<String> = imports.keys().cloned().collect();
        for known in imports.values_mut() {
            known.retain(|module| left.contains(module));
        }
        if imports.len() == before {
            break;
        }
    }
    let arrows = imports.iter().flat_map(|(module, known)| {
        let arrow = move |other| format!("{module} -> {other}");
        known.iter().map(arrow)
    });
    arrows.collect()
}

#[test]
fn no_circle_leads_from_a_module_back_to_itself() {
    let imports = imports(&sources());
    assert_tidy("circle", circles_of(imports));
}

/// The test above can fail: one `use` in the store, of who uses the store, and it does.
#[test]
fn a_circle_that_is_added_is_found() {
    let clean = || {
        vec![
            Source::of("lock.rs", "pub fn lock() {}".to_owned()),
            Source::of("store.rs", "use crate::lock;".to_owned()),
            Source::of("store/kernel.rs", "use super::Store;".to_owned()),
            Source::of("worker.rs", "use crate::{lock, store::Store};".to_owned()),
        ]
    };
    assert_eq!(circles_of(imports(&clean())), [""; 0]);
    let mut spoiled = clean();
    let inside = "#[cfg(test)] mod tests { use crate::http; } fn f() { log!(crate::worker::NAME) }";
    spoiled[2] = Source::of("store/kernel.rs", inside.to_owned());
    assert_eq!(
        circles_of(imports(&spoiled)),
        ["store -> worker", "worker -> store"]
    );
}

#[test]
fn paths_are_read_through_braces_macros_and_parents() {
    let text =
        "use crate::{a::{self, B}, c}; fn f() { m!(super::d::e()); \"crate::no\"; } // crate::not";
    let paths = Source::of("x/y.rs", text.to_owned()).paths();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    assert_eq!(
        paths,
        ["crate::a", "crate::a::B", "crate::c", "crate::x::d::e"]
    );
}

#[test]
fn nobody_knows_whom_they_should_not() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (module, forbidden, _) in FORBIDDEN {
            if !is_within(&source.module, module) {
                continue;
            }
            for path in source.paths() {
                if forbidden
                    .iter()
                    .any(|forbidden| is_within(&path, forbidden))
                {
                    wrong.push(format!("{} names {path}", source.file));
                }
            }
        }
    }
    assert_tidy("arrow", wrong);
}

#[test]
fn policy_neither_looks_at_the_clock_nor_asks_anybody() {
    let mut wrong = Vec::new();
    for source in sources() {
        if !POLICY
            .iter()
            .any(|policy| is_within(&source.module, policy))
        {
            continue;
        }
        for path in source.paths() {
            let is_impure = |impure: &str| path.ends_with(impure) || is_within(&path, impure);
            if IMPURE.iter().any(|impure| is_impure(impure)) {
                wrong.push(format!("{} names {path}", source.file));
            }
        }
    }
    assert_tidy("policy", wrong);
}

#[test]
fn sql_is_spoken_in_the_store_and_the_schema() {
    let allowed = |module: &str| {
        let elsewhere = SQL_ELSEWHERE.iter().map(|(module, _)| *module);
        ["store", "schema", "postgres"]
            .into_iter()
            .chain(elsewhere)
            .any(|outer| is_within(module, outer))
    };
    let wrong = sources()
        .iter()
        .filter(|source| !allowed(&source.module))
        .filter(|source| {
            source
                .paths()
                .iter()
                .any(|path| path.starts_with("sqlx::query") || path == "sqlx::raw_sql")
        })
        .map(|source| source.file.clone())
        .collect();
    assert_tidy("sql", wrong);
}

#[test]
fn no_function_is_too_long_to_see_whole_without_a_reason() {
    let mut wrong = Vec::new();
    let mut excused = BTreeSet::new();
    for source in sources() {
        for (name, lines) in source.functions() {
            if lines <= LINES_MAX {
                continue;
            }
            let function = format!("{}::{name}", source.module);
            if LONG.iter().any(|(excused, _)| *excused == function) {
                excused.insert(function);
            } else {
                wrong.push(function);
            }
        }
    }
    for (function, why) in LONG {
        assert!(
            excused.contains(*function),
            "{function} is short now: {why}"
        );
    }
    assert_tidy("long", wrong);
}

#[test]
fn every_large_file_says_what_it_is_and_where_to_begin() {
    let wrong = sources()
        .iter()
        .filter(|source| source.text.lines().count() > HEADER_FROM)
        .filter(|source| !source.header().to_lowercase().contains("start at"))
        .map(|source| source.file.clone())
        .collect();
    assert_tidy("header", wrong);
}

#[test]
fn every_module_is_on_the_map_and_what_is_on_the_map_exists() {
    let sources = sources();
    let map = sources[sources
        .iter()
        .position(|source| source.file == "lib.rs")
        .unwrap()]
    .header();
    let modules: BTreeSet<&str> = sources
        .iter()
        .map(|source| source.module.as_str())
        .collect();
    let linked: BTreeSet<&str> = map
        .split("[`")
        .skip(1)
        .filter_map(|rest| rest.split_once("`]").map(|(name, _)| name))
        .collect();
    let mut wrong = Vec::new();
    for module in &modules {
        if !module.is_empty() && !module.contains("::") && !linked.contains(module) {
            wrong.push(format!("{module} is not on it"));
        }
    }
    let table = map.lines().filter(|line| line.starts_with("//! | [`"));
    for line in table {
        let owners: Vec<&str> = line
            .split("[`")
            .skip(1)
            .filter_map(|rest| rest.split_once("`]").map(|(name, _)| name))
            .collect();
        let what = line.split('|').nth(2).unwrap_or_default();
        for name in what.split('`').skip(1).step_by(2) {
            let is_name = name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            let exists = owners.iter().any(|owner| {
                let text = sources.iter().find(|source| source.module == *owner);
                modules.contains(format!("{owner}::{name}").as_str())
                    || text.is_some_and(|source| source.text.contains(&format!("fn {name}(")))
            });
            if is_name && !exists {
                wrong.push(format!("{} has no {name}", owners.join(", ")));
            }
        }
    }
    for name in linked.iter().filter(|name| {
        name.chars()
            .all(|c| c.is_ascii_lowercase() || "_:".contains(c))
    }) {
        let is_there = modules.contains(name)
            || name.rsplit_once("::").is_some_and(|(module, function)| {
                let source = sources.iter().find(|source| source.module == module);
                source.is_some_and(|source| source.text.contains(&format!("fn {function}(")))
            });
        if !is_there {
            wrong.push(format!("{name} does not exist"));
        }
    }
    assert_tidy("map", wrong);
}

/// A module has one file; a folder without it would be a room without a door.
#[test]
fn no_module_is_called_by_a_name_that_says_nothing() {
    let empty = [
        "utils", "util", "common", "helpers", "manager", "types", "misc",
    ];
    let wrong = sources()
        .iter()
        .filter(|source| source.module.split("::").any(|name| empty.contains(&name)))
        .map(|source| source.file.clone())
        .collect();
    assert_tidy("name", wrong);
}

/// A test that sleeps is slow when all is well and fails when the machine is busy.
#[test]
fn no_test_sleeps() {
    let mut wrong = Vec::new();
    for source in sources_below("tests/it") {
        if SLEEPERS.iter().any(|(file, _)| *file == source.file) {
            continue;
        }
        let paths = source.paths();
        let sleeps = ["thread::sleep", "time::sleep", "time::sleep_until"];
        if paths
            .iter()
            .any(|path| sleeps.iter().any(|sleep| path.ends_with(sleep)))
        {
            wrong.push(source.file);
        }
    }
    assert_tidy("sleep", wrong);
}
