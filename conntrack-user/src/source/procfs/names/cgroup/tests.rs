use super::*;

const ID: &str = "34dc0b5e626f2c5c4c5170e34b10e7654ce36f0fcd532739f4445baabea03376";
const OTHER: &str = "9bca8d63d5fa610783847915bcff0ecac1273e5b4bed3f6fa1b07350e0135961";

/// `P uid`, `P uid/inner`, `C name`, `U unit`, or `-` for nothing.
fn said(text: &str) -> String {
    match owner(text) {
        Some(Owner::Pod { uid, inner: None }) => format!("P {uid}"),
        Some(Owner::Pod { uid, inner: Some(inner) }) => format!("P {uid}/{inner}"),
        Some(Owner::Container(name)) => format!("C {name}"),
        Some(Owner::Unit(name)) => format!("U {name}"),
        None => "-".to_owned(),
    }
}

/// ID and OTHER stand for ids; a path alone is what v2 says.
fn check(table: &[(&str, &str)]) {
    for (text, expected) in table {
        let text = text.replace("OTHER", OTHER).replace("ID", ID);
        let text = if text.starts_with('/') { format!("0::{text}\n") } else { text };
        assert_eq!(said(&text), *expected, "{text}");
    }
}

#[test]
fn pods() {
    check(&[
        // The systemd driver: containerd, CRI-O, cri-dockerd; the three classes of service.
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod2c48913c_b29f_11e7_9350_020968147796.slice/cri-containerd-ID.scope",
            "P 2c48913c-b29f-11e7-9350-020968147796",
        ),
        (
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod72f7f152_440c_66ac_9084_e0fc1d8a910c.slice/crio-ID.scope/container",
            "P 72f7f152-440c-66ac-9084-e0fc1d8a910c",
        ),
        (
            "/kubepods.slice/kubepods-pod2c48913c_b29f_11e7_9350_020968147796.slice/docker-ID.scope",
            "P 2c48913c-b29f-11e7-9350-020968147796",
        ),
        // The cgroupfs driver.
        (
            "/kubepods/besteffort/pod74c13223-5a00-11e9-b385-42010a80018d/ID",
            "P 74c13223-5a00-11e9-b385-42010a80018d",
        ),
        (
            "/kubepods/pod74c13223-5a00-11e9-b385-42010a80018d/crio-ID",
            "P 74c13223-5a00-11e9-b385-42010a80018d",
        ),
        // Static pods.
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod99dcb84d2a34f7e338778606703258c4.slice/cri-containerd-ID.scope",
            "P 99dcb84d2a34f7e338778606703258c4",
        ),
        (
            "/kubepods/burstable/pod99dcb84d2a34f7e338778606703258c4/ID",
            "P 99dcb84d2a34f7e338778606703258c4",
        ),
        // --cgroup-root, which kind sets; a whole node in a container; rootless k3s.
        (
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-podb15d8c96_12da_479d_8b9f_b569fbda4d2d.slice/cri-containerd-ID.scope",
            "P b15d8c96-12da-479d-8b9f-b569fbda4d2d",
        ),
        (
            "/docker/OTHER/kubelet/kubepods/burstable/pod1858680e-b044-4fd5-9dd4-f137e30e2180/ID",
            "P 1858680e-b044-4fd5-9dd4-f137e30e2180",
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/k3s.service/kubepods/pod1858680e-b044-4fd5-9dd4-f137e30e2180/ID",
            "P 1858680e-b044-4fd5-9dd4-f137e30e2180",
        ),
        // The drivers of kubelet and containerd differ.
        (
            "12:cpu,cpuacct:/system.slice/containerd.service/kubepods-besteffort-podb41662f7_b03a_4c65_8ef9_6e4e55c3cf27.slice:cri-containerd:ID\n",
            "P b41662f7-b03a-4c65-8ef9-6e4e55c3cf27",
        ),
        // From within a container.
        (
            "/../../pod2c48913c-b29f-11e7-9350-020968147796/ID",
            "P 2c48913c-b29f-11e7-9350-020968147796",
        ),
        (
            "/../../kubepods-burstable-pod2c48913c_b29f_11e7_9350_020968147796.slice/cri-containerd-ID.scope",
            "P 2c48913c-b29f-11e7-9350-020968147796",
        ),
        ("/../crio-ID.scope", "C 34dc0b5e626f"),
        // The pod itself, and an ended process.
        (
            "/kubepods/pod2c48913c-b29f-11e7-9350-020968147796",
            "P 2c48913c-b29f-11e7-9350-020968147796",
        ),
        (
            "/kubepods/pod2c48913c-b29f-11e7-9350-020968147796 (deleted)",
            "P 2c48913c-b29f-11e7-9350-020968147796",
        ),
        // Docker in a pod, systemd in a pod, and a pod that claims to be another one.
        (
            "/kubepods/pod2c48913c-b29f-11e7-9350-020968147796/ID/docker/OTHER",
            "P 2c48913c-b29f-11e7-9350-020968147796/9bca8d63d5fa",
        ),
        (
            "/kubepods/pod2c48913c-b29f-11e7-9350-020968147796/ID/system.slice/nginx.service",
            "P 2c48913c-b29f-11e7-9350-020968147796",
        ),
        (
            "/kubepods/pod2c48913c-b29f-11e7-9350-020968147796/ID/kubepods/pod74c13223-5a00-11e9-b385-42010a80018d/OTHER",
            "P 2c48913c-b29f-11e7-9350-020968147796/9bca8d63d5fa",
        ),
        // Monitors: of the pod, and of a container of podman within it.
        (
            "/kubepods.slice/kubepods-pod2c48913c_b29f_11e7_9350_020968147796.slice/crio-conmon-ID.scope",
            "-",
        ),
        (
            "/kubepods/pod2c48913c-b29f-11e7-9350-020968147796/ID/libpod-conmon-OTHER.scope",
            "P 2c48913c-b29f-11e7-9350-020968147796",
        ),
        // No UIDs.
        ("/kubepods/burstable/pod1234", "-"),
        ("/kubepods/burstable/pod/ID", "C 34dc0b5e626f"),
        ("/kubepods/burstable/podman", "-"),
        ("/kubepods/pod2c48913cb29f-11e7-9350-0209-68147796", "-"),
        ("/a.slice/other-pod2c48913c_b29f_11e7_9350_020968147796.slice", "-"),
        ("/kubepods/pod2c48913c-b29f-11e7-9350-02096814779\u{661}", "-"),
    ]);
}

