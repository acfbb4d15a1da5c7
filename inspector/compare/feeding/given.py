"""Inputs for a comparison from the user's files, read batch by batch.

A file or folder gives arrays by name, whose first dimension counts rows. Each goes to the input of
its name, of the left model or else of the right one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from inspector.compare.feeding.draw import common_type, numpy_type
from inspector.compare.feeding.exact import exactly, is_rounded
from inspector.compare.feeding.feeds import MOST_AT_ONCE, Batch, check_samples
from inspector.compare.feeding.fitted import Arrays, Fitted, Group, count_of_rows, group_of
from inspector.compare.feeding.stored import open_archive, open_array, readable
from inspector.compare.pairing.layout import Axes
from inspector.compare.pairing.pair import Pair, shown_dims
from inspector.compare.runtime.run import Array, Fed
from inspector.errors import UnreadableError, UsageError

MOST_GIVEN = 1024
"""Rows that are fed unless asked otherwise: what the models give for them is held in memory."""


class Given:
    """The user's inputs, fitted to pairs of inputs.

    Attributes
    ----------
    describe
        What was fed, for the report: ``images.npz (120 rows)``.
    notes
        What was done to it: rounding, another layout, what was left out.
    """

    def __init__(
        self, groups: Sequence[Group], path: Path, samples: int | None, files: int
    ) -> None:
        self._groups, self._most = groups, samples or MOST_GIVEN
        rows = sum(stop - start for _, (start, stop) in self._cuts(MOST_AT_ONCE))
        total = sum(each.rows for each in groups)
        fed = count_of_rows(rows) if rows == total else f"{rows} of {count_of_rows(total)}"
        if len(groups) < files:
            fed = f"{count_of_rows(rows)} from the first {len(groups)} of {files} files"
        self.describe = f"{path.name or path} ({fed})"
        self.notes = self._noted()

    def batches(self, orders: Sequence[Axes], *, most: int = MOST_AT_ONCE) -> tuple[Batch, ...]:
        """Batches whose values are read when they are asked for.

        Parameters
        ----------
        orders
            For each pair the permutation to use, left dimensions by right position.
        most
            Rows of a batch, where no model fixes them.
        """
        batches = []
        latest = _Latest()
        for group, (start, stop) in self._cuts(most):
            source = _Source(group, orders, start, stop)
            parts = group.fixed if group.fixed[0] != group.fixed[1] and all(group.fixed) else (0, 0)
            batches.append(
                Batch(
                    left=Fed(values=_Values(source, 0, latest), rows=parts[0]),
                    right=Fed(values=_Values(source, 1, latest), rows=parts[1]),
                    size=stop - start,
                )
            )
        return tuple(batches)

    def _cuts(self, most: int) -> Iterator[tuple[Group, tuple[int, int]]]:
        rest = self._most
        for group in self._groups:
            for start, stop in group.cut(most, rest) if rest > 0 else ():
                yield group, (start, stop)
                rest -= stop - start

    def _noted(self) -> tuple[str, ...]:
        notes = []
        for each in (fitted for group in self._groups for fitted in group.arrays):
            narrow, _ = common_type(each.pair.left, each.pair.right)
            if is_rounded(each.stored.dtype, narrow):
                notes.append(
                    f"given {each.stored.name!r} is {each.stored.dtype.name}: "
                    f"rounded to {narrow.name} on both sides"
                )
            if each.turned:
                dims = shown_dims(each.pair.right)
                notes.append(f"given {each.stored.name!r} is laid out as the right model's {dims}")
        for group in self._groups:
            if any(group.fixed) and not all(each.whole for each in group.arrays):
                rest = group.rows % group.step
                if rest:
                    notes.append(
                        f"the last {count_of_rows(rest)} fill no batch of {group.step}: not fed"
                    )
        return tuple(dict.fromkeys(notes))


@dataclass(slots=True, eq=False)
class _Source:
    """The values of one batch for both sides; those read last stay."""

    group: Group
    orders: Sequence[Axes]
    start: int
    stop: int
    pairs: Mapping[int, Mapping[str, int]] = field(init=False)

    def __post_init__(self) -> None:
        arrays = self.group.arrays
        self.pairs = {
            0: {each.pair.left.name: at for at, each in enumerate(arrays)},
            1: {each.pair.right.name: at for at, each in enumerate(arrays)},
        }

    def load(self, side: int, name: str) -> Array:
        at = self.pairs[side][name]
        fitted, order = self.group.arrays[at], self.orders[at]
        values = self._read(fitted)
        order = order if len(order) == values.ndim else tuple(range(values.ndim))
        if fitted.turned != bool(side):
            values = values.transpose(order if side else np.argsort(order))
        value = (fitted.pair.left, fitted.pair.right)[side]
        where = f"given {fitted.stored.name!r}{self._shown()}"
        cast = exactly(values, numpy_type(value), where)
        return np.ascontiguousarray(cast).reshape(values.shape)

    def _read(self, fitted: Fitted) -> Array:
        """In what both sides hold: rounded once, and then the same for both."""
        stored = fitted.stored
        whole = fitted.whole or not stored.shape
        values = stored.read(0, stored.shape[0] if stored.shape else 0) if whole else None
        if values is None:
            values = stored.read(self.start, self.stop)
        narrow, _ = common_type(fitted.pair.left, fitted.pair.right)
        return exactly(values, narrow, f"{stored.where}{'' if whole else self._shown()}")

    def _shown(self) -> str:
        return f", rows {self.start} to {self.stop - 1}"


@dataclass(slots=True, eq=False)
class _Latest:
    """The inputs of the batch and side that were read last: each is asked for several times."""

    of: object = None
    arrays: dict[str, Array] = field(default_factory=dict)


class _Values(Mapping[str, Array]):
    """One side's inputs of a batch, read when asked for: no more than one batch is held."""

    def __init__(self, source: _Source, side: int, latest: _Latest) -> None:
        self._source, self._side, self._latest = source, side, latest

    def __getitem__(self, name: str) -> Array:
        if self._latest.of is not self:
            self._latest.of, self._latest.arrays = self, {}
        if name not in self._latest.arrays:
            found = self._source.load(self._side, name)
            found.flags.writeable = False
            self._latest.arrays[name] = found
        return self._latest.arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._source.pairs[self._side])

    def __len__(self) -> int:
        return len(self._source.pairs[self._side])


