"""The encoder behind a metric that is copied, pickled and moved as training frameworks do it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    import torch

    from i0tscore.encoders.base import Encoder

_LOADED: WeakValueDictionary[tuple[Any, ...], Encoder] = WeakValueDictionary()


class Backbone:
    """The encoder of a metric: loaded at first use, once for all metrics that name it, never copied.

    A deep copy shares it, and a pickle of a model's name holds the name alone.

    Args:
        model: ``lite``, ``arch/tag`` of open_clip, or an ``Encoder``.
        loading: Arguments of ``load_encoder`` besides the device.
    """

    def __init__(self, model: str | Encoder, **loading: Any) -> None:
        self._model = model
        self._loading = loading
        self._encoder: Encoder | None = None if isinstance(model, str) else model

    def on(self, device: torch.device) -> Encoder:
        """The encoder, moved to a device if it has a method ``to``.

        Raises:
            UsageError: There is no such model or device.
            WeightsUnavailableError: Its weights are neither cached nor can they be fetched.
        """
        if self._encoder is None:
            from i0tscore.encoders import load_encoder

            key = (self._model, *self._loading.values())
            self._encoder = _LOADED.get(key) or load_encoder(str(self._model), device=str(device), **self._loading)
            _LOADED[key] = self._encoder
        move = getattr(self._encoder, "to", None)
        if move is not None:
            move(device)
        return self._encoder

    def __deepcopy__(self, memo: dict[int, Any]) -> Backbone:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_encoder": None if isinstance(self._model, str) else self._model}
