"""What names tell about where arithmetic came from. They never decide what it computes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

_BATCHNORM = re.compile(
    r"(?:fused)?batch_?norm(?:alization)?(?:_?[123]d)?|(?<![a-z])bn(?![a-z])", re.IGNORECASE
)
"""As frameworks and people call the layer: batch_normalization_3, FusedBatchNormV3, bn2a, conv1_bn."""

_OTHER = re.compile(
    r"(?:layer|instance|group|rms|unit|weight|spectral|local_?response)_?norm", re.IGNORECASE
)
"""Keras' LayerNormalization calls its arithmetic ``layer_normalization/batchnorm/mul``."""

_SEPARATORS = re.compile(r"[/:;.]")


@lru_cache(maxsize=4096)
def batchnorm_scope(name: str) -> str:
    """The part of `name` up to and with the BatchNorm that it names; empty if it names none."""
    if _OTHER.search(name):
        return ""
    found = _BATCHNORM.search(name)
    if found is None:
        return ""
    end = _SEPARATORS.search(name, found.end())
    return name[: end.start()] if end is not None else name


def first_scope(names: Iterable[str]) -> tuple[str, str]:
    """The first of `names` that names a BatchNorm, and the part of it that does; or two empty ones."""
    for name in names:
        scope = batchnorm_scope(name)
        if scope:
            return name, scope
    return "", ""
