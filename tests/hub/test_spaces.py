"""Each metric's page starts from its published folder with its requirements alone and computes its example."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest
from browser import Browser, chromium

from semihv_hf.hub.allowed_files import check_upload
from semihv_hf.hub.card_rules import check_card
from semihv_hf.resources import resource_dir

HERE = Path(__file__).parent
# The button, and what the page shows once the example is computed.
PAGES = {
    "agreement": ("Compare", "krippendorff"),
    "gpt4_judge": ("Judge", "calls"),
    "medical_vqa": ("Score", "closed_accuracy"),
    "multiple_choice": ("Score", "accuracy"),
    "question_type": ("Measure", "inference"),
    "report_text": ("Score", "rouge"),
    "umls_f1": ("Score", "f1"),
}


def test_every_metric_has_a_page_and_a_card_that_the_hub_takes():
    folders = {path.name for path in resource_dir("metrics").iterdir() if (path / "app.py").is_file()}
    assert folders == set(PAGES)
    for name in sorted(folders):
        fields = check_card(resource_dir("metrics") / name / "README.md", "metric")
        assert (fields["sdk"], fields["app_file"]) == ("gradio", "app.py")
        assert fields["sdk_version"].startswith("6.")


def interpreter() -> str:
    """A Python with gradio: this one, or the one that `SEMIHV_SPACE_PYTHON` names."""
    named = os.environ.get("SEMIHV_SPACE_PYTHON")
    if named is None and find_spec("gradio") is None:
        pytest.skip(
            "NOT CHECKED: gradio is not installed. Install it, or name a Python that has it and the"
            " metrics' requirements in SEMIHV_SPACE_PYTHON."
        )
    return named or sys.executable


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_a_page_computes_its_example_with_its_requirements_alone(name, tmp_path):
    python = interpreter()
    if chromium() is None:
        pytest.skip("NOT CHECKED in a browser: Chromium is not installed (Debian: apt-get install chromium).")
    folder = tmp_path / name
    for file in check_upload(resource_dir("metrics") / name, "metric"):  # what would be published, and nothing else
        target = folder / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file.path, target)
    needs = (folder / "requirements.txt").read_text()
    if "semihv-hf" in needs.partition("# only")[0]:
        found = subprocess.run([python, "-c", "import semihv_hf"], capture_output=True, cwd=tmp_path).returncode == 0
        if not found:
            pytest.skip(f"NOT CHECKED: {name} needs semihv-hf, which {python} does not have.")
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "1",
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_SERVER_NAME": "127.0.0.1",
        **{key: value for key, value in os.environ.items() if key.startswith(("PIP_", "SEMIHV_CACHE", "LANG"))},
    }
    with open(tmp_path / "log", "w") as log:
        app = subprocess.Popen(
            [python, str(HERE / "run_space.py"), str(folder)], cwd=folder, env=environment, stdout=log, stderr=log
        )
    browser = None
    try:
        wait_for(f"http://127.0.0.1:{port}/", app, tmp_path / "log")
        browser = Browser(tmp_path / "profile", f"http://127.0.0.1:{port}/?__theme=light")
        button, shown = PAGES[name]
        find = f"[...document.querySelectorAll('button')].find(one => one.innerText.trim() === '{button}')"
        browser.wait(f"Boolean({find})")
        before = browser.evaluate("document.body.innerText")
        assert shown not in before.split("Metric card")[0].lower()
        browser.evaluate(f"{find}.click()")
        text = browser.wait(
            f"document.body.innerText.toLowerCase().includes('{shown}') && document.body.innerText", seconds=240
        )
        assert "Error" not in text, text
        if target := os.environ.get("SEMIHV_SCREENSHOTS"):
            browser.screenshot(Path(target) / f"{name}.png")
    finally:
        if browser:
            browser.close()
        app.terminate()
        app.wait(30)


def wait_for(url: str, app: subprocess.Popen, log: Path, seconds: float = 240) -> None:
    """Waits until the page answers; an app that ends fails with what it said."""
    end = time.monotonic() + seconds
    while True:
        assert app.poll() is None, log.read_text()[-3000:]
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            assert time.monotonic() < end, f"no answer within {seconds} s: {log.read_text()[-3000:]}"
            time.sleep(0.5)
