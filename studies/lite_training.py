"""Training of ``lite``'s heads: ``python -m studies.lite_training --data DIR --output DIR``.

Features of both frozen towers, one pair of heads per seed, the seed with the best dev criterion, and the reference
statistics of the result. Images and captions are Flickr8k's training split; every choice is made on its dev split. Test
images and human ratings are not used.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import click
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tabulate import tabulate
from torch.nn import functional

from i0tscore.encoders import lite
from i0tscore.encoders.images import decode
from i0tscore.encoders.lite import HEADS_FILE, IMAGE_FEATURES, TEXT_FEATURES, ImageHeadInput, LiteHead, LiteHeads
from i0tscore.encoders.loop import embed_captions, embed_images
from i0tscore.errors import I0TScoreError, InputError
from i0tscore.gap import POST, GapStatistics, Moments, Statistics, centroid_distance
from i0tscore.metrics.metric import PREFIX
from i0tscore.training.losses import contrastive_loss
from studies.flickr8k import CAPTIONS_PER_IMAGE, Flickr8kSplit, read_split
from studies.recall import recall

if TYPE_CHECKING:
    from i0tscore.encoders.base import Encoder

Features: TypeAlias = NDArray[np.float32]
Heads: TypeAlias = tuple[LiteHead, LiteHead]

STATISTICS_FILE = "lite-statistics.safetensors"
FIGURES_FILE = "lite-dev-figures.json"

VIEWS = ("plain", "flip", "crop1", "crop2")
"""Views of an image that heads are trained on."""
STORAGE_VIEWS = ("noise", "jpeg")
"""Views that change how an image is stored and not what it shows."""
CROP_AREA = (0.5, 0.95)
CROP_ASPECT = 0.2
"""Random crops keep this range of the area and change the aspect ratio by up to exp(±0.2)."""
NOISE = (1.0, 6.0)
"""Range of the standard deviation of added noise, in gray levels of 256."""
JPEG_QUALITY = (40, 75)
"""Range of the quality of a second compression."""
CAPTIONS_PER_CLASS = 3
STORED = 1000
"""Number of training images that the storage directions are measured on."""

_SEEDS = {"crop1": 100_000, "crop2": 200_000, "noise": 300_007, "jpeg": 400_000}
_CHECKED_FEATURES, _FEATURE_TOLERANCE = 8, 1e-3
_CHECKED_EMBEDDINGS, _EMBEDDING_TOLERANCE = 16, 1e-4

_log = logging.getLogger("i0tscore")


class FeatureExtractor:
    """The two towers without heads, with a folder of saved features.

    Files are named after their content, e.g. ``image-train-flip.npy``. Saved features are compared with the towers on a
    few rows before they are used.

    Args:
        model: Towers, as returned by ``i0tscore.encoders.lite.build_towers``.
        tokenizer: Converts texts to padded token ids.
        preprocess: Converts an RGB image to the input of the image tower.
        folder: Folder of the features.
    """

    def __init__(self, model: Any, tokenizer: Any, preprocess: Any, folder: Path) -> None:
        self._model, self._tokenizer, self._preprocess = model, tokenizer, preprocess
        self._folder = folder

    def images(self, name: str, paths: Sequence[Path], view: str = "plain") -> Features:
        """Return pooled features (n, 1280) of one view of images, saved as ``image-<name>-<view>``."""

        def encode(positions: Sequence[int]) -> Features:
            views = [make_view(decode(paths[i]), view, i) for i in positions]
            features: Features = self._model.encode_image(torch.stack([self._preprocess(v) for v in views])).numpy()
            return features

        return self._saved(f"image-{name}-{view}", range(len(paths)), encode, batch_size=32)

    def texts(self, name: str, texts: Sequence[str]) -> Features:
        """Return pooled features (n, 384) of texts, saved as ``text-<name>``."""

        def encode(positions: Sequence[int]) -> Features:
            ids = self._tokenizer([texts[i] for i in positions])
            longest = int((ids != 0).sum(dim=1).max())
            features: Features = self._model.encode_text(ids[:, :longest]).numpy()
            return features

        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        return self._saved(f"text-{name}", order, encode, batch_size=64)

    @torch.inference_mode()
    def _saved(
        self, name: str, order: Sequence[int], encode: Callable[[Sequence[int]], Features], *, batch_size: int
    ) -> Features:
        path, count = self._folder / f"{name}.npy", len(order)
        if path.exists():
            found: Features = np.load(path, allow_pickle=False)
            _check_features(path, found, count, encode)
            _log.info("%s: loaded", path)
            return found
        if not count:
            raise InputError(f"Expected images or texts for {name}, found none.")
        batches = [list(order[start : start + batch_size]) for start in range(0, count, batch_size)]
        encoded = np.concatenate([encode(positions) for positions in batches])
        rows = np.empty_like(encoded)
        rows[list(order)] = encoded
        self._folder.mkdir(parents=True, exist_ok=True)
        np.save(path, rows)
        _log.info("%s: %d computed", path, count)
        return rows


def _check_features(path: Path, found: Features, count: int, encode: Callable[[Sequence[int]], Features]) -> None:
    """Compare some saved rows with the towers' output."""
    positions = np.random.default_rng(0).integers(0, count, min(_CHECKED_FEATURES, count)).tolist()
    if len(found) != count or float(np.abs(found[positions] - encode(positions)).max()) >= _FEATURE_TOLERANCE:
        raise InputError(f"{path}: expected the towers' features of these data, got others. Delete the file.")


