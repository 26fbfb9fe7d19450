"""A run's model, from the directory of its server."""

from __future__ import annotations

import json
import os
import pathlib
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from .. import _native


def running_statistics(model: nn.Module) -> list[Tensor]:
    """The running means and variances of a model, in the order in which workers send them: that of its parameters."""
    named = model.named_buffers()
    return [buffer for name, buffer in named if name.rpartition(".")[2] in {"running_mean", "running_var"}]


def load_run(model: nn.Module, run_dir: str | os.PathLike[str], *, average: bool = True) -> int:
    """Gives a model the parameters of a run, and its batch normalisations the running statistics of the run's workers.

    The statistics are the medians of what the workers have sent when the run was over; each worker's own model has its own. Where
    the run has none for these parameters the model's are left as they are, with a warning.

    Args:
        model: of the same names and shapes as the workers'.
        run_dir: the directory of ``signvote server --run-dir``.
        average: of a run with ``--ema``, whether to take the average. The workers' statistics are of the last parameters, not its.

    Returns:
        How many rounds the run had.
    """
    directory = pathlib.Path(run_dir)
    path = directory / "ema.safetensors"
    if not average or not path.exists():
        path = directory / "model.safetensors"
    notes, tensors = _read(path, "signvote")
    saved = [(name, tensors[name]) for name in notes["order"]]
    named = list(model.named_parameters())
    if [(name, value.shape) for name, value in saved] != [(name, parameter.shape) for name, parameter in named]:
        raise _native.ShapeError(f"{path} holds another model: its parameters have other names or shapes")
    buffers = running_statistics(model)
    statistics, why = _statistics(directory, [value for _, value in saved], buffers) if buffers else ([], "")
    with torch.no_grad():
        for (_, parameter), (_, value) in zip(named, saved, strict=True):
            parameter.copy_(value)
        for buffer, value in zip(buffers, statistics, strict=False):
            buffer.copy_(value.view(buffer.shape))
    if why:
        advice = "run training batches through it (torch.optim.swa_utils.update_bn)"
        warnings.warn(f"the model keeps its running statistics: {why}; {advice}", stacklevel=2)
    rounds: int = notes["round"]
    return rounds


def _statistics(directory: pathlib.Path, parameters: list[Tensor], buffers: list[Tensor]) -> tuple[list[Tensor], str]:
    """What to fill the buffers with, or why there is nothing."""
    path = directory / "statistics.safetensors"
    if not path.exists():
        return [], f"the run has no {path.name}"
    notes, tensors = _read(path, "signvote-statistics")
    values = tensors["statistics"]
    if notes["digest"] != _native.digest(torch.cat([parameter.reshape(-1) for parameter in parameters])):
        return [], f"{path.name} is of other parameters"
    counts = [buffer.numel() for buffer in buffers]
    if values.numel() != sum(counts):
        return [], f"{path.name} has {values.numel()} values, and the model's have {sum(counts)}"
    return list(torch.split(values, counts)), ""


def _read(path: pathlib.Path, key: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The notes and the tensors of a file of a run."""
    try:
        from safetensors import safe_open
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("load_run needs safetensors: pip install safetensors", name="safetensors") from error
    with safe_open(path, "pt") as file:
        notes = (file.metadata() or {}).get(key)
        if notes is None:
            raise _native.MisuseError(f"{path} is no file of a run: its header has no {key!r} entry")
        # The file is no dictionary, whatever its keys look like.
        return json.loads(notes), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
