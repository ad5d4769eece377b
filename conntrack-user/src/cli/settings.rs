//! Settings of `serve` from the environment and from a file: each key is an option of the command line, so what it
//! means, what it takes and what it is without being set is written once.

use std::{collections::BTreeMap, ffi::OsString, fmt::Write as _, io::Read as _, path::Path};

use anyhow::{Context as _, Result, anyhow, ensure};
use clap::{
    Arg, ArgAction, ArgMatches, Command,
    parser::ValueSource::{CommandLine, EnvVariable},
};
use toml::de::{DeTable, DeValue};

use super::{environment::variable, in_force::Settings};

/// The subcommand that has settings.
pub(super) const SERVE: &str = "serve";
/// Options that are no settings: they are about the settings.
const ABOUT: [&str; 5] = ["help", "config", "print_config", "check", "test_notify"];
/// Bytes of a settings file, at most.
const MAX_BYTES: usize = 1 << 20;

/// `cli` with a variable of the environment for each option of `serve`.
pub(super) fn with_environment(cli: Command) -> Command {
    cli.mut_subcommand(SERVE, |serve| {
        serve.mut_args(|arg| match (is_setting(&arg), arg.get_long()) {
            (true, Some(name)) => {
                let variable = variable(name);
                arg.env(variable)
            }
            _ => arg,
        })
    })
}

pub(super) fn is_setting(arg: &Arg) -> bool {
    arg.get_long().is_some() && !ABOUT.contains(&arg.get_id().as_str())
}

/// A settings file, but for what the command line or the environment says: they come first.
#[derive(Debug, Default)]
pub(super) struct File {
    /// The arguments that say what is in it.
    pub(super) arguments: Vec<OsString>,
    /// Names of settings, and in which file and line each is.
    places: Vec<(String, String)>,
}

impl File {
    /// Reads it. `cli`: the command without the environment; `matches`: those of `serve`.
    ///
    /// # Errors
    /// Names file, line, key, and what was expected.
    pub(super) fn read(cli: &Command, matches: &ArgMatches, file: &Path) -> Result<Self> {
        let shown = file.display();
        let mut text = Vec::new();
        std::fs::File::open(file)
            .and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_end(&mut text))
            .with_context(|| format!("cannot read the settings in {shown}"))?;
        ensure!(
            text.len() <= MAX_BYTES,
            "{shown} is no settings file: it has more than {MAX_BYTES} bytes"
        );
        let text = String::from_utf8(text)
            .map_err(|error| anyhow!("{shown}: {error}; settings are TOML, in UTF-8"))?;
        let serve = cli.find_subcommand(SERVE).context("there is no such command")?;
        let said = said(serve, &text)
            .map_err(|wrong| anyhow!("{shown}:{}: {}", line(&text, wrong.at), wrong.message))?;
        let mut read = Self::default();
        for said in said {
            if !matches!(matches.value_source(&said.id), Some(CommandLine | EnvVariable)) {
                read.arguments.extend(said.arguments.iter().map(OsString::from));
                read.places.push((said.name, format!("{shown}:{}", line(&text, said.at))));
            }
        }
        Ok(read)
    }

    /// Adds the settings that come from the environment: their variables are their places.
    pub(super) fn with_environment(mut self, serve: &Command, matches: &ArgMatches) -> Self {
        for arg in serve.get_arguments().filter(|arg| is_setting(arg)) {
            let is_from_it = matches.value_source(arg.get_id().as_str()) == Some(EnvVariable);
            if let (Some(name), true) = (arg.get_long(), is_from_it) {
                self.places.push((name.to_owned(), variable(name)));
            }
        }
        self
    }

    /// `error` with the place of the first setting that it names, if that is in this file or in the environment.
    pub(super) fn located(&self, error: &str) -> String {
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        let mut words = error.split(|c| !is_of_name(c)).map(|word| word.trim_start_matches('-'));
        let place = words.find_map(|word| self.places.iter().find(|(name, _)| name == word));
        place.map_or_else(|| error.to_owned(), |(_, place)| format!("{place}: {error}"))
    }
}

/// What each setting is, by its name.
pub(super) fn values(cli: &Command, matches: &ArgMatches) -> Settings {
    let all = cli.find_subcommand(SERVE).into_iter().flat_map(Command::get_arguments);
    let value = |arg: &Arg| {
        let raw = matches.get_raw(arg.get_id().as_str()).into_iter().flatten();
        let values = raw.map(|value| value.to_string_lossy().into_owned()).collect();
        Some((arg.get_long()?.to_owned(), values))
    };
    let values: BTreeMap<_, _> = all.filter(|arg| is_setting(arg)).filter_map(value).collect();
    Settings(values)
}

/// What a key of the file says.
struct Said {
    /// Of the option.
    id: String,
    name: String,
    /// How many bytes from the beginning.
    at: usize,
    /// As on the command line; none: as without it.
    arguments: Vec<String>,
}

/// What is wrong, and how many bytes from the beginning.
#[derive(Debug)]
struct Wrong {
    message: String,
    at: usize,
}

