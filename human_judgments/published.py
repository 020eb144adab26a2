"""Published figures of others, × 100, with the conditions they were made under.

They are shown apart from what a script measures: another model, other training data, or ratings used for
training make another experiment.
"""

from __future__ import annotations

from dataclasses import dataclass

REFERENCES = "words against references, sees no image"
ZERO_SHOT = "CLIP ViT-B/32, zero-shot"
ZERO_SHOT_REFERENCES = "CLIP ViT-B/32 and references, zero-shot"
SUPERVISED = "trained on human ratings"
LARGE = "a large vision-language model judges"

_CLIPSCORE = "Hessel et al. 2021"
_PAC_TABLE = "re-run by Sarto et al. 2023 (PAC-S)"
_DN = "Zhou et al. 2023"
_I0T = "An et al. 2025; which τ is not said, most likely τ-b"
_KIT = "capevalkit 0.1.3"


@dataclass(frozen=True, slots=True)
class Published:
    """One published figure.

    Attributes:
        metric: Name of the metric.
        figure: Which figure, as in ``RatingSet`` reports: ``tau_b``, ``tau_c``, ``HC``, ``accuracy``.
        value: × 100.
        condition: What the metric uses.
        source: Where it was published.
    """

    metric: str
    figure: str
    value: float
    condition: str
    source: str


def _rows(figure: str, source: str, condition: str, **values: float | tuple[float, str]) -> tuple[Published, ...]:
    found = []
    for key, value in values.items():
        number, where = value if isinstance(value, tuple) else (value, source)
        found.append(Published(_NAMES.get(key, key.replace("_", "-")), figure, number, condition, where))
    return tuple(found)


_NAMES = {
    "DN_ref": "DN with references",
    "DN_100": "DN, means of 100 unpaired samples",
    "I0T_post": "I0T_post",
    "I0T_async": "I0T_async",
    "InfoMetIC_plus": "InfoMetIC+",
    "CLIP_S": "CLIPScore",
    "RefCLIP_S": "RefCLIPScore",
}

