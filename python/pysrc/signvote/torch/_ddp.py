"""The vote as a communication hook of DistributedDataParallel."""

# Without postponed annotations: DistributedDataParallel looks at those of a hook.

import contextlib
import queue
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .._native import MisuseError
from . import _planes
from ._planes import AbstainOn, Tie
from ._vote import Ballot, Election, Rules, Sent, Traffic

ZeroPolicy = Literal["abstain", "positive"]

# What tells an optimizer that momentum has been applied already.
MARK = "_signvote_momentum"


class Scaler(Protocol):
    """What of a ``torch.amp.GradScaler`` is needed."""

    def get_scale(self) -> float: ...

    def is_enabled(self) -> bool: ...


@dataclass
class _Pending:
    """A bucket whose vote is on its way."""

    election: Election
    sent: Sent
    buffer: Tensor
    scale: float
    # What the bucket is filled with if a rank's gradient is not finite.
    unsound: float
    # The stream that the ballot was packed on.
    stream: Any
    future: torch.futures.Future[Tensor]

    def finish(self) -> None:
        verdict = self.election.finish(self.sent)
        if not verdict.finite:
            self.buffer.fill_(self.unsound)
            return
        here = _planes.words(self.buffer.numel())
        hold = None if verdict.hold is None else verdict.hold[:here]
        _planes.unpack(verdict.signs[:here], hold, self.buffer, self.scale)


