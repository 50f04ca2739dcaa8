"""Regions of whole-slide images, read tile by tile, so that a slide of any size fits in memory."""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .unreadable import UnreadableImage

MAX_REGION_PIXELS = 1 << 26
_OVERVIEW_SIDE = 512  # of the grid on which tissue is looked for
_LEAST_SATURATION = 0.07  # of stained tissue; glass and fat are below it
_DARKEST = 30  # black borders of scanners


@dataclass(frozen=True)
class Region:
    """A rectangle of one level.

    Args:
        level (`int`): the level, 0 is the finest.
        left (`int`): first column, in pixels of that level.
        top (`int`): first row.
        width (`int`): columns.
        height (`int`): rows.
    """

    level: int
    left: int
    top: int
    width: int
    height: int


class Slide:
    """A whole-slide file that tifffile reads: Aperio SVS and other tiled, pyramidal TIFF.

    Only the pyramid is read. Label and macro pictures, which show a written name more often than not, are never
    touched, and neither is the text of the header.

    Args:
        path (`str` or `pathlib.Path`): the file.

    Raises:
        `UnreadableImage`: it is no such file, or it is truncated.

    Example:

    ```python
    with Slide("CMU-1.svs") as slide:
        tiles = [slide.read(region) for region in slide.tissue_regions(8, side=512)]
    ```
    """

    def __init__(self, path: str | Path):
        import tifffile

        self.path = str(path)
        try:
            self._file = tifffile.TiffFile(path)
            # tifffile gives the pyramid first; Label and Macro are series of their own.
            self._pages = [level.keyframe for level in self._file.series[0].levels]
        except Exception as error:  # tifffile raises many types for a damaged file
            raise UnreadableImage(path, f"{type(error).__name__}: {error}") from error
        for page in self._pages:
            if page.dtype != np.uint8 or page.samplesperpixel != 3:
                self.close()
                raise UnreadableImage(path, f"a level of {page.dtype} and {page.samplesperpixel} samples is not RGB")

    def __enter__(self) -> "Slide":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    @property
    def level_sizes(self) -> list[tuple[int, int]]:
        """`(width, height)` of each level, the finest first."""
        return [(page.imagewidth, page.imagelength) for page in self._pages]

    def read(self, region: Region) -> np.ndarray:
        """Reads one region.

        Args:
            region ([`Region`]): what to read; it must lie inside its level.

        Returns:
            `numpy.ndarray`: `(height, width, 3)` `uint8` RGB.

        Raises:
            `ValueError`: the region is empty, leaves its level or has more than `MAX_REGION_PIXELS` pixels.
            `UnreadableImage`: a part of the file that it needs is damaged.
        """
        width, height = self.level_sizes[region.level]
        right, bottom = region.left + region.width, region.top + region.height
        if not (0 <= region.left < right <= width and 0 <= region.top < bottom <= height):
            raise ValueError(f"{region} does not lie inside level {region.level} of {width} x {height} pixels")
        if region.width * region.height > MAX_REGION_PIXELS:
            raise ValueError(f"{region} has more than {MAX_REGION_PIXELS} pixels; read it in parts")
        page = self._pages[region.level]
        result = np.zeros((region.height, region.width, 3), np.uint8)
        tile_height, tile_width = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, width)
        across = -(-width // tile_width)
        try:
            for row in range(region.top // tile_height, -(-bottom // tile_height)):
                for column in range(region.left // tile_width, -(-right // tile_width)):
                    tile = self._tile(page, row * across + column)
                    top, left = row * tile_height, column * tile_width
                    first_y, first_x = max(top, region.top), max(left, region.left)
                    last_y = min(top + tile.shape[0], bottom)
                    last_x = min(left + tile.shape[1], right)
                    result[
                        first_y - region.top : last_y - region.top, first_x - region.left : last_x - region.left
                    ] = tile[first_y - top : last_y - top, first_x - left : last_x - left]
        except Exception as error:  # tifffile and the codecs raise many types for a damaged file
            raise UnreadableImage(self.path, f"{type(error).__name__}: {error}") from error
        return result

    def _tile(self, page, index: int) -> np.ndarray:
        count = page.databytecounts[index]
        if count == 0:  # a tile that the scanner left out is background
            return np.full((page.tilelength, page.tilewidth, 3), 255, np.uint8)
        handle = self._file.filehandle
        handle.seek(page.dataoffsets[index])
        coded = handle.read(count)
        if len(coded) != count:
            raise ValueError(f"the file ends inside of tile {index}")
        decoded, _, shape = page.decode(coded, index, jpegtables=page.jpegtables)
        return decoded[0][: shape[1], : shape[2]]

    def tissue_regions(
        self, count: int, *, side: int = 512, level: int = 0, least_tissue: float = 0.5, seed: int = 0
    ) -> list[Region]:
        """Chooses squares that hold stained tissue, none of them overlapping another.

        Args:
            count (`int`): how many at most.
            side (`int`, *optional*, defaults to 512): their side in pixels of the level.
            level (`int`, *optional*, defaults to 0): the level that they are read from.
            least_tissue (`float`, *optional*, defaults to 0.5): the share of a square that must be tissue, judged on
                a coarse overview.
            seed (`int`, *optional*, defaults to 0): the order in which squares of the grid are chosen.

        Returns:
            `list[Region]`: the same for the same file and arguments; fewer than `count` where there is less tissue.
        """
        width, height = self.level_sizes[level]
        tissue = is_tissue(self._overview())
        grid = [
            Region(level, column * side, row * side, side, side)
            for row in range(height // side)
            for column in range(width // side)
        ]
        random.Random(seed).shuffle(grid)
        scale_y, scale_x = tissue.shape[0] / height, tissue.shape[1] / width
        chosen = []
        for region in grid:
            if len(chosen) == count:
                break
            top, left = int(region.top * scale_y), int(region.left * scale_x)
            bottom = max(top + 1, int((region.top + side) * scale_y))
            right = max(left + 1, int((region.left + side) * scale_x))
            if tissue[top:bottom, left:right].mean() >= least_tissue:
                chosen.append(region)
        return chosen

    def _overview(self) -> np.ndarray:
        """A coarse picture of the slide: each pixel is taken from the coarsest level, band by band."""
        level = len(self._pages) - 1
        width, height = self.level_sizes[level]
        step = max(1, max(width, height) // _OVERVIEW_SIDE)
        band = max(step, MAX_REGION_PIXELS // 8 // width // step * step)
        rows = [
            self.read(Region(level, 0, top, width, min(band, height - top)))[::step, ::step]
            for top in range(0, height, band)
        ]
        return np.concatenate(rows)


def is_tissue(pixels: np.ndarray) -> np.ndarray:
    """Which pixels show stained tissue rather than glass or a scanner's black border.

    Args:
        pixels (`numpy.ndarray`): `(rows, columns, 3)` `uint8` RGB.

    Returns:
        `numpy.ndarray`: `(rows, columns)` booleans.
    """
    brightest = pixels.max(axis=2).astype(np.float32)
    saturation = (brightest - pixels.min(axis=2)) / np.maximum(brightest, 1)
    return (saturation > _LEAST_SATURATION) & (brightest > _DARKEST)