def open_given(
    path: str | os.PathLike[str], pairs: Sequence[Pair], *, samples: int | None = None
) -> Given:
    """Open inputs: an .npz file, an .npy file, a folder of .npy (one an input), or of .npz.

    Parameters
    ----------
    path
        Each file of a folder of .npz is one batch.
    pairs
        The inputs to feed.
    samples
        Rows to feed; without it all, up to `MOST_GIVEN`.

    Raises
    ------
    inspector.errors.UnreadableError
        There is no such file, or it is broken.
    inspector.errors.UsageError
        The arrays do not fit the inputs.
    inspector.errors.UndecidedError
        An input takes what cannot be fed, or the models fix batches that cannot be reconciled.
    """
    check_samples(samples)
    path = Path(path)
    if not pairs:
        raise UsageError(f"{path} is given, and the models take no inputs", hint="leave out --data")
    files, intact = _files(path)
    groups: list[Group] = []
    for arrays in files:
        groups.append(group_of(arrays(), pairs, where=str(path), intact=intact))
        if sum(each.rows for each in groups) >= (samples or MOST_GIVEN):
            break
    return Given(groups, path, samples, len(files))


def _files(path: Path) -> tuple[list[Callable[[], Arrays]], bool]:
    """What opens the arrays of each batch file; and whether each is a batch of its own."""
    with readable(str(path)):
        is_folder = path.is_dir()
        # What begins with a dot is the system's: macOS puts such a twin beside each file.
        visible = (each for each in path.iterdir() if not each.name.startswith("."))
        inside = sorted(visible, key=_by_number) if is_folder else []
        if not path.exists():
            raise FileNotFoundError
    arrays = [each for each in inside if each.suffix == ".npy"]
    archives = [each for each in inside if each.suffix == ".npz"]
    if arrays and archives:
        raise UsageError(
            "it holds both .npy and .npz files", where=str(path), hint="keep one kind in it"
        )
    if archives:
        return [partial(_archive, each) for each in archives], True
    if arrays or path.suffix == ".npy":
        return [partial(_folder, arrays or [path])], False
    if is_folder or path.suffix != ".npz":
        raise UsageError(
            "it holds no .npy and no .npz files" if is_folder else "it is no .npz and no .npy file",
            where=str(path),
            hint="give an .npz file, a folder of .npy (one an input) or of .npz (one a batch)",
        )
    return [partial(_archive, path)], False


def _archive(path: Path) -> Arrays:
    found = open_archive(path)
    if not found:
        raise UnreadableError("it holds no arrays", where=str(path), hint="write it with savez")
    return found


def _folder(paths: Sequence[Path]) -> Arrays:
    return {each.stem: partial(open_array, each) for each in paths}


def _by_number(path: Path) -> list[tuple[int, str]]:
    """batch_2 before batch_10."""
    return [(int(each) if each.isdecimal() else -1, each) for each in re.split(r"(\d+)", path.name)]