def _finish_all(waiting: queue.SimpleQueue[_Pending | None]) -> None:
    """Finishes votes in the order in which they were begun, which is the same on all ranks."""
    streams: dict[torch.device, Any] = {}
    while (pending := waiting.get()) is not None:
        device = pending.buffer.device
        try:
            with contextlib.ExitStack() as stack:
                if device.type == "cuda":
                    if device not in streams:
                        streams[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
                    stack.enter_context(torch.cuda.stream(streams[device]))
                    streams[device].wait_stream(pending.stream)
                pending.finish()
                pending.future.set_result(pending.buffer)
        except Exception as error:  # Whoever waits for the gradient is told: nobody else can do anything.
            pending.future.set_exception(error)  # type: ignore[arg-type]
        # A bucket is not kept alive until the next one comes.
        del pending


def _stop(waiting: queue.SimpleQueue[_Pending | None], thread: threading.Thread) -> None:
    """Ends the thread: at the end of the program before the interpreter goes, which would kill it among PyTorch's destructors."""
    waiting.put(None)
    if threading.current_thread() is not thread:
        thread.join(timeout=5)


class SignSGDState:
    """What :func:`majority_vote_hook` keeps between buckets and steps: this rank's momentum, and how to vote.

    Construct it on all ranks at the same time; that may be before ``init_process_group``, as frameworks want it.

    Args:
        process_group: whose ranks vote; the default group if None.
        momentum: β of v = β·v + (1 − β)·g, whose sign is voted on; 0 is signSGD.
        start_iter: steps, at first, in which gradients are averaged as usual; momentum moves meanwhile.
        tie_policy: what a coordinate with as many votes for each side becomes: the throw of a "coin", the same for all ranks;
            "hold": no step; "positive": +1, as in the paper's code.
        zero_policy: what a momentum of exactly zero casts: "abstain", or "positive": a vote for +1.
        abstain_on: "gradient": who has a gradient of exactly zero abstains, whatever its momentum.
        min_voters: fewest votes that decide a coordinate; with fewer it is held.
        seed: of the coins.
        grad_scaler: the ``GradScaler`` that scales the loss, if there is one: momentum is kept without its scale, and the
            verdict comes multiplied by it, for ``unscale_`` to divide.

    What the optimizer sees is a gradient of +1, −1 and, where the vote is to hold, 0: use it with an optimizer that has no
    momentum, such as :class:`signvote.torch.SignSGD` or ``torch.optim.SGD(momentum=0)``.

    If a gradient of any rank is not finite, that bucket is infinite on every rank, so that an enabled ``GradScaler`` skips
    the step everywhere. Without one that bucket is zero, and the others are as decided.
    """

    def __init__(
        self,
        process_group: dist.ProcessGroup | None = None,
        *,
        momentum: float = 0.9,
        start_iter: int = 0,
        tie_policy: Tie = "coin",
        zero_policy: ZeroPolicy = "abstain",
        abstain_on: AbstainOn = "momentum",
        min_voters: int = 0,
        seed: int = 0,
        grad_scaler: Scaler | None = None,
    ) -> None:
        if not 0 <= momentum < 1:
            raise MisuseError(f"momentum: expected at least 0 and below 1, got {momentum}")
        if tie_policy not in ("coin", "hold", "positive"):
            raise MisuseError(f"tie_policy: expected coin, hold or positive, got {tie_policy!r}")
        if zero_policy not in ("abstain", "positive"):
            raise MisuseError(f"zero_policy: expected abstain or positive, got {zero_policy!r}")
        if abstain_on not in ("momentum", "gradient"):
            raise MisuseError(f"abstain_on: expected momentum or gradient, got {abstain_on!r}")
        self.process_group = process_group
        self.momentum = momentum
        self.start_iter = start_iter
        self.zero_policy = zero_policy
        self.abstain_on: AbstainOn = abstain_on
        self.grad_scaler = grad_scaler
        self.step = 0
        self._rules = Rules(tie_policy, seed, min_voters)
        self._elected: Election | None = None
        if dist.is_initialized():
            # At once, so that what is wrong is told here.
            _ = self._election
        # The momentum of a bucket lies in one piece, with a view for each parameter; buckets are cut anew after the first step.
        self._views: dict[nn.Parameter, Tensor] = {}
        self._flats: dict[tuple[int, ...], Tensor] = {}
        # Each parameter's number, for the coins, in the order in which they were first seen: the same on all ranks.
        self._numbers: dict[nn.Parameter, int] = {}
        self._waiting: queue.SimpleQueue[_Pending | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    @property
    def _election(self) -> Election:
        """Made with the first bucket, which all ranks have at the same time, where a framework starts the process group later."""
        if self._elected is None:
            self._elected = Election(self.process_group, self._rules)
        return self._elected

    def compression_stats(self) -> dict[str, float]:
        """Payload so far: what this rank has sent and received, and what a ring all-reduce in float32 would have sent."""
        traffic = self._elected.traffic if self._elected else Traffic()
        sent = traffic.bytes_sent
        return {
            "steps": self.step,
            "coordinates": traffic.coordinates,
            "bytes_sent": sent,
            "bytes_received": traffic.bytes_received,
            "dense_bytes": traffic.dense_bytes,
            "ratio": traffic.dense_bytes / sent if sent else 1.0,
        }

    def state_dict(self, module: nn.Module) -> dict[str, Any]:
        """Momentum by the names of ``module``'s parameters, and the step. Each rank has its own and saves its own."""
        names = _names(module)
        momentum = {names[parameter]: view.clone() for parameter, view in self._views.items() if parameter in names}
        numbers = {names[parameter]: number for parameter, number in self._numbers.items() if parameter in names}
        return {"step": self.step, "momentum": momentum, "numbers": numbers}

    def load_state_dict(self, state: Mapping[str, Any], module: nn.Module) -> None:
        """Goes on where :meth:`state_dict` was taken: on the same rank, with the same parameters."""
        parameters = {name: parameter for parameter, name in _names(module).items()}
        views: dict[nn.Parameter, Tensor] = {}
        for name, value in state["momentum"].items():
            parameter = parameters.get(name)
            if parameter is None:
                raise MisuseError(f"the saved momentum has {name}, which the module has not")
            if value.shape != parameter.shape:
                was, now = tuple(value.shape), tuple(parameter.shape)
                raise MisuseError(f"the saved momentum of {name} has the shape {was}, and the parameter {now}")
            kept = torch.empty_like(parameter, dtype=torch.float32, requires_grad=False)
            views[parameter] = kept.copy_(value)
        self.step = state["step"]
        self._numbers = {parameters[name]: number for name, number in state["numbers"].items()}
        self._views, self._flats = views, {}

    def _momentum_of(self, parameters: list[nn.Parameter], buffer: Tensor) -> Tensor:
        """The momentum of a bucket with these parameters, flat, in the order of its buffer."""
        key = tuple(id(parameter) for parameter in parameters)
        flat = self._flats.get(key)
        if flat is None:
            flat = torch.zeros(buffer.numel(), dtype=torch.float32, device=buffer.device)
            first = 0
            for parameter in parameters:
                view = _view_like(flat[first : first + parameter.numel()], parameter)
                first += parameter.numel()
                if parameter in self._views:
                    view.copy_(self._views[parameter])
                self._views[parameter] = view
                self._numbers.setdefault(parameter, len(self._numbers))
            # A bucket that has a parameter of this one is no more.
            mine = set(key)
            self._flats = {other: kept for other, kept in self._flats.items() if mine.isdisjoint(other)}
            self._flats[key] = flat
            for parameter in parameters:
                setattr(parameter, MARK, self.momentum)
        return flat

    def _vote(self, bucket: Any) -> torch.futures.Future[Tensor]:
        buffer, parameters = bucket.buffer(), bucket.parameters()
        scale = 1.0 if self.grad_scaler is None else float(self.grad_scaler.get_scale())
        gradient = buffer.float() if buffer.dtype != torch.float32 else buffer
        if scale != 1.0:
            gradient = gradient / scale
        election = self._election
        words = election.words(buffer.numel())
        signs = torch.zeros(words, dtype=torch.int64, device=buffer.device)
        abstain = torch.zeros_like(signs)
        here = _planes.words(buffer.numel())
        flat = self._momentum_of(parameters, buffer)
        counts = _planes.momentum_pack(gradient, flat, self.momentum, signs[:here], abstain[:here], self.abstain_on)
        abstained, non_finite = counts.tolist()
        if self.step < self.start_iter:
            return self._average(buffer)
        abstains = self.zero_policy == "abstain" and abstained > 0
        parts = [(self._numbers[parameter], parameter.numel()) for parameter in parameters]
        ballot = Ballot(parts, buffer.numel(), signs, abstain, abstains, non_finite == 0)
        sent = election.send(ballot, self.step)
        device = buffer.device
        future: torch.futures.Future[Tensor] = torch.futures.Future(devices=[] if device.type == "cpu" else [device])
        skips = self.grad_scaler is not None and self.grad_scaler.is_enabled()
        unsound = float("inf") if skips else 0.0
        stream = torch.cuda.current_stream(device) if device.type == "cuda" else None
        self._finish_later(_Pending(election, sent, buffer, scale, unsound, stream, future))
        return future

    def _average(self, buffer: Tensor) -> torch.futures.Future[Tensor]:
        group = self.process_group or dist.group.WORLD
        buffer.div_(self._election.size)
        work = dist.all_reduce(buffer, group=group, async_op=True)
        averaged: torch.futures.Future[Tensor] = work.get_future().then(lambda done: done.value()[0])
        return averaged

    def _finish_later(self, pending: _Pending) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=_finish_all, args=(self._waiting,), name="signvote", daemon=True)
            self._thread.start()
            weakref.finalize(self, _stop, self._waiting, self._thread)
        self._waiting.put(pending)


def majority_vote_hook(
    state: SignSGDState,
    bucket: dist.GradBucket,  # type: ignore[name-defined]
) -> torch.futures.Future[Tensor]:
    """Replaces a bucket of gradients by the majority's signs of momentum: for ``ddp.register_comm_hook(state, hook)``."""
    future = state._vote(bucket)
    if bucket.is_last():
        state.step += 1
    return future


def _names(module: nn.Module) -> dict[nn.Parameter, str]:
    """The names of parameters without DistributedDataParallel's prefix."""
    return {parameter: name.removeprefix("module.") for name, parameter in module.named_parameters()}


def _view_like(flat: Tensor, parameter: Tensor) -> Tensor:
    """A view of a parameter's stretch of a bucket, in the order in which DistributedDataParallel lays it out."""
    if torch.ops.aten.is_non_overlapping_and_dense(parameter):
        return flat.as_strided(parameter.shape, parameter.stride())
    return flat.view(parameter.shape)
