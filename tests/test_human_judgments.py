"""The scripts of human_judgments, from files to reports."""

from __future__ import annotations

import csv
import importlib
import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner
from rating_files_on_disk import (
    CROWD,
    EXPERT,
    WORDS,
    captions,
    write_clipscore_json,
    write_flickr8k,
    write_kreiss,
)
from scipy import stats

from human_judgments.blv_kreiss2022 import AUTHORS, LENGTH
from human_judgments.report import Page, percent, render_page
from i0tscore.encoders.lite import tower_files
from i0tscore.errors import MissingExtraError
from i0tscore.render.document import Table
from i0tscore.results.intervals import Estimate, Resampling
from i0tscore.results.preferences import preference_report
from i0tscore.samples.preferences import read_preferences

SCRIPTS = (
    "flickr8k_expert",
    "flickr8k_cf",
    "composite",
    "pascal50s",
    "foil",
    "polaris",
    "nebula",
    "blv_kreiss2022",
    "blv_eye4b",
    "table",
)


def run(script: str, *arguments: object, code: int = 0) -> str:
    """Run a script, expect an exit code, and return what it wrote to stderr."""
    command = importlib.import_module(f"human_judgments.{script}").main
    done = CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.stderr


def report(folder: Path, stem: str) -> tuple[str, dict]:
    """The text and the data of a report, the text checked against the figure it links."""
    text = (folder / f"{stem}.md").read_text()
    return text, json.loads((folder / f"{stem}.json").read_text())


def write_scores(path: Path, keys: list[tuple[str, str]], **columns: list[float]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "caption", *columns])
        writer.writerows([*key, *row] for key, *row in zip(keys, *columns.values(), strict=True))
    return path


@pytest.fixture
def expert(tmp_path):
    """A folder of Flickr8k and a file of scores for its expert pairs."""
    texts = {key: " ".join(text.split()) for key, text in captions().items()}
    keys = [(image, texts[key]) for image, key, *_ in EXPERT if not key.startswith(image)]
    scores = write_scores(
        tmp_path / "scores.csv", keys, CLIPScore=[0.1, 0.5, 0.2, 0.6, 0.9], Mine=[0.1, 0.4, 0.1, 0.8, 0.7]
    )
    return write_flickr8k(tmp_path / "flickr8k"), scores


EXPERT_RATINGS = np.array([r for own, i, *rs in EXPERT if not i.startswith(own) for r in rs], dtype=float)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_has_help(script):
    done = CliRunner().invoke(importlib.import_module(f"human_judgments.{script}").main, ["--help"])
    assert done.exit_code == 0
    assert "--data" in done.output
    assert done.output.splitlines()[2].strip()


def test_expert_scores_of_a_file_get_scipys_figures(expert, tmp_path):
    data, scores = expert
    out = tmp_path / "reports"
    told = run(
        "flickr8k_expert",
        "--data",
        data,
        "--scores",
        scores,
        "--allow-other-counts",
        "--no-classic",
        "--resamples",
        50,
        "--output",
        out,
    )
    assert "flickr8k_expert-scores.md" in told
    text, found = report(out, "flickr8k_expert-scores")
    mine = found["metrics"]["Mine"]
    values = np.repeat([0.1, 0.4, 0.1, 0.8, 0.7], 3)
    assert mine["n"] == 15
    assert mine["groups"] == 3
    assert mine["tau_b"]["value"] == stats.kendalltau(values, EXPERT_RATINGS, variant="b").statistic
    assert mine["tau_c"]["value"] == stats.kendalltau(values, EXPERT_RATINGS, variant="c").statistic
    assert mine["pearson"]["value"] == stats.pearsonr(values, EXPERT_RATINGS).statistic
    means = EXPERT_RATINGS.reshape(-1, 3).mean(axis=1)
    assert mine["averaged_ratings"] == stats.kendalltau(values[::3], means, variant="c").statistic
    baseline = found["metrics"]["CLIPScore"]["tau_c"]["value"]
    assert mine["difference"]["from"] == "CLIPScore"
    assert mine["difference"]["value"] == pytest.approx(mine["tau_c"]["value"] - baseline)
    assert 0 < mine["difference"]["p"] <= mine["difference"]["p_holm"] <= 1
    assert "difference" not in found["metrics"]["CLIPScore"]
    assert found["raters"]["n"] == 15
    assert found["counts"]["pairs dropped"] == 1
    assert "ratings: 15, but the complete set has 16,992" in found["notes"]
    assert found["signatures"]["Mine"] == "Mine|file:scores.csv|n:5"
    assert "| the raters themselves" in text
    assert "would be: CLIPScore" in text
    assert "## Published figures" in text
    assert str(tmp_path) not in text
    command = "--scores scores.csv --allow-other-counts --resamples 50"
    assert f"$ python -m human_judgments.flickr8k_expert --no-classic {command}" in text.replace("  ", " ")


