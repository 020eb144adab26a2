"""The COCO scorer in the loop of pycocoevalcap, on COCO objects of pycocotools, with the embedded model."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest
from examples_on_disk import write_examples
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocotools.coco import COCO

import i0tscore
from i0tscore.errors import InputError, UsageError
from i0tscore.integrations.coco import CocoScorer


@pytest.fixture(scope="module")
def lite():
    return i0tscore.load_encoder("lite")


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """Write the examples in COCO format: a folder, annotations with references, and results."""
    folder = write_examples(tmp_path_factory.mktemp("coco"))
    captions = json.loads((folder / "captions.json").read_text())
    references = json.loads((folder / "references.json").read_text())
    # The ids of COCO are unordered numbers.
    numbers = {name: 900 - 37 * i for i, name in enumerate(captions)}
    files = {name: next((folder / "images").glob(f"{name}.*")).name for name in captions}
    dataset = {
        "images": [{"id": numbers[name], "file_name": file} for name, file in files.items()],
        "annotations": [
            {"id": i, "image_id": numbers[name], "caption": text}
            for i, (name, text) in enumerate((n, t) for n in captions for t in references[n])
        ],
        "info": {},
    }
    results = [{"image_id": numbers[name], "caption": text} for name, text in captions.items()]
    (folder / "annotations.json").write_text(json.dumps(dataset))
    (folder / "results.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        annotations = COCO(folder / "annotations.json")
        found = annotations.loadRes(str(folder / "results.json"))
    return folder, annotations, found


def evaluate(annotations, results, scorers):
    """The loop of pycocoevalcap's COCOEvalCap, with a tokenizer that needs no Java."""
    identifiers = annotations.getImgIds()
    gts = {i: [a["caption"].lower().split() for a in annotations.imgToAnns[i]] for i in identifiers}
    gts = {i: [" ".join(words) for words in found] for i, found in gts.items()}
    res = {i: [a["caption"].lower() for a in results.imgToAnns[i]] for i in identifiers}
    overall, by_image = {}, {i: {} for i in identifiers}
    for scorer, method in scorers:
        score, scores = scorer.compute_score(gts, res)
        listed = isinstance(method, list)
        for name, mean, values in zip(method, score, scores, strict=True) if listed else [(method, score, scores)]:
            overall[name] = mean
            for identifier, value in zip(gts, values, strict=True):
                by_image[identifier][name] = value
    return overall, by_image


@pytest.mark.filterwarnings("ignore:The statistics were computed from only")
def test_runs_in_the_loop_of_cocoevalcap(coco, lite, capsys) -> None:
    folder, annotations, results = coco
    ours = CocoScorer(["I0TScore", "RefCLIPScore"], folder / "images", annotations, model=lite)
    one = CocoScorer("CLIPScore", folder / "images", annotations, model=lite)
    overall, by_image = evaluate(
        annotations,
        results,
        [
            (Bleu(4), ["Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4"]),
            (Cider(), "CIDEr"),
            (one, one.method()),
            (ours, ours.names),
        ],
    )
    assert ours.method() == "I0TScore, RefCLIPScore"
    assert list(overall)[-4:] == ["CIDEr", "CLIPScore", "I0TScore", "RefCLIPScore"]
    assert all(len(scores) == 8 for scores in by_image.values())
    for name in ("CLIPScore", "I0TScore"):
        assert overall[name] == pytest.approx(np.mean([scores[name] for scores in by_image.values()]))


def test_scores_equal_i0t_score_in_the_order_of_gts(coco, lite) -> None:
    folder, annotations, results = coco
    scorer = CocoScorer("RefI0TScore", folder / "images", annotations, model=lite)
    mean, scores = scorer.compute_score(annotations.imgToAnns, results.imgToAnns)
    identifiers = list(annotations.imgToAnns)
    expected = i0tscore.i0t_score(
        [folder / "images" / annotations.imgs[i]["file_name"] for i in identifiers],
        [results.imgToAnns[i][0]["caption"] for i in identifiers],
        [[a["caption"] for a in annotations.imgToAnns[i]] for i in identifiers],
        model=lite,
    )["RefI0TScore"]
    np.testing.assert_allclose(scores, expected.values, atol=1e-6)
    assert mean == pytest.approx(expected.mean, abs=1e-6)
    assert scorer.result["RefI0TScore"].signature["stats"].startswith("flickr8k-train-")
    backwards = dict(reversed(annotations.imgToAnns.items()))
    np.testing.assert_allclose(scorer.compute_score(backwards, results.imgToAnns)[1], scores[::-1], atol=1e-6)
    by_id = {i: folder / "images" / image["file_name"] for i, image in annotations.imgs.items()}
    again = CocoScorer("RefI0TScore", by_id, model=lite).compute_score(annotations.imgToAnns, results.imgToAnns)
    np.testing.assert_allclose(again[1], scores, atol=1e-6)