#[test]
fn containers() {
    check(&[
        ("/docker/ID", "C 34dc0b5e626f"),
        ("/system.slice/docker-ID.scope", "C 34dc0b5e626f"),
        ("/system.slice:docker:ID", "C 34dc0b5e626f"),
        ("/docker/ID/init.scope", "C 34dc0b5e626f"),
        ("/docker/ID/docker/OTHER", "C 34dc0b5e626f/9bca8d63d5fa"),
        ("/ecs/04d5ba2f2d2d4ac8a1a6bd5b1c4f9a11/ID", "C 34dc0b5e626f"),
        // Podman: as root, a pod, rootless, from a unit of quadlet.
        ("/machine.slice/libpod-ID.scope/container", "C 34dc0b5e626f"),
        ("/machine.slice/machine-libpod_pod_OTHER.slice/libpod-ID.scope", "C 34dc0b5e626f"),
        (
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container",
            "C 34dc0b5e626f",
        ),
        ("/libpod_parent/libpod-ID", "C 34dc0b5e626f"),
        ("/system.slice/nginx.service/libpod-payload-ID", "C 34dc0b5e626f"),
        ("/system.slice/nginx.service/runtime", "U nginx.service"),
        ("/machine.slice/libpod-conmon-ID.scope", "-"),
        // containerd: an id of nerdctl, a name of ctr.
        ("/default/ID", "C 34dc0b5e626f"),
        ("/default/redis", "C redis"),
        ("/default/a-longer-name-than-an-id", "C a-longer-name-than-an-id"),
        ("/default/", "-"),
        ("/system.slice/nerdctl-ID.scope", "C 34dc0b5e626f"),
        // LXC, LXD, incus (in a project), Proxmox.
        ("/lxc.payload.web", "C web"),
        ("/lxc.payload.web/system.slice/nginx.service", "C web"),
        ("/lxc.payload.staging_web/.lxc", "C staging_web"),
        ("/lxc.payload/web/init.scope", "C web"),
        ("12:pids:/lxc/web1\n1:name=systemd:/lxc/web1/init.scope\n", "C web1"),
        ("/lxc/101/ns/system.slice/ssh.service", "C 101"),
        ("/lxc.payload.web/system.slice/docker-ID.scope", "C web/34dc0b5e626f"),
        ("/lxc.monitor.web", "-"),
        ("/lxc.monitor/web", "-"),
        ("/lxc", "-"),
        // Machines of systemd and libvirt.
        ("/machine.slice/machine-my\\x2dbox.scope/payload/init.scope", "C my-box"),
        (
            "/machine.slice/systemd-nspawn@media-01.service/payload/system.slice/a.service",
            "C media-01",
        ),
        ("/machine.slice/systemd-nspawn@my\\x2dbox.service/payload", "C my-box"),
        ("/machine.slice/machine-lxc\\x2d50642\\x2dk8s\\x2dcp.scope/libvirt", "C lxc-50642-k8s-cp"),
        ("/machine.slice/machine-qemu\\x2d1\\x2dvm.scope/libvirt/emulator", "C qemu-1-vm"),
        ("/machine.slice/machine-a\\xzz\\x2\\x.scope", "C a\\xzz\\x2\\x"),
        ("/machine.slice/machine-a\\x\u{e4}b\\x+1.scope", "C a\\x\u{e4}b\\x+1"),
        // An id is 64 digits.
        ("/docker/34dc0b5e626f", "-"),
        ("/system.slice/docker-34dc0b5e626f.scope", "U docker-34dc0b5e626f.scope"),
        ("/docker/ID0", "-"),
    ]);
}

