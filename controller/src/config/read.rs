//! Reads the sections of the configuration, and collects all errors, so that a file can be corrected in one
//! pass.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

/// The position of a setting in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The file.
    pub file: Arc<Path>,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// The byte offset in the text.
    at: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// A setting and its position: some settings can be judged only once the interface is known.
#[derive(Clone, Debug)]
pub struct Located<T> {
    /// The setting.
    pub value: T,
    /// Its position; `None` if it comes from the command line.
    pub place: Option<Location>,
}

/// Two settings are equal regardless of their positions.
impl<T: PartialEq> PartialEq for Located<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Located<T> {}

impl<T> Located<T> {
    /// A setting from the command line.
    pub fn nowhere(value: T) -> Self {
        Self { value, place: None }
    }

    /// An error message, prefixed with the position.
    pub fn fault(&self, message: impl fmt::Display) -> String {
        match &self.place {
            Some(place) => format!("{place}: {message}"),
            None => message.to_string(),
        }
    }
}

/// A file's text, and the errors in it.
#[derive(Debug)]
pub(super) struct Source<'i> {
    file: Arc<Path>,
    text: &'i str,
    faults: RefCell<Vec<(usize, String)>>,
}

impl<'i> Source<'i> {
    /// Parses a file's text; its outermost section has no name.
    pub(super) fn open(file: &Path, text: &'i str) -> (Rc<Self>, Section<'i>) {
        let source = Rc::new(Self { file: file.into(), text, faults: RefCell::default() });
        let (table, faults) = DeTable::parse_recoverable(text);
        for error in faults {
            let at = error.span().map_or(0, |span| span.start);
            source.add(at, error.message().replace('\n', ", "));
        }
        let section = Section::new(Rc::clone(&source), table.span(), table.into_inner());
        (source, section)
    }

    fn add(&self, at: usize, message: impl Into<String>) {
        self.faults.borrow_mut().push((at, message.into()));
    }

    /// The errors in the order of the file, each with its position.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = self.faults.borrow().clone();
        faults.sort();
        faults.dedup();
        faults.into_iter().map(|(at, message)| format!("{}: {message}", self.place(at))).collect()
    }

    fn place(&self, at: usize) -> Location {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        Location {
            file: Arc::clone(&self.file),
            line: before.matches('\n').count() + 1,
            column: line.chars().count() + 1,
            at,
        }
    }
}

/// A table of the file. Settings are taken out of it; those left at the end are unknown.
#[derive(Debug)]
pub(super) struct Section<'i> {
    source: Rc<Source<'i>>,
    span: Range<usize>,
    table: DeTable<'i>,
    known: Vec<&'static str>,
}

impl<'i> Section<'i> {
    fn new(source: Rc<Source<'i>>, span: Range<usize>, table: DeTable<'i>) -> Self {
        Self { source, span, table, known: Vec::new() }
    }

    /// The position where the section begins.
    pub(super) fn place(&self) -> Location {
        self.source.place(self.span.start)
    }

    /// Records an error in the section as a whole.
    pub(super) fn fault(&self, message: impl Into<String>) {
        self.source.add(self.span.start, message);
    }

    fn value(&mut self, name: &'static str) -> Option<Spanned<DeValue<'i>>> {
        self.known.push(name);
        self.table.remove(name)
    }

    /// An optional setting; also `None` if it is invalid, which is recorded.
    pub(super) fn get<T: Deserialize<'i>>(&mut self, name: &'static str) -> Option<T> {
        let value = self.value(name)?;
        let at = value.span().start;
        match T::deserialize(ValueDeserializer::from(value)) {
            Ok(value) => Some(value),
            Err(error) => {
                self.source.add(at, error.message().replace('\n', ", "));
                None
            }
        }
    }

