"""Hosts on a network of their own: namespaces on one switch, every link shaped in both directions.

Host number n has the address 10.78.0.n and one network card, eth0. The switch is a bridge in a namespace of its own. Whatever
a host sends is shaped where it leaves the host, and what it is sent where it leaves the switch, so that a link is full duplex:
both directions have the whole rate. Python's standard library only.
"""

import os
import re
import signal
import subprocess
import threading
import time

PREFIX = "netlab"
PATIENCE_AT_THE_END = 10.0
ALLOWED = "/proc/sys/net/ipv4/tcp_allowed_congestion_control"


class Failure(Exception):
    """What ends a run, in one sentence for people."""


def shell(*words, check=True):
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if check and done.returncode != 0:
        raise Failure(f"`{' '.join(words)}` failed: {done.stderr.strip() or done.returncode}")
    return done


def write_setting(path, value):
    try:
        with open(path, "w") as file:
            file.write(value + "\n")
    except OSError as error:
        raise Failure(f"cannot set {path} to {value!r}: {error}") from error


def mbit(rate):
    """The megabits a second that tc's word for a rate means."""
    found = re.fullmatch(r"([0-9.]+)(kbit|mbit|gbit)", rate)
    if not found:
        raise Failure(f"a rate is a number with kbit, mbit or gbit, got {rate!r}")
    return float(found[1]) * {"kbit": 1e-3, "mbit": 1.0, "gbit": 1e3}[found[2]]


def dies_with_its_parent():
    """In a child, before it becomes another program: the kernel kills it should this process be killed outright."""
    import ctypes

    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


class Lab:
    """The switch and its hosts, for as long as the `with` block lasts."""

    def __init__(self, hosts, congestion=None):
        self.count = hosts
        self.congestion = congestion
        self.name = f"{PREFIX}-{os.getpid()}"
        self.processes = []
        self.allowed_before = None

    def __enter__(self):
        sweep()
        try:
            self.build()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_):
        self.remove()

    def build(self):
        if self.congestion:
            self.allow_congestion()
        switch = self.switch()
        shell("ip", "netns", "add", switch)
        shell("ip", "-n", switch, "link", "add", "bridge", "type", "bridge")
        shell("ip", "-n", switch, "link", "set", "bridge", "up")
        for number in self.numbers():
            host, port = self.host(number), f"port{number}"
            shell("ip", "netns", "add", host)
            shell("ip", "-n", switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host)
            shell("ip", "-n", switch, "link", "set", port, "master", "bridge", "up")
            shell("ip", "-n", host, "address", "add", f"{self.address(number)}/24", "dev", "eth0")
            shell("ip", "-n", host, "link", "set", "eth0", "up")
            shell("ip", "-n", host, "link", "set", "lo", "up")
            if self.congestion:
                self.sysctl(number, "net/ipv4/tcp_congestion_control", self.congestion)

    def allow_congestion(self):
        """Where the kernel's default is another, a namespace may choose only what is allowed to all; undone at the end."""
        with open(ALLOWED) as file:
            allowed = file.read().split()
        if self.congestion not in allowed:
            self.allowed_before = " ".join(allowed)
            write_setting(ALLOWED, " ".join([*allowed, self.congestion]))

    def sysctl(self, number, name, value):
        # A namespace's settings are seen, and set, by who is in it.
        line = f"echo {value} > /proc/sys/{name}"
        shell("ip", "netns", "exec", self.host(number), "sh", "-c", line)

    def shape(self, rate, burst, queue_ms):
        """Gives every link this rate; `burst` in bytes, and room for so many milliseconds of it in the queue."""
        for number in self.numbers():
            for namespace, device in ((self.host(number), "eth0"), (self.switch(), f"port{number}")):
                # Removed first: a bucket that is only changed keeps what it holds, and what waits in it.
                shell("tc", "-n", namespace, "qdisc", "del", "dev", device, "root", check=False)
                shell(
                    "tc", "-n", namespace, "qdisc", "add", "dev", device, "root", "tbf",
                    "rate", rate, "burst", str(burst), "latency", f"{queue_ms}ms",
                )

    def drops(self):
        """Packets that did not fit into a queue, of all links since they were shaped."""
        total = 0
        for number in self.numbers():
            for namespace, device in ((self.host(number), "eth0"), (self.switch(), f"port{number}")):
                said = shell("tc", "-n", namespace, "-s", "qdisc", "show", "dev", device, check=False).stdout
                found = re.search(r"dropped (\d+)", said)
                total += int(found[1]) if found else 0
        return total

    def numbers(self):
        return range(1, self.count + 1)

    def address(self, number):
        return f"10.78.0.{number}"

    def host(self, number):
        return f"{self.name}-{number}"

    def switch(self):
        return f"{self.name}-switch"

    def start(self, number, words, directory=None, environment=None):
        """Starts a program on a host; what it prints is kept."""
        process = Process(["ip", "netns", "exec", self.host(number), *map(str, words)], number, directory, environment)
        self.processes.append(process)
        return process

    def stop_all(self):
        for process in self.processes:
            process.kill()
        self.processes.clear()

    def remove(self):
        # A second Ctrl-C must not leave half of it standing.
        held = {which: signal.signal(which, signal.SIG_IGN) for which in (signal.SIGINT, signal.SIGTERM)}
        try:
            self.stop_all()
            remove_namespaces([self.host(number) for number in self.numbers()] + [self.switch()])
            if self.allowed_before is not None:
                write_setting(ALLOWED, self.allowed_before)
                self.allowed_before = None
        finally:
            for which, handler in held.items():
                signal.signal(which, handler)