def test_errors_list_everything_that_cannot_be_scored(coco, lite, tmp_path) -> None:
    folder, annotations, results = coco
    with pytest.raises(UsageError, match="a mapping from image ids"):
        CocoScorer("I0TScore", folder / "images", model=lite)
    first, second, third, *_ = annotations.imgs
    scorer = CocoScorer("CLIPScore", {first: folder, second: folder}, model=lite)
    gts = {first: [], second: [], third: []}
    with pytest.raises(InputError) as error:
        scorer.compute_score(gts, {first: ["a", "b"], third: ["c"], "other": ["d"]})
    for part in (
        "4 images",
        f"{first}: expected a list of one caption, got ['a', 'b']",
        f"{second}: expected a list of one caption, got ()",
        f"{third}: no image with this id in the mapping",
        "'other': among the captions",
    ):
        assert part in str(error.value)
    (tmp_path / "empty").mkdir()
    elsewhere = CocoScorer("CLIPScore", tmp_path / "empty", annotations, model=lite)
    with pytest.raises(InputError, match=r"No image \".*\" in .*empty"):
        elsewhere.compute_score(annotations.imgToAnns, results.imgToAnns)
    with pytest.raises(InputError, match=f"{first}: expected a list of one caption, got None"):
        scorer.compute_score({first: []}, {first: None})
    with pytest.raises(InputError, match="Expected ids of captions to be int like those of references, got str"):
        scorer.compute_score(gts, {str(first): ["a"]})
    with pytest.raises(InputError) as error:
        CocoScorer("CLIPScore", folder / "images", annotations, model=lite).compute_score({first: []}, {first: [""]})
    assert str(error.value) == f"{first}: the caption is empty"  # without the hint to skip, which is not possible here
    with_references = CocoScorer("RefCLIPScore", folder / "images", annotations, model=lite)
    with pytest.raises(InputError, match="no references; give at least one"):
        with_references.compute_score({first: []}, {first: ["a"]})
    for own, reason in (
        (None, "no references; give at least one"),
        (float("nan"), "no references; give at least one"),
        (["a thing", None], "reference 1 is missing"),
        (3, "the references are int, not a list of strings"),
    ):
        with pytest.raises(InputError, match=f"{first}: {reason}"):
            with_references.compute_score({first: own}, {first: ["a thing"]})
    as_list, as_text = (with_references.compute_score({first: x}, {first: ["a"]}) for x in (["a thing"], "a thing"))
    assert as_list[0] == as_text[0]
    with pytest.raises(InputError, match=f"{first}: expected a list of one caption, got nan"):
        scorer.compute_score({first: []}, {first: float("nan")})
    for gts, res in (([["a"]], {first: ["a"]}), ({first: ["a"]}, [["a"]])):
        with pytest.raises(InputError, match=r"by image id, as \{7: \[\.\.\.\]\}, got a list"):
            scorer.compute_score(gts, res)


@pytest.mark.filterwarnings("ignore:The statistics were computed from only")
def test_undefined_scores_cause_a_warning(coco, lite) -> None:
    _, annotations, _ = coco
    pages = {i: np.full((64, 64, 3), 20 * n, dtype=np.uint8) for n, i in enumerate(annotations.imgs)}
    scorer = CocoScorer("I0TScore", pages, model=lite, statistics="batch")
    same = {i: ["the same"] for i in pages}
    with pytest.warns(UserWarning, match=rf"I0TScore: {len(pages)} of {len(pages)} captions have no score"):
        mean, scores = scorer.compute_score(same, same)
    assert np.isnan(mean)
    assert np.isnan(scores).all()


def test_scores_equal_those_of_a_caption_file(coco, lite) -> None:
    folder, annotations, results = coco
    found = i0tscore.read_samples(
        folder / "results.json", images=folder / "images", annotations=folder / "annotations.json"
    )
    result = i0tscore.i0t_score(
        [s.image for s in found.samples],
        [s.caption for s in found.samples],
        [s.references for s in found.samples],
        model=lite,
    )
    scorer = CocoScorer(["I0TScore", "RefI0TScore"], folder / "images", annotations, model=lite)
    gts = {s.id: s for s in found.samples}
    assert [int(identifier) for identifier in gts] == [a["image_id"] for a in results.dataset["annotations"]]
    means, _ = scorer.compute_score(annotations.imgToAnns, results.imgToAnns)
    assert means == pytest.approx([metric.mean for metric in result.values()], abs=1e-6)
