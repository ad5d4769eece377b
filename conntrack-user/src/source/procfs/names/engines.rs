//! Names of containers, from the files of the engines that run them, where those may be read: root may.
//!
//! [`ENGINES`] is all that is known of engines: a new one is a line in it.

use std::{fs, path::Path};

use serde_json::Value;

use super::read;

/// An engine and where it keeps names.
struct Engine {
    /// A folder, or a file.
    path: &'static str,
    files: Files,
}

/// Form in which an engine keeps names.
enum Files {
    /// A folder for each container, which is called as its id, with this file of JSON in it, whose member `Name` has the
    /// name after a `/`.
    Each(&'static str),
    /// One array in JSON for all containers, with members `id` and `names`.
    All,
}

const ENGINES: [Engine; 2] = [
    // Docker (daemon/container, `Container.ToDisk`).
    Engine { path: "var/lib/docker/containers", files: Files::Each("config.v2.json") },
    // Podman and CRI-O (containers/storage, `containerStore.Save`).
    Engine {
        path: "var/lib/containers/storage/overlay-containers/containers.json",
        files: Files::All,
    },
];

/// Bytes of a file, at most.
const FILE_LIMIT: u64 = 4 << 20;

/// The name of the container whose id begins with `id`; none where no engine tells. `rootfs`: the root file system.
pub(super) fn name(rootfs: &Path, id: &str) -> Option<String> {
    ENGINES.iter().find_map(|engine| {
        let path = rootfs.join(engine.path);
        let name = match engine.files {
            Files::Each(file) => {
                let folders = fs::read_dir(&path).ok()?.flatten();
                let mut ids = folders.filter_map(|folder| folder.file_name().into_string().ok());
                let folder = ids.find(|one| one.starts_with(id))?;
                let text = read(&path.join(folder).join(file), FILE_LIMIT)?;
                let json: Value = serde_json::from_str(&text).ok()?;
                json["Name"].as_str()?.trim_start_matches('/').to_owned()
            }
            Files::All => {
                let json: Value = serde_json::from_str(&read(&path, FILE_LIMIT)?).ok()?;
                let is_it =
                    |one: &&Value| one["id"].as_str().is_some_and(|one| one.starts_with(id));
                let container = json.as_array()?.iter().find(is_it)?;
                container["names"][0].as_str()?.to_owned()
            }
        };
        (!name.is_empty()).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_by_the_beginning_of_an_id() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(name(root.path(), "34dc0b5e626f"), None);
        let folder = root.path().join("var/lib/docker/containers/34dc0b5e626f2c5c");
        fs::create_dir_all(&folder).unwrap();
        assert_eq!(name(root.path(), "34dc0b5e626f"), None, "without its file");
        fs::write(folder.join("config.v2.json"), r#"{"ID":"34dc","Name":"/web"}"#).unwrap();
        assert_eq!(name(root.path(), "34dc0b5e626f").as_deref(), Some("web"));
        let file = root.path().join(ENGINES[1].path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let all = r#"[{"id":"aaaa"},{"id":"0123456789abcdef","names":["db","other"]}]"#;
        fs::write(&file, all).unwrap();
        assert_eq!(name(root.path(), "0123456789ab").as_deref(), Some("db"));
        assert_eq!(name(root.path(), "aaaa"), None, "it has no name");
        fs::write(&file, "nonsense").unwrap();
        assert_eq!(name(root.path(), "0123456789ab"), None);
    }
}
