"""Classic caption metrics, computed by pycocoevalcap: BLEU, ROUGE-L, METEOR, CIDEr and SPICE.

They compare the words of captions with those of references and do not use images. All are defined on captions
tokenized by the Stanford PTB tokenizer, a Java program that comes with pycocoevalcap. METEOR and SPICE are Java
programs, too.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.errors import InputError, MissingExtraError, UsageError
from i0tscore.results import Signature

_METRICS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "BLEU-1": ("Bleu", lambda scores: scores[0]),
    "BLEU-4": ("Bleu", lambda scores: scores[3]),
    "ROUGE-L": ("Rouge", np.asarray),
    "METEOR": ("Meteor", np.asarray),
    "CIDEr": ("Cider", np.asarray),
    "SPICE": ("Spice", lambda scores: [score["All"]["f"] for score in scores]),
}
"""The class of pycocoevalcap that computes a metric, and the metric's part of what it returns."""

CLASSIC_METRICS = tuple(_METRICS)
"""Metrics in the order of tables."""

_JAVA_FAILURES: dict[str, tuple[type[Exception], ...]] = {
    "Meteor": (OSError, ValueError),
    "Spice": (OSError, subprocess.CalledProcessError),
}
"""Exceptions that a Java program's failure causes."""

_NO_JAVA = (
    "requires Java for the PTB tokenizer, but `java` was not found. Install it, for example with "
    "`apt-get install default-jre-headless`."
)
_NO_MODELS = (
    "needs Stanford CoreNLP 3.6.0, which pycocoevalcap downloads at first use. Run "
    "`python -m pycocoevalcap.spice.get_stanford_models` with network access in pycocoevalcap's folder spice/."
)

_Tokens = dict[int, list[str]]


@dataclass(frozen=True, slots=True)
class ClassicScores:
    """Scores of classic metrics.

    Attributes:
        values: Scores by metric, shape (n,), float64.
        corpus: Score of all captions together by metric, which for BLEU is not the mean of ``values``.
        unavailable: Why the other requested metrics could not be computed, by metric.
    """

    values: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    corpus: dict[str, float] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)


class _UnavailableError(Exception):
    """A metric cannot be computed on this machine; the message gives the reason."""


def classic_scores(
    captions: Sequence[str], references: Sequence[Sequence[str]], names: Sequence[str] = CLASSIC_METRICS
) -> ClassicScores:
    """Compute classic metrics of each caption against its references.

    CIDEr weights n-grams by their rarity in the references of the whole call, so its scores depend on the other
    samples.

    Args:
        captions: One per sample (n).
        references: At least one for each caption (n).
        names: Some of ``CLASSIC_METRICS``.

    Raises:
        MissingExtraError: pycocoevalcap is not installed.
        UsageError: A metric is unknown.
        InputError: The lengths differ, or a caption has no references.
    """
    unknown = [name for name in names if name not in CLASSIC_METRICS]
    if unknown:
        raise UsageError(f"Unknown classic metric {unknown[0]!r}. Choose one of {', '.join(CLASSIC_METRICS)}.")
    if len(captions) != len(references) or not all(references):
        raise InputError("Classic metrics need at least one reference for every caption.")
    if find_spec("pycocoevalcap") is None:
        raise MissingExtraError("pycocoevalcap", "classic", "BLEU, ROUGE-L, METEOR, CIDEr and SPICE")
    if shutil.which("java") is None:
        return ClassicScores(unavailable=dict.fromkeys(names, _NO_JAVA))
    if not len(captions):
        return ClassicScores({name: np.zeros(0) for name in names})
    corpus: dict[str, float] = {}
    try:
        candidates, tokenized = _tokenize([[caption] for caption in captions]), _tokenize(references)
    except _UnavailableError as reason:
        return ClassicScores(unavailable=dict.fromkeys(names, str(reason)))
    found: dict[str, Any] = {}
    unavailable: dict[str, str] = {}
    for scorer in dict.fromkeys(_METRICS[name][0] for name in names):
        computed = [name for name in names if _METRICS[name][0] == scorer]
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # pycocoevalcap prints its progress
                whole, scores = _compute(scorer, candidates, tokenized)
            # Bleu returns one score for each order of n-grams, the other classes a number.
            corpus |= {name: float(_METRICS[name][1](whole) if scorer == "Bleu" else whole) for name in computed}
            found |= {name: _METRICS[name][1](scores) for name in computed}
        except _UnavailableError as reason:
            unavailable |= dict.fromkeys(computed, str(reason))
    values = {name: np.asarray(found[name], dtype=np.float64) for name in names if name in found}
    return ClassicScores(values, corpus, unavailable)


def classic_signature(name: str, n: int, *more: tuple[str, str]) -> Signature:
    """Return the signature of the scores of ``n`` captions by a classic metric."""
    library = ("lib", f"pycocoevalcap-{version('pycocoevalcap')}")
    return Signature(name, (library, ("tok", "ptb-3.4.1"), ("n", str(n)), *more))


def _tokenize(texts: Sequence[Sequence[str]]) -> _Tokens:
    """Tokenize lists of texts, by position, and remove punctuation as pycocoevalcap does.

    The tokenizer works line by line, so white space is replaced by single spaces first: a line separator would shift
    all texts after it. It is not called through pycocoevalcap's wrapper, which writes a file next to its program and
    fails if packages are read-only.
    """
    from pycocoevalcap.tokenizer import ptbtokenizer

    lines = [" ".join(text.split()) for group in texts for text in group]
    jar = Path(ptbtokenizer.__file__).with_name(ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR)
    program = ["java", "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer"]
    done = subprocess.run(  # noqa: S603 (the arguments are constants)
        [*program, "-preserveLines", "-lowerCase", "-encoding", "UTF-8"],
        input="\n".join(lines).encode(),
        capture_output=True,
        check=False,
    )
    tokenized = done.stdout.decode().removesuffix("\n").split("\n")
    if done.returncode or len(tokenized) != len(lines):
        reason = done.stderr.decode(errors="replace").strip()[-200:]
        raise _UnavailableError(f"the PTB tokenizer failed ({reason})")
    words = (line.split() for line in tokenized)
    clean = iter(" ".join(word for word in line if word not in ptbtokenizer.PUNCTUATIONS) for line in words)
    return {i: [next(clean) for _ in group] for i, group in enumerate(texts)}


def _compute(scorer: str, candidates: _Tokens, references: _Tokens) -> Any:
    """Return the score of all samples and of each, as a class of pycocoevalcap, such as ``Bleu``, returns them."""
    package = f"pycocoevalcap.{scorer.lower()}"
    models = Path("lib", "stanford-corenlp-3.6.0-models.jar")
    if scorer == "Spice" and not Path(import_module(package).__path__[0], models).is_file():
        raise _UnavailableError(_NO_MODELS)
    computing = getattr(import_module(f"{package}.{scorer.lower()}"), scorer)()
    try:
        return computing.compute_score(references, candidates)
    except _JAVA_FAILURES.get(scorer, ()) as error:
        raise _UnavailableError(f"its Java program failed ({error})") from error
    finally:
        if scorer == "Meteor":
            computing.meteor_p.stdout.close()
            computing.meteor_p.stderr.close()
