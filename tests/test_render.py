"""Documents and renderers, on results built by hand."""

from __future__ import annotations

import base64
import csv
import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from wcwidth import wcswidth

from i0tscore import I0TScorer, clip_score, fit
from i0tscore.errors import InputError, MissingExtraError, UsageError
from i0tscore.gap import Moments, Statistics
from i0tscore.render import RENDERERS, gap_plot, page
from i0tscore.render.charts import histogram
from i0tscore.render.document import (
    Document,
    Notes,
    Paragraph,
    Signatures,
    Table,
    escape_latex,
    escape_markdown,
    format_number,
    one_line,
    render_latex,
    render_markdown,
    render_text,
    shorten,
)
from i0tscore.results import MetricResult, Result, Signature
from i0tscore.samples import Skipped
from i0tscore.views.report_views import statistics_document, summarize_statistics
from i0tscore.views.score_view import per_instance_json, score_csv, score_document

drawing = pytest.mark.skipif(find_spec("matplotlib") is None, reason="the extra plot is not installed")

HOSTILE = 'A <b>bold</b> | cat\x1b[31m\nwith "quotes", *stars* and `ticks`'


def metric(name, values, **fields):
    values = np.array(values, dtype=float)
    defined = values[~np.isnan(values)]
    defaults = {
        "mean": float(defined.mean()) if len(defined) else None,
        "interval": (0.1, 0.2),
        "confidence": 0.95,
        "signature": Signature(name, (("stats", "toy"), ("n", str(len(values))))),
        "percentile_matched": None,
        "percentile_mismatched": None,
        "p_match": None,
        "rank": np.arange(len(values)) + 1,
        "rank_of": len(values),
        "zeros": 0.0,
    }
    return MetricResult(name=name, values=values, **{**defaults, **fields})


@pytest.fixture
def result():
    return Result(
        ids=("one", "two", "three"),
        captions=(HOSTILE, "漢字の説明" * 30, "A very long caption " * 20),
        metrics={
            "I0TScore": metric("I0TScore", [0.5, -0.00001, np.nan], p_match=np.array([0.9, 0.5, np.nan])),
            "RefCLIPScore": metric("RefCLIPScore", [0.0, 0.7, 0.8], zeros=1 / 3, interval=None),
        },
        skipped=(Skipped("four", "cannot be read"),),
        gap={"none": 0.8, "post": None},
        breakdown={
            "semantic": np.array([0.1, 0.2, np.nan]),
            "image_bias": np.zeros(3),
            "caption_bias": np.ones(3),
        },
        notes=("something to know",),
        sample_notes={2: ("no direction",)},
    )


def test_text_fits_the_width_and_shows_everything(result):
    text = render_text(score_document(result), width=100)
    tables = text[: text.index("Modality gap")]
    assert max(wcswidth(line) for line in tables.splitlines()) <= 100
    for shown in ("one", "three", "0.500", "–", "1/3", "33%", "four", "cannot be read", "something to know"):
        assert shown in text
    assert "three: no direction" in text
    assert "0.800 under none, – under post" in text
    assert "nan" not in text.lower()
    assert "-0.000" not in text
    assert "\x1b" not in text
    for line in ("I0TScore|stats:toy|n:3", "RefCLIPScore|stats:toy|n:3"):
        assert line in text.splitlines()


def test_narrow_text_names_the_columns_that_it_leaves_out(result):
    narrow = render_text(score_document(result), width=80)
    tables = narrow[: narrow.index("Modality gap")]
    assert max(wcswidth(line) for line in tables.splitlines()) <= 80
    assert "Not shown (terminal too narrow): semantic, image bias, caption bias." in narrow
    assert "1/3" in narrow
    assert "Not shown" not in render_text(score_document(result), width=100)


def test_text_without_samples_is_short(result):
    text = render_text(score_document(result, per_sample=False))
    assert "漢" not in text
    assert "I0TScore" in text


def test_columns_line_up_with_wide_characters(result):
    rows = render_text(score_document(result), width=100).splitlines()[:6]
    assert len({wcswidth(row) for row in rows[2:]}) == 1


def test_color_only_adds_escapes(result):
    colored = render_text(score_document(result), color=True)
    assert "\x1b[1m" in colored
    plain = colored
    for code in ("\x1b[0m", "\x1b[1m", "\x1b[2m"):
        plain = plain.replace(code, "")
    assert plain == render_text(score_document(result))


