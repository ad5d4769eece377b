//! Running other programs, with errors that a reader can act on.

use std::{
    env,
    ffi::OsString,
    fmt::Write as _,
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// Takes what a program writes, piece by piece.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> Result<()>;

/// Splits what a program writes into its lines.
#[derive(Default)]
pub(crate) struct Lines(Vec<u8>);

impl Lines {
    /// Takes the next bytes and returns the lines that they complete, without their ends.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for byte in bytes {
            if *byte == b'\n' {
                let line = std::mem::take(&mut self.0);
                lines.push(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned());
            } else {
                self.0.push(*byte);
            }
        }
        lines
    }
}

/// Variable that makes conntrack-user/build.rs leave out the kernel programs.
pub(crate) const SKIP_EBPF: &str = "AYA_BUILD_SKIP";

/// How much of a failed program's output an error shows.
const SHOWN_LINES: usize = 20;

/// The path of a program, also where only root has it in its `PATH`.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

/// A command for a program looked up by [`find`].
pub(crate) fn command(program: &str) -> Command {
    Command::new(find(program).unwrap_or_else(|| program.into()))
}

/// Cargo itself, in the root of the workspace, without [`SKIP_EBPF`]: what it builds has its kernel programs.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(cargo_program());
    cargo.current_dir(crate::workspace::root()).env_remove(SKIP_EBPF);
    // `cargo run` sets these for xtask. ring's build script depends on them: ring and all that needs it would be compiled
    // again after each cargo that is started without xtask.
    for (name, _) in env::vars_os().filter(|(name, _)| is_of_xtask(&name.to_string_lossy())) {
        cargo.env_remove(name);
    }
    cargo
}

/// Reports whether `cargo run` describes the package that it runs in the variable `name`.
fn is_of_xtask(name: &str) -> bool {
    ["CARGO_MANIFEST_", "CARGO_PKG_"].iter().any(|prefix| name.starts_with(prefix))
}

/// Path of the cargo that runs this program.
pub(crate) fn cargo_program() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Runs a program to its end and returns what it wrote to its standard output.
pub(crate) fn output(command: &mut Command, why: &str) -> Result<Vec<u8>> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}, needed {why}", line(command)))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    bail!(
        "{} failed ({}), needed {why}:\n{}",
        line(command),
        output.status,
        tail(&text, SHOWN_LINES)
    );
}

/// Like [`output`], for a program that writes text.
pub(crate) fn text(command: &mut Command, why: &str) -> Result<String> {
    let bytes = output(command, why)?;
    String::from_utf8(bytes)
        .with_context(|| format!("{} wrote something other than UTF-8", line(command)))
}

/// Runs a program with our terminal, and waits for it.
pub(crate) fn status(command: &mut Command, why: &str) -> Result<ExitStatus> {
    command.status().with_context(|| format!("cannot start {}, needed {why}", line(command)))
}

/// The command as one would type it, with the variables that it sets.
pub(crate) fn line(command: &Command) -> String {
    let mut line = String::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            // Writing to a String cannot fail.
            let _ = write!(line, "{}={} ", name.display(), quote(&value.to_string_lossy()));
        }
    }
    if command.get_program() == cargo_program() {
        line.push_str("cargo");
    } else {
        line.push_str(&command.get_program().to_string_lossy());
    }
    for argument in command.get_args() {
        let _ = write!(line, " {}", quote(&argument.to_string_lossy()));
    }
    format!("`{line}`")
}

/// One word for a POSIX shell.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%~".contains(c);
    if !word.is_empty() && word.chars().all(plain) && !word.starts_with('~') {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// A command line for a POSIX shell.
pub(crate) fn quoted(words: &[String]) -> String {
    words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

/// The last lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(quote("plain-1.2/x=y"), "plain-1.2/x=y");
        assert_eq!(quote(""), "''");
        assert_eq!(quote("two words; $HOME"), "'two words; $HOME'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote("~"), "'~'");
    }

    #[test]
    fn a_line_has_the_variables_and_the_arguments() {
        let mut command = Command::new("true");
        command.env("FLAGS", "-D warnings").env_remove("OTHER").args(["--a", "b c"]);
        assert_eq!(line(&command), "`FLAGS='-D warnings' true --a 'b c'`");
        let mut cargo = cargo();
        assert_eq!(line(cargo.arg("doc")), "`cargo doc`");
    }

    #[test]
    fn no_variable_leaves_out_the_kernel_programs() {
        let cargo = cargo();
        assert!(cargo.get_envs().any(|variable| variable == (OsStr::new(SKIP_EBPF), None)));
        assert!(is_of_xtask("CARGO_PKG_NAME") && is_of_xtask("CARGO_MANIFEST_DIR"));
        assert!(!is_of_xtask("CARGO_HOME") && !is_of_xtask("CARGO_TARGET_DIR"));
    }

    #[test]
    fn lines_come_when_they_are_whole() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(b"a\r\n\nb"), ["a", ""]);
        assert_eq!(lines.push(b"c\nd"), ["bc"]);
    }

    #[test]
    fn tail_takes_what_there_is() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a", 5), "a");
    }
}