    /// Replaces a default by a setting, if it is present.
    pub(super) fn set<T: Deserialize<'i>>(&mut self, name: &'static str, default: &mut T) {
        if let Some(value) = self.get(name) {
            *default = value;
        }
    }

    /// A setting that is parsed from a text.
    pub(super) fn parse<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Located<T>> {
        let value = self.value(name)?;
        let at = value.span().start;
        let DeValue::String(text) = value.get_ref() else {
            self.source.add(at, format!("{name}: expected a text in quotes"));
            return None;
        };
        match parse(text) {
            Ok(value) => Some(Located { value, place: Some(self.source.place(at)) }),
            Err(message) => {
                self.source.add(at, message);
                None
            }
        }
    }

    /// Replaces a default by a setting that is parsed from a text.
    pub(super) fn replace<T>(
        &mut self,
        name: &'static str,
        default: &mut T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) {
        if let Some(setting) = self.parse(name, parse) {
            *default = setting.value;
        }
    }

    /// A number within limits.
    pub(super) fn number<T>(
        &mut self,
        name: &'static str,
        judge: impl FnOnce(i64) -> Result<T, String>,
    ) -> Option<T> {
        let at = self.table.get(name)?.span().start;
        let judged = judge(self.get(name)?);
        judged.map_err(|message| self.source.add(at, message)).ok()
    }

    /// Whether a setting is present and has not been taken.
    pub(super) fn has(&self, name: &str) -> bool {
        self.table.contains_key(name)
    }

    /// Records an error in a setting that has been taken.
    pub(super) fn fault_at<T>(&self, setting: &Located<T>, message: impl Into<String>) {
        self.source.add(setting.place.as_ref().map_or(self.span.start, |place| place.at), message);
    }

    /// A table in this one; empty if it is missing.
    pub(super) fn section(&mut self, name: &'static str) -> Self {
        let span = self.span.clone();
        let Some(value) = self.value(name) else {
            return Self::new(Rc::clone(&self.source), span, DeTable::new());
        };
        self.table_of(value, &format!("expected a section [{name}]"))
            .unwrap_or_else(|| Self::new(Rc::clone(&self.source), span, DeTable::new()))
    }

    /// The tables of a list, `[[name]]`.
    pub(super) fn sections(&mut self, name: &'static str) -> Vec<Self> {
        let Some(value) = self.value(name) else { return Vec::new() };
        let (at, message) = (value.span().start, format!("expected sections [[…{name}]]"));
        let DeValue::Array(list) = value.into_inner() else {
            self.source.add(at, message);
            return Vec::new();
        };
        list.into_iter().filter_map(|value| self.table_of(value, &message)).collect()
    }

    /// The tables of a table whose keys are user-chosen names, with the positions of these names.
    pub(super) fn named_sections(&mut self, name: &'static str) -> Vec<(Located<String>, Self)> {
        let mut all = self.section(name);
        let table = std::mem::take(&mut all.table);
        let named = |(key, value): (Spanned<std::borrow::Cow<'i, str>>, _)| {
            let place = Some(self.source.place(key.span().start));
            let section =
                self.table_of(value, &format!("expected a section [….{name}.\"{}\"]", key.get_ref()))?;
            Some((Located { value: key.into_inner().into_owned(), place }, section))
        };
        table.into_iter().filter_map(named).collect()
    }

    /// Takes all remaining settings, whatever their names, each with its value and its position.
    pub(super) fn rest(&mut self) -> Vec<(Located<String>, Spanned<DeValue<'i>>)> {
        let table = std::mem::take(&mut self.table);
        let located = |(key, value): (Spanned<std::borrow::Cow<'i, str>>, _)| {
            let place = Some(self.source.place(key.span().start));
            (Located { value: key.into_inner().into_owned(), place }, value)
        };
        table.into_iter().map(located).collect()
    }

    /// Records an error at a byte offset of the file.
    pub(super) fn fault_at_byte(&self, at: usize, message: impl Into<String>) {
        self.source.add(at, message);
    }

    fn table_of(&self, value: Spanned<DeValue<'i>>, message: &str) -> Option<Self> {
        let span = value.span();
        match value.into_inner() {
            DeValue::Table(table) => Some(Self::new(Rc::clone(&self.source), span, table)),
            _ => {
                self.source.add(span.start, message);
                None
            }
        }
    }

    /// Ends a section: settings that were not taken are unknown.
    pub(super) fn end(self) {
        for key in self.table.keys() {
            let known: Vec<_> = self.known.iter().map(|name| format!("`{name}`")).collect();
            self.source.add(
                key.span().start,
                format!("unknown field `{}`, expected one of {}", key.get_ref(), known.join(", ")),
            );
        }
    }
}
