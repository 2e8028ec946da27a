//! `[defaults]` and `[profile.NAME]`: options of `kactl run`, spelled as on its command line.
//!
//! Only the command line knows which options exist. Here they are names with values and positions in the
//! file.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::read::{Located, Location, Section};

/// One option in a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The option's long name.
    pub name: String,
    /// Its value.
    pub value: Value,
    /// Its position in the file.
    pub place: Option<Location>,
}

/// The value of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text or a number, as written.
    Text(String),
    /// A flag: whether the option is given.
    Flag(bool),
    /// An option given several times.
    List(Vec<Value>),
    /// Named parts.
    Parts(BTreeMap<String, String>),
}

/// All profiles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profiles {
    /// The options of every run.
    pub defaults: Vec<Setting>,
    /// The options of a run that names a profile.
    pub named: BTreeMap<String, Vec<Setting>>,
}

impl Profiles {
    pub(super) fn read(defaults: Section<'_>, named: Vec<(Located<String>, Section<'_>)>) -> Self {
        let named = named.into_iter().map(|(name, section)| (name.value, settings(section))).collect();
        Self { defaults: settings(defaults), named }
    }

    /// The options of a run: those of its profile, and the defaults that the profile does not set.
    ///
    /// # Errors
    /// The profile does not exist.
    pub fn of(&self, profile: Option<&str>) -> Result<Vec<Setting>, String> {
        let named = match profile {
            None => &[][..],
            Some(name) => self.named.get(name).ok_or_else(|| {
                let names: Vec<_> = self.named.keys().map(String::as_str).collect();
                let there = if names.is_empty() { "none".into() } else { names.join(", ") };
                format!("there is no profile '{name}'; the configuration has {there}")
            })?,
        };
        let is_new = |setting: &&Setting| named.iter().all(|other| other.name != setting.name);
        Ok(self.defaults.iter().filter(is_new).chain(named).cloned().collect())
    }

    /// Every setting of every profile.
    pub fn all(&self) -> impl Iterator<Item = &Setting> {
        self.defaults.iter().chain(self.named.values().flatten())
    }
}

fn settings(mut section: Section<'_>) -> Vec<Setting> {
    let mut settings = Vec::new();
    for (name, value) in section.rest() {
        let at = value.span().start;
        match read(value.get_ref()) {
            Some(value) => settings.push(Setting { name: name.value, value, place: name.place }),
            None => section.fault_at_byte(
                at,
                format!("{}: expected a text, a number, true, false, or a list", name.value),
            ),
        }
    }
    section.end();
    settings
}

fn read(value: &DeValue<'_>) -> Option<Value> {
    Some(match value {
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Array(list) => {
            Value::List(list.iter().map(|value| read(value.get_ref())).collect::<Option<_>>()?)
        }
        DeValue::Table(table) => {
            let part =
                |(name, value): (&toml::Spanned<std::borrow::Cow<'_, str>>, &toml::Spanned<DeValue<'_>>)| {
                    Some((name.get_ref().to_string(), text(value.get_ref())?))
                };
            Value::Parts(table.iter().map(part).collect::<Option<_>>()?)
        }
        other => Value::Text(text(other)?),
    })
}

fn text(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.as_str().to_owned()).filter(|_| number.radix() == 10),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        _ => None,
    }
}
