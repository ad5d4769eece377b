//! Variables of the environment that are settings of `serve`: `CTMON_INTERVAL` is `--interval`.

use std::ffi::OsString;

use clap::{Arg, Command};

use super::settings::{is_setting, try_alone};

/// Beginning of their names.
const PREFIX: &str = "CTMON_";
/// The variable that names the settings file.
pub(super) const CONFIG: &str = "CTMON_CONFIG";
/// Beginnings of names that others set: Kubernetes for a Service that is named ctmon (service links), and `serve` itself
/// for a notification command.
const FOREIGN: [&str; 3] = ["CTMON_SERVICE_", "CTMON_PORT", "CTMON_CHANGE_"];

/// `path.procfs`: `CTMON_PATH_PROCFS`
pub(super) fn variable(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("{PREFIX}{}", name.chars().map(plain).collect::<String>())
}

/// Checks each variable by itself; a warning for each that is no setting. `serve`: the subcommand without the environment.
///
/// # Errors
/// The name of the first variable whose value is wrong, and what is wrong with it.
pub(super) fn check(
    serve: &Command,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<String>, String> {
    let mut warnings = Vec::new();
    for (variable_name, value) in variables {
        let Some(variable_name) = variable_name.to_str().filter(|name| name.starts_with(PREFIX))
        else {
            continue;
        };
        let is_named = |arg: &&Arg| {
            is_setting(arg) && arg.get_long().map(variable).as_deref() == Some(variable_name)
        };
        match serve.get_arguments().find(is_named) {
            Some(arg) if arg.get_action().takes_values() => {
                let name = arg.get_long().unwrap_or_default();
                let value = value
                    .to_str()
                    .ok_or_else(|| format!("{variable_name}: its value is not UTF-8"))?;
                try_alone(serve, vec![format!("--{name}={value}")])
                    .map_err(|error| format!("{variable_name}: {error}"))?;
            }
            Some(_) => {}
            None if variable_name == CONFIG => {}
            None if FOREIGN.iter().any(|foreign| variable_name.starts_with(foreign)) => {}
            None => warnings.push(unknown(serve, variable_name)),
        }
    }
    warnings.sort_unstable();
    Ok(warnings)
}

fn unknown(serve: &Command, name: &str) -> String {
    let known = serve.get_arguments().filter(|arg| is_setting(arg)).filter_map(Arg::get_long);
    let closest = known.map(variable).min_by_key(|known| distance(known, name));
    let closest = closest.filter(|known| distance(known, name) <= 3);
    let hint = closest.map_or_else(String::new, |known| format!("; did you mean {known}?"));
    format!("{name} is no setting and changes nothing{hint}")
}

/// Letters to insert, remove or replace (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (column, &other) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    fn checked(variables: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let cli = Cli::command();
        let serve = cli.find_subcommand("serve").unwrap();
        check(serve, variables.iter().map(|(name, value)| (name.into(), value.into())))
    }

    #[test]
    fn a_wrong_value_is_said_with_its_variable() {
        let error = checked(&[("CTMON_INTERVAL", "soon")]).unwrap_err();
        assert!(
            error.starts_with("CTMON_INTERVAL: invalid value 'soon' for '--interval"),
            "{error}"
        );
        let error = checked(&[("CTMON_WARN_CRITICAL_FILL", "95")]).unwrap_err();
        assert!(error.starts_with("CTMON_WARN_CRITICAL_FILL: invalid value '95'"), "{error}");
    }

    #[test]
    fn a_variable_that_is_no_setting_is_a_warning() {
        let variables = [
            ("CTMON_INTERVALL", "1s"),
            ("CTMON_WARN_FILL_OF_ALL_TABLES", "1"),
            ("CTMON_INTERVAL", "2s"),
            ("CTMON_NO_EVENTS", "true"),
            ("CTMON_CONFIG", "/etc/ctmon.toml"),
            // Of Kubernetes, in the namespace of a Service named ctmon.
            ("CTMON_SERVICE_HOST", "10.96.0.7"),
            ("CTMON_PORT_12620_TCP_ADDR", "10.96.0.7"),
            ("CTMON_PORT", "tcp://10.96.0.7:12620"),
            ("PATH", "/bin"),
        ];
        let expected = [
            "CTMON_INTERVALL is no setting and changes nothing; did you mean CTMON_INTERVAL?",
            "CTMON_WARN_FILL_OF_ALL_TABLES is no setting and changes nothing",
        ];
        assert_eq!(checked(&variables).unwrap(), expected);
    }
}
