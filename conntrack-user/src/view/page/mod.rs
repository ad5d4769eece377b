//! The page that `ctmon serve` shows a browser: plain files, of which nothing refers to anything elsewhere.

/// What the page may load and do: its own files and answers, no script or style within the markup.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file of the page.
#[derive(Debug)]
pub struct File {
    /// Where it is found.
    pub path: &'static str,
    /// What it is.
    pub content_type: &'static str,
    /// What is in it.
    pub body: &'static str,
}

/// All of them, the page itself first.
pub const FILES: [File; 7] = [
    File { path: "/", content_type: "text/html; charset=utf-8", body: include_str!("index.html") },
    File {
        path: "/style.css",
        content_type: "text/css; charset=utf-8",
        body: include_str!("style.css"),
    },
    script("/page.js", include_str!("page.js")),
    script("/plot.js", include_str!("plot.js")),
    script("/table.js", include_str!("table.js")),
    script("/units.js", include_str!("units.js")),
    script("/words.js", include_str!("words.js")),
];

const fn script(path: &'static str, body: &'static str) -> File {
    File { path, content_type: "text/javascript; charset=utf-8", body }
}

/// The file that is found at `path`.
#[must_use]
pub fn file(path: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.path == path)
}

#[cfg(test)]
mod tests;