def test_reports_are_the_same_bytes_every_time(expert, tmp_path):
    data, scores = expert
    arguments = (
        "--data",
        data,
        "--scores",
        scores,
        "--allow-other-counts",
        "--no-classic",
        "--resamples",
        40,
    )
    for folder in ("first", "second"):
        run("flickr8k_expert", *arguments, "--output", tmp_path / folder)
    files = sorted((tmp_path / "first").iterdir())
    assert {file.suffix for file in files} >= {".md", ".json"}
    for file in files:
        assert file.read_bytes() == (tmp_path / "second" / file.name).read_bytes()


def test_the_figure_is_linked_where_it_is_drawn(expert, tmp_path):
    pytest.importorskip("matplotlib")
    data, scores = expert
    arguments = ("--data", data, "--scores", scores, "--allow-other-counts", "--no-classic", "--resamples", 0)
    run("flickr8k_expert", *arguments, "--output", tmp_path / "r")
    text, _ = report(tmp_path / "r", "flickr8k_expert-scores")
    assert "(flickr8k_expert-scores.svg)" in text
    assert "No intervals were requested." in text
    picture = (tmp_path / "r" / "flickr8k_expert-scores.svg").read_text()
    assert "RefCLIPScore (published)" in picture
    run("flickr8k_expert", *arguments, "--output", tmp_path / "r2", "--no-plot")
    assert not (tmp_path / "r2" / "flickr8k_expert-scores.svg").exists()
    assert "svg" not in report(tmp_path / "r2", "flickr8k_expert-scores")[0]


def test_wrong_counts_are_refused_by_name(expert, tmp_path):
    data, scores = expert
    told = run("flickr8k_expert", "--data", data, "--scores", scores, "--output", tmp_path / "r", code=1)
    for name, has, wants in (("pairs", "6", "5,822"), ("ratings", "15", "16,992"), ("images", "3", "1,000")):
        assert f"{name}: {has}, but the complete set has {wants}" in told
    assert not (tmp_path / "r").exists()


def test_bad_files_end_with_exit_code_1_and_every_problem(expert, tmp_path):
    data, scores = expert
    with (data / "ExpertAnnotations.txt").open("a") as file:
        file.write("one.jpg\tnone.jpg#1\t1\t1\t1\nbroken\n")
    told = run("flickr8k_expert", "--data", data, "--scores", scores, code=1)
    assert 'line 7: Flickr8k.token.txt has no caption "none.jpg#1"' in told
    assert "line 8: Expected 5 fields" in told
    assert "line 8: Expected 5 fields" in run("flickr8k_expert", "--data", data / "ExpertAnnotations.txt", code=1)
    told = run("flickr8k_expert", "--data", tmp_path / "nowhere", code=1)
    assert "nowhere: No ExpertAnnotations.txt or flickr8k.json found. Try another folder" in told


