"""Each metric's page starts from its published folder with its requirements alone and computes its example."""

import os
import shutil
import signal
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
from semihv_hf.packages import default_cache_dir
from semihv_hf.resources import resource_dir

HERE = Path(__file__).parent
# The button of each page, and what its example comes to; the numbers can be counted by hand from the page's table, but
# for the scores of the kept libraries (ROUGE, BLEU) and the price of two calls.
PAGES = {
    "agreement": ("Compare", ["agreement 0.65 (0.25 to 1.00) 0.75 (0.50 to 1.00)", "krippendorff_alpha_ordinal 0.90"]),
    "gpt4_judge": ("Judge", ["Nothing was sent", "For 3 rows it would ask gpt-4o-2024-11-20 2 times"]),
    "medical_vqa": ("Score", ["closed accuracy 0.50 2 0", "open recall 1.00 1 0", "closed unparsed no_option"]),
    "multiple_choice": ("Score", ["accuracy 0.67 3 0", "guessing 0.33 3 0", "B right letter", "– unparsed several"]),
    "question_type": (
        "Measure",
        ["short questions 0.33 (0.00 to 1.00) 1 2 0 3", "case challenges 1.00 1 0 0 1", "knowledge asks_for_a_fact"],
    ),
    "report_text": ("Score", ["ROUGE-1 F1, 0 to 1 0.79 2 0", "BLEU, 0 to 100 34.33 2 0"]),
    "umls_f1": ("Score", ["mean of 3 rows, 0 of them failed 1.00 0.83 0.89", "all concepts together 1.00 0.75 0.86"]),
}  # fmt: skip
# What a page shows, on one line; the table that the visitor fills in comes before its button and is left out.
SHOWN = "document.body.innerText.replace(/\\s+/g, ' ')"


def test_every_metric_has_a_page_and_a_card_that_the_hub_takes():
    folders = {path.name for path in resource_dir("metrics").iterdir() if (path / "app.py").is_file()}
    assert folders == set(PAGES)
    for name in sorted(folders):
        fields = check_card(resource_dir("metrics") / name / "README.md", "metric")
        assert (fields["sdk"], fields["app_file"]) == ("gradio", "app.py")
        assert fields["sdk_version"].startswith("6.")


@pytest.fixture(scope="module")
def python():
    """A Python with gradio: this one, or the one that `SEMIHV_SPACE_PYTHON` names."""
    named = os.environ.get("SEMIHV_SPACE_PYTHON")
    if named is None and find_spec("gradio") is None:
        pytest.skip(
            "NOT CHECKED: gradio is not installed. Install it, or name a Python that has it and the"
            " metrics' requirements in SEMIHV_SPACE_PYTHON."
        )
    if chromium() is None:
        pytest.skip("NOT CHECKED in a browser: Chromium is not installed (Debian: apt-get install chromium).")
    return named or sys.executable


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("spaces")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def addresses(python, place):
    """The pages, all started at once from what would be published, and nothing else: name to port."""
    ports = {}
    for name in PAGES:
        for file in check_upload(resource_dir("metrics") / name, "metric"):
            target = place / name / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file.path, target)
        ports[name] = free_port()
    # One that does not ask for what it imports, though the interpreter may well have it.
    (place / "careless").mkdir()
    (place / "careless" / "requirements.txt").write_text("evaluate\n")
    (place / "careless" / "app.py").write_text("import gradio\nimport evaluate\nimport torch\n")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(place),
        "HF_HOME": str(place / "hf"),
        "HF_HUB_OFFLINE": "1",
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "OMP_NUM_THREADS": "1",
        "SEMIHV_CACHE": str(default_cache_dir()),  # the vocabulary that the page of umls_f1 fetches
        **{key: value for key, value in os.environ.items() if key.startswith(("PIP_", "LANG"))},
    }
    pairs = [f"{place / name}={port}" for name, port in [*ports.items(), ("careless", 0)]]
    with open(place / "log", "w") as log:
        apps = subprocess.Popen(
            [python, str(HERE / "run_space.py"), *pairs],
            cwd=place,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    yield ports
    if apps.poll() is None:
        os.killpg(apps.pid, signal.SIGTERM)
        apps.wait(30)


@pytest.fixture(scope="module")
def browser(addresses, place):
    one = Browser(place / "profile")
    yield one
    one.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_a_page_computes_its_example_with_its_requirements_alone(name, python, addresses, browser, place):
    needs = (place / name / "requirements.txt").read_text()
    if "semihv-hf" in needs.partition("# only")[0]:
        if subprocess.run([python, "-c", "import semihv_hf"], capture_output=True, cwd=place).returncode:
            pytest.skip(f"NOT CHECKED: {name} needs semihv-hf, which {python} does not have.")
    url = f"http://127.0.0.1:{addresses[name]}/?__theme=light"
    wait_for(url, [place / f"{name}.log", place / "log"])
    browser.open(url)
    button, results = PAGES[name]
    find = f"[...document.querySelectorAll('button')].find(one => one.innerText.trim() === '{button}')"
    browser.wait(f"Boolean({find})")
    before = browser.evaluate(SHOWN)
    assert not any(result in before for result in results)
    browser.evaluate(f"{find}.click()")
    # The page is done when it shows the first result, or an error.
    first = f"{SHOWN}.includes({results[0]!r})"
    browser.wait(f"{first} || Boolean(document.querySelector('.toast-body.error'))", seconds=90)
    text = browser.evaluate(SHOWN)
    missing = [result for result in results if result not in text]
    assert not missing, text
    if target := os.environ.get("SEMIHV_SCREENSHOTS"):
        browser.screenshot(Path(target) / f"{name}.png")


@pytest.mark.slow
def test_a_page_has_nothing_but_its_requirements(addresses, place):
    log, end = place / "careless.log", time.monotonic() + 90
    while "Error" not in (said := log.read_text() if log.is_file() else ""):
        if time.monotonic() > end:
            pytest.fail(said)
        time.sleep(0.3)
    assert said.strip().endswith("No module named 'torch'"), said


def wait_for(url: str, logs: list[Path], seconds: float = 120) -> None:
    """Waits until a page answers; an app that ended fails with what it said."""
    end = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            said = "\n".join(log.read_text()[-3000:] for log in logs if log.is_file())
            if "Traceback" in said or time.monotonic() > end:
                pytest.fail(f"{url} does not answer: {said}")
            time.sleep(0.3)
