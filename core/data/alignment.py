"""Whether one picture is a piece of another: shifted, stretched and relit until they agree best.

Registration by Gauss-Newton on two scales, two shifts, contrast and brightness (Lucas and Kanade
1981; the relighting as in Baker and Matthews 2004), coarse to fine, many pairs at once. What counts
in the end is the correlation of the *detail*: what a blur removes. Two photos of the same kind of
thing agree in their light and dark areas; only copies agree in detail.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from core import machine
from core.machine import late_numpy as np

SIDE = 64


class Grays(Protocol):
    """Many pictures, S×S uint8 each, of which some are read at a time."""

    def __getitem__(self, places: np.ndarray, /) -> np.ndarray:
        """The pictures at some places."""


@dataclass(frozen=True)
class Level:
    """One step from coarse to fine: the pictures' side, Gauss-Newton steps, the least likeness."""

    side: int
    steps: int
    least: float


# The least of the last level: of 24,324 pairs of the most alike hands before a white wall none has
# more than 0.869, while 98 % of copies changed in every way at once have more than 0.9. Those of
# the first two only spare work; 99 % of copies have more than 0.57 and 0.76 there.
LEVELS = (Level(16, 5, 0.5), Level(32, 4, 0.6), Level(64, 3, 0.88))
# Copies that were only saved anew lie in place already, and need no search: a tenth of the time.
IN_PLACE = (Level(16, 0, 0.97), Level(64, 0, 0.95))
# Two copies that each lost 5 % of both sides, at opposite corners, share 0.95² of the smaller one.
LEAST_OVERLAP = 0.9
# Furthest scale and shift, in halves of a side, and the longest step towards it.
FURTHEST, LONGEST_STEP = 0.16, 0.06
# A pixel burnt out to white in one copy says nothing about the other; but a white background does.
BURNT_OUT, FEW = 250, 0.4
# Detail under one gray level, root mean square, is noise of the sensor and of JPEG.
LEAST_DETAIL = 1.0
# Of the tiles with detail, this many agree: a frame or a caption that two photos share is too few.
TILES, LEAST_TILE, AGREEING_TILES = 4, 0.5, 0.85
# A tile with less than this share of the mean detail is background; JPEG makes noise of it.
LIVELY = 0.4
PIXELS_AT_ONCE = 1 << 17


def likeness(grays: Grays, pairs: np.ndarray) -> np.ndarray:
    """How surely each pair are copies of one picture: P float32 in [0, 1], 0 where they are not.

    grays: K×64×64 uint8. pairs: P×2 int64, places in `grays`; their order does not matter.
    """
    found = followed(IN_PLACE, grays, pairs)
    rest = np.flatnonzero(found == 0)
    found[rest] = followed(LEVELS, grays, pairs[rest])
    return found


def followed(levels: tuple[Level, ...], grays: Grays, pairs: np.ndarray) -> np.ndarray:
    """Likeness on the last of some levels, P float32; 0 for pairs that fell short on any."""
    pairs, alive = pairs.copy(), np.arange(len(pairs))
    moves, found = np.zeros((len(pairs), 4), np.float32), np.zeros(len(pairs), np.float32)
    with ThreadPoolExecutor(machine.processors()) as pool:
        for level in levels:
            size = PIXELS_AT_ONCE // level.side**2
            chunks = [alive[start : start + size] for start in range(0, len(alive), size)]
            work = partial(compared, level, grays, pairs, moves)
            for chunk, result in zip(chunks, pool.map(work, chunks), strict=True):
                found[chunk] = np.where(result >= level.least, result, 0)
            alive = alive[found[alive] > 0]
    return found


def compared(
    level: Level, grays: Grays, pairs: np.ndarray, moves: np.ndarray, chunk: np.ndarray
) -> np.ndarray:
    """Likeness of a chunk of pairs on one level; `pairs` and `moves` are brought up to date.

    Of each pair the picture that shows less is looked for in the one that shows more.
    """
    piece, whole = (pooled(grays[pairs[chunk, side]], level.side) for side in (0, 1))
    move = registered(piece, whole, moves[chunk], level.steps)
    turned = (1 + move[:, 0]) * (1 + move[:, 2]) > 1
    pairs[chunk[turned]] = pairs[chunk[turned], ::-1]
    piece[turned], whole[turned] = whole[turned], piece[turned]
    moves[chunk] = np.where(turned[:, None], inverse(move), move)
    return agreement(piece, whole, moves[chunk], last=level.side == SIDE)


def pooled(grays: np.ndarray, side: int) -> np.ndarray:
    """Pictures made smaller by averaging: P×side×side float32."""
    factor = SIDE // side
    shape = (len(grays), side, factor, side, factor)
    return np.asarray(grays.reshape(shape).mean((2, 4), dtype=np.float32))


def inverse(move: np.ndarray) -> np.ndarray:
    """The moves from the second picture to the first: P×4."""
    back, scale = np.empty_like(move), 1 + move[:, ::2]
    back[:, ::2], back[:, 1::2] = 1 / scale - 1, -move[:, 1::2] / scale
    return back


def centers(side: int) -> np.ndarray:
    """Where pixels lie along a side that goes from −1 to 1."""
    return (np.arange(side, dtype=np.float32) + 0.5) * 2 / side - 1


