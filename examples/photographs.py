"""Write the images that examples/captions.jsonl describes to examples/images.

The images are part of scikit-image's wheel, so nothing is downloaded. All of them are free to use:

* astronaut: NASA, public domain
* camera: Lav Varshney, CC0
* chelsea: Stéfan van der Walt, CC0
* coffee: Rachel Michetti, CC0
* rocket: SpaceX, released into the public domain
* coins: Brooklyn Museum, no known copyright restrictions
* grass: linolafett, CC0
"""

from __future__ import annotations

import shutil
import sys
from importlib.resources import as_file, files
from pathlib import Path

PHOTOGRAPHS = (
    "astronaut.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "rocket.jpg",
)


def write_photographs(folder: Path) -> None:
    """Copy the images to a folder, and create the folder if it does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    with as_file(files("skimage.data")) as source:
        for name in PHOTOGRAPHS:
            shutil.copyfile(source / name, folder / name)


if __name__ == "__main__":
    write_photographs(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "images")
