"""Hosts that are none: network namespaces joined by a bridge, each with an address, a name, processes and an sshd of its own.

Needs root, iproute2 and openssh-server. Addresses are of 10.77.0.0/24 and stay inside: the bridge is in a namespace of
its own too, and nothing is routed. Keys and settings of ssh are in a temporary folder; those of this machine are
neither read nor changed. Processes of a host are in a process namespace, whose end ends them all.
"""

import contextlib
import itertools
import os
import pathlib
import re
import shlex
import signal
import subprocess
import time


NUMBERS = itertools.count()  # of the networks of this process


def ip(*arguments, check=True):
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if check and done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}; the tests of hosts need root and network "
                           "namespaces (CAP_SYS_ADMIN)")
    return done.stdout


def delete_namespaces(prefix):
    """Those of a network, and those of networks whose process was killed: nothing runs in them any more."""
    for line in ip("netns", "list", check=False).splitlines():
        found = re.match(r"(switchyard-(\d+)-\S+)", line)
        if found and (found[1].startswith(prefix) or not os.path.exists(f"/proc/{found[2]}")):
            ip("netns", "del", found[1], check=False)


class Host:
    """Host `index` of a network: its first process, `init`, waits in the namespaces; `ssh` leads to it."""

    def __init__(self, network, index, setup):
        self.network, self.index = network, index
        self.name, self.address = f"host-{index}", f"10.77.0.{index + 1}"
        self.space, self.wire = f"{network.prefix}-{index}", f"p{index}"
        ip("netns", "add", self.space)
        ip("link", "add", "eth0", "netns", self.space, "type", "veth", "peer", "name", self.wire, "netns", network.switch)
        ip("-n", self.space, "addr", "add", f"{self.address}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            ip("-n", self.space, "link", "set", link, "up")
        ip("-n", network.switch, "link", "set", self.wire, "master", "br0", "up")
        script = f"""
            hostname {self.name}
            mount --bind {network.folder}/hosts /etc/hosts
            mount -t tmpfs tmpfs /run && mkdir /run/sshd
            {setup}
            /usr/sbin/sshd -D -e -f {network.folder}/sshd_config &
            while true; do sleep 1000 & wait $!; done"""  # as the first process, bash buries what is orphaned
        self.log = open(network.folder / f"{self.name}.log", "w")
        self.keeper = subprocess.Popen(
            # Should this process be killed, so is the host.
            ["setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", self.space, "unshare", "--uts", "--mount", "--pid", "--fork", "--kill-child",
             "--mount-proc", "bash", "-ec", script], stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True)
        self.init = self._first_process()

    def _first_process(self):
        """The process id, outside, of the process that is 1 inside."""
        for _ in range(500):
            with contextlib.suppress(FileNotFoundError, IndexError):
                return int(pathlib.Path(f"/proc/{self.keeper.pid}/task/{self.keeper.pid}/children").read_text().split()[0])
            time.sleep(0.01)
        raise RuntimeError(f"{self.name}: {pathlib.Path(self.log.name).read_text()}")

    def inside(self, *command):
        """The command that runs `command` on the host."""
        return ["nsenter", "--target", str(self.init), "--net", "--uts", "--mount", "--pid", "--wd=" + os.getcwd(),
                *map(str, command)]

    def processes(self):
        """The command lines of all that runs here, but for the first process, its sleep, and sshd with its sessions."""
        space = os.readlink(f"/proc/{self.init}/ns/pid")
        found = []
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                own = int(entry.name) == self.init or line.startswith(("sleep 1000", "sshd: "))
                if line and not own and os.readlink(entry / "ns/pid") == space:
                    found.append(line)
        return found

    def bytes_sent(self):
        """Over the wire, since the host is there."""
        return int(ip("netns", "exec", self.space, "cat", "/sys/class/net/eth0/statistics/tx_bytes"))

    def plug(self, state):
        """Puts the cable in ("up") or pulls it out ("down"), at the switch's side: the host sees no error, only silence."""
        ip("-n", self.network.switch, "link", "set", self.wire, state)

    def end(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.keeper.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError, AttributeError):
            os.kill(self.init, signal.SIGKILL)
        self.keeper.wait(timeout=20)
        self.log.close()


class Network:
    """`with Network(folder, count) as network:` has `hosts`, `ssh` (a command with its options) and `hostfile()`.

    `setups[i]` is shell that host i does before its sshd starts, in a mount namespace of its own.
    """

    def __init__(self, folder, count, setups=None):
        self.folder, self.count, self.setups = folder, count, setups or {}
        self.prefix = f"switchyard-{os.getpid()}-{next(NUMBERS)}"
        self.switch = f"{self.prefix}-switch"
        self.hosts = []
        self.ssh = f"ssh -F {folder}/ssh_config"

    def __enter__(self):
        try:
            self._write_settings()
            ip("netns", "add", self.switch)
            ip("-n", self.switch, "link", "add", "br0", "type", "bridge", "forward_delay", "0")
            ip("-n", self.switch, "link", "set", "br0", "up")
            for index in range(self.count):
                self.hosts.append(Host(self, index, self.setups.get(index, "")))
            for host in self.hosts:
                self._wait_for(host)
            return self
        except BaseException:
            self.__exit__()
            raise

    def _write_settings(self):
        for key in ("host_key", "user_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / key], check=True)
        (self.folder / "authorized_keys").write_text((self.folder / "user_key.pub").read_text())
        names = "".join(f"10.77.0.{i + 1} host-{i}\n" for i in range(self.count))
        (self.folder / "hosts").write_text("127.0.0.1 localhost\n" + names)
        (self.folder / "sshd_config").write_text(
            f"HostKey {self.folder}/host_key\nAuthorizedKeysFile {self.folder}/authorized_keys\nPidFile none\nUsePAM no\n"
            "StrictModes no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n")
        (self.folder / "ssh_config").write_text(
            f"Host *\n  IdentityFile {self.folder}/user_key\n  IdentitiesOnly yes\n  StrictHostKeyChecking no\n"
            "  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n")

    def _wait_for(self, host):
        command = self.hosts[0].inside(*shlex.split(self.ssh), host.name, "true")
        for _ in range(100):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode == 0:
                return
            time.sleep(0.1)
        raise RuntimeError(f"{host.name} does not answer: {done.stderr} {pathlib.Path(host.log.name).read_text()}")

    def hostfile(self, name, *lines):
        path = self.folder / name
        path.write_text("".join(line + "\n" for line in lines))
        return path

    def __exit__(self, *_):
        for host in self.hosts:
            host.end()
        delete_namespaces(self.prefix + "-")