def test_markdown_shows_captions_literally(result):
    text = render_markdown(score_document(result))
    row = next(line for line in text.splitlines() if line.startswith("| one"))
    assert "&lt;b&gt;bold&lt;/b&gt; \\| cat" in row
    assert "\\*stars\\* and \\`ticks\\`" in row
    header = next(line for line in text.splitlines() if line.startswith("| id"))
    assert row.replace("\\|", "").count("|") == header.count("|")
    assert text.count("```") == 2


def test_csv_can_be_read_back(result):
    rows = list(csv.DictReader(io.StringIO("".join(score_csv(result)))))
    assert [row["caption"] for row in rows] == list(result.captions)
    assert [row["I0TScore"] for row in rows] == ["0.5", "-1e-05", ""]
    assert [row["I0TScore.rank_of"] for row in rows] == ["3"] * 3
    assert rows[2]["notes"] == "no direction"
    assert rows[2]["semantic"] == ""


def test_per_instance_is_strict_json(result):
    assert json.loads(per_instance_json(result))["three"] == {"I0TScore": None, "RefCLIPScore": 0.8}


def test_embeddings_have_no_caption_column():
    result = Result(ids=("a", "b"), captions=(), metrics={"CLIPScore": metric("CLIPScore", [1.0, 1.1])})
    text = render_text(score_document(result))
    assert "caption" not in text
    assert "p\n" not in text
    assert "".join(score_csv(result)).splitlines()[1].startswith("a,,")


def test_an_empty_result_is_shown():
    result = Result(ids=(), captions=(), metrics={"CLIPScore": metric("CLIPScore", [], interval=None)})
    assert "–" in render_text(score_document(result))


@pytest.fixture
def statistics():
    rng = np.random.default_rng(0)
    center = rng.normal(size=16)
    images = rng.normal(size=(200, 16)) + center
    captions = images + rng.normal(size=(200, 16)) - 2 * center
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    captions /= np.linalg.norm(captions, axis=1, keepdims=True)
    bare = Statistics("toy", "enc", "", "", Moments.of(images), Moments.of(captions), source="toy data")
    return bare.with_reference(images, captions)


def test_scales_are_in_the_units_of_the_metric(statistics):
    rng = np.random.default_rng(1)
    names = ("I0TScore", "I0TScore(weight=2)", "CLIPScore", "RefI0TScore")
    x = rng.normal(size=(3, 16))
    result = I0TScorer(statistics=statistics, metrics=names, preset="raw").score(x, x, references=[x[:1]] * 3)
    quartiles = statistics.reference["post"].quartiles()
    assert result["I0TScore"].scale == (*quartiles, "toy data")
    assert result["I0TScore(weight=2)"].scale.matched == pytest.approx([2 * q for q in quartiles[0]])
    assert min(result["CLIPScore"].scale.mismatched) >= 0  # CLIPScore clips
    assert result["RefI0TScore"].scale is None
    text = render_text(score_document(result, per_sample=False))
    assert f"{quartiles[0][1]:.2f}" in text
    assert "(toy data)" in text


def test_statistics_are_summarized(statistics):
    facts = summarize_statistics(statistics)
    assert facts["n"] == 200
    assert facts["gap"] == pytest.approx(np.linalg.norm(statistics.image.mean - statistics.caption.mean))
    assert facts["gap_expected"] is not None
    assert facts["gap_expected"] < facts["gap"]
    text = render_text(statistics_document(statistics))
    assert f"{facts['gap']:.3f}" in text
    assert "200 pairs (toy data)" in text
    matched, _ = facts["quartiles"]["post"]
    assert " ".join(format_number(q) for q in matched) in text


DOCUMENT = Document(
    [
        Paragraph(["intro_1"]),
        Table(["name", "Holm's p"], [["a & b", "<0.001"], ["50%", "0.5 (-0.4 to 0.6)"]], "difference in τ-b"),
        None,
        Notes(["note ~ #1"]),
        Notes([]),
        Signatures(["I0TScore|m:lite|n:3"]),
    ]
)


def test_latex_tables_can_be_pasted_into_a_paper():
    expected = r"""% Requires \usepackage{booktabs}.

intro\_1

\begin{table}
\centering
\caption{difference in $\tau$-b}
\begin{tabular}{lr}
\toprule
name & Holm's p \\
\midrule
a \& b & \textless{}0.001 \\
50\% & 0.5 ($-$0.4 to 0.6) \\
\bottomrule
\end{tabular}
\end{table}

\begin{itemize}
\item note \textasciitilde{} \#1
\end{itemize}

% I0TScore|m:lite|n:3
"""
    assert render_latex(DOCUMENT) == expected


