#!/usr/bin/env python3
"""Times the exchange of a gradient between hosts of a shaped network: signvote beside PyTorch's Gloo, in one run, in turns.

Needs root, `ip` and `tc`; the peers need a Python with torch (--python). See README.md beside this file.
"""

import argparse
import datetime
import json
import os
import shutil
import statistics
import subprocess
import sys

import lab
import resnet50
from lab import Failure, Lab, Meter, mbit, one_stream_mbit, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
# signvote's bench makes three rounds before those that it times, and one after.
UNTIMED = 4
# What the bucket of each link holds, in bytes: the least with which Gloo is at its best; see README.md.
BURSTS = {100.0: 131_072, 1_000.0: 262_144, 10_000.0: 2_097_152}
# The least that a queue holds, in bytes. Hosts that send to one at the same time lose packets where it is much less.
QUEUE = 2_500_000
# A core that computes for less than this part of an exchange, waits for the network.
CPU_BOUND = 0.85

SIGNVOTE = ["signvote-central", "signvote-sharded"]
PEERS = {
    "gloo-fp32": "fp32",
    "gloo-fp16": "fp16",
    "gloo-powersgd-1": "powersgd-1",
    "gloo-powersgd-2": "powersgd-2",
    # As communication hooks of DistributedDataParallel, on ResNet-50's shapes.
    "hook-vote": "vote",
    "ddp-fp32": "ddp-fp32",
    "ddp-fp16": "ddp-fp16",
    "gloo-powersgd-4": "powersgd-4",
}
EVERY = SIGNVOTE + list(PEERS)
SYSTEMS = SIGNVOTE + ["gloo-fp32", "gloo-fp16", "gloo-powersgd-1", "gloo-powersgd-2"]


def burst_of(rate):
    """Bytes: those of the next rate in the table that is not below."""
    return next((BURSTS[known] for known in sorted(BURSTS) if known >= rate), int(BURSTS[10_000.0] * rate / 10_000.0))


def queue_of(rate):
    """Milliseconds of the rate that a link's queue holds: 50, and at least 2.5 MB."""
    return max(50, round(QUEUE / (rate * 1e6 / 8) * 1e3))


def limit_ms(system, hosts, dim, rate):
    """How long the busiest direction of the busiest link is at work, at the very least.

    Payload only: what Ethernet, IP and TCP add (5% at 1500 bytes a packet) is not in it.
    """
    ballot = dim / 8
    share = (hosts - 1) / hosts
    bytes_of_link = {
        "signvote-central": (hosts - 1) * ballot,
        "signvote-sharded": 2 * share * ballot,
        "gloo-fp32": 2 * share * 4 * dim,
        "gloo-fp16": 2 * share * 2 * dim,
        "gloo-powersgd-1": 2 * share * 4 * resnet50.powersgd_floats(1),
        "gloo-powersgd-2": 2 * share * 4 * resnet50.powersgd_floats(2),
        "gloo-powersgd-4": 2 * share * 4 * resnet50.powersgd_floats(4),
        "hook-vote": 2 * share * ballot,
        "ddp-fp32": 2 * share * 4 * dim,
        "ddp-fp16": 2 * share * 2 * dim,
    }[system]
    return bytes_of_link * 8 / (rate * 1e6) * 1e3


