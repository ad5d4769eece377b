use super::*;

/// Bytes of all files: a phone in a tunnel loads them, too.
const SIZE: usize = 45_000;

/// What stands behind each `before` in a file, up to a quote, a bracket or white space.
fn behind<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
    let is_end = |c: char| matches!(c, '"' | '\'' | '`' | ')' | '>') || c.is_whitespace();
    text.split(before).skip(1).map(move |rest| rest.split(is_end).next().unwrap_or_default())
}

#[test]
fn nothing_is_loaded_from_elsewhere() {
    for File { path, body, .. } in &FILES {
        for elsewhere in ["http:", "https:", "ws:", "wss:", "\"//", "'//", "(//", "@import", "url("]
        {
            assert!(!body.contains(elsewhere), "{path} has {elsewhere}");
        }
        for place in ["src=\"", "href=\"", " from \"", "import(\"", "fetch(\""] {
            for to in behind(body, place) {
                let own = format!("/{}", to.trim_start_matches("./"));
                let is_own = to.starts_with('#') || to.starts_with("data:") || own == "/metrics";
                assert!(is_own || file(&own).is_some(), "{path} refers to {to}");
            }
        }
    }
}

#[test]
fn names_are_never_markup_and_the_policy_holds() {
    let forbidden = [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "DOMParser",
        "eval(",
        "Function(",
        "style=",
        " onclick",
        " onload",
        "javascript:",
        "<style",
    ];
    for File { path, body, .. } in &FILES {
        for word in forbidden {
            assert!(!body.contains(word), "{path} has {word}");
        }
        assert_eq!(
            body.matches("<script").count(),
            body.matches("<script type=\"module\" src=").count()
        );
    }
}

/// A mark of the plot without a rule of style.css is black, and none that the legend shows.
#[test]
fn each_mark_of_the_plot_and_the_legend_has_a_look() {
    let body = |path| file(path).unwrap().body;
    let (plot, page, style) = (body("/plot.js"), body("/"), body("/style.css"));
    let legend = page.split("id=\"legend\"").nth(1).unwrap().split("</p>").next().unwrap();
    let marks = behind(plot, "class: \"").chain(behind(plot, "this.losses(\""));
    let mut known = 0;
    for name in marks.chain(behind(legend, "class=\"")) {
        let has_rule = style.split(['{', ',']).any(|selector| {
            selector
                .split_whitespace()
                .any(|part| part.split("::").next() == Some(&format!(".{name}")))
        });
        assert!(has_rule, "style.css has no rule for .{name}");
        known += 1;
    }
    assert!(known >= 10, "{known}");
}

#[test]
fn it_is_small() {
    let size: usize = FILES.iter().map(|file| file.body.len()).sum();
    assert!(size < SIZE, "{size} bytes");
}

#[test]
fn what_is_not_there_is_none() {
    assert_eq!(file("/").map(|file| file.content_type), Some("text/html; charset=utf-8"));
    for path in ["", "/index.html", "/page.js/", "/../mod.rs"] {
        assert!(file(path).is_none(), "{path}");
    }
}
