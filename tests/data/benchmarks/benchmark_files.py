"""Small copies of the benchmarks in the layout of their repositories, with drawn images and invented questions."""

import csv
import io
import json
import random
import zipfile
from pathlib import Path

from PIL import Image, ImageDraw


def picture(seed: int, kind: str = "PNG", mode: str = "RGB", size: tuple[int, int] = (48, 40)) -> bytes:
    """A drawn picture; different seeds differ visibly."""
    generator = random.Random(seed)
    image = Image.new("RGB", size, tuple(generator.randrange(60) for _ in range(3)))
    pen = ImageDraw.Draw(image)
    for _ in range(6):
        x, y = generator.randrange(size[0]), generator.randrange(size[1])
        pen.ellipse((x - 9, y - 7, x + 9, y + 7), fill=tuple(generator.randrange(256) for _ in range(3)))
    buffer = io.BytesIO()
    image.convert(mode).save(buffer, kind)
    return buffer.getvalue()


TORN = picture(99)[:-40]


def _parquet(path: Path, rows: list[dict], image_columns: tuple[str, ...]) -> None:
    from datasets import Dataset, Features, Value
    from datasets import Image as ImageFeature

    columns = {name: ImageFeature() if name in image_columns else Value("string") for name in rows[0]}
    path.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_list(rows, features=Features(columns)).to_parquet(path)


def _card(folder: Path, configs: dict[str, dict[str, str]]) -> None:
    lines = ["---", "configs:"]
    for config, files in configs.items():
        lines += [f"- config_name: {config}", "  data_files:"]
        lines += [line for split, path in files.items() for line in (f"  - split: {split}", f"    path: {path}")]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]), encoding="utf-8")


def question_answer_repository(folder: Path) -> list[dict]:
    """The layout of `flaviagiammarino/vqa-rad` and `path-vqa`: columns image, question, answer, two shards."""
    rows = [
        {"image": {"bytes": picture(1, "JPEG"), "path": None}, "question": "is there a pneumothorax?", "answer": "no"},
        {"image": {"bytes": picture(1, "JPEG"), "path": None}, "question": "where is it? ", "answer": "Left lung "},
        {"image": {"bytes": picture(2, "JPEG", "CMYK"), "path": None}, "question": "is it large?", "answer": "Yes "},
        {"image": {"bytes": TORN, "path": None}, "question": "is it round?", "answer": "yes"},
        {"image": {"bytes": picture(3), "path": None}, "question": "what is it?", "answer": ""},
        {"image": None, "question": "what is shown?", "answer": "a mass"},
        {"image": {"bytes": picture(4), "path": None}, "question": "no mass?", "answer": "no mass"},
    ]
    _parquet(folder / "data/test-00000-of-00002-0a1b2c3d4e5f6071.parquet", rows[:3], ("image",))
    _parquet(folder / "data/test-00001-of-00002-0a1b2c3d4e5f6071.parquet", rows[3:], ("image",))
    _parquet(folder / "data/train-00000-of-00001-0a1b2c3d4e5f6071.parquet", rows[:1], ("image",))
    _card(folder, {"default": {"train": "data/train-*", "test": "data/test-*"}})
    return rows


def slake_repository(folder: Path, *, unpacked: bool = False) -> list[dict]:
    """The layout of `BoKelvin/SLAKE`: JSON tables and imgs.zip."""
    folder.mkdir(parents=True, exist_ok=True)

    def row(qid, image, question, answer, language="en", answer_type="OPEN", modality="CT", **more):
        return {
            "img_id": image, "img_name": f"xmlab{image}/source.jpg", "question": question, "answer": answer,
            "q_lang": language, "location": "Lung", "modality": modality, "answer_type": answer_type,
            "base_type": "vqa", "content_type": "Position", "triple": ["vhead", "_", "_"], "qid": qid, **more,
        }  # fmt: skip

    rows = [
        row(1, 1, "Which organ is shown?", "Lung"),
        row(2, 1, "Is the lung healthy?", "No", answer_type="CLOSED", modality="X-Ray"),
        row(3, 2, "Is this a CT or an MRI?", "MRI", answer_type="CLOSED", modality="MRI", content_type="Modality"),
        row(4, 1, "图中有肺吗？", "有", "zh", "CLOSED"),
        row(5, 3, "Where is the heart?", "Middle"),
        row(6, 4, "Where is the liver?", "Right"),
        row(2, 1, "Is the lung healthy?", "No", answer_type="CLOSED", modality="X-Ray"),
        row(7, 1, "Is the spleen there?", "Yes", answer_type="YESNO"),
        row(8, 1, "", "Yes"),
        row(9, 1, "Is it a cyst?", "No"),
        row(10, 5, "Is it large?", "no", answer_type="CLOSED", img_name="../../secret.jpg"),
    ]
    text = json.dumps(rows, ensure_ascii=False, indent=1)
    (folder / "test.json").write_text("\ufeff" + text, encoding="utf-8")
    (folder / "validate.json").write_text(json.dumps(rows[:1]), encoding="utf-8")
    (folder / "train.json").write_text(json.dumps(rows[:2]), encoding="utf-8")
    images = {
        "imgs/xmlab1/source.jpg": picture(11, "JPEG"),
        "imgs/xmlab2/source.JPG": picture(12, "JPEG"),
        "imgs/xmlab3/source.jpg": TORN,
    }
    if unpacked:
        for name, data in images.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return rows
    with zipfile.ZipFile(folder / "imgs.zip", "w") as archive:
        for name, data in images.items():
            archive.writestr(name, data)
    return rows


