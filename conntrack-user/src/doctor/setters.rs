//! Programs that set `nf_conntrack_max` while they run. A new one is a row of this table, and one in docs/doctor.md; its
//! source is the repository and the file that set it, as of 2026.

/// A program that sets the size of the table.
#[derive(Debug, Clone, Copy)]
pub struct Setter {
    /// Name of the process (/proc/PID/comm), of which the kernel keeps 15 bytes.
    pub name: &'static str,
    /// Moment at which the program sets the size.
    pub when: &'static str,
    /// Setting of the program that holds the size.
    pub configure: &'static str,
    /// Repository and file that set it.
    pub source: &'static str,
}

const K3S: &str = "k3s and RKE2: kube-proxy-arg conntrack-max-per-core and conntrack-min";
// It starts kube-proxy with conntrack-max-per-core=0 and sets the limit by itself.
const K3S_SOURCE: &str = "k3s-io/k3s pkg/agent/syssetup/setup.go";
const AT_START: &str = "when it starts";

/// All that are known, by name.
pub const SETTERS: [Setter; 9] = [
    Setter { name: "k3s-agent", when: AT_START, configure: K3S, source: K3S_SOURCE },
    Setter { name: "k3s-server", when: AT_START, configure: K3S, source: K3S_SOURCE },
    Setter {
        name: "kube-proxy",
        // setIntSysCtl: `val < value`; up to 1.18 any other value.
        when: "when it starts, where the kernel has less",
        configure: "kube-proxy: conntrack.maxPerCore and conntrack.min (0 and 0 leave it alone)",
        source: "kubernetes/kubernetes cmd/kube-proxy/app/conntrack.go",
    },
    Setter {
        name: "kubelite",
        // kube-proxy is a part of it (Kubelite-integration.patch).
        when: "when it starts, where the kernel has less",
        configure: "MicroK8s: args/kube-proxy, --conntrack-max-per-core and --conntrack-min",
        source: "canonical/microk8s microk8s-resources/wrappers/run-kubelite-with-args",
    },
    Setter {
        name: "openshift-tuned",
        when: "when a profile is applied",
        configure: "the Tuned object of the node: [sysctl] in its profile",
        source: "openshift/cluster-node-tuning-operator pkg/tuned/controller.go",
    },
    Setter {
        name: "proxmox-firewal",
        when: "each 5 s, where host.fw has nf_conntrack_max",
        configure: "Proxmox VE: nf_conntrack_max in the node's host.fw",
        source: "proxmox/proxmox-firewall proxmox-firewall/src/firewall.rs",
    },
    Setter {
        name: "pve-firewall",
        // update_nf_conntrack_max, called by apply_ruleset; `$updatetime` of src/PVE/Service/pve_firewall.pm.
        when: "each 10 s while the firewall is on",
        configure: "Proxmox VE: nf_conntrack_max in the node's host.fw, above 262144 (less is taken as that)",
        source: "proxmox/pve-firewall src/PVE/Firewall.pm",
    },
    // Its agent is that of k3s (pkg/rke2/rke2.go).
    Setter { name: "rke2", when: AT_START, configure: K3S, source: K3S_SOURCE },
    Setter {
        name: "tuned",
        when: "when a profile is applied",
        // `reapply_sysctl` of tuned-main.conf, which is on unless it is set to 0.
        configure: "tuned: [sysctl] in the active profile, or a file in /etc/sysctl.d, which it applies after the profile",
        source: "redhat-performance/tuned profiles/openshift/tuned.conf, man/tuned-main.conf.5",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_the_kernel_keeps() {
        for setter in SETTERS {
            assert!(setter.name.len() <= 15 && !setter.configure.is_empty(), "{setter:?}");
            let (repository, file) = setter.source.split_once(' ').unwrap();
            assert!(repository.contains('/') && file.contains(['/', ' ']), "{setter:?}");
        }
        assert!(SETTERS.is_sorted_by_key(|setter| setter.name));
        let document = include_str!("../../../docs/doctor.md");
        for setter in SETTERS {
            let mut rows = document.lines().filter(|line| line.contains(setter.when));
            let is_there = rows.any(|row| row.contains(&format!("`{}`", setter.name)));
            assert!(is_there, "{}: {}", setter.name, setter.when);
        }
    }
}
