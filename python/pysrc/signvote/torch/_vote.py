"""The sharded vote over a process group: every rank tallies its part of the coordinates.

Ballots go all-to-all, verdicts all-gather: 2·(N − 1)/N bits a coordinate for each of N ranks, where a ring all-reduce of
float32 takes 64·(N − 1)/N. A ballot's abstentions, and a verdict's holds, are few as a rule, and follow only if any rank has some.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore

from .. import _native
from .._native import MisuseError, SignvoteError
from . import _planes
from ._planes import BITS, Tie

# Of a ballot's row: words of its abstentions that are not zero; flags. Of a verdict's: words of its holds that are not zero.
BALLOT_HEADER = 2
VERDICT_HEADER = 1
ABSTAINS = 1
NOT_FINITE = 2

# How long to wait for the word of other ranks on who is gone.
ROLL_CALL = 5.0


class RankLostError(SignvoteError):
    """A rank of the process group has died or hangs."""


@dataclass
class Ballot:
    """One rank's ballot over some coordinates: ``signs`` and ``abstain`` have the same number of words for every rank.

    ``parts``: numbers and lengths of the tensors that the coordinates consist of; a tie's coin follows from where in its tensor it
    is, and not from where the tensor lies.
    """

    parts: list[tuple[int, int]]
    coordinates: int
    signs: Tensor
    abstain: Tensor
    abstains: bool
    finite: bool


@dataclass
class Verdict:
    """What was decided; without ``hold`` nothing is held. ``finite``: whether every rank's values were."""

    signs: Tensor
    hold: Tensor | None
    finite: bool


@dataclass
class Sent:
    """A ballot on its way."""

    ballot: Ballot
    step: int
    rows: Tensor
    received: Tensor
    work: dist.Work | None


@dataclass
class Traffic:
    """Payload of the vote so far, of this rank, and what a ring all-reduce in float32 would have had."""

    coordinates: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    dense_bytes: int = 0


@dataclass
class Rules:
    """What every rank must do alike."""

    tie: Tie = "coin"
    seed: int = 0
    min_voters: int = 0


