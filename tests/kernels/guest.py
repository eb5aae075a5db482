"""One guest: a QEMU process with memory that it shares with the other guests."""

import itertools
import json
import os
import pathlib
import shlex
import signal
import socket
import subprocess
import threading
import time

MIB = 1 << 20
PRIVATE_MIB = 640
DAX_MIB = 512
TOP_MIB = 64  # above the shared range, so that it is not the end of memory
BAR_MIB = 512
BOOT_SECONDS = 240

# Halve the boot, and keep what two QEMU processes see of each other's atomics exact.
KERNEL_ARGUMENTS = """console=ttyS0 quiet nokaslr mitigations=off no_timer_check
    noreplace-smp lsm= audit=0 cryptomgr.notests ipv6.disable=1 panic=-1"""
# Translation gives guests the host's TSC, and adds to it whenever a thread comes to a CPU
# whose TSC is behind: clocks by it ran up to nine times too fast on a busy host.
TRANSLATED_CLOCK = "tsc=unstable clocksource=hpet"


def has_kvm():
    """Of real hardware."""
    flags = pathlib.Path("/proc/cpuinfo").read_text()
    return os.access("/dev/kvm", os.R_OK | os.W_OK) and ("vmx" in flags or "svm" in flags)


def accelerator():
    """KVM where there is one, else translation."""
    if has_kvm():
        return ["-accel", "kvm", "-cpu", "host"]
    return ["-accel", "tcg,thread=multi", "-cpu", "max,-la57"]


class Failure(Exception):
    """A step that did not do what it should."""


