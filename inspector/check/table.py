"""A table of TOML that is read strictly: what is wrong with it is said, and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn

from inspector.errors import UsageError


class Table:
    """A table, with the file and the name that messages call it by.

    Iterating gives its keys. Every method raises `inspector.errors.UsageError` for a value of
    another type.
    """

    def __init__(self, values: Mapping[str, object], *, where: str, name: str = "") -> None:
        self.values = values
        self._where = where
        self._name = name

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def allow(self, keys: Sequence[str]) -> None:
        """Refuse all other keys."""
        for key in self.values:
            if key not in keys:
                near = difflib.get_close_matches(key.lower().replace("_", "-"), keys, n=1)
                raise UsageError(
                    f"there is no setting {self._name + key!r}",
                    where=self._where,
                    hint=f"did you mean {near[0]!r}?" if near else f"there are {', '.join(keys)}",
                )

    def wrong(self, what: str, hint: str) -> UsageError:
        """An error about the table itself."""
        return UsageError(f"{self._name.rstrip('.')} {what}", where=self._where, hint=hint)

    def string(self, key: str) -> str:
        value = self.values.get(key, "")
        if isinstance(value, str):
            return value
        self._refuse(key, "a string")

    def word(self, key: str, words: Sequence[str], otherwise: str) -> str:
        """One of `words`."""
        value = self.values.get(key, otherwise)
        if isinstance(value, str) and value in words:
            return value
        self._refuse(key, f"one of {', '.join(repr(str(each)) for each in words)}")

    def strings(self, key: str, otherwise: tuple[str, ...] = ()) -> tuple[str, ...]:
        value = self.values.get(key, otherwise)
        if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
            return tuple(value)
        self._refuse(key, "a list of strings")

    def strings_or_one(self, key: str) -> tuple[str, ...]:
        value = self.values.get(key)
        return (value,) if isinstance(value, str) else self.strings(key)

    def number(self, key: str) -> float:
        value = self.values[key]
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                return float(value)
            except OverflowError:
                self._refuse(key, "a number that a float can hold")
        self._refuse(key, "a number")

    def count(self, key: str) -> int | None:
        """A whole number from 1 on; None where the key is not there."""
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
            return value
        self._refuse(key, "a whole number from 1 on")

    def table(self, key: str) -> Table:
        value = self.values.get(key, {})
        if isinstance(value, dict):
            return Table(value, where=self._where, name=f"{self._name}{key}.")
        self._refuse(key, "a table")

    def tables(self) -> Iterator[tuple[str, Table]]:
        """Its values, which are all tables."""
        for key in self.values:
            yield key, self.table(key)

    def rows(self, key: str) -> Iterator[Table]:
        """An array of tables."""
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            self._refuse(key, f"tables, each under [[{self._name}{key}]]")
        for at, each in enumerate(value, 1):
            yield Table(each, where=self._where, name=f"{self._name}{key} {at}.")

    def _refuse(self, key: str, expected: str) -> NoReturn:
        value = self.values.get(key)
        if isinstance(value, bool):
            shown = str(value).lower()
        elif isinstance(value, str | int | float):
            shown = repr(value)
        else:
            shown = _KINDS.get(type(value), "a date")
        raise UsageError(
            f"the setting {self._name + key!r} is {shown}",
            where=self._where,
            hint=f"it takes {expected}",
        )


_KINDS: dict[type, str] = {list: "a list", dict: "a table"}
"""What TOML calls values of these types; the others that are no single words are dates."""