def test_text_breaks_cells_only_where_a_table_is_too_wide():
    assert render_text(DOCUMENT, width=40) == (
        "intro_1\n\ndifference in τ-b\n\n"
        "name              Holm's\n                       p\n-----  -----------------\n"
        "a & b             <0.001\n50%    0.5 (-0.4 to 0.6)\n\n"
        "note ~ #1\n\nI0TScore|m:lite|n:3\n"
    )
    narrow = render_text(DOCUMENT, width=20)
    assert "0.5\n" in narrow
    assert "(-0.4 to 0.6)" in narrow


def test_every_format_shows_every_block(result):
    for name, renderer in RENDERERS.items():
        text = renderer(score_document(result), width=100, color=False)
        for shown in ("0.500", "cannot be read", "something to know", "RefCLIPScore|stats:toy|n:3"):
            assert shown in text, name
        assert text.endswith("\n")


@given(st.text())
def test_escaped_latex_has_no_bare_markup(text):
    bare = escape_latex(text)
    for name in ("textbackslash", "textasciitilde", "textasciicircum", "textbar", "textless", "textgreater", "dots"):
        bare = bare.replace(f"\\{name}{{}}", "")
    for symbol in ("$-$", "$^2$", *(f"$\\{name}$" for name in ("times", "le", "tau"))):
        bare = bare.replace(symbol, "")
    for character in "&%$#_{}":
        bare = bare.replace(f"\\{character}", "")
    assert not set(bare) & set("\\&%$#_{}~^|<>")


@given(st.text(), st.integers(1, 40))
def test_shortened_text_fits(text, width):
    short = shorten(one_line(text), width)
    assert wcswidth(short) <= width
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in short)


@given(st.text(alphabet="ab<>&|*_`[]\\~# \n"))
def test_escaped_text_has_no_bare_markup(text):
    bare = escape_markdown(text)
    for pair in ("\\\\", "\\|", "\\*", "\\_", "\\`", "\\[", "\\]", "\\~", "\\#"):
        bare = bare.replace(pair, "")
    assert not set(bare) & set("<>|*_`[]~#\\")


class PageParser(HTMLParser):
    """The parts of a page: how often each tag opens, rows, images, and the data of the script."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.images, self.alts, self.data, self.path, self.texts = {}, [], [], "", [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.path.append((tag, dict(attributes).get("id")))
        if tag == "img":
            self.images.append(dict(attributes)["src"])
            self.alts.append(dict(attributes)["alt"])

    def handle_data(self, text):
        self.texts.append(text)
        if self.path and self.path[-1] == ("script", "data"):
            self.data += text

    @property
    def rows(self):
        """The rows as dicts, in the order of the page."""
        data = json.loads(self.data)
        return [dict(zip(data["columns"], row, strict=True)) for row in data["rows"]]


def scored(n, *, captions=True, **changes):
    """Return a result of n samples with reference pairs; every fourth caption is of another image."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(200 + n, 8))
    x, y = (shared + 0.5 * rng.normal(size=shared.shape) + shift for shift in (2, -2))
    y[200::4] = rng.normal(size=(len(y[200::4]), 8)) - 2
    scorer = I0TScorer(statistics=fit(x[:200], y[:200], name="toy", source="200 pairs"), resamples=50, ranks=False)
    texts = tuple(f"Caption {i}." for i in range(n)) if captions else ()
    return replace(scorer.score(x[200:], y[200:]), captions=texts, **changes)


def test_a_page_of_scores_says_how_to_read_them():
    result = scored(40)
    text = result.to_html()
    metric = result["I0TScore"]
    low, _, high = metric.scale.matched
    fits = int((metric.p_match >= 0.5).sum())
    for sentence in (
        f"The mean I0TScore of 40 captions is {metric.mean:.3f} (95% interval",
        f"their own captions score {low:.3f} to {high:.3f}, and",
        f"Of the 40 captions, {fits} are more like matched pairs (p(match) of at least 0.5), and {40 - fits} more like "
        "mismatched pairs.",
        "Reference pairs: 200 pairs.",
        str(metric.signature),
    ):
        assert sentence in text
    assert "There are no reference pairs for this metric." in clip_score(np.eye(9), np.eye(9)).to_html()


