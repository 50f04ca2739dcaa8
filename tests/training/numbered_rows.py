"""Rows of questions about numbers: every third without an image, one with two."""

from datasets import Dataset, Features, Image, List, Value

from semihv_hf.data.messages import message


def write_rows(folder, picture, count, answer):
    """Writes `train.parquet` with `count` rows; `answer(number)` is the text of each answer. Returns the folder."""
    rows = []
    for number in range(count):
        images = 0 if number % 3 == 2 else 1 + (number == 4)
        turns = [message("user", f"Is this number {number}?", images), message("assistant", answer(number))]
        pictures = [picture(40 + 9 * number, 60, seed=number)] * images
        rows.append({"id": str(number), "messages": turns, "images": pictures})
    part = {"type": Value("string"), "text": Value("string")}
    messages = List({"role": Value("string"), "content": List(part)})
    features = Features({"id": Value("string"), "messages": messages, "images": List(Image())})
    Dataset.from_list(rows, features=features).to_parquet(folder / "train.parquet")
    return folder
