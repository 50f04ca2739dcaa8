"""A chat-completions server on the loopback interface that writes what it was asked for out of what it was given.

It reads a request as a careful model would: what stands between fence lines is material, what stands outside is its
task. Which call fails is decided by a plan.
"""

import json
import re
from collections.abc import Callable

from json_server import JsonServer, completion, failed

FENCE = re.compile(r"^~~~~~ [0-9a-f]{20} ~~~~~$", re.MULTILINE)


def told(body: dict) -> tuple[str, list[str], int]:
    """What a request says: its own words, the fenced texts in order, and how many images it shows. What belongs to
    other patients stands before the patient in question, and is left out."""
    system = next(item["content"] for item in body["messages"] if item["role"] == "system")
    parts = next(item["content"] for item in body["messages"] if item["role"] == "user")
    text = "\n".join(part["text"] for part in parts if part["type"] == "text")
    text = re.split(r"^Now the (?:patient in question|images? to write about)", text, flags=re.MULTILINE)[-1]
    pieces = FENCE.split(text)
    assert len(pieces) % 2, "a fence was opened and not closed"
    own = "\n".join([system, *pieces[::2]])
    return own, [piece.strip("\n") for piece in pieces[1::2]], sum(part["type"] == "image_url" for part in parts)


def sentences(texts: list[str]) -> list[str]:
    """The sentences of the material, reworded so that none is a copy."""
    found = [part.strip(" .") for text in texts for part in re.split(r"(?<=[.!?])\s+|\n+", text)]
    return [f"What is seen here is that {part[0].lower()}{part[1:]}." for part in found if len(part.split()) > 2]


def pairs(texts: list[str]) -> list[dict]:
    return [
        {"question": f"Which observation number {number} can be made here?", "answer": sentence}
        for number, sentence in enumerate(sentences(texts), start=1)
    ]


def reply(body: dict) -> dict | str:
    """The reply in the shape of the schema's name; text with headings where no shape is asked for."""
    own, texts, images = told(body)
    described = (
        " ".join(sentences(texts)) or f"There {'is one image' if images == 1 else f'are {images} images'} here."
    )
    shape = body.get("response_format", {}).get("json_schema", {}).get("name")
    asked = pairs(texts)
    if shape == "ReformattedCaptions":
        numbers = [int(number) for number in re.findall(r"Caption of image (\d+):", own)]
        made = [sentences([text])[0] for text in texts[: len(numbers)]]
        return {"images": [{"image": n, "description": text} for n, text in zip(numbers, made)]}
    if shape == "DescribedDialogue":
        return {"description": described, "question": "What would you point out to me?", "answer": described}
    return {
        "Pairs": {"pairs": asked},
        "Report": {"report": described},
        "ReportAndPairs": {"report": described, "pairs": asked},
        "DescriptionAndPairs": {"description": described, "pairs": asked},
        "Conversation": {"turns": asked},
        None: headed(json.dumps(body), described, asked),
    }[shape]


def headed(whole: str, described: str, asked: list[dict]) -> str:
    name = "Report" if "Report:" in whole else "Description"
    questions = "\n".join(f"{n}. {pair['question']}" for n, pair in enumerate(asked, start=1))
    answers = "\n".join(f"{n}. {pair['answer']}" for n, pair in enumerate(asked, start=1))
    return f"**{name}:** {described}\n\n**Questions:**\n{questions}\n\n**Answers:**\n{answers}\n"


class GenerationServer(JsonServer):
    """Serves until the `with` block ends.

    Args:
        write (`Callable`, *optional*): takes the body of a request, gives the reply; `reply` by default.
        plan (`Callable`, *optional*): takes the number of the call, counted from 1, and gives a fault: an HTTP status,
            `"refusal"`, `"length"`, `"junk"` or `None`.
    """

    def __init__(self, write: Callable[[dict], dict | str] = reply, plan: Callable | None = None):
        super().__init__()
        self.write, self.plan = write, plan or (lambda number: None)

    def _reply(self, body: dict) -> tuple[int, dict]:
        with self._lock:
            self.bodies.append(body)
            number = len(self.bodies)
        fault = self.plan(number)
        if isinstance(fault, int):
            return fault, failed()
        written = self.write(body)
        content = written if isinstance(written, str) else json.dumps(written)
        message, reason = {"role": "assistant", "content": content, "refusal": None}, "stop"
        if fault == "refusal":
            message.update(content=None, refusal="I would rather not.")
        elif fault == "length":
            message["content"], reason = content[: len(content) // 2], "length"
        elif fault == "junk":
            message["content"] = "Certainly! ]["
        return 200, completion(body, message, reason)
