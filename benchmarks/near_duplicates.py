"""
Search for near-duplicate hashes by bands against a comparison of all with all, and the cost of a signature.

    python benchmarks/near_duplicates.py --hashes 200000 --sampled 4000

Hashes are random with planted near copies (up to 25 bits of the first hash, up to 6 of the second). The comparison of
all with all would take minutes: it is done for `--sampled` of the hashes, all planted ones among them first, and its
time is that of the whole by the number of comparisons. The recall is that of all pairs in which a sampled hash stands.
"""

import io
import time

import numpy as np
from measuring import finish, parse_arguments, print_row
from PIL import Image, ImageFilter

from semihv_hf.curation.hash_search import near_pairs
from semihv_hf.curation.image_signatures import IMAGE, sign_image
from semihv_hf.curation.text_signatures import TEXT, TextSigner
from semihv_hf.data.overlap_images import DISTANCE, near_hashes


def planted(count: int, copies: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Hashes, and which of them are near copies of others."""
    hashes = generator.integers(0, 2**64, (count, 2), dtype=np.uint64)
    source, target = generator.permutation(count)[: 2 * copies].reshape(2, -1)
    hashes[target] = hashes[source]
    for column, most in ((0, 25), (1, 7)):
        for place in target:
            for bit in generator.choice(64, generator.integers(0, most), replace=False):
                hashes[place, column] ^= np.uint64(1 << int(bit))
    return hashes, target


def numbered(pairs, count: int) -> np.ndarray:
    """One number for each pair, sorted."""
    found = [np.minimum(left, right).astype(np.int64) * count + np.maximum(left, right) for left, right, _ in pairs]
    return np.sort(np.concatenate([np.zeros(0, np.int64), *found]))


def signature_seconds(generator: np.random.Generator, images: int = 40, texts: int = 300) -> tuple[float, float]:
    """Processor seconds a PNG of 512 × 512 pixels and a text of 100 words."""
    encoded = []
    for _ in range(images):
        noise = Image.fromarray(generator.integers(0, 255, (64, 64), dtype=np.uint8)).resize((512, 512))
        buffer = io.BytesIO()
        noise.filter(ImageFilter.GaussianBlur(2)).save(buffer, "PNG")
        encoded.append(buffer.getvalue())
    words = [" ".join(f"word{number}" for number in generator.integers(0, 9999, 100)) for _ in range(texts)]
    signer = TextSigner(8)
    sign_image(encoded[0], 0), signer.sign(words[0], 0, expert=False)
    started = time.process_time()
    for data in encoded:
        sign_image(data, 0)
    between = time.process_time()
    for text in words:
        signer.sign(text, 0, expert=False)
    return (between - started) / images, (time.process_time() - between) / texts


def main() -> None:
    arguments = parse_arguments(__doc__, hashes=200_000, copies=4000, sampled=4000, threads=1, rounds=1)
    generator = np.random.default_rng(arguments.seed)
    count = arguments.hashes
    hashes, target = planted(count, arguments.copies, generator)
    sampled = np.unique(np.r_[target, generator.integers(0, count, arguments.sampled)][: arguments.sampled])
    started = time.process_time()
    found = numbered(near_pairs(hashes, DISTANCE), count)
    between = time.process_time()
    pairs = [(sampled[left], right, bits) for left, right, bits in near_hashes(hashes[sampled], hashes, DISTANCE)]
    # Each pair once and none with itself: half of the comparisons would do.
    whole = (time.process_time() - between) * count / len(sampled) / 2
    bands = between - started
    expected = numbered([(left[left != right], right[left != right], bits) for left, right, bits in pairs], count)
    expected = np.unique(expected)
    recall = np.isin(expected, found).mean()
    own = np.isin(found // count, sampled) | np.isin(found % count, sampled)
    assert len(expected) > arguments.copies // 4 and np.array_equal(found[own], expected), "the pairs differ"
    print_row(f"{count:,} hashes, processor time", {"bands": bands, "all with all": whole})
    image, text = signature_seconds(generator)
    claims = [
        {"claim": "recall of the bands", "ratio": float(recall), "bar": 1.0},
        {"claim": "bands over all with all, processor time", "ratio": whole / bands, "bar": 3.0},
    ]
    facts = {"pairs": len(found), "pairs_checked": len(expected), "image_ms": round(1000 * image, 2)}
    bytes_an_image = IMAGE.itemsize, TEXT.itemsize
    facts |= {"text_ms": round(1000 * text, 2), "signature_bytes": bytes_an_image}
    finish("near_duplicates", claims, arguments, **facts)


if __name__ == "__main__":
    main()