/// The line of a place in `text`, counted from 1.
fn line(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

fn said(serve: &Command, text: &str) -> Result<Vec<Said>, Wrong> {
    let table = DeTable::parse(text).map_err(|error| Wrong {
        at: error.span().map_or(0, |span| span.start),
        message: error.message().to_owned(),
    })?;
    let mut said = Vec::new();
    read(serve, "", table.get_ref(), &mut said)?;
    Ok(said)
}

/// Reads a table, whose name with a dot is `before`.
fn read(
    serve: &Command,
    before: &str,
    table: &DeTable<'_>,
    to: &mut Vec<Said>,
) -> Result<(), Wrong> {
    for (key, value) in table {
        let name = format!("{before}{}", key.get_ref());
        let wrong = |at: usize, message| Wrong { message, at };
        let named = |arg: &&Arg| arg.get_long() == Some(&name) && is_setting(arg);
        if let Some(arg) = serve.get_arguments().find(named) {
            let arguments = given(arg, &name, value.get_ref())
                .and_then(|arguments| try_alone(serve, arguments))
                .map_err(|message| wrong(value.span().start, message))?;
            let (id, at) = (arg.get_id().to_string(), key.span().start);
            to.push(Said { id, name, at, arguments });
        } else if let DeValue::Table(table) = value.get_ref() {
            read(serve, &format!("{name}."), table, to)?;
        } else {
            let message =
                format!("there is no setting {name}; --print-config lists those there are");
            return Err(wrong(key.span().start, message));
        }
    }
    Ok(())
}

/// What `arg` is given on the command line for it to be `value`.
fn given(arg: &Arg, name: &str, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    if !arg.get_action().takes_values() {
        return match value {
            DeValue::Boolean(true) => Ok(vec![format!("--{name}")]),
            DeValue::Boolean(false) => Ok(vec![]),
            other => Err(format!("{name} is true or false, and no {}", other.type_str())),
        };
    }
    let one = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Ok(format!("--{name}={text}")),
        DeValue::Integer(number) if number.radix() == 10 => {
            Ok(format!("--{name}={}", number.as_str()))
        }
        DeValue::Float(number) => Ok(format!("--{name}={}", number.as_str())),
        other => Err(format!("{name} is a text or a number, and no {}", other.type_str())),
    };
    match value {
        DeValue::Array(values) if matches!(arg.get_action(), ArgAction::Append) => {
            values.iter().map(|value| one(value.get_ref())).collect()
        }
        value => Ok(vec![one(value)?]),
    }
}

/// `arguments`, if the command takes them.
pub(super) fn try_alone(serve: &Command, arguments: Vec<String>) -> Result<Vec<String>, String> {
    let command = serve.clone().no_binary_name(true);
    match command.try_get_matches_from(&arguments) {
        Ok(_) => Ok(arguments),
        Err(error) => {
            let text = error.to_string();
            let text = text.lines().next().unwrap_or_default();
            Err(text.strip_prefix("error: ").unwrap_or(text).to_owned())
        }
    }
}

/// A settings file that says of each key what it means, and what it is without being set.
#[must_use]
pub(super) fn example(cli: &Command) -> String {
    let mut text = String::from(
        "# Settings of `ctmon serve`. Each is also an option of the command line (--interval 1s) and a variable of the\n\
         # environment (CTMON_INTERVAL=1s); these come first, in this order. What is written here is what holds\n\
         # without being set. SIGHUP reads the file again and says what takes a restart.\n",
    );
    for arg in cli.find_subcommand(SERVE).into_iter().flat_map(Command::get_arguments) {
        if let (true, Some(name)) = (is_setting(arg), arg.get_long()) {
            describe(arg, name, &mut text);
        }
    }
    text
}

fn describe(arg: &Arg, name: &str, text: &mut String) {
    text.push('\n');
    let mut help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let values = arg.get_possible_values();
    if arg.get_action().takes_values() && !values.is_empty() {
        let names: Vec<&str> = values.iter().map(clap::builder::PossibleValue::get_name).collect();
        let _ = write!(help, " [{}]", names.join(", "));
    }
    for line in textwrap::wrap(&help, 110) {
        let _ = writeln!(text, "# {line}");
    }
    let defaults: Vec<String> =
        arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    let is_list = matches!(arg.get_action(), ArgAction::Append);
    let value = match defaults.as_slice() {
        _ if !arg.get_action().takes_values() => "false".to_owned(),
        [] => {
            let placeholder = arg.get_value_names().and_then(|names| names.first());
            let placeholder = placeholder.map_or("VALUE", |name| name.as_str());
            let _ = writeln!(text, "# Not set.");
            let value = format!("{placeholder:?}");
            if is_list { format!("[{value}]") } else { value }
        }
        [one] if one.parse::<f64>().is_ok() => one.clone(),
        [one] if !is_list => format!("{one:?}"),
        many => format!("{many:?}"),
    };
    let _ = writeln!(text, "#{name} = {value}");
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
