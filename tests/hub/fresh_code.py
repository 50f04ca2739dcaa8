"""Programs for fresh interpreters that know nothing but a repository's id."""

# Refuses this package, so that everything must come from the repository.
WITHOUT_THE_PACKAGE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "semihv_hf":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refuse())
"""

ANSWER = (
    WITHOUT_THE_PACKAGE
    + """
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

repo_id, revision = sys.argv[1:]
model = AutoModelForImageTextToText.from_pretrained(repo_id, trust_remote_code=True, revision=revision)
processor = AutoProcessor.from_pretrained(repo_id, trust_remote_code=True, revision=revision)
messages = [{"role": "user", "content": [
    {"type": "image", "image": Image.new("RGB", (40, 30), "gray")}, {"type": "text", "text": "Is this an MRI?"}]}]
inputs = processor.apply_chat_template(
    messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt")
output = model.generate(**inputs, max_new_tokens=4, min_new_tokens=4, do_sample=False)
assert "semihv_hf" not in sys.modules
print("NEW TOKENS", output.shape[1] - inputs["input_ids"].shape[1])
"""
)

STREAM = (
    WITHOUT_THE_PACKAGE
    + """
from datasets import load_dataset

rows = list(load_dataset(sys.argv[1], sys.argv[2], split="train", streaming=True, revision=sys.argv[3]))
sides = {image.size for row in rows for image in row["images"]}
assert "semihv_hf" not in sys.modules and all(row["messages"] for row in rows)
print("ROWS", len(rows), "SIDES", sorted(sides))
"""
)

METRIC = (
    WITHOUT_THE_PACKAGE
    + """
import json
import evaluate

metric = evaluate.load(sys.argv[1])
print("RESULT", json.dumps(metric.compute(**json.loads(sys.argv[2])), default=str))
"""
)

CARDS = """
import sys
from huggingface_hub import DatasetCard, ModelCard, SpaceCard

for kind, repo_id in zip(sys.argv[1::2], sys.argv[2::2]):
    card = {"model": ModelCard, "dataset": DatasetCard, "space": SpaceCard}[kind].load(repo_id)
    card.validate(repo_type=kind)
    assert card.data.to_dict() and card.text.strip()
    print("VALID", kind, repo_id)
"""
