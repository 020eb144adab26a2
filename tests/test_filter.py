"""What ``i0tscore filter`` keeps, and that the rest of a file stays as it is."""

from __future__ import annotations

import csv
import io
import json
import os
import resource
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import jsonschema
import numpy as np
import pyarrow
import pytest
from commands import run
from examples_on_disk import ROOT, write_examples
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

import i0tscore
from i0tscore.errors import I0TScoreError, StatisticsError, UsageError
from i0tscore.gap import normalize
from i0tscore.render import RENDERERS
from i0tscore.render.document import Document
from i0tscore.results import Resampling
from i0tscore.results.selection import precision_threshold
from i0tscore.samples import embeddings, reader, writers
from i0tscore.samples.embeddings import read_clip_retrieval
from i0tscore.samples.reader import CaptionReader, read_samples
from i0tscore.samples.rules import SelectionRules, field_key, parse_criteria
from i0tscore.samples.writers import Entry
from studies.filtering import METHODS, Corpus, measure, whole

LITE = ["--model", "lite", "--quiet"]
KEEP = ["--keep", "p_match >= 0.5"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return write_examples(tmp_path_factory.mktemp("filter"))


@pytest.fixture
def here(place, tmp_path, monkeypatch):
    """A working folder, with 21 captions of 7 images in the folder images."""
    (tmp_path / "images").symlink_to(place / "images")
    (tmp_path / "captions.jsonl").write_bytes((place / "captions.jsonl").read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("I0TSCORE_CACHE", str(place / "cache"))
    return tmp_path


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def by_image() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in rows_of(Path("captions.jsonl")):
        found.setdefault(row["image"], []).append(row["caption"])
    return found


# Criteria


@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(st.floats(-2, 2), min_size=1, max_size=20),
    bounds=st.tuples(st.floats(-2, 2), st.floats(-2, 2)),
    operator=st.sampled_from([">=", "<=", ">", "<", "between"]),
)
def test_criteria_compare_as_python_does(values, bounds, operator):
    low, high = sorted(bounds)
    text = f"x between {low!r} and {high!r}" if operator == "between" else f"x {operator} {low!r}"
    (criterion,) = parse_criteria(text)
    for value in values:
        expected = low <= value <= high if operator == "between" else eval(f"{value!r} {operator} {low!r}")
        assert (criterion.low <= value <= criterion.high) == expected


def test_criteria_are_joined_and_settings_are_kept():
    found = parse_criteria(
        "p_match(CLIPScore(std=shift(0.5), clip=no)) >= .5 AND tokens between 5 and 70 and I0TScore<1e-1"
    )
    assert [one.field for one in found] == ["p_match(CLIPScore(std=shift(0.5), clip=no))", "tokens", "I0TScore"]
    assert [one.text for one in found][1:] == ["tokens between 5 and 70", "I0TScore<1e-1"]
    assert field_key("P_MATCH( clipscore(clip=no,std=shift(0.5)) )") == field_key(found[0].field)


@pytest.mark.parametrize(
    "text",
    ["", "p_match", "p_match >=", "p_match >= high", "p_match >= 1 or tokens > 3", "x > 1 and", "__import__('os')"],
)
def test_other_text_is_refused(text):
    with pytest.raises(UsageError, match="Expected criteria such as"):
        parse_criteria(text)
    with pytest.raises(UsageError, match="Swap the numbers"):
        parse_criteria("x between 2 and 1")


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({}, "Expected a rule for what to keep"),
        ({"keep_precision": 0.9}, "go together"),
        ({"keep_precision": 1.0, "prior": 0.5}, "keep_precision between 0 and 1"),
        ({"keep_fraction": 1.5}, "keep_fraction between 0 and 1"),
        ({"keep_number": 0}, "keep_number to be at least 1"),
        ({"keep_number": 3, "keep_fraction": 0.5}, "contradict"),
        ({"keep": "a > 1", "by": "I0TScore"}, "has no effect"),
    ],
)
def test_rules_that_make_no_sense_are_refused(rules, message):
    with pytest.raises(UsageError, match=message):
        SelectionRules(**rules)


def fitted(seed=0, noise=1.0, n=400, d=16):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    return x, x + noise * rng.normal(size=(n, d))


def test_a_result_is_filtered_as_by_hand():
    x, y = fitted()
    result = i0tscore.i0t_score(x[:100], y[:100], statistics=i0tscore.fit(x[100:], y[100:]))
    score = result["I0TScore"]
    selection = result.select("p_match >= 0.5 and i0tscore < 0.9 and semantic > 0")
    expected = (score.p_match >= 0.5) & (score.values < 0.9) & (result.breakdown["semantic"] > 0)
    assert selection.kept.tolist() == expected.tolist()
    assert sum(step.rejected for step in selection.steps) == selection.counts["rejected"] == 100 - expected.sum()
    assert all(bool(reason) != kept for reason, kept in zip(selection.reasons, selection.kept, strict=True))
    top = result.select("", keep_fraction=0.25).kept
    assert top.sum() == 25
    assert score.values[top].min() > score.values[~top].max()
    assert result.select("", keep_number=7, by="percentile_mismatched").kept.sum() == 7
    with pytest.raises(UsageError, match=r"Unknown field 'p_mach'. Did you mean p_match\? The fields are I0TScore"):
        result.select("p_mach > 1")
    with pytest.raises(StatisticsError, match="tokens is undefined for this run"):
        result.select("tokens > 1")