def test_score_files_must_have_every_caption(expert, tmp_path):
    data, scores = expert
    arguments = ("--data", data, "--allow-other-counts", "--no-classic", "--output", tmp_path / "r")
    lines = scores.read_text().splitlines()
    bad = tmp_path / "bad.csv"
    bad.write_text("\n".join([*lines[:3], lines[3].replace("0.1", "high"), *lines[5:]]))
    told = run("flickr8k_expert", *arguments, "--scores", bad, code=1)
    assert 'Expected a number in column "Mine", got "high"' in told
    assert 'No score for "two.jpg", "A bird number 4 ."' in told
    bad.write_text("image,caption\na,b\n")
    told = run("flickr8k_expert", *arguments, "--scores", bad, code=1)
    assert "Expected a column of scores" in told
    assert "Found none of the rated captions" in told
    bad.write_text("picture,caption,Mine\na,b,1\n")
    assert 'Expected a column such as "image"' in run("flickr8k_expert", *arguments, "--scores", bad, code=1)


def test_undefined_scores_leave_their_rows_out(expert, tmp_path):
    data, scores = expert
    lines = scores.read_text().splitlines()
    scores.write_text("\n".join([*lines[:5], lines[5].rpartition(",")[0] + ","]))
    run(
        "flickr8k_expert",
        "--data",
        data,
        "--scores",
        scores,
        "--allow-other-counts",
        "--no-classic",
        "--resamples",
        0,
        "--output",
        tmp_path / "r",
    )
    metrics = report(tmp_path / "r", "flickr8k_expert-scores")[1]["metrics"]
    assert metrics["Mine"]["n"] == 12
    assert metrics["CLIPScore"]["n"] == 15


def test_crowd_ratings_in_both_forms_give_the_same_report(tmp_path):
    texts = {key: " ".join(text.split()) for key, text in captions().items()}
    keys = [(image, texts[key]) for image, key, *_ in CROWD]
    scores = write_scores(tmp_path / "s.csv", keys, CLIPScore=[0.9, 0.2, 0.3, 0.5])
    figures = []
    for folder in (write_flickr8k(tmp_path / "tsv"), write_clipscore_json(tmp_path / "json")):
        out = tmp_path / f"reports-{folder.name}"
        run(
            "flickr8k_cf",
            "--data",
            folder,
            "--scores",
            scores,
            "--allow-other-counts",
            "--no-classic",
            "--resamples",
            40,
            "--output",
            out,
        )
        found = report(out, "flickr8k_cf-scores")[1]
        assert found["headline"] == "tau_b"
        assert found["raters"] is None
        figures.append(found["metrics"]["CLIPScore"]["tau_b"])
    assert figures[0] == figures[1]
    assert figures[0]["value"] == pytest.approx(1)


def test_kreiss_reports_each_question_length_and_sighted_raters(tmp_path):
    data = write_kreiss(tmp_path / "blv")
    keys = [
        (image, f"Description {j} of {word}" + " in detail" * j * (i + 1))
        for i, (image, word) in enumerate(zip(("one.jpg", "two.jpg", "three.jpg"), WORDS, strict=True))
        for j in range(2)
    ]
    scores = write_scores(tmp_path / "s.csv", keys, CLIPScore=[0.3, 0.6, 0.2, 0.5, 0.4, 0.1])
    run(
        "blv_kreiss2022",
        "--data",
        data,
        "--scores",
        scores,
        "--allow-other-counts",
        "--resamples",
        40,
        "--output",
        tmp_path / "r",
    )
    text, found = report(tmp_path / "r", "blv_kreiss2022-scores")
    assert list(found["questions"]) == [
        "q_overall",
        "q_relevance",
        "q_irrelevance",
        "q_imgfit",
        "q_reconstructivity",
    ]
    overall = found["questions"]["q_overall"]
    assert set(overall["metrics"]) == {"CLIPScore", LENGTH, AUTHORS}
    assert set(overall["sighted"]) == {"preimg", "postimg"}
    assert set(found["questions"]["q_reconstructivity"]["sighted"]) == {"preimg"}
    accuracy = overall["metrics"][LENGTH]["preference_accuracy"]
    assert accuracy["value"] == 1
    assert accuracy["pairs"] == 3
    assert overall["metrics"]["CLIPScore"]["preference_accuracy"]["value"] == pytest.approx(2 / 3)
    assert set(overall["given_length"]) == {"CLIPScore", AUTHORS}
    assert LENGTH not in overall["given_length"]
    assert set(found["oracle"]) == {"pearson", "p", "published_pearson", "published_p"}
    assert "BLEU-1" in found["unavailable"]
    assert text.count("## q_") == 5 + 9


