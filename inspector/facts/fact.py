"""How a fact is declared of which a model has tens of thousands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["fact"]

if TYPE_CHECKING:
    from dataclasses import dataclass as fact
else:
    from dataclasses import dataclass

    def fact(*, frozen: bool, **options: Any) -> Any:
        """A dataclass that only the type checker holds to being frozen.

        Python builds a frozen one through ``object.__setattr__``, field by field, in twice the
        time: a tenth of all that opening a large graph takes (docs/decisions/0007). Equality and
        hash are those of a frozen one.
        """
        return dataclass(unsafe_hash=frozen, **options)
