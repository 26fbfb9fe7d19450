"""Optimizers that step by signs: alone, behind the hook, or with a vote of their own."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer

from .._native import MisuseError
from . import _planes
from ._client import Client
from ._ddp import MARK
from ._planes import AbstainOn, Tie
from ._vote import Ballot, Election, Rules

Transport = Literal["c10d"] | dist.ProcessGroup | Client


class _SignOptimizer(Optimizer):
    """What these optimizers have in common: x = x − η·(s + λ·x), where s is a sign."""

    def __init__(
        self,
        params: Any,
        defaults: dict[str, Any],
        *,
        transport: Transport | None,
        abstain_on: AbstainOn,
        tie_policy: Tie,
        min_voters: int,
        seed: int,
    ) -> None:
        lr, weight_decay = defaults["lr"], defaults["weight_decay"]
        if float(lr) < 0:
            raise MisuseError(f"lr: expected at least 0, got {lr}")
        if weight_decay < 0:
            raise MisuseError(f"weight_decay: expected at least 0, got {weight_decay}")
        self._abstain_on: AbstainOn = abstain_on
        # How often it has stepped, which the coins follow from: saved with the options.
        super().__init__(params, {**defaults, "steps": 0})
        self._client = transport if isinstance(transport, Client) else None
        self._election = None
        if transport is not None and self._client is None:
            group = None if transport == "c10d" else transport
            assert not isinstance(group, (str, Client))
            self._election = Election(group, Rules(tie_policy, seed, min_voters))
        if transport is not None:
            # A GradScaler would skip the step of the one rank whose gradients are not finite, and the others would wait for its
            # ballot: it leaves that, and the scale, to an optimizer that says this.
            self._step_supports_amp_scaling = True
        self._warned = False

    def _pack(self, gradient: Tensor, parameter: Tensor, group: dict[str, Any], planes: list[Tensor]) -> Tensor:
        """Moves what is kept of a parameter by its gradient, flat float32, and packs the signs; as ``momentum_pack``."""
        raise NotImplementedError

    def _keeps_momentum(self, group: dict[str, Any]) -> bool:
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step. With a transport all ranks, or all workers of the server, take it together."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self._client is not None:
            self._step_with_server(self._client, loss)
        elif self._election is not None:
            self._step_with_ranks(self._election)
        else:
            for group in self.param_groups:
                self._step_alone(group)
        for group in self.param_groups:
            group["steps"] += 1
        return loss

    def _step_alone(self, group: dict[str, Any]) -> None:
        lr, decay = float(group["lr"]), group["weight_decay"]
        parameters: list[Tensor] = []
        votes: list[Tensor] = []
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is None:
                continue
            self._warn_of_twice(parameter, group)
            count = _planes.words(parameter.numel())
            signs, abstain = (torch.empty(count, dtype=torch.int64, device=parameter.device) for _ in range(2))
            self._pack(_flat(gradient), parameter, group, [signs, abstain])
            if not group["foreach"]:
                _planes.apply(parameter, signs, abstain, lr, decay)
                continue
            vote = torch.empty(parameter.shape, dtype=parameter.dtype, device=parameter.device)
            _planes.unpack(signs, abstain, vote.view(-1))
            parameters.append(parameter)
            votes.append(vote)
        if parameters:
            # The same arithmetic, many tensors at a time: each operation rounded, none fused.
            moves = torch._foreach_mul(parameters, decay)
            torch._foreach_add_(moves, votes)
            torch._foreach_mul_(moves, lr)
            torch._foreach_sub_(parameters, moves)

    def _warn_of_twice(self, parameter: Tensor, group: dict[str, Any]) -> None:
        if self._warned or not getattr(parameter, MARK, 0.0) or not self._keeps_momentum(group):
            return
        self._warned = True
        warnings.warn(
            f"the gradients are verdicts on momentum already (SignSGDState), and {type(self).__name__} would apply momentum "
            "a second time: use signvote.torch.SignSGD, or SignSGDState(momentum=0)",
            stacklevel=4,
        )

    def _step_with_ranks(self, election: Election) -> None:
        # All parameters, whether they have a gradient or not: the ranks must agree on what they vote on. Each begins at a word of
        # its own: packed, and applied, where it lies; bits that are no coordinates are decided too, and not looked at.
        members = [(group, parameter) for group in self.param_groups for parameter in group["params"]]
        lengths = [_planes.words(parameter.numel()) for _, parameter in members]
        coordinates = sum(lengths) * _planes.BITS
        device = members[0][1].device
        signs = torch.zeros(election.words(coordinates), dtype=torch.int64, device=device)
        abstain = torch.zeros_like(signs)
        abstained = non_finite = first = 0
        for (group, parameter), length in zip(members, lengths, strict=True):
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            planes = [signs[first : first + length], abstain[first : first + length]]
            out, bad = self._pack(_flat(gradient, self._scale()), parameter, group, planes).tolist()
            abstained, non_finite = abstained + out, non_finite + bad
            first += length
        parts = [(number, length * _planes.BITS) for number, length in enumerate(lengths)]
        ballot = Ballot(parts, coordinates, signs, abstain, abstained > 0, non_finite == 0)
        verdict = election.finish(election.send(ballot, self.param_groups[0]["steps"]))
        if not verdict.finite:
            return
        first = 0
        for (group, parameter), length in zip(members, lengths, strict=True):
            hold = None if verdict.hold is None else verdict.hold[first : first + length]
            _planes.apply(parameter, verdict.signs[first : first + length], hold, float(group["lr"]), group["weight_decay"])
            first += length

    def _scale(self) -> float:
        """What gradients are multiplied by: a ``GradScaler`` says so for the time of a step."""
        scale = getattr(self, "grad_scale", None)
        return 1.0 if scale is None else float(scale)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As of any optimizer; momentum stays float32, whatever the parameters are."""
        super().load_state_dict(state_dict)
        saved = state_dict["state"]
        numbers = (number for group in state_dict["param_groups"] for number in group["params"])
        parameters = (parameter for group in self.param_groups for parameter in group["params"])
        for number, parameter in zip(numbers, parameters, strict=True):
            if "momentum" in saved.get(number, {}):
                kept = saved[number]["momentum"].to(parameter.device, torch.float32, copy=True)
                self.state[parameter]["momentum"] = kept

    def _step_with_server(self, client: Client, loss: Any) -> None:
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        client.vote(parameters, loss, self._scale())
        for group in self.param_groups:
            group["lr"] = client.lr


