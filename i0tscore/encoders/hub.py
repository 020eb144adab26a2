"""What the model hub has: from its cache first, from the network only if asked and reachable."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from i0tscore.errors import ModelError, WeightsUnavailableError

Result = TypeVar("Result")

TIMEOUT = 5.0
"""Seconds to wait for the hub's first answer."""


def from_hub(fetch: Callable[[], Result], what: str, *, offline: bool) -> Result:
    """Fetch something from the hub's cache, else from the hub.

    The cache goes first, so that a model that is there needs no network at all. A hub that cannot be
    reached is found out with one short request instead of the hub client's many retries.

    Args:
        fetch: Gets it by way of ``huggingface_hub``.
        what: What it is, for the message.
        offline: Whether to leave it at the cache.

    Raises:
        WeightsUnavailableError: If it is neither in the cache nor to be had, with the ways out.
        ModelError: If a package is missing that reads it.
    """
    try:
        with quiet(), _cache_only():
            return fetch()
    except Exception as error:
        # open_clip, transformers and the hub raise whatever they like for what is not in the cache.
        if isinstance(error, ImportError) or "pip install" in str(error):
            raise ModelError(f"{what} needs a package that is not installed: {error}") from error
        reason = _why_not(offline)
        if reason:
            raise WeightsUnavailableError(_ways_out(what, reason)) from error
    try:
        with quiet():
            return fetch()
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsUnavailableError(_ways_out(what, reason)) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what open_clip logs on the root logger and the hub and transformers on theirs."""
    # open_clip calls logging.info and logging.warning, which would also install a handler on the root.
    root = logging.getLogger()
    handler = logging.NullHandler()
    libraries = [logging.getLogger(name) for name in ("huggingface_hub", "transformers", "httpx", "httpx2")]
    levels = [library.level for library in libraries]
    disabled = root.disabled
    root.addHandler(handler)
    root.disabled = True
    for library in libraries:
        library.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        root.disabled = disabled
        root.removeHandler(handler)
        for library, level in zip(libraries, levels, strict=True):
            library.setLevel(level)


@contextmanager
def _cache_only() -> Iterator[None]:
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _why_not(offline: bool) -> str | None:
    """Why the network is not to be used, if it is not."""
    from huggingface_hub import constants, get_session

    if offline or constants.HF_HUB_OFFLINE:
        return "not in the hub's cache, and offline was asked for"
    try:
        get_session().head(constants.ENDPOINT, timeout=TIMEOUT)
    except Exception as error:
        # Every transport has its own exceptions; whichever it is, there is no hub to be reached.
        return f"not in the hub's cache, and {constants.ENDPOINT} cannot be reached ({error})"
    return None


def _ways_out(what: str, reason: str) -> str:
    from huggingface_hub import constants

    return (
        f"{what}: {reason} (cache: {constants.HF_HUB_CACHE}).\n"
        "Three ways out:\n"
        "  --weights FILE   weights from a file (safetensors, or a torch file of tensors alone)\n"
        "  run once with network access, or set HF_HOME to a cache that has the model\n"
        "  --model lite     the embedded model, which needs no download"
    )