def remove_namespaces(names):
    for name in names:
        for pid in shell("ip", "netns", "pids", name, check=False).stdout.split():
            try:
                os.kill(int(pid), signal.SIGKILL)
            except (ProcessLookupError, ValueError):
                pass
        shell("ip", "netns", "delete", name, check=False)


def sweep():
    """Removes what a lab that was killed outright has left; the number in a namespace's name is its process."""
    left = []
    for line in shell("ip", "netns", "list", check=False).stdout.splitlines():
        name = line.split()[0] if line.split() else ""
        found = re.fullmatch(PREFIX + r"-(\d+)-(\d+|switch)", name)
        if found and not os.path.exists(f"/proc/{found[1]}"):
            left.append(name)
    remove_namespaces(left)


class Process:
    """A program on a host."""

    def __init__(self, words, number, directory, environment):
        self.number = number
        self.words = words
        # In a session of its own: Ctrl-C at the terminal comes to the lab alone, which stops the others.
        self.child = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=directory, env={**os.environ, **(environment or {})}, start_new_session=True,
            preexec_fn=dies_with_its_parent,
        )
        self.pid = self.child.pid
        self.out, self.err = [], []
        self.readers = [
            threading.Thread(target=self.read, args=(pipe, lines), daemon=True)
            for pipe, lines in ((self.child.stdout, self.out), (self.child.stderr, self.err))
        ]
        for reader in self.readers:
            reader.start()

    @staticmethod
    def read(pipe, lines):
        for line in pipe:
            lines.append(line)

    def running(self):
        return self.child.poll() is None

    def kill(self):
        if self.running():
            self.child.kill()
        try:
            self.child.wait(PATIENCE_AT_THE_END)
        except subprocess.TimeoutExpired:
            pass

    def output(self):
        for reader in self.readers:
            reader.join(PATIENCE_AT_THE_END)
        return "".join(self.out)

    def complaint(self):
        for reader in self.readers:
            reader.join(PATIENCE_AT_THE_END)
        lines = "".join(self.err).strip().splitlines()[-12:]
        return f"host {self.number}, exit code {self.child.returncode}: " + "\n    ".join(lines or ["(it said nothing)"])


def wait_for(processes, seconds):
    """Waits until all have ended well. One that fails, or the time, ends the others."""
    until = time.monotonic() + seconds
    while True:
        ended = [process for process in processes if not process.running()]
        failed = [process for process in ended if process.child.returncode != 0]
        if failed:
            # Those that fail because the first did say less about why: they are given a moment, and left out.
            raise Failure(failed[0].complaint())
        if len(ended) == len(processes):
            return
        if time.monotonic() > until:
            late = ", ".join(str(process.number) for process in processes if process.running())
            raise Failure(f"not done within {seconds:.0f} s on hosts {late}")
        time.sleep(0.02)


