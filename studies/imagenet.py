"""The ImageNet classes as captions: what the image tower's classifier knows, in words."""

from __future__ import annotations


def class_captions() -> list[tuple[str, str, str]]:
    """Three captions of each class, in the order of the classifier: name, name and definition, definition.

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
