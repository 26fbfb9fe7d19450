"""A PyTorch model as a worker of a ``signvote server``."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import _native
from .._native import LostError, MisuseError
from ._run import running_statistics

# Batches after which little is left of what running statistics were at first: 0.9³⁰ is 4%.
_BATCHES = 30


class Client:
    """A place in the run of a ``signvote server``, for a model.

    Joins, and waits until a round is open; the model then has the run's parameters. Give it to an optimizer as its
    ``transport``: every step of it is a round. ::

        client = signvote.torch.Client("host:7700", model)
        optimizer = signvote.torch.Signum(model.parameters(), transport=client)
        while not client.finished:
            loss = loss_of(model, next(batches))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    A connection that is lost is made again, and what was missed is caught up with. A round that closed while this worker computed
    is not voted in. When the run is over, the running statistics of batch normalisations go to the server, which keeps the median
    of all workers': :func:`load_run`.

    Args:
        address: host:port.
        model: its parameters, in order, are the coordinates; all workers of a run have the same. All are float32 and on the CPU.
        initial: makes the first parameters, if this worker brings the model: called with the run's terms, whose seed is the
            same for all; None: the parameters that the model has, which must be the same for all workers.
        certs, identity: a directory, and a name in it, for TLS with certificates on both sides.
        others: as of :class:`signvote.Client`.
    """

    def __init__(
        self,
        address: str,
        model: nn.Module,
        *,
        initial: Callable[[_native.Terms], object] | None = None,
        name: str | None = None,
        slot: int | None = None,
        run: str | None = None,
        certs: str | os.PathLike[str] | None = None,
        identity: str | None = None,
        patience: float = 10.0,
        reconnect: float = 300.0,
        settings: Sequence[tuple[str, str]] = (),
        waiting: Callable[[str], object] | None = None,
    ) -> None:
        named = list(model.named_parameters())
        self._parameters = [parameter for _, parameter in named]
        self._model = model
        for label, parameter in named:
            if parameter.device.type != "cpu":
                raise _native.DeviceError(f"{label} is on {parameter.device}: the model of a server's worker is on the CPU")
            if parameter.dtype != torch.float32:
                raise _native.DtypeError(f"{label} is {parameter.dtype}: the model of a server's worker is float32")

        def first(terms: _native.Terms) -> Tensor:
            if initial is not None:
                initial(terms)
            return self._flat()

        self._native = _native.Client(
            address,
            [(label, list(parameter.shape)) for label, parameter in named],
            first,
            name=name,
            slot=slot,
            run=run,
            certs=certs,
            identity=identity,
            patience=patience,
            reconnect=reconnect,
            settings=settings,
            waiting=waiting,
            statistics=bool(running_statistics(model)),
        )
        self.terms = self._native.terms
        self.slot = self._native.slot
        self.finished = False
        self.reason = ""
        self.lr = 0.0
        self.counted = 0
        self._momentum = torch.zeros(self._native.dimension)
        words = _native.words(self._native.dimension)
        self._signs, self._abstain = (torch.zeros(words, dtype=torch.int64) for _ in range(2))
        self._open: int | None = None
        # Whether the run has gone on since the model had its parameters: a gradient taken before is of no use then.
        self._moved = False
        self._report: tuple[float, int, int] | None = None
        self._wait_for_round()

    @property
    def round(self) -> int:
        """Rounds committed."""
        return self._native.round

    @property
    def momentum(self) -> Tensor:
        """This worker's momentum, flat: what it needs, besides what the server has, to go on after a restart."""
        return self._momentum

    def report(self, loss: float, correct: int = 0, samples: int = 0) -> None:
        """How the batch of the coming step went, for the server's page and log; without it the loss of a closure is told."""
        self._report = (loss, correct, samples)

    def vote(self, parameters: Iterable[Tensor], loss: Any = None, scale: float = 1.0) -> None:
        """Casts the ballot of the model's gradients, which are so many times what they should be, and waits for the next round: the
        parameters are then those after it."""
        if self.finished:
            raise MisuseError(f"the run is over: {self.reason}")
        if {id(parameter) for parameter in parameters} != {id(parameter) for parameter in self._parameters}:
            raise MisuseError("an optimizer with a server has all parameters of the client's model, and no others")
        # A round may have been opened anew meanwhile, or have been closed: what is cast belongs to the one that is open.
        self._take(block=False)
        if self._open is not None and not self._moved:
            gradients = [
                torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in self._parameters
            ]
            gradient = torch.cat([gradient.reshape(-1) for gradient in gradients])
            if scale != 1.0:
                gradient /= scale
            _, bad = _native.momentum_pack(
                gradient,
                self._momentum,
                self.terms.momentum,
                self._signs,
                self._abstain,
                abstain_on=self.terms.abstain_on,
            )
            told, correct, samples = self._report or (0.0 if loss is None else float(loss), 0, 0)
            self._native.report(told, correct, samples, bad)
            self._native.cast(0, self._signs, self._abstain)
            self._open = None
        self._report = None
        self._wait_for_round()

    def close(self) -> None:
        """Says goodbye."""
        self._native.close()

    def _wait_for_round(self) -> None:
        while self._open is None and not self.finished:
            self._take(block=True)
        self._moved = False
        with torch.no_grad():
            flat = torch.empty(self._native.dimension)
            self._native.parameters(flat)
            first = 0
            for parameter in self._parameters:
                after = first + parameter.numel()
                parameter.copy_(flat[first:after].view(parameter.shape))
                first = after

    def _take(self, block: bool) -> None:
        """Takes in what the server has said; at least one thing of it if it may block."""
        step = self._native.next(None if block else 0.0)
        while step is not None:
            match step.kind:
                case "open":
                    self._open = step.round
                case "committed":
                    self._open, self._moved, self.lr = None, True, step.lr
                    self.counted += step.counted
                case "finished":
                    self._open, self.finished, self.reason = None, True, step.reason
                    if self._native.wants_statistics:
                        self._submit_statistics()
                    return
                case "paused":
                    self._open = None
                case "replaced":
                    self._moved = True
                    self._open = self._open if self._open == step.round else None
                case other:
                    raise LostError(f"the server has said what this version does not know: {other}")
            step = self._native.next(0.0)

    def _submit_statistics(self) -> None:
        values = torch.cat([buffer.detach().reshape(-1).float().cpu() for buffer in running_statistics(self._model)])
        counts = [buffer for name, buffer in self._model.named_buffers() if name.endswith("num_batches_tracked")]
        fewest = int(min(counts, default=torch.tensor(_BATCHES)))
        why = ""
        if fewest < min(_BATCHES, self.terms.rounds):
            why = f"they are of {fewest} batches, and still nearly what they were at first"
        elif not values.isfinite().all():
            why = "they are not all finite"
        else:
            try:
                self._native.submit_statistics(values)
            except MisuseError as error:
                why = str(error)
        if why:
            # The training is none the worse, and the server need not wait.
            self._native.submit_statistics(values[:0])
            warnings.warn(f"the server has no running statistics from this worker: {why}", stacklevel=4)

    def _flat(self) -> Tensor:
        return torch.cat([parameter.detach().reshape(-1) for parameter in self._parameters])
