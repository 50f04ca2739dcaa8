"""Small releases for tests: drawn pictures and texts that were written for this project."""

import csv
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

LETTERS = "ABCD"


def drawn(number: int, kind: str = "JPEG") -> bytes:
    """A picture with a bright bar, different for each number."""
    pixels = np.full((24, 32, 3), 40 + number % 80, np.uint8)
    pixels[:, number % 32] = 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def write_pmc_vqa(root: Path, train: int = 10, test: int = 4, torn: tuple[int, ...] = ()) -> Path:
    """PMC-VQA, version 2: one question a figure; the figures numbered `torn` end in the middle."""
    (root / "figures").mkdir(parents=True)
    columns = ["index", "Figure_path", "Caption", "Question", *(f"Choice {letter}" for letter in LETTERS), "Answer"]
    start = 0
    for name, split, count in (("train_2.csv", "train", train), ("test_2.csv", "test", test)):
        with open(root / name, "w", newline="", encoding="utf-8-sig") as file:
            table = csv.writer(file)
            table.writerow([*columns, "split"])
            for number in range(start, start + count):
                figure = f"PMC{1000 + number}_fig_1.jpg"
                picture = drawn(number)
                (root / "figures" / figure).write_bytes(picture[:200] if number in torn else picture)
                options = [f" {letter}: bar at column {(number + index) % 32}" for index, letter in enumerate(LETTERS)]
                caption = f"Drawing {number} with a bar."
                table.writerow([number, figure, caption, f"Where is bar {number}?", *options, "A", split])
        start += count
    return root


def write_jama(root: Path, count: int = 5) -> Path:
    """A user's copy of the challenge, with cases that nobody ever had; every second one has a picture."""
    (root / "images").mkdir(parents=True)
    rows = []
    for number in range(count):
        options = [f"invented condition {number}{letter.lower()}" for letter in LETTERS]
        letter = number % 4
        rows.append(
            {
                "id": number,
                "link": f"https://example.org/challenge/{number}",
                "question": f"Invented patient {number} shows a drawn bar. What Is the Diagnosis?",
                **{f"op{key.lower()}": f"{key}. {option}" for key, option in zip(LETTERS, options)},
                "diagnosis": options[letter],
                "answer_idx": LETTERS[letter],
                "answer": f"{LETTERS[letter]}. {options[letter]}",
                "explanation": f"The bar at column {number} decides. This text was written for a test.",
                "field": "invented medicine",
            }
        )
        if number % 2 == 0:
            (root / "images" / f"{number}.jpg").write_bytes(drawn(number))
    (root / "jama_raw.json").write_text(json.dumps(rows), encoding="utf-8")
    return root


RADIOPAEDIA_COLUMNS = {"title": "name", "rid": "number", "findings": "text"}


def write_radiopaedia(root: Path, count: int = 3) -> Path:
    """A collection of invented cases with one picture each; its map of columns is `RADIOPAEDIA_COLUMNS`."""
    with_header = [["name", "number", "text"]]
    for number in range(count):
        folder = root / "Radiopaedia" / f"Invented_case_{number}"
        folder.mkdir(parents=True)
        (folder / "03_1.jpg").write_bytes(drawn(number))
        with_header.append([f"Invented case {number}", str(900 + number), f"A drawn bar at column {number}."])
    with open(root / "cases.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(with_header)
    return root