class Bench:
    def __init__(self, flags):
        self.flags = flags
        self.missing = {}
        # The last median of a system at a rate and number of hosts, to know how many rounds fit.
        self.seen = {}
        self.mode = {}
        self.torch = None
        self.find_programs()

    def say(self, text):
        print(text, file=sys.stderr, flush=True)

    def find_programs(self):
        flags = self.flags
        for system in [name for name in flags.systems if name in SIGNVOTE]:
            if not os.path.exists(flags.signvote):
                self.missing[system] = f"{flags.signvote} is not there: cargo build --release"
                continue
            done = subprocess.run(
                [flags.signvote, "bench", "exchange", "--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            self.knows_topology = "--topology" in done.stdout
            if system == "signvote-sharded" and not ("--topology" in done.stdout and "--shard-listen" in done.stdout):
                self.missing[system] = "this signvote has no `bench exchange --topology sharded`"
        peers = [name for name in flags.systems if name in PEERS]
        if peers:
            found = shutil.which(flags.python) or (flags.python if os.path.exists(flags.python) else None)
            done = found and subprocess.run(
                [found, "-c", "import torch; print(torch.__version__)"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            if not done or done.returncode != 0:
                for system in peers:
                    self.missing[system] = f"{flags.python} has no torch"
            else:
                self.torch = done.stdout.strip()
                for system in peers:
                    if system not in ("gloo-fp32", "gloo-fp16") and flags.dim != resnet50.PARAMETERS:
                        self.missing[system] = f"it is measured on ResNet-50's {resnet50.PARAMETERS:,} parameters only"
                if "hook-vote" in peers and subprocess.run([found, "-c", "import signvote.torch"], stderr=subprocess.DEVNULL).returncode:
                    self.missing["hook-vote"] = f"{flags.python} has no signvote: pip install ./python"
        for system, why in self.missing.items():
            self.say(f"{system} is left out: {why}")
        self.systems = [system for system in flags.systems if system not in self.missing]
        if not self.systems:
            raise Failure("there is nothing to measure")

    def rounds_of(self, system, hosts, rate):
        """How many rounds are timed in a turn: as many as fit, and enough over all turns."""
        expected = self.seen.get((system, hosts, rate))
        if expected is None:
            # Before the first turn: the link's time, or the CPU's at some 20 ms a worker.
            expected = max(1.2 * limit_ms(system, hosts, self.flags.dim, rate), 20.0 * hosts * self.flags.dim / resnet50.PARAMETERS)
        return int(min(self.flags.most, max(self.least(), self.flags.budget * 1e3 / expected)))

    def least(self):
        return max(2, -(-self.flags.least // self.flags.turns))

    def patience(self, system, hosts, rate):
        limit = limit_ms(system, hosts, self.flags.dim, rate)
        if "powersgd" in system:
            # Its first steps are dense.
            limit = limit_ms("gloo-fp32", hosts, self.flags.dim, rate)
        rounds = self.least() + 8
        return 120.0 + 10.0 * hosts + self.flags.budget * 4 + 3e-3 * limit * rounds

    def turn(self, net, system, rate):
        """One turn of a system; the figures of its rounds."""
        if system in SIGNVOTE:
            return self.signvote(net, system, rate)
        return self.peer(net, system, rate)

    def signvote(self, net, system, rate):
        flags, hosts = self.flags, net.count
        rounds = self.rounds_of(system, hosts, rate)
        topology = ["--topology", system.split("-")[1]] if self.knows_topology else []
        common = [flags.signvote, "bench", "exchange", "--dim", flags.dim, *topology, "--insecure", "--quiet", "--json"]
        coordinator = f"{net.address(1)}:7700"
        server = net.start(1, [*common, "--role", "server", "--listen", coordinator, "--rounds", rounds, "--workers", hosts])
        workers = []
        for number in net.numbers():
            shard = ["--shard-listen", f"{net.address(number)}:7701"] if system == "signvote-sharded" else []
            workers.append(net.start(number, [*common, "--role", "worker", "--connect", coordinator, *shard]))
        with Meter([server, *workers]) as meter:
            wait_for([server, *workers], self.patience(system, hosts, rate))
        # Rounds go on in step, so the workers' figures are nearly one another's: the slowest is taken.
        told = [json.loads(worker.output().strip().splitlines()[-1]) for worker in workers]
        slowest = max(told, key=lambda row: row["median_ms"])
        return {
            "median_ms": slowest["median_ms"],
            "p95_ms": max(row["p95_ms"] for row in told),
            "rounds": rounds,
            **(meter.per_exchange(rounds + UNTIMED) or {}),
        }

    def peer(self, net, system, rate):
        flags, hosts = self.flags, net.count
        environment = {"GLOO_SOCKET_IFNAME": "eth0", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        patience = self.patience(system, hosts, rate)
        ranks = [
            net.start(
                number,
                [
                    flags.python, os.path.join(HERE, "peer.py"), "--system", PEERS[system], "--rank", number - 1,
                    "--workers", hosts, "--master", net.address(1), "--dim", flags.dim, "--budget", flags.budget,
                    "--least", self.least(), "--most", flags.most, "--mode", self.mode.get((system, hosts, rate), "faster"),
                    "--timeout", patience,
                ],
                environment=environment,
            )
            for number in net.numbers()
        ]
        wait_for(ranks, patience)
        told = json.loads(ranks[0].output().strip().splitlines()[-1])
        # Which way is faster is tried in the first turn, and kept.
        self.mode[system, hosts, rate] = told["mode"]
        times = sorted(told["times_ms"])
        result = {
            "median_ms": statistics.median(times),
            "p95_ms": times[min(len(times) - 1, -(-len(times) * 95 // 100) - 1)],
            "rounds": len(times),
            **{name: told[name] for name in ("cpu_ms", "busy_ms", "bytes_up", "bytes_down", "mode", "tried_ms")},
        }
        if told["backward_ms"]:
            result["backward_ms"] = told["backward_ms"]
        return result

    def setting(self, net, word):
        """All systems at one rate, in turns; their rows."""
        flags, hosts, rate = self.flags, net.count, mbit(word)
        burst, queue = flags.burst or burst_of(rate), flags.queue_ms or queue_of(rate)
        net.shape(word, burst, queue)
        stream = one_stream_mbit(net, sys.executable)
        self.say(f"{hosts} hosts, {word}, burst {burst:,} bytes: one TCP stream carries {stream:,.0f} Mb/s")
        turns = {system: [] for system in self.systems}
        failed = {}
        for number in range(1, flags.turns + 1):
            for system in self.systems:
                if system in failed:
                    continue
                # Every turn begins with full buckets and empty queues.
                net.shape(word, burst, queue)
                try:
                    row = self.turn(net, system, rate)
                except Failure as failure:
                    failed[system] = str(failure)
                    self.say(f"  {system} fails: {failure}")
                    continue
                finally:
                    net.stop_all()
                row["drops"] = net.drops()
                turns[system].append(row)
                self.seen[system, hosts, rate] = row["median_ms"]
                mode = f", {row['mode']}" if "mode" in row else ""
                self.say(f"  turn {number}: {system:<17} {row['median_ms']:9.1f} ms, {row['rounds']} rounds{mode}")
        rows = [self.summary(system, hosts, rate, burst, turns[system]) for system in self.systems if turns[system]]
        rows += [
            {"hosts": hosts, "rate_mbit": rate, "system": system, "failed": why}
            for system, why in failed.items() if not turns[system]
        ]
        dense = next((row for row in rows if row["system"] in ("gloo-fp32", "ddp-fp32") and "median_ms" in row), None)
        for row in rows:
            if "median_ms" in row:
                row["one_stream_mbit"] = round(stream, 1)
                row["speedup_over_gloo_fp32"] = round(dense["median_ms"] / row["median_ms"], 3) if dense else None
        return rows

    def summary(self, system, hosts, rate, burst, turns):
        """The turns of a system together: the median of their medians, the worst of their p95."""
        middle = lambda name: statistics.median(turn[name] for turn in turns if turn.get(name) is not None)
        has = lambda name: any(turn.get(name) is not None for turn in turns)
        median = middle("median_ms")
        limit = limit_ms(system, hosts, self.flags.dim, rate)
        row = {
            "hosts": hosts,
            "rate_mbit": rate,
            "system": system,
            "median_ms": round(median, 3),
            "p95_ms": round(max(turn["p95_ms"] for turn in turns), 3),
            "turns_ms": [round(turn["median_ms"], 3) for turn in turns],
            "rounds": sum(turn["rounds"] for turn in turns),
            "limit_ms": round(limit, 3),
            "ratio_to_limit": round(median / limit, 3),
            "speedup_over_gloo_fp32": None,
            "bytes_up": round(middle("bytes_up")) if has("bytes_up") else None,
            "bytes_down": round(middle("bytes_down")) if has("bytes_down") else None,
            "cpu_ms": round(middle("cpu_ms"), 1) if has("cpu_ms") else None,
            "busy_ms": round(middle("busy_ms"), 1) if has("busy_ms") else None,
            "drops": sum(turn["drops"] for turn in turns),
        }
        if has("bytes_up"):
            row["burst_share"] = round(burst / max(row["bytes_up"], row["bytes_down"]), 4)
        if has("busy_ms"):
            row["cpu_limited"] = row["busy_ms"] >= CPU_BOUND * os.cpu_count() * median
        for name in ("mode", "tried_ms", "backward_ms"):
            if name in turns[0]:
                row[name] = turns[0][name]
        return row

    def run(self):
        flags = self.flags
        result = {
            "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            "machine": lab.machine(),
            "dim": flags.dim,
            "burst_bytes": {word: flags.burst or burst_of(mbit(word)) for word in flags.rates},
            "queue_ms": {word: flags.queue_ms or queue_of(mbit(word)) for word in flags.rates},
            "congestion": flags.congestion,
            "torch": self.torch,
            "signvote": signvote_version(flags.signvote),
            "turns": flags.turns,
            "load_before": os.getloadavg()[0],
            "left_out": self.missing,
            "runs": [],
        }
        for hosts in flags.hosts:
            with Lab(hosts, flags.congestion) as net:
                for word in flags.rates:
                    result["runs"] += self.setting(net, word)
                    # Written as it grows: a run of an hour that is stopped has not been for nothing.
                    if flags.json:
                        write(flags.json, result)
        return result


def signvote_version(path):
    try:
        return subprocess.run([path, "--version"], stdout=subprocess.PIPE, text=True, check=False).stdout.strip() or None
    except OSError:
        return None


def write(path, result):
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path + ".new", "w") as file:
        json.dump(result, file, indent=1)
        file.write("\n")
    os.replace(path + ".new", path)


def size(count):
    return "" if count is None else f"{count / 1e6:.2f} MB"


def table(result):
    machine = result["machine"]
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, Linux {machine['kernel']}; {result['date']}",
        f"an exchange of {result['dim']:,} coordinates; TCP {result['congestion']}; torch {result['torch'] or 'takes no part'}",
        f"load average before: {result['load_before']:.2f}",
        "",
        f"{'hosts':>5} {'rate':>9}  {'system':<17} {'median':>10} {'p95':>10} {'limit':>9} {'of limit':>8} {'to fp32':>8}"
        f" {'sent':>10} {'received':>10} {'burst':>6} {'CPU':>9} {'busy':>5}",
    ]
    before = None
    for row in result["runs"]:
        if before not in (None, (row["hosts"], row["rate_mbit"])):
            lines.append("")
        before = (row["hosts"], row["rate_mbit"])
        head = f"{row['hosts']:>5} {row['rate_mbit']:>5.0f} Mb/s  {row['system']:<17}"
        if "failed" in row:
            lines.append(f"{head} failed: {row['failed'].splitlines()[0]}")
            continue
        limit = f"{row['limit_ms']:>6.1f} ms {row['ratio_to_limit']:>7.2f}×"
        speedup = f"{row['speedup_over_gloo_fp32']:.2f}×" if row["speedup_over_gloo_fp32"] else ""
        burst = f"{row['burst_share']:.1%}" if "burst_share" in row else ""
        cpu = f"{row['cpu_ms']:.0f} ms" if row["cpu_ms"] is not None else ""
        busy = ""
        if row["busy_ms"] is not None:
            busy = f"{min(1.0, row['busy_ms'] / (row['median_ms'] + row.get('backward_ms', 0.0)) / machine['cores']):.0%}"
        marks = "  CPU is the limit" if row.get("cpu_limited") else ""
        if "mode" in row:
            marks += f"  {row['mode']}"
        if row.get("backward_ms"):
            marks += f", without {row['backward_ms']:.0f} ms of backward"
        lines.append(
            f"{head} {row['median_ms']:>7.1f} ms {row['p95_ms']:>7.1f} ms {limit} {speedup:>8}"
            f" {size(row['bytes_up']):>10} {size(row['bytes_down']):>10} {burst:>6} {cpu:>9} {busy:>5}{marks}"
        )
    lines.append("")
    lines.append("sent, received: the most of any host, in one exchange; burst: what a full bucket lets through at once, as a part of that;")
    lines.append("CPU: all processes together; busy: the part of all cores' time in which the machine computed")
    if result["load_before"] > 0.5:
        lines.append("other programs were running: what is said of the CPU as the limit, and fast exchanges, are not to be relied on")
    for system, why in result["left_out"].items():
        lines.append(f"{system} is left out: {why}")
    return "\n".join(lines)


def parsed():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    listed = lambda of: lambda text: [of(word) for word in text.split(",") if word]
    parser.add_argument("--hosts", type=listed(int), default=[4, 7, 15], metavar="N,…")
    parser.add_argument("--rates", type=listed(str), default=["100mbit", "1gbit", "10gbit"], metavar="RATE,…")
    parser.add_argument("--systems", type=listed(str), default=SYSTEMS, metavar="NAME,…", help=f"of {', '.join(EVERY)}; without, the first {len(SYSTEMS)}")
    parser.add_argument("--dim", type=int, default=resnet50.PARAMETERS, help="coordinates; the default is the size of ResNet-50")
    parser.add_argument("--turns", type=int, default=3, help="how often every system is run at each setting, in turns")
    parser.add_argument("--budget", type=float, default=5.0, help="seconds of timed rounds in a turn, if that is enough for --least")
    parser.add_argument("--least", type=int, default=6, help="timed rounds over all turns, at the least")
    parser.add_argument("--most", type=int, default=60, help="timed rounds in one turn, at the most")
    parser.add_argument("--burst", type=int, help="bytes in a link's bucket, instead of those that belong to its rate")
    parser.add_argument("--queue-ms", type=int, help="room in a link's queue, in milliseconds of its rate [default: 50, and at least 2.5 MB]")
    parser.add_argument("--congestion", default="cubic", help="TCP's congestion control on all hosts, for all systems")
    parser.add_argument("--signvote", default=os.path.join(ROOT, "target/release/signvote"), metavar="PATH")
    parser.add_argument("--python", default="/opt/netlab-venv/bin/python", metavar="PATH", help="a Python with torch")
    parser.add_argument("--json", metavar="FILE", help="write all figures to this file")
    parser.add_argument("--table", metavar="FILE", help="print the table of a --json FILE and measure nothing")
    parser.add_argument("--quick", action="store_true", help="4 hosts, 1 Gb/s, four million coordinates: whether it works, within a minute")
    flags = parser.parse_args()
    if flags.quick:
        flags.hosts, flags.rates, flags.dim = [4], ["1gbit"], 4_000_000
        flags.turns, flags.budget, flags.least = 1, 1.0, 5
    unknown = [system for system in flags.systems if system not in EVERY]
    if unknown:
        parser.error(f"there is no system {unknown[0]}: {', '.join(EVERY)}")
    if min(flags.hosts) < 2 or max(flags.hosts) > 250:
        parser.error("--hosts takes numbers from 2 to 250")
    return flags


def main():
    flags = parsed()
    if flags.table:
        with open(flags.table) as file:
            print(table(json.load(file)))
        return 0
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("tc"):
        raise Failure("network namespaces need root, and `ip` and `tc` of iproute2")
    lab.ended_by_signals()
    result = Bench(flags).run()
    print(table(result))
    return 1 if any("failed" in row for row in result["runs"]) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        print(f"netlab: {failure}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("netlab: stopped; the hosts are removed", file=sys.stderr)
        sys.exit(130)