class Signum(_SignOptimizer):
    """Signum: x = x − η·(sign(v) + λ·x), with v = β·v + (1 − β)·g (Bernstein et al. 2018).

    Args:
        params: parameters, or groups of them, each with options of its own.
        lr: η.
        momentum: β; 0 is signSGD. Not used with a server, whose terms have it.
        weight_decay: λ, which is multiplied by η.
        foreach: the step by PyTorch's own operations, many parameters at a time.
        transport: with whom to vote in every step. None: with nobody, or gradients are verdicts already
            (:func:`signvote.torch.majority_vote_hook`). "c10d", or a process group: with its ranks.
            A :class:`signvote.torch.Client`: with the workers of its server.
        abstain_on: "gradient": who has a gradient of exactly zero abstains, whatever its momentum.
        tie_policy, min_voters, seed: of the vote with ranks, as in :class:`signvote.torch.SignSGDState`.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        transport: Transport | None = None,
        abstain_on: AbstainOn = "momentum",
        tie_policy: Tie = "coin",
        min_voters: int = 0,
        seed: int = 0,
    ) -> None:
        if not 0 <= momentum < 1:
            raise MisuseError(f"momentum: expected at least 0 and below 1, got {momentum}")
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "foreach": foreach}
        super().__init__(
            params,
            defaults,
            transport=transport,
            abstain_on=abstain_on,
            tie_policy=tie_policy,
            min_voters=min_voters,
            seed=seed,
        )

    def _keeps_momentum(self, group: dict[str, Any]) -> bool:
        return bool(group["momentum"])

    def _pack(self, gradient: Tensor, parameter: Tensor, group: dict[str, Any], planes: list[Tensor]) -> Tensor:
        beta = group["momentum"]
        kept = _kept(self.state[parameter], parameter) if beta else torch.zeros_like(gradient)
        return _planes.momentum_pack(gradient, kept, beta, planes[0], planes[1], self._abstain_on)


class SignSGD(Signum):
    """signSGD: x = x − η·(sign(g) + λ·x). Behind the hook, whose verdicts are signs of momentum, this is Signum."""

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(params, lr, 0.0, weight_decay, **options)


def _flat(gradient: Tensor, scale: float = 1.0) -> Tensor:
    """A gradient as the kernels take it, without its scale."""
    if gradient.is_sparse:
        raise MisuseError("sparse gradients have no sign to vote on: make the embedding dense")
    flat = gradient.float().contiguous().view(-1)
    return flat if scale == 1.0 else flat / scale


def _kept(state: dict[str, Any], parameter: Tensor) -> Tensor:
    """A parameter's momentum, flat; zero at first."""
    kept = state.get("momentum")
    if kept is None:
        # In the order of its indices, however the parameter lies in memory.
        kept = state["momentum"] = torch.zeros(parameter.shape, dtype=torch.float32, device=parameter.device)
    assert isinstance(kept, Tensor)
    return kept.view(-1)


class Lion(_SignOptimizer):
    """Lion, put to the vote: x = x − η·(sign(β₁·m + (1 − β₁)·g) + λ·x), then m = β₂·m + (1 − β₂)·g (Chen et al. 2023).

    The arguments are those of :class:`Signum`, with ``betas`` for ``momentum``. Behind the hook it would keep a second momentum;
    with a server momentum is that of the run.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        transport: Literal["c10d"] | dist.ProcessGroup | None = None,
        abstain_on: AbstainOn = "momentum",
        tie_policy: Tie = "coin",
        min_voters: int = 0,
        seed: int = 0,
    ) -> None:
        if not all(0 <= beta < 1 for beta in betas):
            raise MisuseError(f"betas: expected at least 0 and below 1, got {betas}")
        if isinstance(transport, Client):
            raise MisuseError("a server's run has momentum of its own, and no Lion: use Signum with this transport")
        defaults = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "foreach": foreach}
        super().__init__(
            params,
            defaults,
            transport=transport,
            abstain_on=abstain_on,
            tie_policy=tie_policy,
            min_voters=min_voters,
            seed=seed,
        )

    def _keeps_momentum(self, group: dict[str, Any]) -> bool:
        return any(group["betas"])

    def _pack(self, gradient: Tensor, parameter: Tensor, group: dict[str, Any], planes: list[Tensor]) -> Tensor:
        kept = _kept(self.state[parameter], parameter)
        return _planes.lion_pack(gradient, kept, group["betas"], planes[0], planes[1], self._abstain_on)