def pmc_vqa_repository(folder: Path) -> tuple[list[dict], list[dict]]:
    """The layout of `RadGenome/PMC-VQA`: CSV tables of two versions and an archive for each."""
    folder.mkdir(parents=True, exist_ok=True)

    def first(figure, question, answer, label, choices):
        named = {f"Choice {letter}": text for letter, text in zip("ABCD", choices, strict=True)}
        return {"Figure_path": figure, "Question": question, "Answer": answer, **named, "Answer_label": label}

    four = (" A:Diffuse uptake ", " B: Focal uptake", "C:C. difficile", " D:Cannot, be determined")
    version_1 = [
        first("PMC1064097_F1.jpg", " What is the uptake pattern? ", "Focal uptake", "B", four),
        first("PMC1064097_F2.jpg", "What grows?", "C. difficile", " C ", four),
        first("PMC2000000_F9.jpg", "What is missing?", "Focal uptake", "B", four),
        first("PMC1064097_F1.jpg", "What has no label?", "Focal uptake", "E", four),
        first("PMC1064097_F1.jpg", "What has no choice?", "Focal uptake", "B", (" A:", *four[1:])),
        first("PMC3000000_F1.jpg", "What is torn?", "Focal uptake", "B", four),
    ]
    version_2 = [
        {
            "index": "7", "Figure_path": "PMC8253797_Fig4_41.jpg", "Caption": "A scan, with an arrow.",
            "Question": "What does the arrow show?", "Choice A": "A: a nerve", "Choice B": "B: a vein",
            "Choice C": "C: a bone", "Choice D": "D: air", "Answer": "D", "split": "test",
        },
    ]  # fmt: skip
    for name, rows in (("test_clean.csv", version_1), ("test.csv", version_1), ("test_2.csv", version_2)):
        with open(folder / name, "w", encoding="utf-8-sig" if name == "test_2.csv" else "utf-8", newline="") as file:
            header = list(rows[0])
            if name == "test.csv":
                header[header.index("Answer")] = "Anwser"
            writer = csv.writer(file)
            writer.writerow(header)
            writer.writerows(row.values() for row in rows)
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        archive.writestr("images/PMC1064097_F1.jpg", picture(21, "JPEG"))
        archive.writestr("images/PMC1064097_F2.jpg", picture(22, "JPEG"))
        archive.writestr("images/PMC3000000_F1.jpg", b"<html>not found</html>")
    with zipfile.ZipFile(folder / "images_2.zip", "w") as archive:
        archive.writestr("figures/PMC8253797_Fig4_41.jpg", picture(23, "JPEG"))
    return version_1, version_2


