//! GRUB's default menu entry, from the menu that grub-mkconfig writes.
//!
//! The menu is a script. Only its entries, its submenus and its default are interpreted: `set default=` by
//! number, title or id, with `>` for submenus, or the value saved in the environment block. See the chapter
//! on `grubenv` in the manual, and grub-mkconfig's `00_header.in`.

use super::{MenuEntry, is_dispensable};

/// What is booted by default.
#[derive(Debug, PartialEq, Eq)]
pub enum Start {
    /// This entry.
    Entry(MenuEntry),
    /// An entry of the Boot Loader Specification: the saved one, if any.
    Specified(Option<String>),
    /// It cannot be determined.
    None,
}

/// An entry or a submenu.
#[derive(Debug, Default)]
struct Item {
    title: String,
    id: String,
    /// What it boots, if that can be determined and is a kernel.
    words: Option<MenuEntry>,
    /// The entries of a submenu.
    items: Option<Vec<Item>>,
}

/// Finds the default in the menu's text and the text of the environment block stored next to it. What is
/// uncertain is added to `doubts`, as sentences for the operator.
pub fn default_entry(text: &str, environment: &str, doubts: &mut Vec<String>) -> Start {
    let name = default_name(text, environment, doubts);
    if text.lines().any(|line| words(line).first().is_some_and(|word| word == "blscfg")) {
        return Start::Specified(name.filter(|name| name.parse::<usize>().is_err()));
    }
    let items = parse(text);
    let name = name.unwrap_or_default();
    match choose(&items, &name, doubts) {
        Some(words) => Start::Entry(words.clone()),
        None => {
            if !items.is_empty() {
                doubts.push(format!(
                    "GRUB's default entry, '{name}', does not boot a kernel that its menu names"
                ));
            }
            Start::None
        }
    }
}

/// The final value of `default`. grub-mkconfig's menu sets it twice: to the entry saved for one boot, if any,
/// or else to the configured one.
fn default_name(text: &str, environment: &str, doubts: &mut Vec<String>) -> Option<String> {
    let saved = |name: &str| {
        let of_name = |line: &str| line.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
        environment.lines().find_map(of_name).filter(|value| !value.is_empty())
    };
    let mut default = None;
    for line in text.lines() {
        let words = words(line);
        let [command, assignment, ..] = words.as_slice() else { continue };
        let Some(value) = assignment.strip_prefix("default=").filter(|_| command == "set") else { continue };
        match value.trim_start_matches("${").trim_start_matches('$').trim_end_matches('}') {
            "next_entry" => match saved("next_entry") {
                Some(next) => return Some(next),
                None => continue,
            },
            "saved_entry" => default = saved("saved_entry"),
            name if value.contains('$') => {
                doubts.push(format!("cannot determine GRUB's default: it is the variable ${name}"));
            }
            _ => default = Some(value.to_owned()),
        }
    }
    default
}

/// The entry that GRUB selects: by number from 0, by title, or by id; the first if none matches.
fn choose<'a>(items: &'a [Item], name: &str, doubts: &mut Vec<String>) -> Option<&'a MenuEntry> {
    let called = |name: &str| items.iter().find(|item| item.title == name || item.id == name);
    let (first, rest) = name.split_once('>').unwrap_or((name, ""));
    let item = match first.parse::<usize>() {
        _ if name.is_empty() => items.first(),
        Ok(number) => items.get(number),
        Err(_) => called(name).or_else(|| called(first)),
    };
    let item = item.or_else(|| {
        doubts.push(format!(
            "GRUB's default is '{name}', but its menu has no such entry: the first one is used"
        ));
        items.first()
    })?;
    match &item.items {
        Some(items) => choose(items, rest, doubts),
        None => item.words.as_ref(),
    }
}

/// An open block of the script.
enum Open {
    /// An entry or submenu.
    Item(Item),
    /// Another block, such as a function.
    Other,
}

/// The menu's entries and submenus. Blocks still open at the end are ignored.
fn parse(text: &str) -> Vec<Item> {
    let mut top = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    for line in text.lines() {
        let words = words(line);
        let Some((command, rest)) = words.split_first() else { continue };
        if words.last().is_some_and(|word| word == "{") {
            open.push(match command.as_str() {
                "menuentry" => Open::Item(item(rest, None)),
                "submenu" => Open::Item(item(rest, Some(Vec::new()))),
                _ => Open::Other,
            });
        } else if command == "}" {
            if let Some(Open::Item(item)) = open.pop() {
                let outer = open.iter_mut().rev().find_map(|block| match block {
                    Open::Item(Item { items: Some(items), .. }) => Some(items),
                    _ => None,
                });
                outer.unwrap_or(&mut top).push(item);
            }
        } else if let Some(Open::Item(item)) = open.last_mut() {
            add(item, command, rest);
        }
    }
    top
}

fn item(rest: &[String], items: Option<Vec<Item>>) -> Item {
    let behind_option = |pair: &[String]| match pair {
        [option, id] if option == "--id" || option == "$menuentry_id_option" => Some(id.clone()),
        _ => None,
    };
    let id = rest.windows(2).find_map(behind_option).unwrap_or_default();
    Item { title: rest.first().cloned().unwrap_or_default(), id, words: None, items }
}