PUBLISHED: dict[str, tuple[Published, ...]] = {
    "flickr8k_expert": (
        *_rows(
            "tau_c",
            _CLIPSCORE,
            REFERENCES,
            BLEU_1=32.3,
            BLEU_4=30.8,
            ROUGE_L=32.3,
            METEOR=41.8,
            CIDEr=43.9,
            SPICE=44.9,
        ),
        *_rows("tau_c", _CLIPSCORE, ZERO_SHOT, CLIP_S=51.2, DN=(54.3, _DN), DN_100=(53.2, _DN)),
        *_rows("tau_c", _CLIPSCORE, ZERO_SHOT_REFERENCES, RefCLIP_S=53.0, DN_ref=(55.3, _DN)),
        *_rows("tau_c", "Kim et al. 2022, by a leaderboard", "CLIP ViT-B/32 and a fitted set", MID=54.9),
        *_rows("tau_c", _PAC_TABLE, "CLIP ViT-B/32 fine-tuned on COCO with generated pairs", PAC_S=54.3),
        *_rows("tau_b", _I0T, "Long-CLIP fine-tuned on COCO", I0T_post=53.97, I0T_async=53.33),
        *_rows("tau_c", _KIT, SUPERVISED, Polos=56.4),
        *_rows("tau_c", _KIT, LARGE, FLEUR=53.0, EXPERT=56.7),
    ),
    "flickr8k_cf": (
        *_rows("tau_b", _CLIPSCORE, REFERENCES, BLEU_4=16.9, ROUGE_L=19.9, METEOR=22.2, CIDEr=24.6, SPICE=24.4),
        *_rows("tau_b", _CLIPSCORE, ZERO_SHOT, CLIP_S=34.4, DN=(35.4, _DN), DN_100=(35.1, _DN)),
        *_rows("tau_b", _CLIPSCORE, ZERO_SHOT_REFERENCES, RefCLIP_S=36.4, DN_ref=(37.0, _DN)),
        *_rows("tau_b", "Kim et al. 2022, by a leaderboard", "CLIP ViT-B/32 and a fitted set", MID=37.3),
        *_rows("tau_b", _PAC_TABLE, "CLIP ViT-B/32 fine-tuned on COCO with generated pairs", PAC_S=36.0),
        *_rows("tau_b", _I0T, "Long-CLIP fine-tuned on COCO", I0T_post=33.58, I0T_async=33.08),
        *_rows("tau_b", _KIT, SUPERVISED, Polos=37.8),
        *_rows("tau_b", _KIT, LARGE, FLEUR=38.6, EXPERT=39.3),
    ),
    "composite": (
        *_rows("tau_c", _CLIPSCORE, REFERENCES, BLEU_4=30.6, ROUGE_L=32.4, METEOR=38.9, CIDEr=37.7, SPICE=40.3),
        *_rows("tau_c", _CLIPSCORE, ZERO_SHOT, CLIP_S=53.8),
        *_rows("tau_c", _CLIPSCORE, ZERO_SHOT_REFERENCES, RefCLIP_S=55.4),
        *_rows("tau_c", _KIT, "CLIP ViT-B/32 fine-tuned on COCO with generated pairs", PAC_S=55.7),
        *_rows("tau_c", _KIT, SUPERVISED, Polos=57.6),
        *_rows("tau_c", _KIT, LARGE, FLEUR=63.5, EXPERT=65.0),
    ),
    "polaris": (
        *_rows("tau_c", _KIT, REFERENCES, BLEU_4=46.3, ROUGE_L=46.3, METEOR=51.2, CIDEr=52.1, SPICE=51.0),
        *_rows("tau_c", _KIT, ZERO_SHOT, CLIP_S=52.3),
        *_rows("tau_c", f"{_KIT}, which could not reproduce it", ZERO_SHOT_REFERENCES, RefCLIP_S=52.3),
        *_rows("tau_c", _KIT, "trained on this set's training split", Polos=57.8),
    ),
    "nebula": (
        *_rows("tau_c", _KIT, REFERENCES, BLEU_4=44.1, ROUGE_L=43.4, METEOR=47.6, CIDEr=48.8, SPICE=47.4),
        *_rows("tau_c", _KIT, ZERO_SHOT, CLIP_S=47.9),
        *_rows("tau_c", f"{_KIT}, which could not reproduce it", ZERO_SHOT_REFERENCES, RefCLIP_S=46.9),
        *_rows("tau_c", _KIT, SUPERVISED, Polos=55.0),
    ),
    "pascal50s": tuple(
        Published(metric, figure, value, condition, _CLIPSCORE)
        for metric, condition, values in (
            ("length", "number of words", (51.7, 52.3, 63.6, 49.6)),
            ("BLEU-4", REFERENCES, (60.4, 90.6, 84.9, 54.7)),
            ("SPICE", REFERENCES, (63.6, 96.3, 86.7, 68.3)),
            ("METEOR", REFERENCES, (63.8, 97.7, 93.7, 65.4)),
            ("ROUGE-L", REFERENCES, (63.7, 95.3, 92.3, 61.2)),
            ("CIDEr", REFERENCES, (65.1, 98.1, 90.5, 64.8)),
            ("CLIPScore", ZERO_SHOT, (56.5, 99.3, 96.4, 70.4)),
            ("RefCLIPScore", ZERO_SHOT_REFERENCES, (64.5, 99.6, 95.4, 72.8)),
        )
        for figure, value in zip(("HC", "HI", "HM", "MM"), values, strict=True)
    ),
    "foil": (
        *_rows(
            "accuracy, 4 references",
            _CLIPSCORE,
            REFERENCES,
            BLEU_4=82.6,
            ROUGE_L=79.3,
            METEOR=85.4,
            CIDEr=90.6,
            SPICE=86.1,
        ),
        *_rows("accuracy", _CLIPSCORE, ZERO_SHOT, CLIP_S=87.2),
        *_rows("accuracy, 4 references", _CLIPSCORE, ZERO_SHOT_REFERENCES, RefCLIP_S=92.6),
    ),
}
"""By set."""
