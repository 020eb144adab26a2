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
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.errors import InputError, MissingExtraError, UsageError
from i0tscore.results import Signature

CLASSIC_METRICS = ("BLEU-1", "BLEU-4", "ROUGE-L", "METEOR", "CIDEr", "SPICE")
"""Metrics in the order of tables."""

_NO_JAVA = (
    "needs Java for the PTB tokenizer, but there is no program `java`. Install one, for example with "
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
        unavailable: Why the other requested metrics could not be computed, by metric.
    """

    values: dict[str, NDArray[np.float64]] = field(default_factory=dict)
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

    Returns:
        The scores, and the reasons for metrics that cannot be computed on this machine.

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
    try:
        candidates, tokenized = _tokenize([[caption] for caption in captions]), _tokenize(references)
    except _UnavailableError as reason:
        return ClassicScores(unavailable=dict.fromkeys(names, str(reason)))
    found: dict[str, Any] = {}
    unavailable: dict[str, str] = {}
    for compute in dict.fromkeys(_COMPUTE[name] for name in names):
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # pycocoevalcap prints its progress
                found |= compute(candidates, tokenized)
        except _UnavailableError as reason:
            unavailable |= {name: str(reason) for name in names if _COMPUTE[name] is compute}
    return ClassicScores({n: np.asarray(found[n], dtype=np.float64) for n in names if n in found}, unavailable)


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


def _bleu(candidates: _Tokens, references: _Tokens) -> dict[str, Any]:
    from pycocoevalcap.bleu.bleu import Bleu

    scores = Bleu(4).compute_score(references, candidates, verbose=0)[1]
    return {"BLEU-1": scores[0], "BLEU-4": scores[3]}


def _rouge(candidates: _Tokens, references: _Tokens) -> dict[str, Any]:
    from pycocoevalcap.rouge.rouge import Rouge

    return {"ROUGE-L": Rouge().compute_score(references, candidates)[1]}


def _cider(candidates: _Tokens, references: _Tokens) -> dict[str, Any]:
    from pycocoevalcap.cider.cider import Cider

    return {"CIDEr": Cider().compute_score(references, candidates)[1]}


def _meteor(candidates: _Tokens, references: _Tokens) -> dict[str, Any]:
    from pycocoevalcap.meteor.meteor import Meteor

    meteor = Meteor()
    try:
        return {"METEOR": meteor.compute_score(references, candidates)[1]}
    except (OSError, ValueError) as error:
        raise _UnavailableError(f"its Java program failed ({error})") from error
    finally:
        for stream in (meteor.meteor_p.stdout, meteor.meteor_p.stderr):
            stream.close()


def _spice(candidates: _Tokens, references: _Tokens) -> dict[str, Any]:
    import pycocoevalcap.spice

    folder = Path(next(iter(pycocoevalcap.spice.__path__)))
    if not (folder / "lib" / "stanford-corenlp-3.6.0-models.jar").is_file():
        raise _UnavailableError(_NO_MODELS)
    from pycocoevalcap.spice.spice import Spice

    try:
        scores = Spice().compute_score(references, candidates)[1]
    except (OSError, subprocess.CalledProcessError) as error:
        raise _UnavailableError(f"its Java program failed ({error})") from error
    return {"SPICE": [score["All"]["f"] for score in scores]}


_COMPUTE: dict[str, Callable[[_Tokens, _Tokens], dict[str, Any]]] = {
    "BLEU-1": _bleu,
    "BLEU-4": _bleu,
    "ROUGE-L": _rouge,
    "METEOR": _meteor,
    "CIDEr": _cider,
    "SPICE": _spice,
}
