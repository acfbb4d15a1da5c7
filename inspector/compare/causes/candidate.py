"""A difference between two networks, before anyone knows whether it matters."""

from __future__ import annotations

from dataclasses import dataclass

from inspector.facts.comparison import CauseKind
from inspector.facts.patch import Patch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """A difference that may be a cause. `patches` is empty where `reason` says why not.

    `left_node` and `right_node` are first outputs of the nodes that it concerns, `more_nodes` all
    of them, with ``l`` or ``r`` in front, where there are several. `is_values` says that numbers
    differ and nothing else is known of how. `begins` are the value of either side in which it
    shows and the name of what gives it, where that is no layer.
    """

    kind: CauseKind
    what: str
    left_where: str
    right_where: str
    left: str
    right: str
    patches: tuple[Patch, ...] = ()
    reason: str = ""
    left_node: str = ""
    right_node: str = ""
    more_nodes: tuple[str, ...] = ()
    is_values: bool = False
    begins: tuple[str, ...] = ()

    @property
    def nodes(self) -> frozenset[str]:
        """First outputs of its nodes, with ``l`` or ``r`` in front for the side."""
        own = ((f"l{self.left_node}", self.left_node), (f"r{self.right_node}", self.right_node))
        return frozenset((*self.more_nodes, *(key for key, node in own if node)))
