"""The vote inside PyTorch.

Two lines turn a training with DistributedDataParallel into a majority vote on the signs of momentum::

    state = signvote.torch.SignSGDState()
    ddp.register_comm_hook(state, signvote.torch.majority_vote_hook)

The optimizer then steps by gradients of ±1: :class:`SignSGD`, or ``torch.optim.SGD`` without momentum.
"""

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:  # pragma: no cover
    raise ModuleNotFoundError("signvote.torch needs PyTorch: pip install 'signvote[torch]'", name="torch") from error

from ._client import Client
from ._ddp import SignSGDState, majority_vote_hook
from ._optim import Lion, SignSGD, Signum
from ._run import load_run
from ._vote import RankLostError

__all__ = ["Client", "Lion", "RankLostError", "SignSGD", "SignSGDState", "Signum", "load_run", "majority_vote_hook"]
