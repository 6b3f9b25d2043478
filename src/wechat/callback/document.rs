//! The two formats of an event, XML and JSON, as one JSON object.
//!
//! XML becomes what the JSON format would say, but for its numbers, which stay text: an element with children is an
//! object, one without is a string, and a name that repeats (`<List>`) is an array. The root's name is dropped. DTDs and
//! entities other than the five of XML are refused: nothing an event needs, and the way to blow up a parser.
//!
//! JSON keeps integers below 2^64 to the digit, so one above 2^53 is not rounded; other numbers become doubles.

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, Event};
use serde_json::{Map, Value};

/// Deepest nesting of elements; events have four levels.
const DEPTH_MAX: usize = 16;

/// Why a document is not read. Says nothing of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Begins neither with `<` nor with `{`.
    #[error("neither XML nor a JSON object")]
    NeitherFormat,
    /// Not well-formed JSON.
    #[error("not well-formed JSON")]
    Json,
    /// Not well-formed XML.
    #[error("not well-formed XML")]
    Xml,
    /// A DTD or an entity of its own.
    #[error("XML with a DTD or an entity")]
    Dtd,
    /// Nested too deeply.
    #[error("XML nested too deeply")]
    Depth,
}

/// Reads an event of either format. NULs, which Postgres stores in no text, become U+FFFD.
///
/// # Errors
///
/// It is not one well-formed document, or XML with what is refused here.
pub fn read(text: &str) -> Result<Value, DocumentError> {
    let text = text.trim_start_matches('\u{feff}').trim();
    match text.as_bytes().first() {
        Some(b'<') => read_xml(text),
        Some(b'{') => serde_json::from_str(text).map_err(|_| DocumentError::Json),
        _ => Err(DocumentError::NeitherFormat),
    }
    .map(without_nul)
}

fn without_nul(mut value: Value) -> Value {
    replace_nul(&mut value);
    value
}

fn replace_nul(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('\0') => *text = text.replace('\0', "\u{fffd}"),
        Value::Array(items) => items.iter_mut().for_each(replace_nul),
        Value::Object(members) => {
            if members.keys().any(|key| key.contains('\0')) {
                let old = std::mem::take(members);
                members.extend(
                    old.into_iter()
                        .map(|(key, value)| (key.replace('\0', "\u{fffd}"), value)),
                );
            }
            members.values_mut().for_each(replace_nul);
        }
        _ => {}
    }
}

/// An element that is being read.
#[derive(Default)]
struct Open {
    name: String,
    members: Map<String, Value>,
    text: String,
}

impl Open {
    fn close(self) -> Value {
        if self.members.is_empty() {
            Value::String(self.text.trim().to_owned())
        } else {
            Value::Object(self.members)
        }
    }

    /// Adds a child; a name that repeats becomes an array.
    fn add(&mut self, name: String, child: Value) {
        match self.members.get_mut(&name) {
            None => {
                self.members.insert(name, child);
            }
            Some(Value::Array(children)) => children.push(child),
            Some(only) => {
                let first = only.take();
                *only = Value::Array(vec![first, child]);
            }
        }
    }
}

fn read_xml(text: &str) -> Result<Value, DocumentError> {
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Open> = Vec::new();
    let mut root = None;
    loop {
        let event = reader.read_event().map_err(|_| DocumentError::Xml)?;
        match event {
            Event::Start(tag) => {
                if open.len() >= DEPTH_MAX {
                    return Err(DocumentError::Depth);
                }
                if open.is_empty() && root.is_some() {
                    return Err(DocumentError::Xml);
                }
                open.push(Open {
                    name: tag.name().into_inner().to_owned(),
                    ..Open::default()
                });
            }
            Event::Empty(tag) => {
                let parent = open.last_mut().ok_or(DocumentError::Xml)?;
                parent.add(
                    tag.name().into_inner().to_owned(),
                    Value::String(String::new()),
                );
            }
            Event::End(_) => {
                let mut closed = open.pop().ok_or(DocumentError::Xml)?;
                let name = std::mem::take(&mut closed.name);
                match open.last_mut() {
                    Some(parent) => parent.add(name, closed.close()),
                    None => root = Some(closed.close()),
                }
            }
            Event::Text(content) => add_text(&mut open, &content.xml10_content())?,
            Event::CData(content) => add_text(&mut open, &content.xml10_content())?,
            Event::GeneralRef(reference) => {
                let resolved = resolve(&reference)?;
                add_text(&mut open, &resolved)?;
            }
            Event::DocType(_) => return Err(DocumentError::Dtd),
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
            Event::Eof if open.is_empty() => break,
            Event::Eof => return Err(DocumentError::Xml),
        }
    }
    match root {
        Some(root @ Value::Object(_)) => Ok(root),
        _ => Err(DocumentError::Xml),
    }
}

fn add_text(open: &mut [Open], text: &str) -> Result<(), DocumentError> {
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        // Outside the root only white space may stand.
        None if text.trim().is_empty() => {}
        None => return Err(DocumentError::Xml),
    }
    Ok(())
}

/// A character by its number, or one of XML's five entities.
fn resolve(reference: &BytesRef<'_>) -> Result<String, DocumentError> {
    match reference.resolve_char_ref() {
        Ok(Some(character)) => Ok(character.to_string()),
        Ok(None) => resolve_predefined_entity(reference)
            .map(str::to_owned)
            .ok_or(DocumentError::Dtd),
        Err(_) => Err(DocumentError::Xml),
    }
}