def test_partial_correlation_given_length_is_that_ofresiduals(tmp_path):
    from human_judgments.in_context import residuals

    rng = np.random.default_rng(1)
    z, e, f = rng.normal(size=(3, 400))
    x, y = z + e, 2 * z + f + 0.5 * e
    r = np.corrcoef([x, y, z])
    expected = (r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2))
    assert stats.pearsonr(residuals(x, z), residuals(y, z)).statistic == pytest.approx(expected)


def write_pascal(folder: Path) -> Path:
    folder.mkdir()
    pairs = [
        {"image": f"{i}.jpg", "captions": [f"good {i}", f"bad {i}"], "label": 0, "category": c}
        for i, c in enumerate(("HC", "HC", "MM", "MM"))
    ]
    (folder / "pascal50s.json").write_text(json.dumps(pairs))
    return folder


def test_pascal_gives_accuracy_by_category_and_counts_ties_half(tmp_path):
    data = write_pascal(tmp_path / "pascal")
    keys = [(f"{i}.jpg", f"{word} {i}") for word in ("good", "bad") for i in range(4)]
    scores = write_scores(tmp_path / "s.csv", keys, CLIPScore=[1, 0, 1, 1, 0, 1, 0, 1], Mine=[1, 1, 1, 1, 0, 0, 0, 0])
    arguments = ("--data", data, "--scores", scores, "--resamples", 50, "--output", tmp_path / "r")
    assert "pairs HC: 2, but the complete set has 1,000" in run("pascal50s", *arguments, code=1)
    run("pascal50s", *arguments, "--allow-other-counts")
    text, found = report(tmp_path / "r", "pascal50s-scores")
    clip = found["metrics"]["CLIPScore"]
    assert clip["accuracy"]["value"] == pytest.approx(2.5 / 4)
    assert clip["parts"]["HC"]["value"] == 0.5
    assert clip["parts"]["MM"]["value"] == 0.75
    assert clip["ties"] == 0.25
    assert clip["difference"] is None
    assert found["metrics"]["Mine"]["difference"]["value"] == pytest.approx(1.5 / 4)
    assert "difference from CLIPScore" in text


def test_preference_accuracy_follows_the_label(tmp_path):
    file = tmp_path / "p.json"
    pairs = [{"image": f"{i}", "captions": ["a", "b"], "label": i % 2} for i in range(6)]
    file.write_text(json.dumps(pairs))
    scores = {"first": np.array([1.0] * 6 + [0.0] * 6), "gap": np.array([np.nan] + [1.0] * 11)}
    pairs = read_preferences(file).with_scores(scores, {})
    found = preference_report(pairs, resampling=Resampling(resamples=0)).metrics
    assert found["first"].accuracy.value == 0.5
    assert found["gap"].n == 5
    assert found["gap"].ties == pytest.approx(5 / 6)


