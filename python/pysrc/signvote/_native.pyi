"""What the native half offers. Arrays are of NumPy, or PyTorch tensors on the CPU: their memory is used as it lies."""

import os
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Literal, TypeAlias, final

# A one-piece array of NumPy, or a tensor on the CPU; which numbers it must hold is said where it is used.
_Array: TypeAlias = Any

__version__: Final[str]

class SignvoteError(Exception):
    """What every error of signvote is."""

class DtypeError(SignvoteError):
    """An array holds numbers of another type."""

class ShapeError(SignvoteError):
    """An array has another length than it must have."""

class DeviceError(SignvoteError):
    """A tensor is on another device than it must be."""

class MemoryLayoutError(SignvoteError):
    """An array does not lie in one piece, or may not be written to."""

class MisuseError(SignvoteError):
    """An argument or a call that makes no sense here."""

class MalformedError(SignvoteError):
    """The other side sent bytes that are no frame."""

class MisbehavedError(SignvoteError):
    """The other side broke a rule of the protocol."""

class IncompatibleError(SignvoteError):
    """Both sides are sound, but this worker cannot take part in this run."""

class RefusedError(SignvoteError):
    """The server said no."""

class UntrustedError(SignvoteError):
    """One side does not take the other for who it should be."""

class LostError(SignvoteError):
    """The server cannot be reached, or is gone."""

class IdentityError(SignvoteError):
    """A certificate or key cannot be read, or is of no use."""

def words(coordinates: int, /) -> int:
    """Words of 64 bits that a plane of so many coordinates has."""

def digest(values: _Array, /) -> str:
    """The digest of parameters, float32, by which replicas are compared: 64 hexadecimal digits."""

def pack(values: _Array, signs: _Array, abstain: _Array) -> tuple[int, int]:
    """Packs the signs of ``values`` (float32, float16 or bfloat16) into ``signs`` and ``abstain`` (uint64 or int64).

    Returns how many coordinates abstain, and how many of those because they are not finite.
    """

def momentum_pack(
    gradient: _Array,
    momentum: _Array,
    beta: float,
    signs: _Array,
    abstain: _Array,
    *,
    abstain_on: Literal["momentum", "gradient"] = "momentum",
) -> tuple[int, int]:
    """Moves ``momentum`` by ``gradient`` (both float32) and packs its signs, in one pass: v = β·v + (1 − β)·g.

    Returns how many coordinates abstain, and how many of those because they are not finite.
    """

def lion_pack(
    gradient: _Array,
    momentum: _Array,
    betas: tuple[float, float],
    signs: _Array,
    abstain: _Array,
    *,
    abstain_on: Literal["momentum", "gradient"] = "momentum",
) -> tuple[int, int]:
    """Packs the signs of Lion's update, c = β₁·m + (1 − β₁)·g, and then moves its momentum, m = β₂·m + (1 − β₂)·g.

    Returns how many coordinates abstain, and how many of those because they are not finite.
    """

def coins(parts: Sequence[tuple[int, int]], out: _Array, *, seed: int, step: int, first_word: int = 0) -> None:
    """The coins of a step for coordinates that consist of parts, each with a number of its own and so many coordinates: into
    ``out``, from word ``first_word`` of all of them on. What a part's coins are does not depend on where it lies."""

def decide(
    ballots: Sequence[tuple[_Array, _Array | None]],
    coordinates: int,
    signs: _Array,
    hold: _Array,
    *,
    tie: Literal["coin", "hold", "positive"] = "hold",
    coins: _Array | None = None,
    min_voters: int = 0,
) -> int:
    """The majority of ``ballots``, coordinate by coordinate, into ``signs`` and ``hold``. Returns how many are held.

    A ballot is its signs and its abstentions, or None for none. A tie becomes what ``tie`` says; for "coin", ``coins`` is a plane
    of them: see :func:`coins`.
    """

def unpack(signs: _Array, hold: _Array | None, out: _Array) -> None:
    """Writes a ballot or a verdict as float32: +1, −1, and 0 where it abstains or holds."""

def apply(x: _Array, signs: _Array, hold: _Array | None, lr: float, weight_decay: float = 0.0) -> None:
    """Moves ``x`` (float32) by a verdict: x = x − η·(s + λ·x), each operation rounded, none fused."""

@final
class Terms:
    """What the workers of a run agree on: the server has handed it out."""

    run: Final[str]
    workers: Final[int]
    batch: Final[int]
    seed: Final[int]
    rounds: Final[int]
    momentum: Final[float]
    abstain_on: Final[Literal["momentum", "gradient"]]
    chunk_coordinates: Final[int]

@final
class Step:
    """What has happened: "open" (vote now), "committed", "replaced", "paused" or "finished"."""

    kind: Final[Literal["open", "committed", "replaced", "paused", "finished"]]
    round: Final[int]
    lr: Final[float]
    weight_decay: Final[float]
    counted: Final[bool]
    reason: Final[str]

@final
class Client:
    """A worker's place in the run of a ``signvote server``.

    A connection that is lost is made again within ``reconnect`` seconds; replica and ballot stay, and what was missed is
    caught up with.
    """

    terms: Final[Terms]
    slot: Final[int]
    dimension: Final[int]

    def __new__(
        cls,
        address: str,
        layout: Sequence[tuple[str, Sequence[int]]],
        initial: Callable[[Terms], _Array],
        *,
        name: str | None = None,
        slot: int | None = None,
        run: str | None = None,
        certs: str | os.PathLike[str] | None = None,
        identity: str | None = None,
        patience: float = 10.0,
        reconnect: float = 300.0,
        settings: Sequence[tuple[str, str]] = ...,
        waiting: Callable[[str], object] | None = None,
        statistics: bool = False,
    ) -> Client:
        """Joins the run of the server at ``address`` (host:port), and waits until a round is open.

        ``layout`` is the model: names and shapes, in order. ``initial`` makes the first parameters from the terms: a flat
        float32 array. With ``certs`` (a directory) and ``identity`` (a name in it) the connection is TLS with
        certificates on both sides. ``waiting`` hears what this worker has to wait for. With ``statistics`` this worker says that
        its model has running statistics, and may be asked for them at the end: see :attr:`wants_statistics`.
        """

    @property
    def round(self) -> int:
        """Rounds committed."""

    @property
    def bytes(self) -> tuple[int, int]:
        """Bytes sent to the server and received from it on the present connection."""

    def next(self, timeout: float | None = None) -> Step | None:
        """The next thing to know; None if it does not come within ``timeout`` seconds."""

    def report(self, loss: float, correct: int = 0, samples: int = 0, non_finite: int = 0) -> None:
        """How the batch of the open round went; before its ballot."""

    def cast(self, first_word: int, signs: _Array, abstain: _Array) -> None:
        """Hands in whole chunks of the ballot, from word ``first_word`` of the model on."""

    def parameters(self, out: _Array) -> None:
        """Copies the parameters, as of the last committed round, into ``out``."""

    @property
    def wants_statistics(self) -> bool:
        """Whether the run is over and its server waits for the running statistics of this worker's model."""

    def submit_statistics(self, values: _Array) -> None:
        """The running statistics of the final model, float32, on this worker's data; none where it has none to give after all."""

    def close(self) -> None:
        """Says goodbye. After this nothing else works."""

    def __enter__(self) -> Client: ...
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /) -> None: ...