/// A command of an entry.
fn add(item: &mut Item, command: &str, rest: &[String]) {
    match (command, rest) {
        ("linux" | "linux16" | "linuxefi", [kernel, arguments @ ..]) => {
            let arguments: Vec<&str> =
                arguments.iter().map(String::as_str).filter(|word| !is_dispensable(word)).collect();
            let words = MenuEntry { kernel: kernel.clone(), initrd: None, command_line: arguments.join(" ") };
            // Words that only GRUB can expand are not part of a command line.
            let plain = !words.command_line.contains('$') && !kernel.contains('$');
            item.words = plain.then_some(words);
        }
        // Of several files the last is the distribution's own. Those before it are microcode, which the
        // running kernel has loaded or not.
        ("initrd" | "initrd16" | "initrdefi", files) => {
            if let (Some(words), Some(last)) =
                (&mut item.words, files.iter().rfind(|file| !is_dispensable(file)))
            {
                words.initrd = Some(last.clone());
            }
        }
        _ => {}
    }
}

/// The words of a line in GRUB's language, without quotes and comments.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(characters.next()),
            (None, '#') if word.is_none() => break,
            (None, _) if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Debian's grub-mkconfig writes it, shortened.
    const MENU: &str = r#"
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
   save_env next_entry
   set boot_once=true
else
   set default="DEFAULT"
fi
function load_video {
  if [ x$feature_all_video_module = xy ]; then
    insmod all_video
  fi
}
menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple-1' {
	load_video
	linux	/vmlinuz-6.1 root=UUID=1 ro
	initrd	/initrd.img-6.1
}
submenu 'Advanced options' $menuentry_id_option 'gnulinux-advanced-1' {
	menuentry 'Debian, with Linux 6.1' --id adv-6.1 {
		linux	/vmlinuz-6.1 root=UUID=1 ro
	}
	menuentry "Debian, with Linux 5.10" $menuentry_id_option 'adv-5.10' {
		linux	/vmlinuz-5.10 root=UUID=1 ro single $vt_handoff
		initrd	/early /initrd.img-5.10 $tuned_initrd
	}
}
menuentry 'UEFI Firmware Settings' $menuentry_id_option 'uefi-firmware' {
	fwsetup
}
"#;

    fn default_of(text: &str, environment: &str) -> Start {
        default_entry(text, environment, &mut Vec::new())
    }

    fn kernel(default: &str, environment: &str) -> Option<String> {
        match default_of(&MENU.replace("DEFAULT", default), environment) {
            Start::Entry(words) => Some(words.kernel.replace("/vmlinuz-", "")),
            Start::Specified(name) => panic!("{name:?}"),
            Start::None => None,
        }
    }

    #[test]
    fn the_default_is_what_grub_takes() {
        for (default, environment, expected) in [
            ("0", "", Some("6.1")),
            ("1>1", "", Some("5.10")),
            ("1>Debian, with Linux 5.10", "", Some("5.10")),
            ("gnulinux-advanced-1>adv-5.10", "", Some("5.10")),
            ("Debian GNU/Linux", "", Some("6.1")),
            // A submenu alone means its first entry.
            ("1", "", Some("6.1")),
            ("${saved_entry}", "saved_entry=1>adv-5.10\n", Some("5.10")),
            ("${saved_entry}", "# GRUB Environment Block\nsaved_entry=\n", Some("6.1")),
            ("0", "next_entry=1>1\n", Some("5.10")),
            ("0", "next_entry=\n", Some("6.1")),
            // GRUB takes the first if none matches.
            ("no such title", "", Some("6.1")),
            ("7", "", Some("6.1")),
            // Not a kernel: only GRUB can boot it.
            ("uefi-firmware", "", None),
        ] {
            assert_eq!(kernel(default, environment).as_deref(), expected, "{default} {environment}");
        }
    }

    #[test]
    fn an_entry_has_its_own_initrd_and_arguments() {
        let menu = MENU.replace("DEFAULT", "1>1");
        let words = MenuEntry {
            kernel: "/vmlinuz-5.10".into(),
            initrd: Some("/initrd.img-5.10".into()),
            command_line: "root=UUID=1 ro single".into(),
        };
        assert_eq!(default_of(&menu, ""), Start::Entry(words));
    }

    #[test]
    fn what_only_grub_knows_is_not_guessed() {
        let nameless = "menuentry '1st' --id a {\nlinux /a\n}\nmenuentry x {\nlinux /b\n}\n";
        let first = MenuEntry { kernel: "/a".into(), ..MenuEntry::default() };
        assert_eq!(default_of(nameless, ""), Start::Entry(first));
        for line in ["linux $kernel root=a", "linux /vmlinuz root=$root", "# linux /vmlinuz"] {
            let menu = format!("menuentry 'x' {{\n{line}\n}}\n");
            assert_eq!(default_of(&menu, ""), Start::None, "{line}");
        }
        assert_eq!(default_of("", ""), Start::None);
        assert_eq!(default_of("}\n{\nmenuentry x {\nlinux /a\n", ""), Start::None);
    }

    #[test]
    fn doubts_are_reported() {
        for (default, doubt) in [
            ("0", ""),
            ("no such title", "its menu has no such entry"),
            ("uefi-firmware", "does not boot a kernel"),
            ("$site", "it is the variable $site"),
        ] {
            let mut doubts = Vec::new();
            default_entry(&MENU.replace("DEFAULT", default), "", &mut doubts);
            assert_eq!(doubts.len(), usize::from(!doubt.is_empty()), "{default}: {doubts:?}");
            assert!(doubts.iter().all(|found| found.contains(doubt)), "{default}: {doubts:?}");
        }
    }

    #[test]
    fn entries_of_the_specification_are_elsewhere() {
        let menu = "set default=\"${saved_entry}\"\nblscfg\n";
        assert_eq!(default_of(menu, "saved_entry=a-6.9\n"), Start::Specified(Some("a-6.9".into())));
        assert_eq!(default_of(menu, "saved_entry=0\n"), Start::Specified(None));
    }
}