class Meter:
    """Reads, while programs run, what they have taken of the CPU and what their hosts have sent and received.

    The kernel counts both; nothing of the programs is needed for it. Work that the kernel does for a packet in an interrupt is
    nobody's, so the machine's busy time is read as well.
    """

    EVERY = 0.05

    def __init__(self, processes):
        self.processes = processes
        self.samples = []
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()

    def run(self):
        while not self.done.wait(self.EVERY):
            self.sample()

    def sample(self):
        cpu, hosts = 0.0, {}
        for process in self.processes:
            seconds, traffic = cpu_seconds(process.pid), traffic_of(process.pid)
            if seconds is None or traffic is None:
                # It has ended, or is not there yet.
                return
            cpu += seconds
            hosts[process.number] = traffic
        self.samples.append((time.monotonic(), cpu, busy_seconds(), hosts))

    def per_exchange(self, exchanges):
        """CPU and busy milliseconds of an exchange, and the most bytes that a host sent and received in one.

        The programs make so many exchanges in all, with work before the first and after the last that is not to be counted: so
        the middle of the traffic is taken, and scaled by its bytes.
        """
        if len(self.samples) < 2 or exchanges < 1:
            return None
        first, last = self.samples[0][3], self.samples[-1][3]
        sent = {number: last[number][1] - first[number][1] for number in last}
        received = {number: last[number][0] - first[number][0] for number in last}
        busiest = max(sent, key=lambda number: sent[number] + received[number])
        moved = lambda sample: sum(sample[3][busiest]) - sum(first[busiest])
        total = moved(self.samples[-1])
        if total <= 0:
            return None
        begin = next(sample for sample in self.samples if moved(sample) >= 0.25 * total)
        end = next(sample for sample in self.samples if moved(sample) >= 0.95 * total)
        part = (moved(end) - moved(begin)) / total * exchanges
        if part <= 0:
            return None
        return {
            "cpu_ms": (end[1] - begin[1]) / part * 1e3,
            "busy_ms": (end[2] - begin[2]) / part * 1e3,
            "bytes_up": max(sent.values()) / exchanges,
            "bytes_down": max(received.values()) / exchanges,
        }


TICK = 1.0 / os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    """User and system time of a process, all its threads."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            # After the name, which is in parentheses and may hold anything.
            fields = file.read().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) * TICK


def traffic_of(pid):
    """Bytes that the card of a process's host has received and sent."""
    try:
        with open(f"/proc/{pid}/net/dev") as file:
            for line in file:
                name, _, counts = line.partition(":")
                if name.strip() == "eth0":
                    fields = counts.split()
                    return int(fields[0]), int(fields[8])
    except OSError:
        pass
    return None


def busy_seconds():
    """Time in which the machine's cores did anything, all of them together."""
    with open("/proc/stat") as file:
        fields = [int(field) for field in file.readline().split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, _steal = fields
    return (user + nice + system + irq + softirq) * TICK


SINK = """
import socket, sys, time
listener = socket.create_server((sys.argv[1], 7600))
print("ready", flush=True)
stream, _ = listener.accept()
buffer, total, began = bytearray(1 << 20), 0, None
while count := stream.recv_into(buffer):
    now = time.monotonic()
    # The first half second is the stream finding its speed.
    if began is None:
        first = now
        began = 0
    if began == 0 and now - first > 0.5:
        began, total = now, 0
        continue
    total, last = total + count, now
print(total * 8 / (last - began) / 1e6)
"""

SOURCE = """
import socket, sys, time
stream = socket.create_connection((sys.argv[1], 7600))
block, until = bytes(1 << 18), time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    stream.sendall(block)
"""


def one_stream_mbit(lab, python, seconds=2.5):
    """What one TCP stream from host 2 to host 1 carries, in Mb/s: the shaped link as a program sees it."""
    sink = lab.start(1, [python, "-c", SINK, lab.address(1)])
    until = time.monotonic() + 10
    while not sink.out:
        if time.monotonic() > until or not sink.running():
            raise Failure("the sink of the link's check does not listen")
        time.sleep(0.02)
    source = lab.start(2, [python, "-c", SOURCE, lab.address(1), str(seconds)])
    try:
        wait_for([sink, source], seconds + 60)
        return float(sink.output().split()[-1])
    finally:
        lab.stop_all()


def machine():
    """What the figures were measured on."""
    cpu = "unknown"
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
                break
    with open("/proc/meminfo") as file:
        kib = int(file.readline().split()[1])
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "kernel": os.uname().release,
        "memory_gib": round(kib / (1 << 20), 1),
    }


def ended_by_signals():
    """Lets SIGTERM end the program as Ctrl-C does: through the `with` blocks, which clean up."""

    def stop(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, stop)
