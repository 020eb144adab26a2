"""The named rating sets in all their forms, on tiny made-up files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from rating_files_on_disk import EXPERT, IMAGES, captions, write_clipscore_json, write_flickr8k, write_kreiss

from human_judgments.blv_eye4b import read_eye4b
from human_judgments.blv_kreiss2022 import (
    QUESTIONS,
    read_authors_scores,
    read_kreiss,
    same_descriptions,
)
from i0tscore.errors import InputError, SampleFileError, UsageError
from i0tscore.samples.flickr8k import read_clipscore_json, read_flickr8k_crowd, read_flickr8k_expert
from i0tscore.samples.preferences import read_foil, read_preferences
from i0tscore.samples.rating_sets import KNOWN_SETS, drop_rated, read_known_set, read_thumb


@pytest.fixture
def flickr8k(tmp_path):
    return write_flickr8k(tmp_path / "flickr8k")


def test_expert_ratings_are_rows_without_own_captions(flickr8k):
    found = read_flickr8k_expert(flickr8k.parent)
    assert found.counts == {"pairs dropped": 1, "pairs": 6, "items": 5, "ratings": 15, "images": 3}
    assert found.rating.tolist() == [float(r) for own, i, *rs in EXPERT if not i.startswith(own) for r in rs]
    assert found.item.tolist() == np.repeat(np.arange(5), 3).tolist()
    first = found.samples[0]
    assert first.image == flickr8k / "images_224" / "one.jpg"
    assert first.caption == "A cat number 0 ."
    assert first.references == tuple(f"A dog number {n} ." for n in range(5))


def test_both_forms_of_expert_are_one_set(flickr8k, tmp_path):
    table = read_flickr8k_expert(flickr8k, look_up=False)
    file = write_clipscore_json(tmp_path / "json") / "flickr8k.json"
    found = read_flickr8k_expert(file, images=flickr8k / "images_224")
    assert found.rating.tolist() == table.rating.tolist()
    assert found.item.tolist() == table.item.tolist()
    assert [(s.caption, s.references) for s in found.samples] == [(s.caption, s.references) for s in table.samples]
    assert found.clusters == table.clusters


def test_crowd_ratings_keep_every_pair(flickr8k, tmp_path):
    found = read_flickr8k_crowd(flickr8k)
    assert found.counts == {"judgements": 13, "items": 4, "ratings": 4, "images": 3}
    assert found.rating.tolist() == [1.0, 0.25, 0.3333, 0.6667]
    assert {len(sample.references) for sample in found.samples} == {5}
    file = write_clipscore_json(tmp_path / "json") / "crowdflower_flickr8k.json"
    of_json = read_flickr8k_crowd(file, look_up=False)
    assert of_json.rating == pytest.approx(found.rating, abs=1e-3)
    assert [s.references for s in of_json.samples] == [s.references for s in found.samples]


def test_rated_captions_of_an_image_are_no_references_of_any_of_its_rows(flickr8k):
    known = KNOWN_SETS["flickr8k_cf"]
    found, _, files = read_known_set(known, flickr8k, look_up=False)
    own = "A dog number 2 ."
    assert [s.caption == own for s in found.samples] == [True, False, False, False]
    assert [len(s.references) for s in found.samples] == [4, 4, 5, 4]
    assert not any(own in s.references for s in found.samples)
    assert "Every caption that was rated for an image" in found.notes[-1]
    assert list(files) == ["Flickr8k.token.txt"]
    of_row, *_ = read_known_set(known, flickr8k, look_up=False, drop="own")
    assert [len(s.references) for s in of_row.samples] == [4, 5, 5, 4]
    assert drop_rated(found, "rated").samples == found.samples, "as on files that have had it done"


def test_all_references_are_kept_where_all_are_rated(flickr8k):
    file = flickr8k / "CrowdFlowerAnnotations.txt"
    rows = [f"one.jpg\tone.jpg#{number}\t1.0\t3\t0\n" for number in range(5)]
    file.write_text("".join(rows))
    found, *_ = read_known_set(KNOWN_SETS["flickr8k_cf"], flickr8k, look_up=False)
    assert {len(s.references) for s in found.samples} == {5}


THUMB = [
    {"SYS": system, "seg_id": str(i), "hyp": f"{system} {i}", "image": f"{i}.jpg", "P": 4.0, "R": r, "human_score": h}
    for i in range(3)
    for system, r, h in (("A", 2.0, 3.0), ("B", 3.0 + i, 3.4), ("Human", 5.0, 4.5))
]


def write_thumb(folder, rows=THUMB, segments=3):
    file = folder / "mscoco_THumB-1.0.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    references = [{"seg_id": str(i), "refs": [f"one {i}", f"two {i}"]} for i in range(segments)]
    (folder / "mscoco_references.json").write_text("".join(json.dumps(row) + "\n" for row in references))
    return file


def test_thumb_has_three_ratings_of_each_caption_of_each_system(tmp_path):
    file = write_thumb(tmp_path)
    found = read_thumb(tmp_path, look_up=False)
    assert found.counts == {"items": 9, "ratings": 9, "images": 3, "systems": 3}
    assert found.rating.tolist() == [3.0, 3.4, 4.5] * 3
    assert found.parts["system"] == ("A", "B", "Human") * 3
    assert found.samples[3].references == ("one 1", "two 1")
    assert read_thumb(file, look_up=False, rating="R").rating.tolist() == [2, 3, 5, 2, 4, 5, 2, 5, 5]
    same = [{**row, "hyp": "a dog"} for row in THUMB]
    assert not read_thumb(write_thumb(tmp_path, same), look_up=False).several_raters, "each system is rated by itself"
    write_thumb(tmp_path, [{**THUMB[0], "P": 6.0}, {**THUMB[1], "seg_id": "9"}])
    with pytest.raises(SampleFileError) as caught:
        read_thumb(file, look_up=False, rating="P")
    assert "line 1: Expected a rating between 1 and 5, got 6" in str(caught.value)
    assert 'line 2: mscoco_references.json has no references for the segment "9"' in str(caught.value)
    (tmp_path / "mscoco_references.json").unlink()
    write = [json.dumps(row) for row in THUMB]
    file.write_text("\n".join(write))
    assert read_thumb(file, look_up=False).samples[0].references == ()


@pytest.mark.parametrize("references", [{}, {"refs": ["A cat."]}])
def test_polos_and_experts_json_are_read(tmp_path, references):
    row = {"id": "val_1", "imgid": "e00d", "mt": "A dog.", "score": 0.75, "count": 6, "explanation": {"fluency": "x"}}
    (tmp_path / "polaris_exp_val.json").write_text(json.dumps([{**row, **references}]))
    found, path, files = read_known_set(KNOWN_SETS["polaris_val"], tmp_path, look_up=False)
    assert (found.rating.tolist(), found.clusters) == ([0.75], ("e00d",))
    assert found.samples[0].caption == "A dog."
    assert found.samples[0].references == tuple(references.get("refs", ()))
    assert files == {path.name: path}


def test_a_corrupted_middle_is_listed_line_by_line(flickr8k):
    file = flickr8k / "ExpertAnnotations.txt"
    lines = file.read_bytes().splitlines(keepends=True)
    lines[2:2] = [
        b"one.jpg\ttwo.jpg#1\t1\t1\n",
        b"one.jpg\ttwo.jpg#9\t1\t1\t1\n",
        b"four.jpg\ttwo.jpg#1\t1\t1\t1\n",
        b"one.jpg\ttwo.jpg#2\t1\t5\t0\n",
        b"one.jpg\tone.jpg#\xff\t1\t1\t1\n",
        b"two.jpg\tone.jpg#0\t1.5\t1\t1\n",
    ]
    file.write_bytes(b"".join(lines))
    with pytest.raises(SampleFileError) as caught:
        read_flickr8k_expert(flickr8k)
    text = str(caught.value)
    for line, reason in (
        (3, "Expected 5 fields (image, caption id, rating 1, rating 2, rating 3), got 4"),
        (4, 'Flickr8k.token.txt has no caption "two.jpg#9"'),
        (5, 'Flickr8k.token.txt has no captions of the image "four.jpg"'),
        (6, "Expected a rating between 1 and 4, got 5"),
        (6, "Expected a rating between 1 and 4, got 0"),
        (7, "Expected UTF-8"),
        (8, "Expected a single rating, got the average 1.5"),
        (10, "This image and caption already occur at ExpertAnnotations.txt, line 8"),
    ):
        assert f"ExpertAnnotations.txt, line {line}: {reason}" in text


def test_problems_of_the_captions_are_listed_too(flickr8k):
    with (flickr8k / "Flickr8k.token.txt").open("a") as file:
        file.write("one.jpg#0\tagain\nfour.jpg#0\t \nfive.jpg#0\n")
    with pytest.raises(SampleFileError) as caught:
        read_flickr8k_crowd(flickr8k)
    text = str(caught.value)
    assert 'Flickr8k.token.txt, line 16: The caption id "one.jpg#0" occurs more than once' in text
    assert "Flickr8k.token.txt, line 17: Expected a caption, got an empty string" in text
    assert "Flickr8k.token.txt, line 18: Expected 2 fields (caption id, caption), got 1" in text


def test_shares_must_be_those_of_the_counts(flickr8k):
    with (flickr8k / "CrowdFlowerAnnotations.txt").open("a") as file:
        file.write("one.jpg\ttwo.jpg#1\t0.9\t1\t2\none.jpg\ttwo.jpg#2\t0.5\t0\t0\none.jpg\ttwo.jpg#3\tx\t1\t1\n")
    with pytest.raises(SampleFileError) as caught:
        read_flickr8k_crowd(flickr8k)
    text = str(caught.value)
    assert 'line 5: Expected the share 1 of 3, got "0.9"' in text
    assert 'line 6: Expected numbers of answers, got "0" yes and "0" no' in text
    assert 'line 7: Expected a rating, got "x"' in text


def test_missing_files_and_images_say_where_to_get_them(flickr8k, tmp_path):
    with pytest.raises(InputError, match=r"No ExpertAnnotations.txt or flickr8k.json found.*\(text files of Flickr8k"):
        read_flickr8k_expert(tmp_path / "flickr8k" / "images_224")
    (flickr8k / "images_224" / "two.jpg").unlink()
    with pytest.raises(SampleFileError, match=r'No image "two\.jpg"'):
        read_flickr8k_expert(flickr8k)
    assert (
        "Images are identified by name; their files were not looked up."
        in read_flickr8k_expert(flickr8k, look_up=False).notes
    )


def test_unrated_judgements_are_left_out_and_broken_ones_listed(tmp_path):
    file = write_clipscore_json(tmp_path) / "flickr8k.json"
    content = json.loads(file.read_text())
    content["one.jpg"]["human_judgement"][0]["rating"] = float("nan")
    file.write_text(json.dumps(content))
    found = read_flickr8k_expert(file, look_up=False)
    assert found.n == 14
    assert "Judgments without a rating (NaN) are excluded: 1." in found.notes
    content["two.jpg"]["human_judgement"][1] = "broken"
    content["three.jpg"] = []
    file.write_text(json.dumps(content))
    with pytest.raises(SampleFileError) as caught:
        read_flickr8k_expert(file, look_up=False)
    assert 'id "two.jpg", judgment 2: ' in str(caught.value)
    assert 'id "three.jpg": Expected an object with the lists' in str(caught.value)


def test_any_ratings_in_clipscores_form_are_read_as_they_are(tmp_path):
    found = read_clipscore_json(write_clipscore_json(tmp_path) / "crowdflower_flickr8k.json")
    assert found.n == 4
    assert found.samples[0].caption in found.samples[0].references


@pytest.fixture
def kreiss(tmp_path):
    return write_kreiss(tmp_path / "blv")


@pytest.mark.parametrize("question", QUESTIONS)
def test_each_question_is_a_set_of_its_own(kreiss, question):
    found = read_kreiss(kreiss, question)
    assert found.counts == {"items": 6, "ratings": 18, "images": 3}
    assert set(found.groups) == {"Topic/img0", "Topic/img1", "Topic/img2"}
    assert set(found.parts["category"]) == {"Topic"}
    assert set(found.rater) == {"p0", "p1", "p2"}
    assert {sample.image.name for sample in found.samples} == set(IMAGES)
    sighted = read_kreiss(kreiss, question, raters="sighted")
    assert sighted.counts == {"items": 9, "ratings": 15, "images": 3}
    same = same_descriptions(sighted, found)
    assert same.n == 12
    assert {s.caption for s in same.samples} == {s.caption for s in found.samples}


def test_questions_and_moments_differ(kreiss):
    ratings = {q: read_kreiss(kreiss, q).rating.tolist() for q in QUESTIONS}
    assert len({tuple(column) for column in ratings.values()}) == len(QUESTIONS)
    before = read_kreiss(kreiss, raters="sighted", seen="preimg")
    after = read_kreiss(kreiss, raters="sighted", seen="postimg")
    assert before.rating.tolist() != after.rating.tolist()
    with pytest.raises(UsageError, match="got 'q_none'"):
        read_kreiss(kreiss, "q_none")


def test_authors_scores_are_by_description(kreiss):
    scores = read_authors_scores(kreiss)
    assert scores["Description 0 of dog"] == 0.5
    assert {s.caption for s in read_kreiss(kreiss).samples} == set(scores)


def test_bad_kreiss_files_are_listed(kreiss):
    file = kreiss / "blv_data_criticaltrials.csv"
    lines = file.read_text().splitlines()
    lines += ["Topic,p0,img9,Text,1,1,1,1,1,A", "Topic,p7,img0,Text,1,1,1,1,9,A", lines[1]]
    file.write_text("\n".join(lines))
    with pytest.raises(SampleFileError) as caught:
        read_kreiss(kreiss)
    text = str(caught.value)
    assert "line 20: sighted_data_criticaltrials.csv has no file of the image 'img9'" in text
    assert "line 21: Expected a rating between 1 and 5, got 9" in text
    assert 'line 22: Rater "p0" already rated this item at line 2' in text
    file.write_text("context,participant,img_id,description\n")
    with pytest.raises(SampleFileError, match=r'Expected a column .*"q_overall"'):
        read_kreiss(kreiss)


def test_eye4b_ratings_in_words_and_in_numbers(tmp_path):
    words = tmp_path / "pilot.csv"
    words.write_text(
        "img_dir,request,gpt_txt,accuracy\n"
        "a.jpg,Where is the door?,To your left.,Strongly Agree\n"
        "a.jpg,Where is the door?,Ahead.,disagree\n"
        "b.jpg,Is it safe?,Yes.,Neutral\n"
    )
    found = read_eye4b(words)
    assert found.rating.tolist() == [1.0, 0.25, 0.5]
    assert found.samples[0].caption == "Request: Where is the door?\nResponse: To your left."
    assert len(set(found.groups)) == 2
    assert read_eye4b(words, with_request=False).samples[0].caption == "To your left."
    numbers = tmp_path / "gp_overall.csv"
    numbers.write_text("img_dir,request,txt,score,criterion\na.jpg,r,One.,5,overall\na.jpg,r,Two.,3.5,sufficiency\n")
    assert read_eye4b(numbers).rating.tolist() == [1.0, 0.7]
    assert read_eye4b(numbers, criterion="sufficiency").rating.tolist() == [0.7]
    words.write_text("img_dir,request,gpt_txt,accuracy\na.jpg,r,x,Perhaps\n,r,x,Agree\na.jpg,r,,Agree\n")
    with pytest.raises(SampleFileError) as caught:
        read_eye4b(words)
    for line, reason in (
        (2, "Expected one of the ratings"),
        (3, "Expected an image, got"),
        (4, "Expected a caption, got"),
    ):
        assert f"line {line}: {reason}" in str(caught.value)


PASCAL = [
    {"image": "one.jpg", "captions": ["a", "b"], "label": 0, "references": ["r", "s"], "category": "HC"},
    {"image": "one.jpg", "captions": ["c", "d"], "label": 1, "references": ["r", "s"], "category": 4},
]


@pytest.mark.parametrize("form", ["list", "lines", "by category"])
def test_preferences_of_any_form_are_read_alike(tmp_path, form):
    if form == "lines":
        file = tmp_path / "pascal.jsonl"
        file.write_text("".join(json.dumps(pair) + "\n" for pair in PASCAL))
    else:
        file = tmp_path / "pascal.json"
        file.write_text(json.dumps(PASCAL if form == "list" else {"HC": PASCAL[:1], "MM": PASCAL[1:]}))
    found = read_preferences(file, references=1)
    assert found.label.tolist() == [0, 1]
    assert found.categories == ("HC", "MM")
    assert [s.caption for s in found.samples] == ["a", "c", "b", "d"]
    assert found.first[0].references == ("r",)
    assert found.counts == {"pairs": 2, "pairs HC": 1, "pairs MM": 1}
    assert found.limited(1).n == 1


def test_bad_preferences_are_listed(tmp_path):
    file = tmp_path / "pascal.json"
    file.write_text(
        json.dumps(
            [
                {**PASCAL[0], "label": 2},
                {**PASCAL[0], "captions": ["a"]},
                {**PASCAL[0], "image": None},
                {**PASCAL[0], "captions": ["a", ""]},
                {**PASCAL[0], "references": [3]},
                {**PASCAL[0], "label": True},
            ]
        )
    )
    with pytest.raises(SampleFileError) as caught:
        read_preferences(file)
    for item, reason in enumerate(
        (
            'Expected the label 0 or 1, got "2".',
            'Expected "captions" with two captions',
            "Expected an image, got nothing",
            "Expected a caption, got an empty string",
            "Expected text for reference 1",
            'Expected the label 0 or 1, got "True".',
        ),
        start=1,
    ):
        assert f"item {item}: {reason}" in str(caught.value)


def test_foils_are_paired_with_their_true_captions(tmp_path):
    annotations = [
        {"id": 1, "image_id": 10, "caption": "A dog runs.", "foil": False},
        {"id": 1, "image_id": 10, "caption": "A cat runs.", "foil": True},
        {"id": 1, "image_id": 10, "caption": "A cow runs.", "foil": True},
        {"id": 2, "image_id": 11, "caption": "A bus.", "foil": False},
        {"id": 2, "image_id": 11, "caption": "A car.", "foil": True},
    ]
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in (10, 11)]
    file = tmp_path / "foil.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations}))
    coco = tmp_path / "coco.json"
    texts = [{"image_id": 10, "caption": c} for c in ("A dog runs.", "Running dog.")]
    coco.write_text(json.dumps({"annotations": texts}))
    found = read_foil(file, captions=coco)
    assert [(a.caption, b.caption) for a, b in zip(found.first, found.second, strict=True)] == [
        ("A cat runs.", "A dog runs."),
        ("A car.", "A bus."),
    ]
    assert found.label.tolist() == [1, 1]
    assert found.first[0].references == ("Running dog.",)
    assert read_foil(file, every_pair=True).n == 3
    annotations += [
        {"id": 3, "image_id": 11, "caption": "Alone.", "foil": True},
        {"id": 2, "image_id": 12, "caption": "A van.", "foil": True},
    ]
    file.write_text(json.dumps({"images": images, "annotations": annotations}))
    with pytest.raises(SampleFileError) as caught:
        read_foil(file)
    assert 'annotation "3": Expected a true caption for this foil.' in str(caught.value)
    assert 'annotation "2": Expected an image of the list, got "12".' in str(caught.value)


def test_made_up_files_are_what_the_tests_think():
    assert len(captions()) == 15