class Guest:
    def __init__(self, number, folder, kernel, initial_files, network_port):
        self.number = number
        self.name = f"guest{number}"
        self.address = f"10.0.0.{number + 1}"
        self.folder = folder
        self.kernel = kernel
        self.initial_files = initial_files
        self.network_port = network_port
        self.qemu = None
        self.ids = itertools.count(1)
        self.answers = {}
        self.changed = threading.Condition()

    def path(self, what):
        return f"{self.folder}/{self.name}.{what}"

    # One possible CPU would have TCG leave out what makes atomics hold between two QEMU
    # processes: hence maxcpus=2.
    def command(self):
        shared = "memory-backend-file,share=on"
        start = PRIVATE_MIB * MIB
        soft_reserved = f"memmap={DAX_MIB}M%{start:#x}-1+0xefffffff"
        agent = pathlib.Path(__file__).with_name("agent.py").resolve()
        words = [
            "qemu-system-x86_64", "-machine", "pc", *accelerator(),
            "-smp", "1,maxcpus=2", "-m", f"{PRIVATE_MIB + DAX_MIB + TOP_MIB}M",
            "-object", f"memory-backend-memfd,id=own,size={PRIVATE_MIB}M,share=on",
            "-object", f"{shared},id=dax,size={DAX_MIB}M,mem-path={self.folder}/dax",
            "-object", f"memory-backend-memfd,id=top,size={TOP_MIB}M,share=on",
            "-object", f"{shared},id=bar,size={BAR_MIB}M,mem-path={self.folder}/bar",
            "-numa", "node,nodeid=0,cpus=0-1,memdev=own",
            "-numa", "node,nodeid=1,memdev=dax", "-numa", "node,nodeid=2,memdev=top",
            "-device", "ivshmem-plain,memdev=bar",
            "-chardev", f"socket,id=host,path={self.path('files')}",
            "-device", "vhost-user-fs-pci,chardev=host,tag=host",
            "-device", "virtio-serial-pci",
            "-chardev", f"socket,id=agent,path={self.path('agent')},server=on,wait=off",
            "-device", "virtserialport,chardev=agent,name=agent",
            "-netdev", f"socket,id=net,mcast=230.0.0.1:{self.network_port},"
                       "localaddr=127.0.0.1",
            "-device", f"virtio-net-pci,netdev=net,mac=52:54:00:00:00:{self.number:02x}",
            "-qmp", f"unix:{self.path('qmp')},server=on,wait=off",
            "-nodefaults", "-display", "none", "-no-reboot",
            "-serial", f"file:{self.path('console')}",
            "-kernel", str(self.kernel), "-initrd", str(self.initial_files),
            "-append", " ".join(KERNEL_ARGUMENTS.split()
                                + ([] if has_kvm() else [TRANSLATED_CLOCK])
                                + [soft_reserved, f"sheaf.host={self.name}",
                                   f"sheaf.address={self.address}",
                                   f"sheaf.checkout={agent.parents[2]}",
                                   f"sheaf.agent={agent}"]),
        ]
        return words

    def start(self):
        """Begin to boot; `wait` returns when it is up."""
        for what in ("files", "agent", "qmp"):
            pathlib.Path(self.path(what)).unlink(missing_ok=True)
        self.files = subprocess.Popen(
            ["/usr/lib/qemu/virtiofsd", "--socket-path=" + self.path("files"),
             "-o", "source=/", "-o", "sandbox=chroot", "-o", "cache=always"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.await_path("files")
        with open(self.path("qemu.log"), "w") as log:
            self.qemu = subprocess.Popen(self.command(), stdout=log, stderr=log)
        self.await_path("agent")
        self.await_path("qmp")
        self.agent = socket.socket(socket.AF_UNIX)
        self.agent.connect(self.path("agent"))
        self.answers = {}
        threading.Thread(target=self.listen, args=(self.agent,), daemon=True).start()
        self.monitor = socket.socket(socket.AF_UNIX)
        self.monitor.connect(self.path("qmp"))
        self.monitor_lines = self.monitor.makefile()
        self.monitor_lines.readline()
        self.command_monitor("qmp_capabilities")

    def await_path(self, what):
        for _ in range(500):
            if pathlib.Path(self.path(what)).exists():
                return
            time.sleep(0.02)
        raise Failure(f"{self.name}: no {self.path(what)}: see {self.path('qemu.log')}")

    def listen(self, agent):
        for line in agent.makefile():
            answer = json.loads(line)
            with self.changed:
                self.answers[answer["id"]] = answer
                self.changed.notify_all()

    def wait(self):
        self.await_answer(0, BOOT_SECONDS)

    def await_answer(self, number, seconds):
        end = time.monotonic() + seconds
        with self.changed:
            while not self.changed.wait_for(lambda: number in self.answers, 1):
                if self.qemu.poll() is not None:
                    raise Failure(f"{self.name} is gone ({self.qemu.poll()}; -9: is "
                                  f"there memory?):\n{self.console()}")
                if time.monotonic() > end:
                    raise Failure(f"{self.name}: no answer in {seconds} s:\n"
                                  f"{self.console()}")
            return self.answers.pop(number)

    def console(self):
        """Its end."""
        return pathlib.Path(self.path("console")).read_text(errors="replace")[-2000:]

    def ask(self, seconds, **request):
        number = next(self.ids)
        request["id"] = number
        try:
            self.agent.sendall((json.dumps(request) + "\n").encode())
        except OSError as error:
            raise Failure(f"{self.name} is gone: {error}") from error
        return self.await_answer(number, seconds + 30)

    def run(self, command, expect=0, timeout=120):
        """What a shell command prints; Failure if its exit code is not `expect` (None:
        any)."""
        answer = self.ask(timeout, run=command, timeout=timeout)
        if expect is not None and answer["code"] != expect:
            raise Failure(f"{self.name}: {command}\n  exit code {answer['code']}, "
                          f"expected {expect}:\n{answer['out']}")
        return answer["out"]

    def spawn(self, command):
        return self.ask(30, start=command)["pid"]

    def line(self, process, text=None, timeout=120):
        return self.ask(timeout, line=text, pid=process)["out"].strip()

    def write(self, path, text):
        self.ask(30, write=path, text=text)

    def command_monitor(self, verb):
        self.monitor.sendall((json.dumps({"execute": verb}) + "\n").encode())
        while "return" not in json.loads(self.monitor_lines.readline()):
            pass

    def freeze(self):
        """Pause, unseen by the guest: its clock stands still."""
        self.command_monitor("stop")

    def thaw(self):
        self.command_monitor("cont")

    def stall(self):
        """Pause as a host does that hangs: the clock goes on."""
        self.qemu.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.qemu.send_signal(signal.SIGCONT)

    def kill(self):
        """As a power cut."""
        for process in (self.qemu, self.files):
            if process is not None:
                process.kill()
                process.wait()
        self.qemu = None

    def __str__(self):
        return shlex.join(self.command())
