"""PyTorch models as workers of a `signvote server`, beside the Rust worker."""

from __future__ import annotations

import json
import os
import pathlib
import queue
import re
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

torch = pytest.importorskip("torch")

from torch import nn

import signvote
import signvote.torch

ROOT = pathlib.Path(__file__).resolve().parents[2]


def program() -> str:
    """The `signvote` program: $SIGNVOTE, or what cargo has built."""
    found = [os.environ.get("SIGNVOTE"), *(ROOT / "target" / kind / "signvote" for kind in ("release", "debug"))]
    for path in found:
        if path and pathlib.Path(path).exists():
            return str(path)
    pytest.skip("the signvote program is not built: cargo build -p signvote")


class Server:
    """A server in a process of its own."""

    def __init__(self, directory: pathlib.Path, *flags: str) -> None:
        command = [program(), "server", "--listen", "127.0.0.1:0", "--run-dir", str(directory / "run"), *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        self.said: list[str] = []
        self.address = ""
        for line in self.process.stderr:
            self.said.append(line)
            if found := re.search(r"listens at (\S+)", line):
                self.address = found[1]
                break
        assert self.address, self.said
        self.reader = threading.Thread(target=lambda: self.said.extend(self.process.stderr or []), daemon=True)
        self.reader.start()

    def ended(self) -> str:
        """What it has said, once it has ended well."""
        out, _ = self.process.communicate(timeout=60)
        self.reader.join(timeout=5)
        said = out + "".join(self.said)
        assert self.process.returncode == 0, said
        return said


class Mlp(nn.Module):
    """As the Rust worker's mlp-16: the same names, the same shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 16)
        self.fc2 = nn.Linear(16, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc2(torch.relu(self.fc1(images)))


class Normalised(nn.Module):
    """With running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.bn1, self.fc2 = nn.Linear(784, 16), nn.BatchNorm1d(16), nn.Linear(16, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc2(torch.relu(self.bn1(self.fc1(images))))


def flat(module: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in module.parameters()])


def vote_until_the_end(
    address: str, module: nn.Module, found: dict, until: Callable[[int], object] | None = None, **options: object
) -> None:
    """A worker's loop, on made-up data; `until` is told each round before its gradient."""
    client = signvote.torch.Client(address, module, **options)
    optimizer = signvote.torch.Signum(module.parameters(), transport=client)
    generator = torch.Generator().manual_seed(client.slot)
    while not client.finished:
        if until is not None:
            until(client.round)
        images = torch.rand(32, 784, generator=generator)
        labels = torch.randint(10, (32,), generator=generator)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(module(images), labels)
        loss.backward()
        optimizer.step()
    found[client.slot] = (flat(module), client.round, client.counted, client.reason)
    client.close()


def saved_parameters(path: pathlib.Path, module: nn.Module) -> bytes:
    """The parameters in a file of safetensors, in the order of the module's."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    entries, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    ranges = [entries[name]["data_offsets"] for name, _ in module.named_parameters()]
    return b"".join(data[start:end] for start, end in ranges)


@pytest.fixture
def threads() -> Iterator[list[threading.Thread]]:
    started: list[threading.Thread] = []
    yield started
    for thread in started:
        thread.join(timeout=60)


def test_two_models_and_a_rust_worker_train_together(tmp_path: pathlib.Path, threads: list[threading.Thread]) -> None:
    server = Server(tmp_path, "--workers", "3", "--rounds", "40", "--batch", "32", "--eta", "0.001")
    rust = subprocess.Popen(
        [program(), "worker", "--connect", server.address, "--model", "mlp-16", "--quiet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    found: dict[int, tuple] = {}
    for seed in (1, 2):
        torch.manual_seed(seed)
        thread = threading.Thread(target=vote_until_the_end, args=(server.address, Mlp(), found))
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join(timeout=60)
    _, said = rust.communicate(timeout=60)
    assert rust.returncode == 0, said
    server.ended()
    (one, rounds, counted, reason), (other, *_) = found.values()
    assert (rounds, counted) == (40, 40), reason
    # Whatever each had at first: the run has one model, and the server, which checks the Rust worker's as well, has it, too.
    assert torch.equal(one, other)
    assert one.numpy().tobytes() == saved_parameters(tmp_path / "run" / "model.safetensors", Mlp())


def test_running_statistics_become_the_median_of_all_workers(tmp_path: pathlib.Path, threads: list[threading.Thread]) -> None:
    server = Server(tmp_path, "--workers", "3", "--rounds", "20", "--batch", "32")
    found: dict[int, tuple] = {}
    modules = [Normalised() for _ in range(3)]
    for module in modules:
        thread = threading.Thread(target=vote_until_the_end, args=(server.address, module, found))
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join(timeout=60)
    server.ended()
    loaded = Normalised()
    assert signvote.torch.load_run(loaded, tmp_path / "run") == 20
    assert torch.equal(flat(loaded), found[1][0])
    for name in ("running_mean", "running_var"):
        own = torch.stack([getattr(module.bn1, name) for module in modules])
        assert not torch.equal(own[0], own[1]), "each has its own data"
        assert torch.equal(getattr(loaded.bn1, name), own.median(0).values)

    with pytest.raises(signvote.ShapeError, match="another model"):
        signvote.torch.load_run(Mlp(), tmp_path / "run")
    # What is of other parameters is not used.
    path = tmp_path / "run" / "statistics.safetensors"
    whole = path.read_bytes()
    at = whole.index(b"digest") + len("digest") + 5
    assert whole[at : at + 1] in b"0123456789abcdef"
    path.write_bytes(whole[:at] + (b"1" if whole[at : at + 1] == b"0" else b"0") + whole[at + 1 :])
    fresh = Normalised()
    with pytest.warns(UserWarning, match="of other parameters"):
        signvote.torch.load_run(fresh, tmp_path / "run")
    assert torch.equal(fresh.bn1.running_mean, torch.zeros(16))
    path.unlink()
    with pytest.warns(UserWarning, match=r"has no statistics\.safetensors"):
        signvote.torch.load_run(fresh, tmp_path / "run")
    signvote_file, other_file = tmp_path / "run" / "model.safetensors", tmp_path / "model.safetensors"
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(safetensors.load_file(signvote_file), other_file)
    with pytest.raises(signvote.MisuseError, match="is no file of a run"):
        signvote.torch.load_run(fresh, tmp_path)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda bn: bn.running_mean.fill_(float("nan")), "they are not all finite"),
        (lambda bn: bn.reset_running_stats(), "they are of 1 batches"),
    ],
)
def test_statistics_that_say_nothing_are_not_sent(tmp_path: pathlib.Path, spoil: Callable[[nn.Module], object], why: str) -> None:
    server = Server(tmp_path, "--workers", "1", "--rounds", "3", "--batch", "32")
    module = Normalised()
    with pytest.warns(UserWarning, match=f"no running statistics from this worker: {why}"):
        vote_until_the_end(server.address, module, {}, lambda _: spoil(module.bn1))
    server.ended()
    assert (tmp_path / "run" / "model.safetensors").exists()
    assert not (tmp_path / "run" / "statistics.safetensors").exists()


def test_the_average_of_a_run_is_loaded_unless_it_is_not_wanted(tmp_path: pathlib.Path) -> None:
    server = Server(tmp_path, "--workers", "1", "--rounds", "5", "--batch", "32", "--ema", "0.9")
    module, loaded = Normalised(), Normalised()
    found: dict[int, tuple] = {}
    vote_until_the_end(server.address, module, found)
    server.ended()
    with pytest.warns(UserWarning, match="of other parameters; run training batches through it"):
        signvote.torch.load_run(loaded, tmp_path / "run")
    assert not torch.equal(flat(loaded), found[1][0])
    signvote.torch.load_run(loaded, tmp_path / "run", average=False)
    assert torch.equal(flat(loaded), found[1][0])
    assert torch.equal(loaded.bn1.running_var, module.bn1.running_var)


def test_a_lost_server_is_waited_for_and_caught_up_with(tmp_path: pathlib.Path, threads: list[threading.Thread]) -> None:
    server = Server(tmp_path, "--workers", "2", "--rounds", "400", "--batch", "32")
    found: dict[int, tuple] = {}
    half, killed = threading.Barrier(3), threading.Event()

    def wait_at_half(round_: int) -> None:
        # However fast the machine is, the server is killed before the run is over.
        if round_ == 200:
            half.wait(timeout=60)
            killed.wait(timeout=60)

    for _ in range(2):
        torch.manual_seed(1)
        thread = threading.Thread(target=vote_until_the_end, args=(server.address, Mlp(), found, wait_at_half))
        thread.start()
        threads.append(thread)
    half.wait(timeout=60)
    server.process.kill()
    server.process.wait()
    killed.set()
    again = subprocess.run(
        [program(), "server", "--resume", str(tmp_path / "run"), "--listen", server.address],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    for thread in threads:
        thread.join(timeout=60)
    assert [rounds for _, rounds, *_ in found.values()] == [400, 400]
    (one, *_), (other, *_) = found.values()
    assert torch.equal(one, other)


def test_identities_are_let_in_and_others_are_not(tmp_path: pathlib.Path, threads: list[threading.Thread]) -> None:
    certs = tmp_path / "certs"
    for arguments in (["init"], ["issue", "ada"]):
        subprocess.run([program(), "certs", *arguments, "--dir", str(certs)], check=True, capture_output=True)
    server = Server(tmp_path, "--workers", "1", "--rounds", "5", "--tls", str(certs))
    with pytest.raises(signvote.SignvoteError):
        signvote.torch.Client(server.address, Mlp(), patience=1.0)
    found: dict[int, tuple] = {}
    vote_until_the_end(server.address, Mlp(), found, certs=certs, identity="ada")
    server.ended()
    assert found[1][1] == 5


class Watched:
    """A native client, and at which rounds parameters were taken and ballots cast."""

    def __init__(self, native: signvote.Client) -> None:
        self.native, self.taken, self.cast_at = native, native.round, []

    def __getattr__(self, name: str) -> object:
        return getattr(self.native, name)

    def parameters(self, out: torch.Tensor) -> None:
        self.taken = self.native.round
        self.native.parameters(out)

    def cast(self, *ballot: object) -> None:
        self.cast_at.append((self.taken, self.native.round))
        self.native.cast(*ballot)  # type: ignore[arg-type]


def test_a_late_gradient_is_voted_into_no_later_round(tmp_path: pathlib.Path, threads: list[threading.Thread]) -> None:
    server = Server(tmp_path, "--workers", "2", "--rounds", "21", "--quorum", "1", "--deadline", "0.02")
    # The other worker says where it is, and votes when it may.
    there: queue.Queue[int] = queue.Queue()
    may = threading.Semaphore(0)

    def until(round: int) -> None:
        there.put(round)
        may.acquire()

    found: dict[int, tuple] = {}
    thread = threading.Thread(target=vote_until_the_end, args=(server.address, Mlp(), found, until))
    thread.start()
    threads.append(thread)
    module = Mlp()
    client = signvote.torch.Client(server.address, module)
    watched = client._native = Watched(client._native)  # type: ignore[assignment]
    optimizer = signvote.torch.Signum(module.parameters(), transport=client)
    steps, at = 0, there.get(timeout=30)
    while not client.finished:
        optimizer.zero_grad()
        module(torch.rand(32, 784)).square().mean().backward()
        # Every other time the round closes before this one casts.
        while steps % 2 and at <= client.round:
            may.release()
            at = there.get(timeout=30)
        optimizer.step()
        steps += 1
    for _ in range(3):
        may.release()
    client.close()
    thread.join(timeout=60)
    server.ended()
    assert watched.cast_at and all(taken == cast for taken, cast in watched.cast_at)
    # Now and then it casts before it hears that the round has closed; the server then drops its ballot.
    assert steps == 21 and 11 <= len(watched.cast_at) < 21, "nothing was late"


def test_another_model_is_refused(tmp_path: pathlib.Path, threads: list[threading.Thread]) -> None:
    server = Server(tmp_path, "--workers", "2", "--rounds", "5")
    found: dict[int, tuple] = {}
    thread = threading.Thread(target=vote_until_the_end, args=(server.address, Mlp(), found))
    thread.start()
    threads.append(thread)
    time.sleep(0.5)
    with pytest.raises(signvote.RefusedError, match="model"):
        signvote.torch.Client(server.address, nn.Linear(3, 3))
    vote_until_the_end(server.address, Mlp(), found)
    thread.join(timeout=60)
    server.ended()


def test_ctrl_c_is_heard_while_it_waits(tmp_path: pathlib.Path) -> None:
    server = Server(tmp_path, "--workers", "2", "--rounds", "5")
    code = (
        "import numpy, signal, signvote\n"
        # A shell starts what runs in its background with the signal ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"signvote.Client({server.address!r}, [('w', [3])], lambda terms: numpy.zeros(3, numpy.float32),"
        " waiting=lambda reason: print(reason, flush=True))\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    assert worker.stdout.readline()
    worker.send_signal(signal.SIGINT)
    _, said = worker.communicate(timeout=10)
    assert "KeyboardInterrupt" in said
    server.process.kill()
    server.process.wait()


def test_a_run_whose_workers_do_what_python_workers_do_not_is_refused(tmp_path: pathlib.Path) -> None:
    for setting in ("form lion", "clip-norm 1", "label-smoothing 0.1"):
        flag, value = setting.split()
        (tmp_path / flag).mkdir()
        server = Server(tmp_path / flag, "--workers", "1", "--rounds", "1", f"--{flag}", value)
        try:
            with pytest.raises(signvote.MisuseError, match=f"asks its workers for --{setting}"):
                signvote.torch.Client(server.address, Mlp())
        finally:
            server.process.kill()
            server.process.communicate()
