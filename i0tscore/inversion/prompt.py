"""The template of textual inversion as tokens, with places for pseudo-tokens."""

from __future__ import annotations

from collections import Counter

from i0tscore.encoders.base import Encoder, Tokens
from i0tscore.errors import ModelError, UsageError

PLACEHOLDERS = ("£", "*", "x")
"""Words that stand for a pseudo-token until it takes their place; the first that is one token is used."""


def place_tokens(encoder: Encoder, template: str, count: int) -> tuple[Tokens, int]:
    """Tokenize a template with places for pseudo-tokens.

    Args:
        encoder: What tokenizes.
        template: A text with one ``{}``.
        count: How many pseudo-tokens stand in its place.

    Returns:
        The tokens, and the id that stands for a pseudo-token, there ``count`` times.

    Raises:
        UsageError: If the template has no single ``{}``, or it does not fit the context length.
        ModelError: If the tokenizer makes one token of none of the placeholder words.

    Example:
        >>> from i0tscore.encoders import load_encoder
        >>> tokens, placeholder = place_tokens(load_encoder("lite"), "a photo of {}", 2)
        >>> [number == placeholder for number in tokens.ids]
        [False, False, False, False, True, True, False]
    """
    if template.count("{}") != 1:
        raise UsageError(f"the template must have {{}} once, for the pseudo-tokens, got {template!r}")
    for word in PLACEHOLDERS:
        bare, one, all_of_them = encoder.tokenize(
            [template.replace("{}", " ".join([word] * times)) for times in (0, 1, count)]
        )
        extra = list((Counter(one.ids) - Counter(bare.ids)).elements())
        if len(extra) != 1 or extra[0] in bare.ids:
            continue
        if all_of_them.cut:
            raise UsageError(
                f"the template with {count} pseudo-tokens has {all_of_them.cut} tokens more than the "
                f"{encoder.context_length} the model takes: shorten it, or ask for fewer"
            )
        if all_of_them.ids.count(extra[0]) == count:
            return all_of_them, extra[0]
    raise ModelError(
        f"the tokenizer of {encoder.fingerprint.name} makes one token of none of {', '.join(PLACEHOLDERS)} "
        f"in {template!r}: use another template"
    )