@pytest.mark.filterwarnings("ignore:The statistics were computed from only")
def test_a_page_explains_a_metric_that_is_defined():
    rng = np.random.default_rng(0)
    same = np.tile(rng.normal(size=8), (40, 1))
    result = I0TScorer(statistics="batch", resamples=50).score(rng.normal(size=(40, 8)), same)
    text = result.to_html()
    assert result["I0TScore"].mean is None
    assert "The mean CLIPScore of 40 captions is" in text
    assert "Without a score: 40" in text
    scores = [row["CLIPScore"] for row in PageParser(text).rows]
    assert scores == sorted(scores)


def test_a_page_lists_samples_from_the_lowest_score(result):
    parsed = PageParser(result.to_html())
    assert [row["id"] for row in parsed.rows] == ["two", "one", "three"]
    assert [row["I0TScore"] for row in parsed.rows] == [-1e-05, 0.5, None]
    assert parsed.rows[1]["caption"] == HOSTILE
    assert parsed.tags["tr"] == 3 + 1 + (1 + 2) + (1 + 1)  # samples, metrics, skipped, with their headers
    assert "no direction" in result.to_html()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(), min_size=2, max_size=2))
def test_a_page_escapes_every_text(texts):
    result = clip_score(np.eye(3), np.eye(3))
    plain = PageParser(replace(result, captions=("text",) * 3).to_html())
    changed = replace(result, ids=(texts[0], *result.ids[1:]), captions=(texts[1], "text", "text"))
    changed = replace(changed, skipped=(Skipped(*texts),), notes=tuple(texts))
    parsed = PageParser(changed.to_html())
    assert (texts[0], texts[1]) in [(row["id"], row["caption"]) for row in parsed.rows]
    assert parsed.tags["script"] == plain.tags["script"] == 2
    assert parsed.tags["td"] >= plain.tags["td"]
    assert set(parsed.tags) <= {*plain.tags, "a"}


def test_thumbnails_are_of_the_lowest_the_highest_and_random_samples():
    result = scored(40)
    order = np.argsort(result["I0TScore"].values)
    images = [Image.new("RGB", (300 + i, 200), (i, 0, 0)) for i in range(40)]
    images[0].info["comment"] = b"secret"
    parsed = PageParser(result.to_html(images=images))
    assert len(parsed.images) == 40
    sizes = [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) for url in parsed.images]
    assert {max(image.size) for image in sizes} == {160}
    assert not any(image.info.get("comment") for image in sizes)
    assert parsed.alts[0] == f"Image with the caption: Caption {order[0]}."
    few = PageParser(result.to_html(images=images, thumbnails=8))
    assert few.images[:4] == parsed.images[:4]
    assert few.images[-2:] == parsed.images[-2:]
    assert len(few.images) == 8
    assert "8 of 40 samples have a thumbnail" in result.to_html(images=images, thumbnails=8)


def test_a_page_says_why_an_image_is_missing(tmp_path):
    result = scored(40)
    images = {name: Image.new("RGB", (20, 20)) for name in result.ids[2:]}
    text = result.to_html(tmp_path / "page.html", {**images, result.ids[0]: tmp_path / "vanished.png"})
    assert (tmp_path / "page.html").read_text() == text
    assert len(PageParser(text).images) == 38
    assert "vanished.png: there is no such file" in text
    assert "no image was given" in text
    assert "the samples are embeddings" in result.to_html()
    assert "no images were given" in replace(result, tokens=np.full(40, 9)).to_html()
    with pytest.raises(InputError, match="one image for each of the 40 samples, got 38"):
        result.to_html(images=list(images.values()))


def test_pages_of_many_samples_are_small():
    result = scored(5100)
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)).resize((320, 240)) for _ in range(10)]
    text = result.to_html(images=images * 510)
    parsed = PageParser(text)
    assert len(text) < 15e6
    assert len(parsed.images) == 500
    assert len(parsed.rows) == 5000
    assert "The 5,000 lowest of 5,100 scores are listed" in text


def test_pages_need_jinja2(monkeypatch):
    monkeypatch.setattr(page, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'an HTML page needs jinja2: pip install "i0tscore\[report\]"'):
        page.render_html(Document([Paragraph(["text"])]))


@given(st.lists(st.floats(-1e6, 1e6), max_size=50))
def test_histograms_show_every_value(values):
    chart = histogram(np.array(values), None)
    room = chart.base - 34
    shares = [height / room for _, _, _, height in chart.bars]
    assert len(chart.bars) <= len(values)
    assert all(x >= 0 and x + width <= chart.width for x, _, width, _ in chart.bars)
    assert 1 <= len(chart.ticks) <= 8
    assert max(shares, default=1.0) == pytest.approx(1.0, abs=0.01)


