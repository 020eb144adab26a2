"""Rating sets as columns, and ratings in tables of any kind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas
import pytest

from i0tscore.errors import InputError, SampleFileError, UsageError
from i0tscore.results.correlation import correlation
from i0tscore.samples.rating_sets import HUB_COLUMNS, KNOWN_SETS, read_known_set, verify
from i0tscore.samples.ratings import (
    AVERAGED,
    RatingScale,
    RatingSet,
    read_rating_table,
    read_score_table,
    read_scores_of,
)
from i0tscore.samples.sample import Sample

ROWS = [
    {"image": "a.jpg", "caption": "one", "rating": 1, "rater": "x", "category": "C"},
    {"image": "a.jpg", "caption": "one", "rating": 3, "rater": "y", "category": "C"},
    {"image": "a.jpg", "caption": "two", "rating": 2.5, "rater": "x", "category": "C"},
    {"image": "b.jpg", "caption": "one", "rating": 4, "rater": "x", "category": "D"},
]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    if path.suffix in (".csv", ".tsv"):
        separator = "," if path.suffix == ".csv" else "\t"
        lines = [separator.join(rows[0]), *(separator.join(map(str, row.values())) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        import datasets

        datasets.Dataset.from_list(rows).save_to_disk(str(path))
    return path


def problems(path: Path, **options: object) -> str:
    with pytest.raises(SampleFileError) as caught:
        read_rating_table(path, **options)
    return str(caught.value)


@pytest.mark.parametrize("name", ["r.csv", "r.tsv", "r.json", "r.jsonl", "saved"])
def test_a_table_of_any_form_is_read_alike(tmp_path, name):
    found = read_rating_table(write(tmp_path / name, ROWS))
    assert found.rating.tolist() == [1, 3, 2.5, 4]
    assert found.item.tolist() == [0, 0, 1, 2]
    assert [(s.image.name, s.caption) for s in found.samples] == [
        ("a.jpg", "one"),
        ("a.jpg", "two"),
        ("b.jpg", "one"),
    ]
    assert found.clusters == ("a.jpg", "a.jpg", "a.jpg", "b.jpg")
    assert found.rater == ("x", "y", "x", "x")
    assert found.parts == {"category": ("C", "C", "C", "D")}
    assert found.counts == {"items": 3, "ratings": 4, "images": 2}


def test_images_are_looked_for_in_their_folder(tmp_path):
    file = write(tmp_path / "r.csv", ROWS)
    (tmp_path / "a.jpg").touch()
    text = problems(file, images=tmp_path)
    assert 'line 5: No image "b.jpg"' in text
    (tmp_path / "b.jpg").touch()
    assert read_rating_table(file, images=tmp_path).samples[2].image == tmp_path / "b.jpg"


def test_every_bad_row_is_listed_at_once(tmp_path):
    file = tmp_path / "r.csv"
    file.write_bytes(
        b"image,caption,rating\n"
        b"a.jpg,one,7\n"
        b"a.jpg,,2\n"
        b"a.jpg,two,nan\n"
        b"a.jpg,three,good\n"
        b"a.jpg,four\n"
        b"a.jpg,\xff\xfe,1\n"
        b",five,1\n"
        b"a.jpg,six,\n"
        b"a.jpg,seven,1\n"
        b"a.jpg,seven,1\n"
    )
    text = problems(file, scale=RatingScale(1, 5))
    for line, reason in (
        (2, "Expected a rating between 1 and 5, got 7"),
        (3, "Expected a caption, got nothing"),
        (4, "Expected a rating, got nan"),
        (5, 'Expected a rating, got "good"'),
        (6, "Expected 3 fields as in the header, got 2"),
        (7, "Expected UTF-8"),
        (8, "Expected an image, got nothing"),
        (9, "Expected a rating, got nothing"),
        (11, "This row is identical to line 10"),
    ):
        assert f"line {line}: {reason}" in text
    assert "9 problems" in text


def test_a_rater_rates_once(tmp_path):
    file = write(tmp_path / "r.jsonl", [*ROWS, {**ROWS[1], "rating": 2}])
    assert 'line 5: Rater "y" already rated this item at line 2' in problems(file)


def test_averages_are_refused_where_ratings_are_whole(tmp_path):
    text = problems(write(tmp_path / "r.csv", ROWS), scale=RatingScale(1, 5, whole=True))
    assert "line 4: Expected a single rating, got the average 2.5" in text


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("r.csv", "image,caption\na,b\n", 'Expected a column "rating", found'),
        ("r.csv", "image,caption,rating,rating\na,b,1,2\n", "occurs more than once"),
        (
            "r.csv",
            "image;caption;rating\na;b;1.234,5\n",
            'got "1.234,5". Use a decimal point and no thousands separators',
        ),
        ("r.csv", 'image,caption,rating\na,b,"1,234"\na,c,"12,345"\n', 'line 2: Expected a rating, got "1,234"'),
        ("r.csv", 'image,caption,rating\na,b,"3,5"\na,c,4.5\n', 'line 2: Expected a rating, got "3,5"'),
        ("r.json", '{"a": 1}', "Expected a list of objects"),
        (
            "r.json",
            '[{"image": "a", "caption": "b", "rating": 1}, 3]',
            "item 2: Expected an object {…}, got the number 3",
        ),
        ("r.json", '[{"image": "a", "caption": "b", "rating": [1]}]', "Expected a rating, got a list"),
        ("r.json", '[{"image": "a", "caption": "b", "rating": true}]', "Expected a rating, got a Boolean"),
        ("r.json", "[", "ends too early"),
        ("r.csv", "", "no entries"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(tmp_path, name, content, reason):
    file = tmp_path / name
    file.write_text(content)
    assert reason in problems(file)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_tables_of_a_german_spreadsheet(tmp_path, encoding):
    frame = pandas.DataFrame({"image": ["a", "b"], "caption": ["Größe 3,5", "1,234"], "rating": [4.333, 2.0]})
    frame.to_csv(tmp_path / "r.csv", sep=";", decimal=",", encoding=encoding, index=False)
    found = read_rating_table(tmp_path / "r.csv")
    assert found.rating.tolist() == [4.333, 2]
    assert [sample.caption for sample in found.samples] == ["Größe 3,5", "1,234"]
    assert "Columns are separated by semicolons." in found.notes
    assert 'Commas are read as decimal points in these columns: "rating".' in found.notes


def test_usual_names_of_columns(tmp_path):
    (tmp_path / "r.csv").write_text("File Name;Answer;Rating;refs;mine\na.jpg;x;3,5;R;0,5\nb.jpg;y;4;S;1\n")
    found = read_rating_table(tmp_path / "r.csv")
    assert [(s.image.name, s.caption, s.references) for s in found.samples] == [
        ("a.jpg", "x", ("R",)),
        ("b.jpg", "y", ("S",)),
    ]
    by_item = read_score_table(tmp_path / "r.csv", ["mine"], rating="Rating", by_item=True)
    assert (by_item.item.tolist(), by_item.scores["mine"].tolist()) == ([0, 1], [0.5, 1])
    (tmp_path / "s.csv").write_text("Image Path,text,mine\na.jpg,x,2\nb.jpg,y,3\n")
    assert read_scores_of(tmp_path / "s.csv", found.samples)["mine"].tolist() == [2, 3]
    (tmp_path / "r.csv").write_text("image,answer,prediction,rating\na.jpg,x,y,3\n")
    assert 'the caption, found "answer", "prediction". Choose one with --caption-column' in problems(tmp_path / "r.csv")
    found = read_rating_table(tmp_path / "r.csv", caption_column="prediction", image_column="answer")
    assert (found.samples[0].image.name, found.samples[0].caption) == ("x", "y")


def test_a_misspelled_column_is_answered_with_the_nearest(tmp_path):
    (tmp_path / "r.csv").write_text("image,captoin,rating,mine\na,b,1,2\n")
    assert problems(tmp_path / "r.csv").endswith(
        'Name it with --caption-column (caption_column=). Did you mean "captoin"?'
    )
    with pytest.raises(SampleFileError, match=r'Expected a column "ratting", .* Did you mean "rating"\?$'):
        read_score_table(tmp_path / "r.csv", ["mine"], rating="ratting")


def test_decimal_commas_in_quoted_cells_and_scores(tmp_path):
    (tmp_path / "r.csv").write_text('image,rating,mine\na,"3,5",",25"\nb,4,"-1,5"\n')
    found = read_score_table(tmp_path / "r.csv", ["mine"])
    assert (found.rating.tolist(), found.scores["mine"].tolist()) == ([3.5, 4], [0.25, -1.5])
    (tmp_path / "s.tsv").write_text("image\tcaption\tmine\na\tx\t0,512\nb\ty\t1,234\n")
    samples = [Sample("a", Path("a"), "x"), Sample("b", Path("b"), "y")]
    assert read_scores_of(tmp_path / "s.tsv", samples)["mine"].tolist() == [0.512, 1.234]


def test_what_is_no_table_is_refused(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_rating_table(tmp_path / "none.csv")
    (tmp_path / "r.xls").touch()
    with pytest.raises(UsageError, match="Rename the file"):
        read_rating_table(tmp_path / "r.xls")


def test_averaging_takes_the_mean_of_each_item_and_says_so():
    samples = tuple(Sample("i", Path(f"{i}.jpg"), "c") for i in range(3))
    item = np.array([0, 1, 0, 2, 1, 0])
    ratings = RatingSet("s", samples, item, np.array([1.0, 2, 2, 3, 4, 3]), tuple("010210"))
    means = ratings.averaged()
    assert means.rating.tolist() == [2, 3, 3]
    assert means.item.tolist() == [0, 1, 2]
    assert means.clusters == ("0", "1", "2")
    assert AVERAGED in means.notes
    assert ratings.n > len(ratings.samples)
    assert means.n == len(means.samples)


def test_averaging_noisy_raters_raises_agreement():
    rng = np.random.default_rng(3)
    truth = rng.normal(size=300)
    rating = np.clip(np.round(2.5 + truth[:, None] + rng.normal(scale=1.5, size=(300, 3))), 1, 4).ravel()
    samples = tuple(Sample(str(i), Path(f"{i}.jpg"), "c") for i in range(300))
    item = np.repeat(np.arange(300), 3)
    ratings = RatingSet("s", samples, item, rating, tuple(map(str, item)))
    means = ratings.averaged()
    for name in ("tau_b", "tau_c", "pearson"):
        single = correlation(name, truth[ratings.item], ratings.rating)
        assert correlation(name, truth[means.item], means.rating) > single + 0.02


def test_parts_of_a_set_keep_their_items():
    samples = tuple(Sample("i", Path(f"{i}.jpg"), "c") for i in range(3))
    ratings = RatingSet("s", samples, np.array([0, 1, 2, 1]), np.arange(4.0), tuple("0121"), groups=tuple("aabb"))
    part = ratings.only(np.array([False, True, False, True]))
    assert part.samples == (samples[1],)
    assert part.item.tolist() == [0, 0]
    assert part.rating.tolist() == [1, 3]
    assert part.groups == ("a", "b")
    few = ratings.limited(2)
    assert len(few.samples) == 2
    assert few.rating.tolist() == [0, 1, 3]
    assert "not a result" in few.notes[-1]


def test_wrong_counts_are_refused_by_name_and_can_be_allowed(tmp_path):
    found = read_rating_table(write(tmp_path / "r.csv", ROWS))
    known = KNOWN_SETS["composite"]
    with pytest.raises(SampleFileError) as caught:
        verify(found.counts, known, tmp_path / "r.csv", {})
    assert "ratings: 4, but the complete set has 11,985" in str(caught.value)
    assert "images: 2, but the complete set has 3,995" in str(caught.value)
    notes = verify(found.counts, known, tmp_path / "r.csv", {}, allow_other_counts=True)
    assert notes[0] == "ratings: 4, but the complete set has 11,985"


def test_a_file_of_another_content_is_noted(tmp_path):
    known = KNOWN_SETS["flickr8k_expert"]
    (tmp_path / "ExpertAnnotations.txt").write_text("other")
    found = read_rating_table(write(tmp_path / "r.csv", ROWS))
    files = {"ExpertAnnotations.txt": tmp_path / "ExpertAnnotations.txt"}
    notes = verify(found.counts, known, tmp_path, files, allow_other_counts=True)
    assert any("ExpertAnnotations.txt differs from the known file of this name" in note for note in notes)


def test_polaris_as_csv_with_references_as_python_writes_them(tmp_path):
    (tmp_path / "polaris_test.csv").write_text(
        "mt,refs,score,imgid\n"
        '"A dog.","[\'A brown dog.\', ""It\'s a dog.""]",0.75,dog.jpg\n'
        '"A cat.","[\'A brown dog.\', ""It\'s a dog.""]",0.0,dog.jpg\n'
    )
    found, path, _ = read_known_set(KNOWN_SETS["polaris"], tmp_path, look_up=False)
    assert path.name == "polaris_test.csv"
    assert found.samples[0].references == ("A brown dog.", "It's a dog.")
    assert found.rating.tolist() == [0.75, 0.0]
    (tmp_path / "polaris_test.csv").write_text("mt,refs,score,imgid\nA dog.,[__import__('os')],0.75,dog.jpg\n")
    with pytest.raises(SampleFileError, match="Expected references as a list"):
        read_known_set(KNOWN_SETS["polaris"], tmp_path, look_up=False)


def test_composite_leaves_the_rated_caption_out_of_the_references(tmp_path):
    (tmp_path / "composite.csv").write_text(
        'image,caption,correctness,references\na.jpg,A dog.,5,"[""A dog."", ""Dog.""]"\n'
    )
    found, *_ = read_known_set(KNOWN_SETS["composite"], tmp_path, look_up=False)
    assert found.samples[0].references == ("Dog.",)
    assert found.rating.tolist() == [5]


def hub_rows() -> list[dict[str, object]]:
    picture = b"not decoded"
    refs = (["A dog.", "Dog."], ["A cat."])
    return [
        {"refs": refs[0], "cand": "A dog runs.", "img": {"bytes": picture, "path": None}, "human_score": 0.5},
        {"refs": refs[0], "cand": "A cow.", "img": {"bytes": picture, "path": None}, "human_score": 0.25},
        {"refs": refs[1], "cand": "A cat.", "img": {"bytes": picture, "path": None}, "human_score": 1.0},
    ]


def test_images_of_the_hub_stay_there_and_are_told_apart_by_their_references(tmp_path):
    import datasets

    dataset = datasets.Dataset.from_list(hub_rows()).cast_column("img", datasets.Image())
    found = read_rating_table("owner/name", dataset=dataset, columns=HUB_COLUMNS, scale=RatingScale(0, 1))
    assert len(set(found.clusters)) == 2
    assert found.samples[1].image.read_bytes() == b"not decoded"
    assert found.counts == {"ratings": 3}
    saved = tmp_path / "saved"
    dataset.save_to_disk(str(saved))
    again, *_ = read_known_set(KNOWN_SETS["polaris"], saved)
    assert again.rating.tolist() == found.rating.tolist()


def test_offline_sets_of_the_hub_must_be_given():
    with pytest.raises(InputError, match=r"which --offline does not allow\. Give its folder"):
        read_known_set(KNOWN_SETS["polaris"], None, offline=True)
    with pytest.raises(InputError, match="is not on the hub"):
        read_known_set(KNOWN_SETS["foil"], None)


def test_scores_in_any_table_are_joined_by_file_name_and_caption(tmp_path):
    import datasets

    rows = [
        {"image": "x/a.jpg", "caption": "one  two", "mine": 0.5},
        {"image": "b.jpg", "caption": "three", "mine": 1.0},
    ]
    path = tmp_path / "scores.parquet"
    datasets.Dataset.from_list(rows).to_parquet(str(path))
    samples = [Sample("b", Path("b.jpg"), "three"), Sample("a", Path("a.jpg"), "one two")]
    assert read_scores_of(path, samples)["mine"].tolist() == [1.0, 0.5]
    with pytest.raises(SampleFileError, match=r'No score for "a\.jpg", "other"\.'):
        read_scores_of(path, [*samples, Sample("a", Path("a.jpg"), "other")])
    with pytest.raises(
        SampleFileError, match=r'first row has "a\.jpg", "one two"; the first rated caption is "c\.jpg"'
    ):
        read_scores_of(path, [Sample("c", Path("c.jpg"), "other"), Sample("d", Path("d.jpg"), "other")])


def test_scores_are_joined_by_ids_and_own_columns_but_not_by_guesses(tmp_path):
    by_id = tmp_path / "score.csv"
    by_id.write_text("id,caption,mine\na.v2,one,0.5\nb,three,1\n")
    samples = [Sample("b", Path("b.png"), "three"), Sample("a", Path("a.v2.jpg"), "one")]
    assert read_scores_of(by_id, samples)["mine"].tolist() == [1.0, 0.5]
    twins = [Sample("b", Path("b.png"), "three"), Sample("b", Path("b.jpg"), "three"), samples[1]]
    with pytest.raises(SampleFileError, match=r'No score for "b\.png", "three"'):
        read_scores_of(by_id, twins)
    own = tmp_path / "own.csv"
    own.write_text("Photo,Written,mine\na.v2.jpg,one,0.5\nb.png,three,1\nb.png,three,2\n")
    with pytest.raises(SampleFileError, match='line 4: Expected one value of "mine" per item, got 2 here and 1'):
        read_scores_of(own, samples, image_column="Photo", caption_column="Written")
