"""A chat server on loopback that really looks: it tells classes from the colours of the image it is sent.

Red says the modality, green the body part. It answers for the fields that the system text describes, and takes the
topic from the last word of the text that came with the image.
"""

import base64
import io
import json
import re
from collections import Counter

import numpy as np
from json_server import JsonServer, completion, failed
from PIL import Image

from semihv_hf.curation.vocabulary import BODY_PARTS, MODALITIES
from semihv_hf.data.schema import Case, Text, case_id
from semihv_hf.llm import ChatClient, ServerSettings
from semihv_hf.llm.retries import Backoff

LOCAL = ServerSettings("http://127.0.0.1:1/v1", "a-model")
_STEP = {"modality": 13, "body_part": 36}


def picture(modality: str, body_part: str, size: tuple[int, int] = (64, 48), form: str = "PNG") -> bytes:
    """An image of these classes, with noise."""
    noise = np.random.default_rng(7).integers(-3, 4, (size[1], size[0], 3))
    colour = (
        MODALITIES.index(modality) * _STEP["modality"] + 5,
        BODY_PARTS.index(body_part) * _STEP["body_part"] + 5,
        90,
    )
    out = io.BytesIO()
    Image.fromarray((noise + colour).clip(0, 255).astype(np.uint8)).save(out, form)
    return out.getvalue()


def seen(part: dict) -> dict[str, str]:
    """The classes that an image part of a request shows."""
    with Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].partition(",")[2]))) as image:
        red, green, _ = np.asarray(image.convert("RGB"), dtype=float).mean((0, 1))
    return {
        "modality": MODALITIES[round((red - 5) / _STEP["modality"])],
        "body_part": BODY_PARTS[round((green - 5) / _STEP["body_part"])],
    }


class ClassServer(JsonServer):
    """Serves until the `with` block ends.

    Args:
        answer (`Callable`, *optional*): takes the reply's object and how often this image was asked about before, and
            gives the object or text to send instead, or an HTTP status to fail with.
        formats (`bool`, *optional*): whether it knows `response_format`.
    """

    def __init__(self, answer=None, formats: bool = True):
        super().__init__()
        self.answer = answer or (lambda reply, before: reply)
        self.formats = formats
        self.asked: Counter[str] = Counter()

    def _reply(self, body: dict) -> tuple[int, dict]:
        system, user = body["messages"][0]["content"], body["messages"][1]["content"]
        images = [part for part in user if part["type"] == "image_url"]
        with self._lock:
            self.bodies.append(body)
            before = self.asked[images[0]["image_url"]["url"]]
            self.asked[images[0]["image_url"]["url"]] += 1
        if "response_format" in body and not self.formats:
            return 400, {"error": {"message": "response_format is not supported", "type": "invalid_request_error"}}
        told = re.findall(r"\w+", user[0]["text"].rpartition("~~~~~")[0].rpartition("\n")[0])
        whole = {"topic": [told[-1] if told else "other"], **seen(images[0])}
        fields = re.findall(r"^- (\w+): ", system, re.MULTILINE)
        reply = self.answer({name: whole[name] for name in fields}, before)
        if isinstance(reply, int):
            return reply, failed()
        content = reply if isinstance(reply, str) else json.dumps(reply)
        return 200, completion(body, {"role": "assistant", "content": content, "refusal": None})


def case_of(*images, source="llava_med", caption=None, facts=(), number=0):
    texts = [Text("caption", caption, "human", image=0)] if caption else []
    where = str(number)
    return Case(case_id(source, where, images), source, where, where, "train", "", list(images), list(facts), texts)


def cases_of(count):
    return [
        case_of(picture(MODALITIES[n % 19], BODY_PARTS[n % 7]), caption=f"It shows subject{n}", number=n)
        for n in range(count)
    ]


def client_of(server, **settings):
    cache = settings.pop("cache", None)
    where = ServerSettings(server.base_url, "a-model", **{"max_concurrency": 4, "max_retries": 2, **settings})
    return ChatClient(where, cache=cache, backoff=Backoff(base=0.001, cap=0.01))


def values_of(labels):
    return {label.name: label.value for label in labels}