def sampling(stretch: np.ndarray, shift: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Linear interpolation along one axis as matrices P×side×side; and P×side, what lies inside."""
    at = (((1 + stretch[:, None]) * centers(side) + shift[:, None]) + 1) * side / 2 - 0.5
    at = at.astype(np.float32)
    weights = np.maximum(0, 1 - np.abs(at[:, :, None] - np.arange(side, dtype=np.float32)))
    weights /= np.maximum(weights.sum(2, keepdims=True), 1e-6)
    return weights, (at >= -0.5) & (at <= side - 0.5)


def warped(pictures: np.ndarray, move: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pictures sampled where each move says; and 1 where that is inside, else 0: P×S×S float32."""
    across, inside_x = sampling(move[:, 0], move[:, 1], pictures.shape[1])
    down, inside_y = sampling(move[:, 2], move[:, 3], pictures.shape[1])
    inside = (inside_y[:, :, None] & inside_x[:, None, :]).astype(np.float32)
    return down @ pictures @ across.transpose(0, 2, 1), inside


def telling(piece: np.ndarray, whole: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Weights of pixels: those inside that are burnt out in neither, if enough are left."""
    kept = inside * ((piece < BURNT_OUT) & (whole < BURNT_OUT))
    few = kept.sum((1, 2)) < FEW * inside.sum((1, 2))
    return np.where(few[:, None, None], inside, kept)


def registered(piece: np.ndarray, whole: np.ndarray, move: np.ndarray, steps: int) -> np.ndarray:
    """Where in the whole the piece lies: P×4 float32, scale − 1 and shift across, then down."""
    side = piece.shape[1]
    x = centers(side)
    for _ in range(steps):
        seen, inside = warped(whole, move)
        weights = telling(piece, seen, inside).reshape(len(piece), 1, -1)
        down, across = np.gradient(seen, 2 / side, axis=(1, 2))
        across /= (1 + move[:, 0])[:, None, None]
        down /= (1 + move[:, 2])[:, None, None]
        changes = (across * x, across, down * x[:, None], down, seen, np.ones_like(seen))
        slopes = np.stack(changes, axis=1).reshape(len(piece), 6, -1)
        move = move + step_of(slopes, weights, piece.reshape(len(piece), -1, 1))
        move = move.clip(-FURTHEST, FURTHEST)
    return move


def step_of(slopes: np.ndarray, weights: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The step of the four moves that explains the target best, P×4; slopes: P×6×pixels."""
    weighted = slopes * weights
    normal = weighted @ slopes.transpose(0, 2, 1)
    # Enough to keep pictures without any detail solvable; contrast and brightness stay free.
    damping = 1e-4 / 6 * np.trace(normal, axis1=1, axis2=2)[:, None] + 1e-6
    normal += np.eye(6, dtype=np.float32) * (damping * [1, 1, 1, 1, 1e-3, 1e-3])[:, None, :]
    solved = np.linalg.solve(normal, weighted @ target)[:, :, 0].astype(np.float32)
    contrast = np.maximum(solved[:, 4:5], 0.2)
    return np.asarray((solved[:, :4] / contrast).clip(-LONGEST_STEP, LONGEST_STEP))


def agreement(piece: np.ndarray, whole: np.ndarray, move: np.ndarray, *, last: bool) -> np.ndarray:
    """Correlation of the details where the pictures overlap: P float32.

    last: 0 without much overlap or detail, or where they agree in a frame or a caption alone.
    """
    seen, inside = warped(whole, move)
    weights = telling(piece, seen, inside)
    fine, fine_seen = detail(piece), detail(seen)
    found, strength = correlation(fine, fine_seen, weights)
    if last:
        enough = (strength >= LEAST_DETAIL) & (inside.mean((1, 2)) >= LEAST_OVERLAP)
        found = np.where(enough & widespread(fine, fine_seen, weights), found, 0)
    return found.astype(np.float32)


def detail(pictures: np.ndarray) -> np.ndarray:
    """What a blur over an eighth of a side removes: P×S×S float32.

    The blur narrows towards the edges, so that of an even slope nothing at all is left.
    """
    side = pictures.shape[1]
    at = np.arange(side)
    reach = np.minimum(side // 16, np.minimum(at, side - 1 - at))
    near = np.abs(at[:, None] - at) <= reach[:, None]
    blur = (near / near.sum(1, keepdims=True)).astype(np.float32)
    return np.asarray(pictures - blur @ pictures @ blur.T)


def correlation(
    first: np.ndarray, second: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted correlation over the last two axes, and the fainter one's root mean square."""
    total = np.maximum(weights.sum((-2, -1)), 1e-6)

    def centered(values: np.ndarray) -> np.ndarray:
        mean = (values * weights).sum((-2, -1)) / total
        return np.asarray((values - mean[..., None, None]) * weights)

    one, other = centered(first), centered(second)
    powers = np.sqrt((one**2).sum((-2, -1)) / total), np.sqrt((other**2).sum((-2, -1)) / total)
    product = (one * other).sum((-2, -1)) / total
    return product / np.maximum(powers[0] * powers[1], 1e-6), np.minimum(*powers)


def widespread(first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Whether most of the tiles in which either picture has detail agree: P bool."""
    count, side = len(first), first.shape[1] // TILES

    def tiles(values: np.ndarray) -> np.ndarray:
        return values.reshape(count, TILES, side, TILES, side).transpose(0, 1, 3, 2, 4)

    found, _ = correlation(tiles(first), tiles(second), tiles(weights))
    power = (tiles(weights) * tiles(np.maximum(np.abs(first), np.abs(second)))).mean((-2, -1))
    lively = power >= np.maximum(LEAST_DETAIL, power.mean((1, 2), keepdims=True) * LIVELY)
    agreeing = (lively & (found >= LEAST_TILE)).sum((1, 2))
    return np.asarray(agreeing >= AGREEING_TILES * np.maximum(lively.sum((1, 2)), 1))
