//! The hints below an error in the command line.

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::Cli;

/// The number of wrong, missing or exchanged letters in what still counts as a typo.
const MAX_TYPO: usize = 2;

/// Completes the hints of an error: see [`without_values`] and [`with_subcommand`].
pub(super) fn sensible(error: clap::Error) -> clap::Error {
    with_subcommand(without_values(error))
}

/// Adds the subcommand that was probably meant. clap's own measure knows no exchanged letters.
fn with_subcommand(mut error: clap::Error) -> clap::Error {
    let (Some(ContextValue::String(given)), None) =
        (error.get(ContextKind::InvalidSubcommand), error.get(ContextKind::SuggestedSubcommand))
    else {
        return error;
    };
    let command = Cli::command();
    let distance = |name: &str| strsim::osa_distance(given, name);
    let meant = command.get_subcommands().map(|sub| sub.get_name()).min_by_key(|name| distance(name));
    if let Some(meant) =
        meant.filter(|name| distance(name) <= MAX_TYPO && distance(name) < name.len().min(given.len()))
    {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![meant.to_owned()]));
    }
    error
}

/// Removes the hint to pass an unknown option as a value (`-- --dryrun`): no value of kactl begins with two
/// dashes, and following the hint would make a description's name of a misspelt safeguard.
fn without_values(mut error: clap::Error) -> clap::Error {
    if error.kind() == ErrorKind::UnknownArgument {
        error.remove(ContextKind::Suggested);
    }
    error
}

#[cfg(test)]
mod tests {
    use crate::cli::{LineError, parse};

    #[test]
    fn a_typo_is_answered_with_what_was_meant() {
        for (line, hint) in [
            ("kactl rnu", "similar subcommand exists: 'run'"),
            ("kactl run -n 1 -p sda --dryrun", "similar argument exists: '--dry-run'"),
            ("kactl run -n 1 -p sda --conut 2", "similar argument exists: '--count'"),
            ("kactl iamge", "similar subcommand exists: 'image'"),
            ("kactl clone", "unrecognized subcommand 'clone'"),
            ("kactl send -s a -n 1 --fiel x", "similar argument exists: '--file'"),
            ("kactl run -n 1 -p sda --zzz", "unexpected argument '--zzz'"),
        ] {
            let words = line.split(' ').map(Into::into).collect();
            let Err(LineError::Words(error)) = parse(words) else { panic!("{line} was accepted") };
            let text = error.render().to_string();
            assert!(text.contains(hint) && !text.contains("-- -"), "{line}: {text}");
        }
    }
}
