"""The vote in Hugging Face's Accelerate, and in the Trainer of Transformers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from accelerate.utils import DistributedDataParallelKwargs

from .torch import SignSGDState, majority_vote_hook


@dataclass
class MajorityVoteKwargs(DistributedDataParallelKwargs):  # type: ignore[misc]
    """Options of DistributedDataParallel, and the vote as its communication hook. ::

        accelerator.ddp_handler = MajorityVoteKwargs()      # before prepare(); of a Trainer: trainer.accelerator

    Accelerate's own ``comm_hook`` takes only the hooks that it knows, and its ``kwargs_handlers`` only its own classes.
    """

    state: SignSGDState | None = None

    def register_comm_hook(self, model: Any) -> None:
        """Called by Accelerate once it has wrapped the model."""
        self.state = self.state or SignSGDState()
        model.register_comm_hook(self.state, majority_vote_hook)

    def to_dict(self, ignore_keys: tuple[str, ...] = ("comm_hook", "comm_wrapper", "comm_state_option", "state")) -> Any:
        """What DistributedDataParallel is to be told."""
        # Not by way of a copy, which would be one of the state as well.
        return {key: value for key, value in vars(self).items() if key not in ignore_keys}