#[test]
fn units() {
    check(&[
        ("/system.slice/nginx.service", "U nginx.service"),
        ("/system.slice/system-getty.slice/getty@tty1.service", "U getty@tty1.service"),
        ("/system.slice/docker.service/some/thing", "U docker.service"),
        ("/system.slice/_cpu.test.service", "U cpu.test.service"),
        ("/system.slice/dev\\x2dtest.service", "U dev\\x2dtest.service"),
        ("/system.slice/a:b.service", "U a:b.service"),
        ("/system.slice/run-rb2.scope", "U run-rb2.scope"),
        // Not a unit of the system, whatever it is called.
        ("/system.slice/web.service/sshd.service", "U web.service"),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/syncthing.service",
            "U user@1000.service/syncthing.service",
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/a.service/b.service",
            "U user@1000.service/a.service",
        ),
        ("/user.slice/user-1000.slice/user@1000.service/init.scope", "U user@1000.service"),
        // Sessions and PID 1 say less than a process does.
        ("/user.slice/user-1000.slice/session-3.scope", "-"),
        ("/user.slice/user-1000.slice/session-c1.scope", "-"),
        ("/init.scope", "-"),
        ("/user.slice", "-"),
        ("/", "-"),
    ]);
}

#[test]
fn the_line_that_says_most_is_believed() {
    check(&[
        // v1.
        (
            "10:cpu:/\n4:memory:/docker/ID\n1:name=systemd:/system.slice/docker.service\n",
            "C 34dc0b5e626f",
        ),
        // v1 and v2.
        (
            "9:pids:/system.slice/ssh.service\n3:cpu,cpuacct:/\n1:name=systemd:/system.slice/ssh.service\n0::/system.slice/ssh.service\n",
            "U ssh.service",
        ),
        (
            "5:devices:/kubepods/besteffort/pod74c13223-5a00-11e9-b385-42010a80018d/ID\n0::/system.slice/containerd.service\n",
            "P 74c13223-5a00-11e9-b385-42010a80018d",
        ),
        ("4:memory:/system.slice/above.service\n0::/system.slice/true.service\n", "U true.service"),
    ]);
}

#[test]
fn no_text_is_too_odd() {
    let long = format!("0::/{}\n", "a/".repeat(100_000));
    let deep = format!("0::{}\n", format!("/docker/{ID}/docker/{OTHER}").repeat(500));
    check(&[
        ("", "-"),
        ("\n\n", "-"),
        ("0\n", "-"),
        ("0:\n", "-"),
        ("0::\n", "-"),
        (":::::", "-"),
        ("////", "-"),
        ("/.slice:", "-"),
        ("/.slice:::", "-"),
        ("/.service", "U .service"),
        ("/-pod.slice/-.scope", "U -.scope"),
        ("/machine-.scope", "-"),
        ("/docker/ID/machine-.scope", "C 34dc0b5e626f"),
        ("/systemd-nspawn@.service", "-"),
        ("/lxc.payload.", "-"),
        // Without the newline at its end.
        ("0::/system.slice/nginx.service", "U nginx.service"),
        ("0::/docker/ID", "C 34dc0b5e626f"),
        // What was not UTF-8.
        ("/system.slice/\u{fffd}\u{fffd}.service", "U \u{fffd}\u{fffd}.service"),
        ("/lxc.payload.\u{1b}[31m", "C \u{1b}[31m"),
        (&long, "-"),
        (&deep, "C 34dc0b5e626f/9bca8d63d5fa"),
    ]);
}