def test_a_repr_is_short(result):
    shown = "I0TScore=0.250 (0.100 to 0.200), RefCLIPScore=0.500"
    assert repr(result) == f"Result(n=3, {shown}, skipped=1)"
    assert repr(result["RefCLIPScore"]) == "MetricResult(RefCLIPScore=0.500, n=3)"


def test_notebooks_show_the_lowest_scores(result):
    many = replace(
        result,
        ids=tuple(f"id {i}" for i in range(9)),
        captions=("<b>&amp;\u202e</b>", *["A long caption " * 20] * 8),
        metrics={"I0TScore": metric("I0TScore", [0.2, np.nan, *range(7, 0, -1)])},
        breakdown=None,
        sample_notes={},
    )
    parser = PageParser(many._repr_html_())
    assert set(parser.tags) == {"p", "table", "tr", "th", "td"}
    assert [text for text in parser.texts if text.startswith("id ")] == ["id 0", "id 8", "id 7", "id 6", "id 5"]
    assert "<b>&amp; </b>" in parser.texts
    assert max(map(wcswidth, parser.texts)) <= 80
    assert {"mean", "3.525", "0.100 to 0.200", "something to know"} <= set(parser.texts)


def test_tables_have_the_columns_of_the_csv(result):
    table, rows = result.to_arrow(), list(csv.DictReader(io.StringIO("".join(score_csv(result)))))
    assert table.column_names == list(rows[0])
    cells = [{name: "" if cell is None else str(cell) for name, cell in row.items()} for row in table.to_pylist()]
    assert cells == rows
    frame = result.to_pandas()
    assert frame["caption"].tolist() == list(result.captions)
    assert frame["I0TScore"].isna().tolist() == [False, False, True]
    pd.testing.assert_series_equal(frame["semantic"], pd.Series([0.1, 0.2, np.nan], name="semantic"))


def test_columns_without_values_keep_their_type():
    result = clip_score(np.eye(2), np.eye(2))
    assert str(result.to_arrow().schema.field("caption").type) == "string"
    assert np.isnan(result.to_pandas()["CLIPScore.p_match"].mean())


def test_tables_of_text_that_arrow_cannot_store(result):
    frame = replace(result, ids=("one\udc80", "two", "three")).to_pandas()
    assert frame["id"].tolist() == ["one\\udc80", "two", "three"]


@drawing
def test_a_plot_shows_the_scores_and_the_reference_pairs(result):
    from matplotlib import pyplot

    reference = np.linspace(0.3, 0.7, 1001), np.linspace(-0.2, 0.3, 1001)
    calibrated = replace(result["I0TScore"], reference=reference)
    result = replace(result, metrics={"RefCLIPScore": result["RefCLIPScore"], "I0TScore": calibrated})
    try:
        ax = result.plot()  # the metric with reference pairs, not the first one
        assert ax.get_xlabel() == "I0TScore"
        labels = [text.get_text() for text in ax.get_legend().get_texts()]
        assert sorted(labels) == ["2 scores", "matched reference pairs", "mean 0.250", "mismatched reference pairs"]
        bars = {round(bar.get_x() + bar.get_width() / 2, 1): bar.get_height() for bar in ax.patches if bar.get_height()}
        assert bars == {0.0: 0.5, 0.5: 0.5}
        curves = {line.get_label(): line.get_xydata() for line in ax.lines}
        peaks = {name: curves[name][curves[name][:, 1] > 0.01, 0] for name in labels if name.endswith("pairs")}
        assert peaks["matched reference pairs"].min() == pytest.approx(0.3, abs=0.05)
        assert peaks["mismatched reference pairs"].max() == pytest.approx(0.3, abs=0.05)
        own = pyplot.figure().add_subplot()
        assert result.plot("RefCLIPScore", own) is own
        assert own.get_xlabel() == "RefCLIPScore"
        assert len(own.lines) == 1, "the mean"
    finally:
        pyplot.close("all")
    with pytest.raises(UsageError, match=r"RefCLIPScore, I0TScore\), got 'clipscore'.* Did you mean RefCLIPScore"):
        result.plot("clipscore")


def test_plots_need_matplotlib(result, monkeypatch):
    monkeypatch.setattr(gap_plot, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'a plot of scores needs matplotlib: pip install "i0tscore\[plot\]"'):
        result.plot()