def test_best_of_each_image_and_repeated_captions():
    scores = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.6, 0.8]])
    result = i0tscore.clip_score(np.array([[1.0, 0.0]] * 4), scores, ids=["a", "a", "b", "b"])
    assert result.select("", best_per_image=True).kept.tolist() == [True, False, False, True]
    named = result.__class__(
        **{name: getattr(result, name) for name in result.__slots__} | {"captions": ("A cat.",) * 4}
    )
    assert named.select("", images=[1, 2, 3, 3], max_caption_repeats=2).counts["kept"] == 0
    assert named.select("", images=[1, 1, 3, 3], max_caption_repeats=2).counts["kept"] == 4


def test_undefined_scores_are_neither_kept_nor_rejected():
    result = i0tscore.clip_score(np.eye(3), np.eye(3), ids=["a", "b", "c"])
    result["CLIPScore"].values[1] = np.nan
    selection = result.select("CLIPScore > 9")
    assert selection.counts == {"kept": 0, "rejected": 2, "not_scored": 1}
    assert selection.reasons[1].startswith("CLIPScore is undefined")


# Thresholds with an expected precision


def test_the_threshold_of_two_normal_distributions_is_that_of_bayes_rule():
    from scipy.optimize import brentq
    from scipy.stats import norm

    levels = np.linspace(0.0005, 0.9995, 1001)
    reference = norm.ppf(levels) + 2, norm.ppf(levels)
    for precision, prior in ((0.9, 0.5), (0.95, 0.7), (0.6, 0.2)):
        odds = precision / (1 - precision) * (1 - prior) / prior
        exact = brentq(lambda t: norm.sf(t - 2) - odds * norm.sf(t), -3, 3)  # noqa: B023
        found = precision_threshold("x", *reference, precision, prior)
        assert found.value == pytest.approx(exact, abs=0.02)
        assert found.precision == pytest.approx(precision, abs=0.002)


def test_clipped_scores_count_at_the_threshold():
    clipped = np.concatenate([np.zeros(600), np.linspace(0, 1, 401)])
    found = precision_threshold("x", np.linspace(0.2, 1.2, 1001), clipped, 0.45, 0.5)
    assert found.value == 0.0
    assert found.mismatched == 1.0


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), precision=st.floats(0.55, 0.95), prior=st.floats(0.2, 0.9))
def test_precision_holds_on_new_pairs_of_the_same_kind(seed, precision, prior):
    rng = np.random.default_rng(seed)
    reference = [np.quantile(rng.normal(mean, 1, 4000), np.linspace(0, 1, 1001)) for mean in (1.5, 0)]
    try:
        threshold = precision_threshold("x", *reference, precision, prior)
    except StatisticsError:
        return
    matched, mismatched = (rng.normal(mean, 1, 40_000) >= threshold.value for mean in (1.5, 0))
    kept = prior * matched.mean() + (1 - prior) * mismatched.mean()
    if threshold.mismatched > 0.01:
        assert prior * matched.mean() / kept > min(precision, threshold.precision) - 0.06


@pytest.mark.parametrize("matched", [0.4, 0.7])
def test_precision_from_the_input_holds_although_no_pair_is_known_to_be_matched(matched):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4000, 16))
    y = x + 2 * rng.normal(size=x.shape)
    true = rng.random(len(x)) < matched
    y[~true] = rng.permutation(y[~true])
    result = i0tscore.i0t_score(x, y, statistics=i0tscore.fit(x, y), resamples=0, ranks=False)
    selection = result.select("", keep_precision=0.9, prior=matched, precision_from="input")
    assert true[selection.kept].mean() == pytest.approx(0.9, abs=0.02)
    assert true[selection.kept].sum() / true.sum() == pytest.approx(selection.threshold.recall, abs=0.03)
    assert result.select("", keep_precision=0.9, prior=matched).kept.sum() < selection.kept.sum()


def test_a_precision_out_of_reach_and_missing_reference_distributions_are_errors():
    same = np.linspace(0, 1, 1001)
    with pytest.raises(StatisticsError, match=r"No threshold of x is expected to reach a precision of 0.9"):
        precision_threshold("x", same, same + 1e-9, 0.9, 0.1)
    x, y = fitted()
    result = i0tscore.i0t_score(x, y, statistics="batch")
    with pytest.raises(StatisticsError, match="--keep-precision needs reference distributions of I0TScore"):
        result.select("", keep_precision=0.9, prior=0.5)
    with pytest.raises(StatisticsError, match="p_match is undefined: the statistics of this run have no reference"):
        result.select("p_match > 0.5")


# The study


def toy_corpus(seed=0, images=150, each=2, d=12):
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(images), each)
    x = rng.normal(size=(images, d)) + 1
    y = x[owner] + 1.5 * rng.normal(size=(images * each, d))
    return Corpus(normalize(x.astype(np.float32)), normalize(y.astype(np.float32)), owner)


def test_expected_figures_are_those_of_all_pairs_counted_one_by_one():
    corpus = toy_corpus(images=7)
    scores = corpus.images.astype(np.float64) @ corpus.captions.T
    pairs = [(i, j) for i in range(7) for j in range(14)]
    own = [scores[i, j] >= 0.5 for i, j in pairs if corpus.owner[j] == i]
    other = [scores[i, j] >= 0.5 for i, j in pairs if corpus.owner[j] != i]
    recall, false = np.mean(own), np.mean(other)
    precision, found = whole(corpus, scores, 0.5).figures(0.3, np.ones(7))
    assert (precision, found) == pytest.approx((0.7 * recall / (0.7 * recall + 0.3 * false), recall))