def omnimedvqa_repository(folder: Path, *, packed: bool) -> dict[str, list[dict]]:
    """The layout of `foreverbeliever/OmniMedVQA`: one archive, or what it unpacks to."""

    def row(image_set, number, question, answer, options, **more):
        return {
            "dataset": image_set, "question_id": f"{image_set}_{number:04d}", "question_type": "Disease Diagnosis",
            "question": question, "gt_answer": answer, "image_path": f"Images/{image_set}/im {number}.png",
            **{f"option_{letter}": text for letter, text in zip("ABCD", options, strict=False)},
            "modality_type": "Fundus Photography", **more,
        }  # fmt: skip

    tables = {
        "ACRIMA": [
            row("ACRIMA", 1, "Is there glaucoma?", "Yes, there is.", ["No", "Yes, there is."]),
            row("ACRIMA", 2, "What is shown?", "An eye", ["A hand", "A foot", "an eye.", "A tooth"]),
            row("ACRIMA", 3, "What is absent?", "An eye", ["A hand", "A foot", "An ear"]),
            row("ACRIMA", 1, "Is there glaucoma?", "Yes, there is.", ["No", "Yes, there is."]),
            row("ACRIMA", 4, "One option?", "No", ["No"]),
        ],
        "Chest CT Scan": [
            row("Chest CT Scan", 1, "Which scan?", "CT", ["MR", "CT", ""], modality_type="CT(Computed Tomography)"),
            row("Chest CT Scan", 2, "Which organ?", "Lung", ["Lung", "Liver", "Brain"]),
            row("Chest CT Scan", 9, "No image?", "Lung", ["Lung", "Liver", "Brain"]),
        ],
    }
    odd = tables["Chest CT Scan"][1]
    odd["modality"] = odd.pop("modality_type").replace("Fundus Photography", "CT(Computed Tomography)")
    files = {
        **{f"QA_information/Open-access/{name}.json": json.dumps(rows).encode() for name, rows in tables.items()},
        "QA_information/Restricted-access/AIDA.json": json.dumps([row("AIDA", 1, "?", "a", ["a", "b"])]).encode(),
        "Images/ACRIMA/im 1.png": picture(31),
        "Images/ACRIMA/im 2.png": picture(32),
        "Images/ACRIMA/im 3.png": picture(33),
        "Images/Chest CT Scan/im 1.png": picture(34, mode="L"),
        "Images/Chest CT Scan/im 2.png": picture(35, mode="P"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    if packed:
        with zipfile.ZipFile(folder / "OmniMedVQA.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(f"OmniMedVQA/{name}", data)
    else:
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
    return tables


def mmmu_repository(folder: Path) -> dict[str, list[dict]]:
    """The layout of `MMMU/MMMU`: a config a subject, seven image columns, lists as their Python text."""
    from semihv_hf.data.benchmarks.mmmu_medical import SUBJECTS

    def row(subject, number, question, options, answer, images, kind="multiple-choice", split="validation"):
        shown = {f"image_{i}": {"bytes": images[i], "path": None} if i in images else None for i in range(1, 8)}
        return {
            "id": f"{split}_{subject}_{number}", "question": question, "options": options, "explanation": "",
            **shown, "img_type": "['Body Scans: MRI, CT scans, and X-rays']", "answer": answer,
            "topic_difficulty": "Easy", "question_type": kind, "subfield": "Anatomy",
        }  # fmt: skip

    rows = {subject: [] for subject in SUBJECTS}
    rows["Clinical_Medicine"] = [
        row("Clinical_Medicine", 1, "What does <image 1> show?", "['a cyst', \"Crohn's disease\"]", "B",
            {1: picture(41)}),
        row("Clinical_Medicine", 2, "Which of these is the same bone as in <image 1>, see <image 1>?",
            "['<image 3>', '<image 4>']", "A", {1: picture(42), 3: picture(43), 4: picture(44)}),
        row("Clinical_Medicine", 3, "How many? <image 1>", "[]", "['3', 'three']", {1: picture(45)}, kind="open"),
        row("Clinical_Medicine", 4, "Torn <image 1>", "['a', 'b']", "A", {1: TORN}),
        row("Clinical_Medicine", 5, "Which <image 2>?", "['a', 'b']", "A", {1: picture(46)}),
        row("Clinical_Medicine", 6, "Odd options <image 1>", "['a', 'b'", "A", {1: picture(46)}),
        row("Clinical_Medicine", 7, "Beyond <image 1>", "['a', 'b']", "C", {1: picture(46)}),
    ]  # fmt: skip
    rows["Pharmacy"] = [row("Pharmacy", 1, "No image is named.", "['a', 'b', 'c']", "C", {1: picture(47)})]
    configs = {}
    for subject in SUBJECTS:
        rows[subject] = rows[subject] or [row(subject, 1, "See <image 1>.", "['a', 'b']", "A", {1: picture(48)})]
        hidden = [{**rows[subject][0], "id": f"test_{subject}_1", "answer": "?"}]
        columns = tuple(f"image_{i}" for i in range(1, 8))
        _parquet(folder / subject / "validation-00000-of-00001.parquet", rows[subject], columns)
        _parquet(folder / subject / "test-00000-of-00001.parquet", hidden, columns)
        configs[subject] = {"validation": f"{subject}/validation-*", "test": f"{subject}/test-*"}
    _card(folder, configs)
    return rows