@dataclass
class Election:
    """Votes over a process group. Construct it on all ranks at the same time: it makes groups of its own, so that its
    collectives are not mixed up with others."""

    group: dist.ProcessGroup | None
    rules: Rules
    traffic: Traffic = field(default_factory=Traffic)

    def __post_init__(self) -> None:
        if not dist.is_initialized():
            raise MisuseError("torch.distributed is not initialized: call init_process_group() first, or use torchrun")
        self.ranks = dist.get_process_group_ranks(self.group or dist.group.WORLD)
        self.size = len(self.ranks)
        self.rank = dist.get_rank(self.group)
        self.ballots = self._new_group()
        # The later parts of a vote come when a thread has done the earlier ones: on a group of their own, in the order of the
        # votes, whatever else the ranks send meanwhile.
        self.verdicts = self._new_group()

    def _new_group(self) -> dist.ProcessGroup:
        timeout = _timeout_of(self.group or dist.group.WORLD)
        # Not the job's backend, where this group has another.
        backend = None if self.group is None else dist.get_backend_config(self.group)
        group = dist.new_group(self.ranks, timeout, backend, use_local_synchronization=self.group is not None)
        assert isinstance(group, dist.ProcessGroup), "this rank is one of them"
        return group

    def words(self, coordinates: int) -> int:
        """Words of a plane that every rank tallies an equal part of."""
        return -(-_planes.words(coordinates) // self.size) * self.size

    def send(self, ballot: Ballot, step: int) -> Sent:
        """Sends a ballot. Every rank sends its own, in the same order."""
        each = ballot.signs.numel() // self.size
        rows = torch.empty((self.size, BALLOT_HEADER + each), dtype=torch.int64, device=ballot.signs.device)
        flags = ABSTAINS * ballot.abstains + NOT_FINITE * (not ballot.finite)
        rows[:, 1] = flags
        rows[:, 0] = 0
        if ballot.abstains:
            rows[:, 0] = ballot.abstain.view(self.size, each).count_nonzero(dim=1)
        rows[:, BALLOT_HEADER:] = ballot.signs.view(self.size, each)
        received = torch.empty_like(rows)
        work = None
        if self.size == 1:
            received.copy_(rows)
        else:
            with self._blame():
                work = dist.all_to_all_single(received.view(-1), rows.view(-1), group=self.ballots, async_op=True)
        self._count(rows.numel() - rows.shape[1], received.numel() - received.shape[1])
        self.traffic.coordinates += ballot.coordinates
        self.traffic.dense_bytes += 2 * (self.size - 1) * 4 * ballot.coordinates // self.size
        return Sent(ballot, step, rows, received, work)

    def finish(self, sent: Sent) -> Verdict:
        """Tallies this rank's part of a vote, and gathers the others'. Votes are finished in the order in which they were sent."""
        with self._blame():
            if sent.work is not None:
                sent.work.wait()
            return self._finish(sent)

    def _finish(self, sent: Sent) -> Verdict:
        size, ballot = self.size, sent.ballot
        each = ballot.signs.numel() // size
        header = sent.received[:, :BALLOT_HEADER].tolist()
        flags = 0
        for _, flag in header:
            flags |= flag
        finite = not flags & NOT_FINITE
        abstain: list[Tensor | None] = [None] * size
        if flags & ABSTAINS:
            abstain = self._exchange_abstentions(sent, each, [used for used, _ in header])

        first_word = self.rank * each
        here = min(max(ballot.coordinates - first_word * BITS, 0), each * BITS)
        count = _planes.words(here)
        device = ballot.signs.device
        decided = torch.zeros(VERDICT_HEADER + each, dtype=torch.int64, device=device)
        hold = torch.zeros(each, dtype=torch.int64, device=device)
        if here:
            ballots: list[tuple[Tensor, Tensor | None]] = []
            for row, out in zip(sent.received, abstain, strict=True):
                ballots.append((row[BALLOT_HEADER:][:count], None if out is None else out[:count]))
            signs = decided[VERDICT_HEADER:][:count]
            coins = self._coins(sent, first_word, count) if self.rules.tie == "coin" else None
            held = _planes.decide(ballots, here, signs, hold[:count], self.rules.tie, coins, self.rules.min_voters)
            if held:
                decided[0] = hold.count_nonzero()
        if size == 1:
            return Verdict(decided[VERDICT_HEADER:], hold if int(decided[0]) else None, finite)
        gathered = torch.empty((size, decided.numel()), dtype=torch.int64, device=device)
        dist.all_gather_into_tensor(gathered.view(-1), decided, group=self.verdicts)
        self._count((size - 1) * decided.numel(), (size - 1) * decided.numel())
        signs = torch.empty(size * each, dtype=torch.int64, device=device)
        signs.view(size, each).copy_(gathered[:, VERDICT_HEADER:])
        used = gathered[:, 0].tolist()
        return Verdict(signs, self._gather_holds(hold, used) if any(used) else None, finite)

    def _coins(self, sent: Sent, first_word: int, count: int) -> Tensor:
        """Thrown on the CPU wherever the planes are: they are few, and the same bits everywhere."""
        coins = torch.empty(count, dtype=torch.int64)
        _native.coins(sent.ballot.parts, coins, seed=self.rules.seed, step=sent.step, first_word=first_word)
        return coins.to(sent.rows.device)

    def _exchange_abstentions(self, sent: Sent, each: int, used: list[int]) -> list[Tensor | None]:
        """What each rank abstains from, of this rank's coordinates."""
        size, device = self.size, sent.rows.device
        own = sent.ballot.abstain.view(size, each)
        if size == 1:
            return [own[0]]
        out = [_planes.compact(row) if sent.ballot.abstains else row[:0] for row in own]
        lengths = [_planes.compact_length(each, count) for count in used]
        received = torch.empty(sum(lengths), dtype=torch.int64, device=device)
        sizes = [part.numel() for part in out]
        dist.all_to_all_single(received, torch.cat(out), lengths, sizes, group=self.verdicts)
        self._count(sum(sizes) - sizes[self.rank], sum(lengths) - lengths[self.rank])
        planes: list[Tensor | None] = []
        first = 0
        for length, count in zip(lengths, used, strict=True):
            plane = None
            if count:
                plane = torch.empty(each, dtype=torch.int64, device=device)
                _planes.expand(received[first : first + length], count, plane)
            planes.append(plane)
            first += length
        return planes

    def _gather_holds(self, hold: Tensor, used: list[int]) -> Tensor:
        """The whole plane of holds."""
        size, each, device = self.size, hold.numel(), hold.device
        length = max(_planes.compact_length(each, count) for count in used)
        own = torch.zeros(length, dtype=torch.int64, device=device)
        if used[self.rank]:
            compacted = _planes.compact(hold)
            own[: compacted.numel()] = compacted
        gathered = torch.empty((size, length), dtype=torch.int64, device=device)
        dist.all_gather_into_tensor(gathered.view(-1), own, group=self.verdicts)
        self._count((size - 1) * length, (size - 1) * length)
        whole = torch.zeros((size, each), dtype=torch.int64, device=device)
        for part, plane, count in zip(gathered, whole, used, strict=True):
            if count:
                _planes.expand(part[: _planes.compact_length(each, count)], count, plane)
        return whole.view(-1)

    def _count(self, words_sent: int, words_received: int) -> None:
        self.traffic.bytes_sent += 8 * words_sent
        self.traffic.bytes_received += 8 * words_received

    @contextlib.contextmanager
    def _blame(self) -> Iterator[None]:
        """Names the ranks that are gone when a collective fails."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise RankLostError(f"the vote failed: {self._roll_call()} ({error})") from error

    def _roll_call(self) -> str:
        """Who does not answer: every rank whose collective has failed says so in the job's store."""
        # Those who wait for this rank, and not for the one that is gone, are to notice as well.
        for group in (self.ballots, self.verdicts):
            with contextlib.suppress(RuntimeError):
                group.abort()
        try:
            # One election's word is not another's.
            store = PrefixStore(f"signvote/failed/{self.ballots.group_name}", dist.distributed_c10d._get_default_store())
            store.set(str(self.rank), "")
            missing = set(range(self.size)) - {self.rank}
            end = time.monotonic() + ROLL_CALL
            while missing and time.monotonic() < end:
                missing = {rank for rank in missing if not store.check([str(rank)])}
                time.sleep(0.05)
        except RuntimeError:
            # The launcher has it, or rank 0.
            return "the store of the job is gone, and with it rank 0 unless a launcher keeps it"
        names = ", ".join(str(self.ranks[rank]) for rank in sorted(missing))
        if not names:
            return "all ranks are there, but a connection between two of them broke"
        return f"rank {names} is gone or hangs" if len(missing) == 1 else f"ranks {names} are gone or hang"


def _timeout_of(group: Any) -> timedelta | None:
    """How long a collective of this group may take."""
    for device in ("cuda", "cpu"):
        with contextlib.suppress(RuntimeError, AttributeError):
            timeout: timedelta = group._get_backend(torch.device(device)).options._timeout
            return timeout
    return None