def make_view(image: Image.Image, view: str, position: int) -> Image.Image:
    """Return one of the views of an image.

    Args:
        image: RGB image.
        view: One of ``VIEWS`` or ``STORAGE_VIEWS``: plain, mirrored, a random crop, with noise, or compressed again.
        position: Position of the image in its split, which seeds the random views, so that they are the same in every
            run.

    Example:
        >>> make_view(Image.new("RGB", (500, 375)), "crop1", position=0).size
        (260, 260)
    """
    if view == "plain":
        return image
    if view == "flip":
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    generator = np.random.default_rng(_SEEDS[view] + position)
    if view == "noise":
        pixels = np.asarray(image).astype(np.float32)
        noise = generator.normal(0.0, 1.0, pixels.shape).astype(np.float32)
        noisy = pixels + noise * generator.uniform(*NOISE)
        return Image.fromarray(np.clip(noisy.round(), 0, 255).astype(np.uint8))
    if view == "jpeg":
        file = io.BytesIO()
        image.save(file, "JPEG", quality=int(generator.integers(*JPEG_QUALITY)))
        return decode(file.getvalue())
    width, height = image.size
    side = generator.uniform(*CROP_AREA) ** 0.5
    aspect = np.exp(generator.uniform(-CROP_ASPECT, CROP_ASPECT))
    w, h = min(width, width * side * aspect), min(height, height * side / aspect)
    left, top = generator.uniform(0, width - w), generator.uniform(0, height - h)
    size = (lite.IMAGE_SIZE, lite.IMAGE_SIZE)
    cropped = image.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + w, top + h))
    return cropped.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if generator.random() < 0.5 else cropped


def class_captions() -> list[tuple[str, str, str]]:
    """Return three captions per ImageNet class, in the classifier's order: name, name and definition, definition.

    The names are CLIP's, the definitions WordNet's.

    Example:
        >>> for caption in class_captions()[1]:
        ...     print(caption)
        a goldfish
        a goldfish, small golden or orange-red freshwater fishes of Eurasia used as pond or aquarium fishes
        small golden or orange-red freshwater fishes of Eurasia used as pond or aquarium fishes
    """
    from open_clip import IMAGENET_CLASSNAMES
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    captions = []
    for number, name in enumerate(IMAGENET_CLASSNAMES):
        article = "an" if name[0].lower() in "aeiou" else "a"
        definition = info.index_to_description(number, detailed=True).partition(": ")[2]
        captions.append((f"{article} {name}", f"{article} {name}, {definition}", definition))
    return captions