def test_the_study_measures_every_method_on_both_sets():
    corpora = {"one": toy_corpus(), "two": toy_corpus(1)}
    shipped = toy_corpus(2)
    statistics = shipped.fitted(np.arange(len(shipped.owner)), shipped.owner)
    found = measure(corpora, statistics, Resampling(resamples=40))
    assert {(row["set"], row["method"]) for row in found} == {(s, m) for s in corpora for m in METHODS}
    for row in found:
        if row["threshold"] is not None and row["method"] in ("shipped", "own") and row["promise"] < 0.99:
            assert row["precision"]["value"] == pytest.approx(row["promise"], abs=0.04)


# What is written


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
CELL = st.one_of(TEXT, st.integers(-(2**70), 2**70), st.booleans(), st.none(), st.lists(TEXT, max_size=2))
CAPTION = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(str.strip)


NAMES = ["n", "Größe", "a b", "q1", "x.y"]


@st.composite
def tables(draw):
    """Rows with a caption and other columns, and which of them are kept."""
    names = draw(st.lists(st.sampled_from(NAMES), max_size=3, unique=True))
    rows = [
        {"image": "dog.jpg", "caption": draw(CAPTION), **{name: draw(CELL) for name in names}}
        for _ in range(draw(st.integers(1, 5)))
    ]
    return rows, [position for position in range(len(rows)) if draw(st.booleans())]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("written")
    (found / "dog.jpg").touch()
    return found


def written(path: Path, numbers, added=None) -> bytes:
    """Write entries of a file, by their place among those that were read."""
    reader = CaptionReader(path)
    file, target = reader.read(), path.with_name(f"out-{path.name}")
    reader.writer()(file.source, [Entry(file.locations[i].position, (), added or {}) for i in numbers], target)
    return target.read_bytes()