def test_your_own_table_in_any_form(tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text("image,caption,rating,system\na.jpg,x,1,A\na.jpg,y,2,B\nb.jpg,x,3,A\nb.jpg,y,2,B\n")
    keys = [("a.jpg", "x"), ("a.jpg", "y"), ("b.jpg", "x"), ("b.jpg", "y")]
    scores = write_scores(tmp_path / "s.csv", keys, Mine=[1, 2, 3, 4])
    arguments = ("--scores", scores, "--resamples", 40, "--output", tmp_path / "r")
    run("table", "--data", file, "--headline", "spearman", *arguments)
    text, found = report(tmp_path / "r", "mine-scores")
    assert found["metrics"]["Mine"]["spearman"]["value"] == stats.spearmanr([1, 2, 3, 4], [1, 2, 3, 2]).statistic
    assert set(found["parts"]) == {"A", "B"}
    assert found["parts"]["A"]["Mine"]["value"] == pytest.approx(1)
    assert "Published figures" not in text
    judged = write_clipscore_json(tmp_path / "json") / "crowdflower_flickr8k.json"
    texts = {key: " ".join(caption.split()) for key, caption in captions().items()}
    scores = write_scores(scores, [(i, texts[k]) for i, k, *_ in CROWD], Mine=[4, 1, 2, 3])
    run("table", "--data", judged, *arguments, "--no-classic")
    assert report(tmp_path / "r", "crowdflower_flickr8k-scores")[1]["counts"]["ratings"] == 4


def test_eye4b_is_marked_as_not_public(tmp_path):
    file = tmp_path / "gp_overall.csv"
    file.write_text("img_dir,request,txt,score\na.jpg,r,x,1\na.jpg,r,y,5\nb.jpg,r,x,3\nb.jpg,r,y,4\n")
    keys = [(f"{i}.jpg", f"Request: r Response: {t}") for i in "ab" for t in "xy"]
    scores = write_scores(tmp_path / "s.csv", keys, Mine=[1, 2, 3, 0])
    arguments = ("--scores", scores, "--resamples", 40, "--output", tmp_path / "r")
    run("blv_eye4b", "--data", tmp_path, *arguments, "--scores", scores)
    _, found = report(tmp_path / "r", "blv_eye4b-scores")
    assert any("not public" in note for note in found["notes"])
    assert found["metrics"]["Mine"]["preference_accuracy"]["value"] == 0.5
    assert found["metrics"]["Mine"]["preference_accuracy"]["pairs"] == 2


def test_sets_of_the_hub_need_it_or_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("I0TSCORE_DATA", str(tmp_path))
    for script in ("polaris", "composite", "nebula", "flickr8k_expert", "flickr8k_cf"):
        assert "which --offline does not allow" in run(script, "--offline", code=1)
    (tmp_path / "polaris_test.csv").write_text(
        "mt,refs,score,imgid\nA.,['B.'],0.5,a.jpg\nC.,['B.'],0.25,a.jpg\nD.,['E.'],1.0,b.jpg\n"
    )
    scores = write_scores(tmp_path / "s.csv", [("a.jpg", "A."), ("a.jpg", "C."), ("b.jpg", "D.")], Mine=[2, 1, 3])
    arguments = ("--data", tmp_path, "--scores", scores, "--no-classic", "--resamples", 0)
    assert "ratings: 3, but the complete set has 26,122" in run("polaris", *arguments, code=1)
    run("polaris", *arguments, "--allow-other-counts", "--output", tmp_path / "r")
    assert report(tmp_path / "r", "polaris-scores")[1]["metrics"]["Mine"]["tau_b"]["value"] == pytest.approx(1)


def test_foil_reads_its_pairs_and_counts(tmp_path):
    annotations = [
        {"id": 1, "image_id": 1, "caption": "A dog.", "foil": False},
        {"id": 1, "image_id": 1, "caption": "A cat.", "foil": True},
    ]
    content = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": annotations}
    (tmp_path / "foilv1.0_test_2017.json").write_text(json.dumps(content))
    scores = write_scores(tmp_path / "s.csv", [("a.jpg", "A dog."), ("a.jpg", "A cat.")], Mine=[1, 0])
    run("foil", "--data", tmp_path, "--scores", scores, "--output", tmp_path / "r")
    found = report(tmp_path / "r", "foil-scores")[1]
    assert found["metrics"]["Mine"]["accuracy"]["value"] == 1
    told = run("foil", "--data", tmp_path, "--captions", tmp_path / "none.json", code=1)
    assert "none.json: Cannot be read (No such file" in told


@pytest.mark.skipif(shutil.which("java") is None, reason="needs Java")
def test_classic_metrics_stand_alone_without_a_model(expert, tmp_path):
    pytest.importorskip("pycocoevalcap")
    data, _ = expert
    saved = tmp_path / "saved.csv"
    arguments = ("--data", data, "--allow-other-counts", "--resamples", 40, "--output", tmp_path / "r")
    run(
        "flickr8k_expert",
        *arguments,
        "--metric",
        "BLEU-1",
        "--metric",
        "ROUGE-L",
        "--baseline",
        "BLEU-1",
        "--save-scores",
        saved,
    )
    first = report(tmp_path / "r", "flickr8k_expert-classic")[1]["metrics"]
    assert list(first) == ["BLEU-1", "ROUGE-L"]
    run("flickr8k_expert", *arguments, "--scores", saved, "--no-classic", "--baseline", "BLEU-1")
    assert report(tmp_path / "r", "flickr8k_expert-scores")[1]["metrics"] == first


def lite_is_here() -> bool:
    try:
        tower_files()
    except MissingExtraError:
        return False
    return True


@pytest.mark.data
@pytest.mark.skipif(not lite_is_here(), reason="needs the extra lite")
def test_a_model_scores_the_first_captions(data_dir, tmp_path):
    run(
        "flickr8k_expert",
        "--data",
        data_dir,
        "--model",
        "lite",
        "--limit",
        12,
        "--resamples",
        40,
        "--no-classic",
        "--no-cache",
        "--statistics",
        "batch",
        "--output",
        tmp_path,
        "--offline",
    )
    text, found = report(tmp_path, "flickr8k_expert-lite-first-12")
    assert list(found["metrics"]) == [
        "I0TScore",
        "CLIPScore",
        "DNScore",
        "CovarianceI0TScore",
        "I0TScore(clip=yes,weight=2)",
        "RefI0TScore",
        "RefI0TScore(reference_rule=mean)",
        "RefI0TScore(reference_rule=mean3)",
        "RefCLIPScore",
    ]
    assert all(metric["n"] == 36 for metric in found["metrics"].values())
    assert "not zero-shot" in text
    assert "Only the first 12 of 5,664 items are used: not a result." in found["notes"]
    assert found["signatures"]["I0TScore"].startswith("I0TScore|m:lite|")


def test_reports_follow_their_schema(expert, tmp_path):
    data, scores = expert
    run(
        "flickr8k_expert",
        "--data",
        data,
        "--scores",
        scores,
        "--allow-other-counts",
        "--no-classic",
        "--resamples",
        40,
        "--output",
        tmp_path / "r",
    )
    figure = {
        "type": "object",
        "required": ["value", "interval"],
        "properties": {"value": {"type": ["number", "null"]}, "interval": {"type": ["array", "null"]}},
    }
    names = ("tau_b", "tau_c", "spearman", "pearson")
    metric = {
        "type": "object",
        "required": ["n", "groups", "ties", *names],
        "properties": dict.fromkeys(names, figure),
    }
    schema = {
        "type": "object",
        "required": ["schema", "set", "counts", "command", "model", "metrics", "notes", "signatures"],
        "properties": {
            "schema": {"const": "i0tscore.agreement/1"},
            "metrics": {"type": "object", "additionalProperties": metric},
        },
    }
    jsonschema.validate(report(tmp_path / "r", "flickr8k_expert-scores")[1], schema)


def test_cells_are_escaped_and_percentages_are_read_easily():
    assert "a\\|b" in render_page(Page("", [Table(["x"], [["a|b"]])]))
    assert percent(Estimate(None, None).to_dict()) == "–"
    assert percent(Estimate(-0.0001, None).to_dict()) == "0.0"
    assert percent(Estimate(0.05, (-0.01, 0.11)).to_dict(), signed=True) == "+5.0 (-1.0 to +11.0)"
