"""Tiny made-up rating files of every form."""

from __future__ import annotations

import json
from pathlib import Path

IMAGES = ("one.jpg", "two.jpg", "three.jpg")
WORDS = ("dog", "cat", "bird")


def captions() -> dict[str, str]:
    return {
        f"{image}#{number}": f"A {word}  number {number} ."
        for image, word in zip(IMAGES, WORDS, strict=True)
        for number in range(5)
    }


EXPERT = [
    ("one.jpg", "one.jpg#2", 4, 4, 4),  # its own caption
    ("one.jpg", "two.jpg#0", 1, 2, 1),
    ("one.jpg", "three.jpg#1", 3, 3, 2),
    ("two.jpg", "one.jpg#0", 1, 1, 1),
    ("two.jpg", "three.jpg#4", 2, 4, 3),
    ("three.jpg", "one.jpg#1", 4, 3, 4),
]
CROWD = [
    ("one.jpg", "one.jpg#2", 1.0, 3, 0),
    ("one.jpg", "two.jpg#0", 0.25, 1, 3),
    ("two.jpg", "one.jpg#0", 0.3333, 1, 2),
    ("three.jpg", "three.jpg#1", 0.6667, 2, 1),
]


def write_flickr8k(folder: Path) -> Path:
    """Both TSV files, their captions, and image files that are only looked for."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Flickr8k.token.txt").write_text("".join(f"{i}\t{c}\n" for i, c in captions().items()))
    for name, rows in (("ExpertAnnotations.txt", EXPERT), ("CrowdFlowerAnnotations.txt", CROWD)):
        (folder / name).write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    (folder / "images_224").mkdir(exist_ok=True)
    for image in IMAGES:
        (folder / "images_224" / image).write_bytes(b"looked for, not decoded")
    return folder


def write_clipscore_json(folder: Path) -> Path:
    """The same ratings in CLIPScore's two JSON files; the expert one without own captions."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = captions()

    def entry(image: str, judged: list[tuple[str, float]]) -> dict[str, object]:
        return {
            "image_path": f"Flicker8k_Dataset/{image}",
            "ground_truth": [text for key, text in texts.items() if key.startswith(image)],
            "human_judgement": [
                {"image_id": image, "image_path": image, "caption": texts[key], "rating": rating}
                for key, rating in judged
            ],
        }

    expert = {
        image: entry(
            image,
            [(i, r) for own, i, *rs in EXPERT if own == image and not i.startswith(image) for r in rs],
        )
        for image in IMAGES
    }
    crowd = {
        image: entry(image, [(i, yes / (yes + no)) for own, i, _, yes, no in CROWD if own == image]) for image in IMAGES
    }
    (folder / "flickr8k.json").write_text(json.dumps(expert))
    (folder / "crowdflower_flickr8k.json").write_text(json.dumps(crowd))
    return folder


KREISS_HEADER = (
    "context,participant,img_id,description,q_reconstructivity,q_relevance,q_irrelevance,q_imgfit,q_overall,"
    "article_text"
)
SIGHTED_HEADER = (
    "context,anon_worker_id,img_id,img_file,description,q_overall.preimg,q_overall.postimg,"
    "q_reconstructivity.preimg,q_relevance.preimg,q_relevance.postimg,q_irrelevance.preimg,"
    "q_irrelevance.postimg,q_imgfit.preimg,q_imgfit.postimg,article_text"
)
ARTICLE = "Topics are what articles are about. This one has two sentences."


def write_kreiss(folder: Path) -> Path:
    """Three images, two descriptions each in one article, three blind and two sighted raters."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    blv, sighted, authors = [KREISS_HEADER], [SIGHTED_HEADER], ["imgstem_version,texts,clipscore"]
    for i, image in enumerate(IMAGES):
        (folder / "images" / image).write_bytes(b"looked for, not decoded")
        for j in range(2):
            text = f"Description {j} of {WORDS[i]}" + " in detail" * j * (i + 1)
            authors.append(f"{image}_{j},{text},{0.5 + 0.1 * i + 0.05 * j:.2f}")
            for rater in range(3):
                q = [1 + (i + j + rater) % 4, 2 + j, 3, 1 + i, min(5, 1 + i + 2 * j + rater % 2)]
                blv.append(f"Topic,p{rater},img{i},{text},{','.join(map(str, q))},{ARTICLE}")
            for rater in range(2):
                q = [1 + (i + j + k + rater) % 5 for k in range(9)]
                sighted.append(f"Topic,w{rater},img{i},{image},{text},{','.join(map(str, q))},{ARTICLE}")
        sighted.append(f"Topic,w9,img{i},{image},Only sighted people rated this,{','.join('3' * 9)},{ARTICLE}")
    (folder / "blv_data_criticaltrials.csv").write_text("\n".join(blv) + "\n")
    (folder / "sighted_data_criticaltrials.csv").write_text("\n".join(sighted) + "\n")
    (folder / "authors_clipscores.csv").write_text("\n".join(authors) + "\n")
    return folder