@settings(max_examples=80, deadline=None)
@given(table=tables(), ascii_only=st.booleans(), encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
def test_json_lines_are_copied_as_text(folder, table, ascii_only, encoding):
    rows, kept = table
    lines = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
    path = folder / "captions.jsonl"
    path.write_text("\n\n".join(lines), encoding=encoding, newline="")
    assert written(path, kept).decode(encoding) == "".join(lines[i] + "\n" for i in kept)
    found = [json.loads(line) for line in written(path, kept, {"S": 0.5}).decode(encoding).split("\n")[:-1]]
    assert found == [{**rows[i], "S": 0.5} for i in kept]
    assert [list(row)[-1] for row in found] == ["S"] * len(kept)


@settings(max_examples=80, deadline=None)
@given(table=tables(), indent=st.sampled_from([None, 2]), shape=st.sampled_from(["list", "key", "ids"]))
def test_json_documents_keep_everything_else(folder, table, indent, shape):
    rows, kept = table
    named = {f"i{number}": row for number, row in enumerate(rows)}
    document = {"list": rows, "key": {"info": [1.5], "data": rows, "end": None}, "ids": named}[shape]
    path = folder / "captions.json"
    path.write_text(json.dumps(document, indent=indent))
    rest = {"list": [rows[i] for i in kept], "ids": {f"i{i}": rows[i] for i in kept}}
    rest["key"] = {"info": [1.5], "data": rest["list"], "end": None}
    assert written(path, kept).decode() == json.dumps(rest[shape], indent=indent) + "\n"


@settings(max_examples=80, deadline=None)
@given(
    table=tables(),
    delimiter=st.sampled_from(",;\t|"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    ending=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    told=st.booleans(),
)
def test_delimited_text_is_copied_as_text(folder, table, delimiter, quoting, ending, encoding, told):
    rows, kept = table
    header = list(rows[0])

    def text(cells):
        out = io.StringIO()
        # Python's writer quotes only the characters of its line terminator.
        csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator="\r\n").writerow(cells)
        return out.getvalue().removesuffix("\r\n") + ending

    head = (f"sep={delimiter}{ending}" if told else "") + text(header)
    lines = [text(["" if value is None else value for value in row.values()]) for row in rows]
    path = folder / "captions.csv"
    path.write_bytes((head + "".join(lines)).encode(encoding))
    assert written(path, kept).decode(encoding) == head + "".join(lines[i] for i in kept)
    if kept:
        longer = list(
            csv.reader(io.StringIO(written(path, kept, {"S": 0.5}).decode(encoding), newline=""), delimiter=delimiter)
        )
        plain = list(csv.reader(io.StringIO(written(path, kept).decode(encoding), newline=""), delimiter=delimiter))
        assert longer[told:] == [[*row, "0.5" if i else "S"] for i, row in enumerate(plain[told:])]


def test_cells_with_line_breaks_survive_when_a_row_is_written_again(folder):
    path = folder / "several.csv"
    text = io.StringIO()
    csv.writer(text).writerows([["image", "captions", "note"], ["dog.jpg", '["A dog.", "A cat."]', "one\ntwo\rthree"]])
    path.write_text(text.getvalue(), newline="")
    reader = CaptionReader(path)
    reader.writer()(reader.source, [Entry(reader.read().locations[0].position, (2,))], folder / "part.csv")
    with (folder / "part.csv").open(newline="") as part:
        assert list(csv.reader(part))[1] == ["dog.jpg", '["A cat."]', "one\ntwo\rthree"]


def test_parquet_keeps_types_and_metadata(folder):
    table = pyarrow.table(
        {
            "n": pyarrow.array([1, None, 3], pyarrow.int8()),
            "image": pyarrow.array(["dog.jpg"] * 3, pyarrow.large_string()),
            "caption": ["A.", "B.", "C."],
            "kind": pyarrow.array(["x", "y", "x"]).dictionary_encode(),
            "nested": [{"a": [1.5, None]}, None, {"a": []}],
        }
    ).replace_schema_metadata({"mine": "kept"})
    parquet.write_table(table, folder / "t.parquet")
    table = parquet.read_table(folder / "t.parquet")
    written(folder / "t.parquet", [0, 2])
    found = parquet.read_table(folder / "out-t.parquet")
    assert found.equals(table.take([0, 2]), check_metadata=True)
    written(folder / "t.parquet", [1, 2], {"S": 0.5, "why": None})
    found = parquet.read_table(folder / "out-t.parquet")
    assert found.drop_columns(["S", "why"]).equals(table.take([1, 2]))
    assert found["S"].to_pylist() == [0.5, 0.5]


def test_hugging_face_features_are_kept(here):
    import datasets

    captions = by_image()
    data = {"image": [f"images/{name}" for name in captions], "captions": list(captions.values()), "n": list(range(7))}
    dataset = datasets.Dataset.from_dict(data).cast_column("image", datasets.Image(decode=False))
    dataset.save_to_disk("saved")
    dataset.to_parquet("whole.parquet")
    for name, target in (("saved", "kept"), ("whole.parquet", "kept.parquet")):
        selection = i0tscore.filter(name, "images", target, keep="p_match >= 0.5", add_scores=True, model="lite")
        found = datasets.Dataset.from_parquet(target) if "." in name else datasets.load_from_disk(target)
        assert list(found.features)[:3] == ["image", "captions", "n"]
        assert found.features["image"] == dataset.features["image"]
        assert sum(map(len, found["captions"])) == selection.counts["kept"]
        for row in found:
            assert len(row["I0TScore"]) == len(row["captions"])
            assert set(row["captions"]) <= set(data["captions"][row["n"]])
            assert min(row["I0TScore.p_match"]) >= 0.5


def write_shards(folder: Path) -> None:
    folder.mkdir()
    rows = rows_of(Path("captions.jsonl"))
    for shard in range(2):
        with tarfile.open(folder / f"{shard}.tar", "w") as archive:
            for i, row in enumerate(rows[shard * 10 : shard * 10 + 10]):
                caption = ("txt", row["caption"].encode())
                if i % 2:
                    caption = ("json", json.dumps({"caption": row["caption"], "n": 1.50}).encode())
                for suffix, data in (("png", Path("images", row["image"]).read_bytes()), caption, ("cls", b"3")):
                    member = tarfile.TarInfo(f"{shard}-{i}.{suffix}")
                    member.size, member.mtime = len(data), 12345
                    archive.addfile(member, io.BytesIO(data))


def contents(path: Path) -> dict[str, tuple[bytes, int]]:
    with tarfile.open(path) as archive:
        return {member.name: (archive.extractfile(member).read(), member.mtime) for member in archive}


def test_archives_are_copied_file_by_file(here):
    write_shards(here / "shards")
    selection = i0tscore.filter("shards", None, "kept", rejected="rest", keep="p_match >= 0.5", model="lite")
    kept, rest = ({p.name: contents(p) for p in sorted(Path(name).iterdir())} for name in ("kept", "rest"))
    assert sum(len(files) for files in kept.values()) == 3 * selection.counts["kept"]
    for shard, files in kept.items():
        whole = contents(here / "shards" / shard)
        assert files.items() <= whole.items()
        assert {name for name in whole if name not in files} == {name for name in rest[shard] if name in whole}
        for name in whole:
            if name not in files and name.endswith(".png"):
                assert "p_match is" in json.loads(rest[shard][name.replace(".png", ".json")][0])["rejected"]
    assert read_samples("kept").samples


def write_parquet_shards(folder: Path, parts=3, several=False) -> list[dict]:
    """Write the captions in shards with the content of the images; one row per image if it has several captions."""
    rows = rows_of(Path("captions.jsonl"))
    if several:
        rows = [{"image": name, "caption": texts} for name, texts in by_image().items()]
        rows[0]["caption"] = rows[0]["caption"][:1]
    table = pyarrow.table(
        {
            "n": list(range(len(rows))),
            "image": [Path("images", row["image"]).read_bytes() for row in rows],
            "caption": [row["caption"] for row in rows],
        }
    )
    folder.mkdir()
    size = -(-len(rows) // parts)
    for shard in range(parts):
        parquet.write_table(table.slice(shard * size, size), folder / f"part-{shard}.parquet")
    return rows


@pytest.mark.parametrize(
    "rules",
    [
        {"keep_fraction": 0.3, "by": "I0TScore"},
        {"keep": "p_match >= 0.5 and tokens <= 16"},
        {"best_per_image": True},
        {"keep": "CLIPScore > 0", "max_caption_repeats": 1},
        {"keep_precision": 0.8, "prior": 0.4, "precision_from": "input"},
    ],
)
def test_shards_are_filtered_as_one_file_in_parts(here, rules, monkeypatch):
    monkeypatch.setattr(reader, "_PART_ROWS", 4)
    monkeypatch.setattr(writers, "_ROWS", 2)
    rows = write_parquet_shards(here / "shards")
    more = [{"image": rows[i + 5]["image"], "caption": rows[i]["caption"]} for i in range(3)]  # repeated captions
    images = [Path("images", row["image"]).read_bytes() for row in more]
    table = pyarrow.table({"n": [21, 22, 23], "image": images, "caption": [row["caption"] for row in more]})
    parquet.write_table(table, "shards/part-3.parquet")
    rows += more
    Path("one.jsonl").write_text("".join(json.dumps({**row, "id": f"{i}"}) + "\n" for i, row in enumerate(rows)))
    expected = i0tscore.filter("one.jsonl", "images", model="lite", **rules)
    found = i0tscore.filter("shards", None, "kept", rejected="rest", model="lite", add_scores=True, **rules)
    assert found.kept.tolist() == expected.kept.tolist()
    assert found.counts == expected.counts
    assert [step.rejected for step in found.steps] == [step.rejected for step in expected.steps]
    kept, rest = (parquet.read_table(name) for name in ("kept", "rest"))
    assert kept["n"].to_pylist() == np.flatnonzero(expected.kept).tolist()
    assert rest["n"].to_pylist() == np.flatnonzero(~expected.kept).tolist()
    assert all(rest["rejected"].to_pylist())
    assert kept.drop_columns([name for name in kept.column_names if name not in ("n", "image", "caption")]).equals(
        parquet.read_table("shards").filter(expected.kept)
    )
    scores = i0tscore.i0t_score(
        [f"images/{row['image']}" for row in rows], [row["caption"] for row in rows], model="lite"
    )["I0TScore"].values
    assert kept["I0TScore"].to_pylist() == pytest.approx(scores[expected.kept].tolist(), abs=1e-6)
    assert {path.name for path in Path("kept").iterdir()} <= {path.name for path in Path("shards").iterdir()}


def test_progress_is_shown_by_shards(here, capsys):
    write_shards(here / "shards")
    i0tscore.filter("shards", keep="p_match >= 0.5", model="lite", progress=True, cache_dir=here / "cache")
    shown = capsys.readouterr().err
    shards = len(list(Path("shards").iterdir()))
    assert f"{shards}/{shards}" in shown
    assert "20 captions" in shown
    assert shown.rpartition("encoding ")[2].startswith("shards")
    assert shown.rpartition("\r")[2].count("\n") == 1  # the bars of the parts disappear


def test_it_is_noted_how_many_parts_the_statistics_fit(here, monkeypatch):
    monkeypatch.setattr(reader, "_PART_ROWS", 4)
    write_parquet_shards(here / "shards")
    found = i0tscore.filter("shards", keep="p_match >= 0.5", model="lite")
    assert "The statistics 'flickr8k-train' fit 5 of 5 parts of the input." in found.notes  # one has a single image


@pytest.mark.parametrize("metadata", [True, False])
def test_embeddings_are_filtered_row_by_row(tmp_path, monkeypatch, metadata):
    monkeypatch.setattr(embeddings, "BLOCK", 7)
    rng = np.random.default_rng(1)
    images = rng.normal(size=(200, 16)).astype(np.float16)
    captions = (images + rng.normal(size=(200, 16))).astype(np.float16)
    sizes = {2: slice(0, 90), 10: slice(90, 100), 11: slice(100, 200)}
    for name in ("img_emb", "text_emb", "metadata")[: 2 + metadata]:
        (tmp_path / "in" / name).mkdir(parents=True)
    for number, rows in sizes.items():
        np.save(tmp_path / f"in/img_emb/img_emb_{number}.npy", images[rows])
        np.save(tmp_path / f"in/text_emb/text_emb_{number}.npy", captions[rows])
        if metadata:
            names = [f"{i:09d}" for i in range(200)[rows]]
            table = pyarrow.table({"key": names, "url": [f"https://example.org/{one}" for one in names]})
            parquet.write_table(table, tmp_path / f"in/metadata/metadata_{number}.parquet")
    scored = i0tscore.i0t_score(images, captions, statistics="batch", resamples=0)["I0TScore"].values
    keep = float(np.quantile(scored, 0.4))
    options = ["--keep", f"I0TScore >= {keep}", "--quiet"]
    dry = run("filter", tmp_path / "in", *options, "--dry-run")
    assert dry.code == 0, dry.err
    target = ["--output", tmp_path / "kept", "--rejected", tmp_path / "rest", "--add-scores"]
    done = run("filter", tmp_path / "in", *options, *target)
    assert done.code == 0, done.err
    written = []
    for folder, column in (("kept", None), ("rest", "rejected")):
        pairs = read_clip_retrieval(tmp_path / folder)
        positions = [int(name) for name in pairs.ids]
        written += positions
        for name, stored in (("img_emb", images), ("text_emb", captions)):
            files = sorted((tmp_path / folder / name).iterdir(), key=lambda file: int(file.stem.rpartition("_")[2]))
            values = np.concatenate([np.load(file) for file in files])
            assert values.dtype == np.float16
            np.testing.assert_array_equal(values, stored[positions])
        tables = [parquet.read_table(tmp_path / folder / f"metadata/metadata_{n}.parquet") for n in sizes]
        rows = [row for table in tables for row in table.to_pylist()]
        assert ("url" in rows[0]) == metadata
        assert all((row["I0TScore"] >= keep) == (column is None) for row in rows)
        assert column is None or all("required" in row[column] for row in rows)
    assert sorted(written) == list(range(200))


def test_files_of_embeddings_are_refused_with_a_way_out(tmp_path):
    for name in ("x", "y"):
        np.save(tmp_path / f"{name}.npy", np.eye(4))
        (tmp_path / f"{name}.ids.txt").write_text("a\nb\nc\nd")
    given = ["--image-embeddings", tmp_path / "x.npy", "--caption-embeddings", tmp_path / "y.npy"]
    done = run("filter", *given, *KEEP, "--dry-run")
    assert done.code == 2
    assert "result.select" in done.err


@pytest.mark.parametrize("options", [["--precision", "bf16"], ["--caption-column", "text"]])
def test_options_without_effect_on_embeddings_are_refused(tmp_path, options):
    for name in ("img_emb", "text_emb"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / f"{name}_0.npy", np.eye(4))
    done = run("filter", tmp_path, *KEEP, "--dry-run", *options)
    assert done.code == 2
    assert "effect on embeddings" in done.err


def test_rows_with_several_captions_are_divided_in_every_shard(here):
    rows = write_parquet_shards(here / "shards", parts=7, several=True)
    selection = i0tscore.filter("shards", None, "kept", add_scores=True, keep="p_match >= 0.5", model="lite")
    found = parquet.read_table("kept").to_pylist()
    assert sum(len(row["caption"]) for row in found) == selection.counts["kept"]
    for row in found:
        assert set(row["caption"]) <= set(rows[row["n"]]["caption"])
        assert len(row["I0TScore"]) == len(row["caption"])


def test_shards_need_fixed_statistics_and_bad_rows_are_counted(here):
    write_parquet_shards(here / "shards")
    with pytest.raises(StatisticsError, match="I0TScore of shards needs fixed statistics"):
        i0tscore.filter("shards", None, "kept", keep_fraction=0.3, statistics="batch", model="lite")
    found = i0tscore.filter("shards", None, keep="CLIPScore > 0", metrics="CLIPScore", statistics="batch", model="lite")
    assert found.counts["kept"] > 0
    with pytest.raises(StatisticsError, match="semantic is undefined"):
        i0tscore.filter("shards", None, keep="semantic > 0", metrics="CLIPScore", statistics="batch", model="lite")
    bad = pyarrow.table({"n": [30, 31], "image": [b"no image", b"none"], "caption": ["A dog.", " "]})
    parquet.write_table(bad, "shards/part-3.parquet")
    with pytest.raises(I0TScoreError, match=r"part-3\.parquet"):
        i0tscore.filter("shards", None, "kept", keep_fraction=0.3, model="lite")
    found = i0tscore.filter("shards", None, "kept", rejected="rest", keep_number=5, on_error="skip", model="lite")
    assert found.counts == {"kept": 5, "rejected": 16, "not_scored": 2}
    rest = parquet.read_table("rest/part-3.parquet").to_pylist()
    assert [row["n"] for row in rest] == [30, 31]
    assert "cannot be decoded" in rest[0]["rejected"] or "not an image" in rest[0]["rejected"]
    assert not Path("kept/part-3.parquet").exists()
    for path in Path("shards").glob("part-[012].parquet"):
        path.unlink()
    with pytest.raises(I0TScoreError, match="Nothing to score"):
        i0tscore.filter("shards", None, "new", keep_fraction=0.3, on_error="skip", model="lite")
    assert not Path("new").exists()


@pytest.mark.parametrize("call", ["i0tscore.encoders.cache.EmbeddingCache.put", "pyarrow.parquet.ParquetWriter.close"])
def test_a_killed_run_leaves_nothing_that_looks_complete_and_the_next_one_finishes(here, call, monkeypatch):
    monkeypatch.setattr(reader, "_PART_ROWS", 4)
    write_parquet_shards(here / "shards")
    module, name, method = call.rsplit(".", 2)
    script = f"""
import os, signal, {module} as module, i0tscore
from i0tscore.samples import reader, writers
reader._PART_ROWS = 4
whole, calls = module.{name}.{method}, []
def killed(*given, **named):
    calls.append(1)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(*given, **named)
module.{name}.{method} = killed
i0tscore.filter("shards", None, "kept", rejected="rest", keep_number=9, model="lite", cache_dir="cache")
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [path.name for path in here.iterdir() if path.name in ("kept", "rest")] == []
    drafts = [path for path in here.iterdir() if path.name.startswith((".kept", ".rest"))]
    assert bool(drafts) == ("Writer" in call)
    found = i0tscore.filter(
        "shards", None, "kept", rejected="rest", keep_number=9, model="lite", cache_dir=here / "cache"
    )
    assert found.counts == {"kept": 9, "rejected": 12, "not_scored": 0}
    written = [n for name in ("kept", "rest") for n in parquet.read_table(name)["n"].to_pylist()]
    assert sorted(written) == list(range(21))
    assert not [path for path in drafts if path.exists()]


@pytest.mark.parametrize("form", ["json", "csv", "mapping"])
def test_entries_with_several_captions_are_divided(here, form):
    captions = by_image()
    path = Path("several.csv" if form == "csv" else "several.json")
    if form == "csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows(
                [["image", "captions", "n"], *([k, json.dumps(v), 7] for k, v in captions.items())]
            )
    else:
        rows = [{"image": name, "captions": texts, "n": 7} for name, texts in captions.items()]
        path.write_text(json.dumps(captions if form == "mapping" else rows))
    kept, rest = Path(f"kept{path.suffix}"), Path(f"rest{path.suffix}")
    selection = i0tscore.filter(path, "images", kept, rejected=rest, keep="p_match >= 0.5", model="lite")

    def pairs(file):
        return {(Path(sample.image).name, sample.caption) for sample in read_samples(file, images="images").samples}

    assert pairs(kept) | pairs(rest) == pairs(path)
    assert not pairs(kept) & pairs(rest)
    assert len(pairs(kept)) == selection.counts["kept"]
    reasons = rest.read_text()
    assert "caption 1: p_match is" in reasons


@settings(max_examples=60, deadline=None)
@given(data=st.data(), indent=st.sampled_from([None, 2]))
def test_annotations_and_karpathy_splits_are_divided(folder, data, indent):
    counts = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=4).filter(any))
    texts = [[f"{i}, {k}." for k in range(count)] for i, count in enumerate(counts)]
    karpathy = {
        "images": [
            {
                "filename": "dog.jpg",
                "imgid": i,
                "sentids": [10 * i + k for k in range(len(own))],
                "sentences": [{"raw": text, "sentid": 10 * i + k} for k, text in enumerate(own)],
            }
            for i, own in enumerate(texts)
        ],
        "dataset": "toy",
    }
    flat = [(i, k, text) for i, own in enumerate(texts) for k, text in enumerate(own)]
    flat = data.draw(st.permutations(flat))
    coco = {
        "info": {"year": 2014},
        "images": [{"id": f"i{i}", "file_name": "dog.jpg"} for i in range(len(texts))],
        "annotations": [{"image_id": f"i{i}", "id": 10 * i + k, "caption": text} for i, k, text in flat],
    }
    kept = {text for _, _, text in flat if data.draw(st.booleans())}
    for name, document in (("karpathy.json", karpathy), ("coco.json", coco)):
        path, target = folder / name, folder / f"out-{name}"
        path.write_text(json.dumps(document, indent=indent))
        reader = CaptionReader(path)
        file = reader.read()
        found: dict[int, list[int]] = {}
        for sample, at in zip(file.samples, file.locations, strict=True):
            found.setdefault(at.position, []).extend([at.caption] * (sample.caption in kept))
        entries = [
            Entry(position, tuple(own) if any(own) else (), {"S": [0.5]}) for position, own in found.items() if own
        ]
        reader.writer()(file.source, entries, target)
        if name == "coco.json":
            images = {f"i{i}" for i, _, text in flat if text in kept}
            expected = {
                **coco,
                "images": [{**image, "S": [0.5]} for image in coco["images"] if image["id"] in images],
                "annotations": [one for one in coco["annotations"] if one["caption"] in kept],
            }
        else:
            rows = []
            for image in karpathy["images"]:
                chosen = [one for one in image["sentences"] if one["raw"] in kept]
                ids = [one["sentid"] for one in chosen]
                rows += [{**image, "sentids": ids, "sentences": chosen, "S": [0.5]}] if chosen else []
            expected = {**karpathy, "images": rows}
        assert target.read_text() == json.dumps(expected, indent=indent) + "\n"
        if kept:
            assert {sample.caption for sample in read_samples(target).samples} == kept


# The command


def test_every_caption_is_kept_rejected_or_not_scored(here):
    lines = Path("captions.jsonl").read_text()
    lines += '{"id": "x", "image": "nowhere.png", "caption": "A."}\n'
    lines += '{"id": "y", "caption": 3, "image": "chelsea.png"}\nno json\n'
    Path("bad.jsonl").write_text(lines)
    strict = run("filter", "bad.jsonl", "images", *KEEP, "--output", "kept.jsonl", *LITE)
    assert strict.code == 1
    assert not Path("kept.jsonl").exists()
    done = run(
        *("filter", "bad.jsonl", "images", *KEEP, "--output", "kept.jsonl", "--rejected", "rest.jsonl", "--add-scores"),
        *("--on-error", "skip", "--format", "json", *LITE),
    )
    assert done.code == 0, done.err
    report = json.loads(done.out)
    jsonschema.validate(report, json.loads((ROOT / "docs/reference/selection.schema.json").read_text()))
    kept, rest = rows_of(Path("kept.jsonl")), rows_of(Path("rest.jsonl"))
    assert (len(kept), len(rest)) == (report["kept"], report["rejected"] + report["not_scored"])
    assert report["not_scored"] == 3
    assert len(kept) + len(rest) == 24
    assert all(row["I0TScore.p_match"] >= 0.5 for row in kept)
    reasons = {row.get("id"): row["rejected"] for row in rest}
    assert "nowhere.png" in reasons["x"]
    assert "the number 3" in reasons["y"]
    assert "line 24" in reasons[None]
    assert next(row for row in rest if "id" not in row)["unreadable"] == "no json"
    text = run("filter", "bad.jsonl", "images", *KEEP, "--dry-run", "--on-error", "skip", *LITE)
    assert "not scored         3" in text.out
    assert "nowhere.png" in text.out


def test_a_dry_run_writes_nothing_and_fits_into_80_columns(here):
    before = sorted(here.iterdir())
    done = run("filter", "captions.jsonl", "images", "--keep-precision", "0.9", "--prior", "0.33", "--dry-run", *LITE)
    assert sorted(here.iterdir()) == before
    assert "precision 0.95, recall 0." in done.out
    assert "Captions next to the border" in done.out
    selection = i0tscore.filter("captions.jsonl", "images", keep_precision=0.9, prior=0.33, model="lite")
    document = Document([*selection.preview(), *selection.tables()])
    assert max(map(len, RENDERERS["text"](document, width=80, color=False).splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--keep", "foo > 1", "--dry-run"], "Unknown field 'foo'. The fields are CLIPScore"),
        (["--keep", "BLEU > 1", "--dry-run"], "Unknown field 'BLEU'"),
        ([*KEEP, "--output", "captions.jsonl"], "would replace the input"),
        ([*KEEP, "--output", "../{here}/captions.jsonl"], "would replace the input"),
        ([*KEEP, "--output", "link.jsonl"], "would replace the input"),
        ([*KEEP, "--output", "a.jsonl", "--rejected", "./a.jsonl"], "--output and --rejected are the same"),
        ([*KEEP, "--output", "a.csv"], "Expected a name that ends in .jsonl"),
        ([*KEEP, "--output", "nowhere/a.jsonl"], "The folder nowhere does not exist"),
        (KEEP, "Give --output FILE"),
        ([*KEEP, "--dry-run", "--rejected", "a.jsonl"], "Remove --rejected"),
        (["--dry-run"], "Expected a rule for what to keep"),
    ],
)
def test_bad_usage_is_refused_before_any_work(here, arguments, message):
    Path("link.jsonl").symlink_to("captions.jsonl")
    before = Path("captions.jsonl").read_bytes()
    done = run("filter", "captions.jsonl", "images", *(one.format(here=here.name) for one in arguments), *LITE)
    assert done.code == 2
    assert message in done.err
    assert Path("captions.jsonl").read_bytes() == before


def test_standard_input_is_filtered_and_devices_are_not_replaced(here, monkeypatch):
    data = Path("captions.jsonl").read_bytes()
    os.mkfifo("pipe")
    for target, code in (("kept.jsonl", 0), ("pipe", 2)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        done = run("filter", "-", "images", *KEEP, "--output", target, *LITE)
        assert done.code == code, done.err
    assert "Expected a file, got something else" in done.err
    assert Path("kept.jsonl").read_bytes() == b"".join(
        line for line in data.splitlines(keepends=True) if line in Path("kept.jsonl").read_bytes()
    )
    assert len(rows_of(Path("kept.jsonl"))) == 10


def test_forms_that_cannot_be_written_and_existing_columns_are_refused(here):
    lines = [f"{row['image']}#0\t{row['caption']}\n" for row in rows_of(Path("captions.jsonl"))[:3]]
    Path("lines.txt").write_text("".join(lines))
    with pytest.raises(UsageError, match="Expected input in a format that can be written"):
        i0tscore.filter("lines.txt", "images", "out.txt", keep="p_match > 0", model="lite", input_format="flickr8k")
    i0tscore.filter("captions.jsonl", "images", "once.jsonl", keep="p_match > 0", model="lite", add_scores=True)
    with pytest.raises(UsageError, match='The input has the columns "I0TScore"'):
        i0tscore.filter("once.jsonl", "images", "twice.jsonl", keep="p_match > 0", model="lite", add_scores=True)
    assert not Path("twice.jsonl").exists()
    folder = here / "taken"
    folder.mkdir()
    (folder / "file").touch()
    write_shards(here / "shards")
    with pytest.raises(UsageError, match="Expected an empty or a new folder"):
        i0tscore.filter("shards", None, folder, keep="p_match > 0", model="lite")
    with pytest.raises(UsageError, match="would replace the input"):
        i0tscore.filter("shards", None, "shards/kept", keep="p_match > 0", model="lite")


@pytest.mark.parametrize(("form", "limit"), [("large.jsonl", 500_000), ("parquet", 50_000), ("archives", 50_000)])
def test_a_full_disk_leaves_nothing_half_written(here, form, limit):
    """The limit on the size of files stands in for a full disk."""
    output, rejected = ("kept.jsonl", "rest.jsonl") if form == "large.jsonl" else ("kept", "rest")
    Path("kept.jsonl").write_text("before")
    rows = [{**row, "more": "x" * 100_000} for row in rows_of(Path("captions.jsonl"))]
    Path("large.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_parquet_shards(here / "parquet")
    write_shards(here / "archives")
    before = set(here.iterdir())
    done = subprocess.run(
        [
            *(sys.executable, "-m", "i0tscore", "filter", form, "images", "--keep", "p_match >= 0.5"),
            *("--output", output, "--rejected", rejected, "--no-cache", *LITE),
        ],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1
    assert done.stderr.startswith((f"error: {output}: Writing failed", f"error: {rejected}: Writing failed"))
    assert done.stderr.strip().endswith("No output was written. Free some space, or choose another place.")
    assert len(done.stderr.strip().splitlines()) == 1
    assert Path("kept.jsonl").read_text() == "before"
    assert set(here.iterdir()) == before


def test_a_shard_that_cannot_be_read_is_named(here):
    write_shards(here / "shards")
    (here / "shards" / "1.tar").write_bytes(b"not an archive at all" * 100)
    with pytest.raises(I0TScoreError, match=r"1\.tar"):
        i0tscore.filter("shards", None, "kept", keep="p_match > 0.5", model="lite")
    assert not Path("kept").exists()
