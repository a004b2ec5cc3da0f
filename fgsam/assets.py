"""Where the cards, class splits and configs that come with the package lie."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def asset_folder(kind: Literal["datasets", "configs"]) -> Path:
    """Find a folder that comes with the package: inside an installed wheel, else in the checkout.

    Args:
        kind: Which of the folders.

    Raises:
        FileNotFoundError: If neither place has it.
    """
    package = Path(__file__).resolve().parent
    places = [package / "_assets" / kind, package.parent / kind]
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(
        f"Expected the folder '{kind}' of the package (looked for {', '.join(map(str, places))}). "
        "Install fgsam again, or run it from a whole checkout."
    )
