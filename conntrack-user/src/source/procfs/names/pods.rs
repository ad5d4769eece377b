//! The names of pods, from the folders that the kubelet keeps for their logs.

use std::{collections::HashMap, fs, path::Path};

/// The names of the pods of this node, by UID.
///
/// The kubelet makes the folder before it has the sandbox, and so the namespace, made
/// (pkg/kubelet/kuberuntime/kuberuntime_sandbox.go, `createPodSandbox`): read after a namespace was
/// found, this knows its pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pods {
    names: HashMap<String, String>,
}

impl Pods {
    /// Costs one listing of `root`, which is /var/log/pods on most nodes. No folder, or one that may
    /// not be listed, is a node without pods: those that are there go by their UID then.
    #[must_use]
    pub fn read(root: &Path) -> Self {
        let folders = fs::read_dir(root).into_iter().flatten().flatten();
        Self::of_folders(folders.filter_map(|folder| folder.file_name().into_string().ok()))
    }

    /// `namespace_name_uid` (pkg/kubelet/kuberuntime/helpers.go, `BuildPodLogsDirectory`); none of the
    /// three has a `_`. Before Kubernetes 1.14 it was the UID alone, which names nothing.
    fn of_folders(folders: impl Iterator<Item = String>) -> Self {
        let names = folders.filter_map(|folder| {
            let parts: Vec<&str> = folder.split('_').collect();
            match parts[..] {
                [namespace, name, uid] if parts.iter().all(|part| !part.is_empty()) => {
                    Some((uid.to_owned(), format!("{namespace}/{name}")))
                }
                _ => None,
            }
        });
        Self { names: names.collect() }
    }

    /// `namespace/name` of a pod. `uid` with `-`, not with the `_` of systemd's cgroups.
    #[must_use]
    pub fn name(&self, uid: &str) -> Option<&str> {
        self.names.get(uid).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_names_a_pod_only_if_it_has_three_parts() {
        let table = [
            ("default_web-0_2c48913c-b29f-11e7-9350-020968147796", Some("default/web-0")),
            // A static pod: the hash of its manifest, and the name of the node in its own.
            (
                "kube-system_etcd-node1_2c48913c-b29f-11e7-9350-020968147796",
                Some("kube-system/etcd-node1"),
            ),
            (
                "default_web.example.org_2c48913c-b29f-11e7-9350-020968147796",
                Some("default/web.example.org"),
            ),
            ("2c48913c-b29f-11e7-9350-020968147796", None),
            ("web-0_2c48913c-b29f-11e7-9350-020968147796", None),
            ("_web-0_2c48913c-b29f-11e7-9350-020968147796", None),
            ("a_b_c_2c48913c-b29f-11e7-9350-020968147796", None),
        ];
        for (folder, name) in table {
            let pods = Pods::of_folders([folder.to_owned()].into_iter());
            assert_eq!(pods.name("2c48913c-b29f-11e7-9350-020968147796"), name, "{folder}");
        }
    }

    #[test]
    fn no_folder_is_no_pods() {
        assert_eq!(Pods::read(Path::new("/nowhere/at/all")), Pods::default());
    }
}