class PairFeatures(NamedTuple):
    """Features of n images, or of class rows, and of k captions of each.

    Attributes:
        images: Inputs of the image head by view, shape (n, views, f).
        captions: Inputs of the caption head, shape (n, k, g).
        meanings: Features of the captions without prefix, which the soft targets compare, shape (n, k, h).
    """

    images: torch.Tensor
    captions: torch.Tensor
    meanings: torch.Tensor

    def sample(self, rows: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Return image, caption and meaning of each row, with a random view and a random caption."""
        views = torch.randint(self.images.shape[1], (len(rows),), generator=generator)
        which = torch.randint(self.captions.shape[1], (len(rows),), generator=generator)
        return self.images[rows, views], self.captions[rows, which], self.meanings[rows, which]


class LiteData(NamedTuple):
    """Training data of the heads; image features are inputs of the image head.

    Attributes:
        names: Text feature of each ImageNet class, shape (1000, 384).
        removed: Directions removed from the image features, shape (k, 1664).
        train: Training split.
        classes: Each class's row of the classifier as an image, with three captions.
        dev: Dev split.
    """

    names: torch.Tensor
    removed: torch.Tensor
    train: PairFeatures
    classes: PairFeatures
    dev: PairFeatures


def prepare(train: Flickr8kSplit, dev: Flickr8kSplit, folder: Path) -> LiteData:
    """Compute the features that training needs, or load them from the folder."""
    extractor = FeatureExtractor(*lite.build_towers(), folder)

    def captions(name: str, texts: Sequence[str], each: int) -> torch.Tensor:
        return torch.from_numpy(extractor.texts(name, texts)).reshape(len(texts) // each, each, -1)

    def images(name: str, paths: Sequence[Path], view: str = "plain") -> torch.Tensor:
        return torch.from_numpy(extractor.images(name, paths, view))

    of_classes = [caption for each in class_captions() for caption in each]
    prefixed = captions("classes", [PREFIX + text for text in of_classes], CAPTIONS_PER_CLASS)
    names = class_features(prefixed)
    views = [images("train", train.images, view) for view in VIEWS]
    stored = [images("train1000", train.images[:STORED], view) for view in STORAGE_VIEWS]
    nothing = torch.zeros(0, IMAGE_FEATURES + TEXT_FEATURES)
    removed = storage_directions(ImageHeadInput(*lite.read_image_tower()[1], names, nothing), views[0][:STORED], stored)
    head_input = ImageHeadInput(*lite.read_image_tower()[1], names, removed)
    # A classifier's row points to the images of its class; with their mean length it can stand for one of them.
    rows = functional.normalize(head_input.weight, dim=-1) * views[0].norm(dim=-1).mean()
    dev_captions = captions("dev", [PREFIX + text for text in dev.captions], CAPTIONS_PER_IMAGE)
    return LiteData(
        names=names,
        removed=removed,
        train=PairFeatures(
            torch.stack([head_input(view) for view in views], dim=1),
            captions("train", [PREFIX + text for text in train.captions], CAPTIONS_PER_IMAGE),
            captions("train-bare", train.captions, CAPTIONS_PER_IMAGE),
        ),
        classes=PairFeatures(
            head_input(rows)[:, None], prefixed, captions("classes-bare", of_classes, CAPTIONS_PER_CLASS)
        ),
        dev=PairFeatures(head_input(images("dev", dev.images))[:, None], dev_captions, dev_captions),
    )


def storage_directions(head_input: ImageHeadInput, plain: torch.Tensor, stored: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return orthonormal directions in which images move when only their storage changes.

    The training images lost their fine grain to compression; other images have it. These directions would move the mean
    of images of another origin, and with it every score.

    Args:
        head_input: Input of the image head with nothing removed yet.
        plain: Features of plain images, shape (n, f).
        stored: Features of the same images, stored differently, each of shape (n, f).

    Returns:
        One direction per way of storing, rounded as in the file of heads.
    """
    shifts = [(head_input(features) - head_input(plain)).mean(dim=0) for features in stored]
    basis: torch.Tensor = torch.linalg.qr(torch.stack(shifts, dim=1))[0]
    return basis.T.half().float()


def class_features(captions: torch.Tensor) -> torch.Tensor:
    """Return one unit text feature per class from its name and its name with definition, (n, k, g) to (n, g).

    Rounded as in the file of heads, so that training sees what the shipped encoder computes.
    """
    return functional.normalize(functional.normalize(captions[:, :2], dim=-1).mean(dim=1), dim=-1).half().float()


@dataclass(frozen=True, slots=True)
class HeadRecipe:
    """Hyperparameters of the training; the defaults were chosen on the dev split.

    Attributes:
        epochs: Passes over the images, each with a random view and caption.
        batch_size: Pairs per step.
        learning_rate: Maximum of the one-cycle schedule.
        weight_decay: Weight decay of AdamW.
        logit_scale: Fixed and high, as CLIP's becomes: it keeps images and texts in separate cones.
        hard_weight: Weight of the own caption in the targets; the rest goes to similar captions.
        target_temperature: Temperature of the softmax over caption–caption cosines.
        image_dropout: Dropout of the image head's inputs.
        caption_dropout: Dropout of the caption head's inputs.
        class_pairs: Pairs of class and class caption added to each batch, if there are any.
        hidden: Width of the heads' hidden layer.
        image_intra: Weight of an intra-modal term as in SLIP (Mu et al. 2022): a contrastive loss between two random
            views of each image with separate dropout. 0 for none, as in CLIP.
        caption_intra: Weight of the same term between two captions of each image.
        intra_scale: Logit scale of both terms, by default SLIP's.
    """

    epochs: int = 40
    batch_size: int = 1000
    learning_rate: float = 4e-3
    weight_decay: float = 0.05
    logit_scale: float = 50.0
    hard_weight: float = 0.5
    target_temperature: float = 0.1
    image_dropout: float = 0.5
    caption_dropout: float = 0.3
    class_pairs: int = 100
    hidden: int = 1024
    image_intra: float = 0.0
    caption_intra: float = 0.0
    intra_scale: float = 10.0


def train_heads(features: PairFeatures, recipe: HeadRecipe, seed: int, classes: PairFeatures | None = None) -> Heads:
    """Train an image and a caption head; the same seed, features and threads give the same heads.

    Args:
        features: Training data, at least one batch.
        recipe: Hyperparameters.
        seed: Seed of initial weights, order, views, captions and dropout.
        classes: Further pairs, of which ``recipe.class_pairs`` join each batch.

    Raises:
        InputError: There are fewer images than fit in a batch.
    """
    size, count = recipe.batch_size, len(features.images)
    if count < size:
        raise InputError(f"Expected at least {size} images, one batch, got {count}. Train on more.")
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    heads = (
        LiteHead(features.images.shape[-1], hidden=recipe.hidden, dropout=recipe.image_dropout),
        LiteHead(features.captions.shape[-1], hidden=recipe.hidden, dropout=recipe.caption_dropout),
    )
    parameters = [parameter for head in heads for parameter in head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.epochs * (count // size)
    )
    for epoch in range(recipe.epochs):
        order = torch.randperm(count, generator=generator)
        for start in range(0, count - size + 1, size):
            own = order[start : start + size]
            batch = features.sample(own, generator)
            if classes is not None:
                rows = torch.randint(len(classes.images), (recipe.class_pairs,), generator=generator)
                sampled = zip(batch, classes.sample(rows, generator), strict=True)
                batch = tuple(torch.cat(parts) for parts in sampled)
            intra_modal = recipe.image_intra > 0 or recipe.caption_intra > 0
            loss = _loss(heads, batch, recipe, features.sample(own, generator) if intra_modal else None)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        _log.info("seed %d, epoch %d: loss %.4f", seed, epoch + 1, loss.item())
    for head in heads:
        head.eval().requires_grad_(False)
    return heads


def _loss(
    heads: Heads, batch: tuple[torch.Tensor, ...], recipe: HeadRecipe, other: tuple[torch.Tensor, ...] | None
) -> torch.Tensor:
    """Return the loss of a batch; ``other`` has further views and captions of its first images."""
    images, captions, meanings = batch
    targets = soft_targets(meanings, hard_weight=recipe.hard_weight, temperature=recipe.target_temperature)
    x, y = _unit(heads[0], images), _unit(heads[1], captions)
    loss = contrastive_loss(x, y, recipe.logit_scale, targets)
    if other is not None:
        for weight, head, one, again in (
            (recipe.image_intra, heads[0], x, other[0]),
            (recipe.caption_intra, heads[1], y, other[1]),
        ):
            loss = loss + weight * contrastive_loss(one[: len(again)], _unit(head, again), recipe.intra_scale)
    return loss


def soft_targets(captions: torch.Tensor, *, hard_weight: float, temperature: float) -> torch.Tensor:
    """Return contrastive targets that give partial credit to similar captions.

    Caption corpora are full of near-duplicates ("a dog runs", "a dog is running"), which one-hot targets push apart.
    Row i mixes the one-hot target with a softmax over caption–caption cosines.

    Args:
        captions: Caption features of a batch, shape (n, d), not necessarily normalized.
        hard_weight: Weight of the one-hot target, in [0, 1].
        temperature: Softmax temperature, greater than 0.

    Returns:
        Probabilities of shape (n, n); each row sums to 1.

    Example:
        >>> soft_targets(torch.eye(2), hard_weight=1.0, temperature=0.1)
        tensor([[1., 0.],
                [0., 1.]])
    """
    unit = functional.normalize(captions, dim=-1)
    soft = (unit @ unit.T / temperature).softmax(dim=-1)
    return hard_weight * torch.eye(len(unit), dtype=soft.dtype) + (1.0 - hard_weight) * soft


@torch.inference_mode()
def embed(head: LiteHead, features: torch.Tensor) -> Features:
    """Return unit embeddings (n, d) of features (n, f)."""
    vectors: Features = _unit(head, features).numpy()
    return vectors


def embed_pairs(heads: Heads, pairs: PairFeatures) -> tuple[Features, Features]:
    """Return unit embeddings of the images in their first view (n, d) and of their captions (k·n, d)."""
    return embed(heads[0], pairs.images[:, 0]), embed(heads[1], pairs.captions.flatten(0, 1))


def _unit(head: LiteHead, features: torch.Tensor) -> torch.Tensor:
    return functional.normalize(head(features), dim=-1)


def dev_figures(images: Features, captions: Features, image_mean: Moments, caption_mean: Moments) -> dict[str, float]:
    """Measure embeddings of held-out images (n, d) and captions (5n, d) with the training means.

    Returns:
        R@1 in percent in both directions by cosine and under ``post``, where all five captions of an image count, the
        centroid distance by cosine and under ``post``, and the mean of the recalls as ``criterion``, by which seeds and
        recipes are chosen.
    """
    means = GapStatistics(image_mean.mean, caption_mean.mean)
    x, y = POST.apply(images, means, "image"), POST.apply(captions, means, "caption")
    recalls = [value for sides in ((images, captions), (x, y)) for (value,) in recall(sides[0], sides[1], (1,))]
    names = ("image_to_text", "text_to_image", "image_to_text_post", "text_to_image_post")
    gaps = {"gap": centroid_distance(images, captions), "gap_post": centroid_distance(x, y)}
    return {**dict(zip(names, recalls, strict=True)), **gaps, "criterion": sum(recalls) / len(recalls)}


def lite_statistics(heads: Heads, data: LiteData, space: str) -> Statistics:
    """Return reference statistics: means from the training split, the distribution of scores from the dev split.

    The heads fit their own training pairs too well for the latter, which would mislead the probabilities.
    """
    image_mean, caption_mean = map(Moments.of, embed_pairs(heads, data.train))
    statistics = Statistics(
        name="flickr8k-train",
        encoder=lite.NAME,
        space=space,
        prefix=PREFIX,
        image=image_mean,
        caption=caption_mean,
        source="Flickr8k: means from the training split, reference distribution from the dev split",
    )
    images, captions = embed_pairs(heads, data.dev)
    rows = np.repeat(np.arange(len(images)), CAPTIONS_PER_IMAGE)
    return statistics.with_reference(images[rows], captions, rows)


def check_encoder(encoder: Encoder, heads: Heads, data: LiteData, dev: Flickr8kSplit) -> float:
    """Compare heads on saved features with the running encoder; return the largest difference.

    Raises:
        RuntimeError: They differ, so that figures of one would not hold for the other.
    """
    images = embed_images(encoder, dev.images[:_CHECKED_EMBEDDINGS])
    captions = embed_captions(encoder, dev.captions[:_CHECKED_EMBEDDINGS], prefix=PREFIX)
    difference = max(
        float(np.abs(found.vectors[found.index] - vectors[:_CHECKED_EMBEDDINGS]).max())
        for found, vectors in zip((images, captions), embed_pairs(heads, data.dev), strict=True)
    )
    if difference > _EMBEDDING_TOLERANCE:
        raise RuntimeError(f"The encoder and the saved features differ by {difference:.1e}.")
    return difference


def train_lite(data: Path, output: Path, features: Path, seeds: int, recipe: HeadRecipe) -> list[dict[str, float]]:
    """Train one pair of heads per seed, write the best with its statistics, and return all dev figures."""
    train, dev = read_split(data, "train"), read_split(data, "dev")
    prepared = prepare(train, dev, features)
    trained = [train_heads(prepared.train, recipe, seed, prepared.classes) for seed in range(seeds)]
    figures = [
        dev_figures(*embed_pairs(heads, prepared.dev), *map(Moments.of, embed_pairs(heads, prepared.train)))
        for heads in trained
    ]
    best = max(range(seeds), key=lambda seed: figures[seed]["criterion"])
    output.mkdir(parents=True, exist_ok=True)
    LiteHeads(prepared.names, prepared.removed, *trained[best]).save(output / HEADS_FILE)
    shipped = LiteHeads.load(output / HEADS_FILE)
    heads = (shipped.image, shipped.text)
    encoder = lite.load_lite(heads=shipped)
    report = {
        "recipe": asdict(recipe),
        "views": VIEWS,
        "seeds": figures,
        "chosen_seed": best,
        "encoder_difference": check_encoder(encoder, heads, prepared, dev),
    }
    lite_statistics(heads, prepared, encoder.fingerprint.space).save(output / STATISTICS_FILE)
    (output / FIGURES_FILE).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return figures


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="Folder with flickr8k/.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder of the three files written.")
@click.option("--features", type=click.Path(path_type=Path), help="Folder to save features in and to load them from.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Number of seeds to train.")
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Threads of torch, which affect the numbers.",
)
def main(data: Path, output: Path, features: Path | None, seeds: int, threads: int) -> None:
    """Train the heads of the embedded model and choose among seeds on the dev split."""
    logging.basicConfig(format="%(message)s")
    _log.setLevel(logging.INFO)
    torch.set_num_threads(threads)
    try:
        figures = train_lite(data, output, features or output / "features", seeds, HeadRecipe())
    except I0TScoreError as error:
        raise click.ClickException(str(error)) from error
    rows = [{"seed": seed, **one} for seed, one in enumerate(figures)]
    click.echo(tabulate(rows, headers="keys", floatfmt=".3f", tablefmt="github"))


if __name__ == "__main__":
    main()
