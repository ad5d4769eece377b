//! The web configuration that exporters for Prometheus share, and its being read anew.

mod client;
mod config;
mod file;
mod rate;
mod tls;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{Notice, Say, lock};
use config::Config;
use file::Files;

/// How often its files are looked at, when requests come.
const LOOK: Duration = Duration::from_secs(1);

/// TLS, passwords and headers as a web configuration has them, which is read anew when one of its files has changed.
#[derive(Clone)]
pub struct Web(Arc<Inner>);

struct Inner {
    /// None: there is nothing but the defaults.
    file: Option<PathBuf>,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    config: Arc<Config>,
    files: Files,
    looked: Instant,
}

impl Web {
    /// Without TLS and passwords.
    #[must_use]
    pub fn none() -> Self {
        Self::new(None, Config::default(), Files::default())
    }

    /// By a web configuration.
    ///
    /// # Errors
    ///
    /// If it, or a file that it names, cannot be read or used: with file, line and key, and what is supported.
    pub fn load(file: &Path) -> Result<Self> {
        let mut files = Files::default();
        let config = Config::read(file, &mut files)?;
        Ok(Self::new(Some(file.to_owned()), config, files))
    }

    fn new(file: Option<PathBuf>, config: Config, files: Files) -> Self {
        let loaded = Loaded { config: Arc::new(config), files, looked: Instant::now() };
        Self(Arc::new(Inner { file, loaded: Mutex::new(loaded) }))
    }

    /// Reads it anew, whether or not it has changed.
    ///
    /// # Errors
    ///
    /// As [`Self::load`]; then what was in force stays so.
    pub fn reload(&self) -> Result<()> {
        let Some(file) = &self.0.file else { return Ok(()) };
        lock(&self.0.loaded).read(file)
    }

    /// The files that it was read from.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        lock(&self.0.loaded).files.paths()
    }

    /// Reports whether each client has to show who it is, by a password or a certificate.
    #[must_use]
    pub fn asks_who(&self) -> bool {
        lock(&self.0.loaded).config.asks_who()
    }

    /// What is in force; the files are looked at if that was not done within [`LOOK`].
    pub(super) fn current(&self, say: &Say) -> Arc<Config> {
        self.at(Instant::now(), say)
    }

    fn at(&self, now: Instant, say: &Say) -> Arc<Config> {
        let mut loaded = lock(&self.0.loaded);
        if let Some(file) = &self.0.file
            && now.saturating_duration_since(loaded.looked) >= LOOK
        {
            loaded.looked = now;
            if loaded.files.have_changed() {
                match loaded.read(file) {
                    Ok(()) => say(&Notice::WebRead { file: file.clone() }),
                    Err(error) => say(&Notice::WebKept { error }),
                }
            }
        }
        loaded.config.clone()
    }
}

impl Loaded {
    fn read(&mut self, file: &Path) -> Result<()> {
        // Those of a broken one, too: it is looked at again when they change.
        let mut files = Files::default();
        let config = Config::read(file, &mut files);
        self.files = files;
        self.config = Arc::new(config?);
        Ok(())
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
