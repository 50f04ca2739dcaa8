import os
import re
import signal
import subprocess
import sys

import httpx
import pytest
from review_folders import TOKEN, enter, record, served, write_folder

from semihv_hf.curation.review.run import open_review
from semihv_hf.data.messages import message_text

TEXT = '</textarea><script>alert(1)</script> "quoted" & first\n\n  second line \n'


@pytest.fixture
def review(tmp_path):
    records = [record(n, TEXT, turns=2) for n in range(4)]
    return open_review(write_folder(tmp_path / "data", records), tmp_path / "out")


def test_nothing_is_shown_or_taken_without_the_token(review):
    with served(review) as client:
        for path in ("/", "/?token=wrong", "/item/0", "/image/0/0/0"):
            assert client.get(path).status_code == 403
        assert client.post("/name", data={"reviewer": "A"}).status_code == 403
        client.cookies.set("semihv_reviewer", "name=A")
        assert client.post("/item/0", data={"verdict": "accept"}).status_code == 403
    assert not review.decisions.by_item()


def test_the_token_leaves_the_address_and_its_cookie_is_sent_by_no_other_page(review):
    with served(review) as client:
        answer = client.get("/", params={"token": TOKEN}, follow_redirects=False)
        assert answer.status_code == 303 and answer.headers["location"] == "/"
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie


def test_a_person_goes_through_all_items(review):
    with served(review) as client:
        assert "/item/" in str(enter(client, 'Dr Ä. "B" <i>').url)
        for verdict in ("accept", "reject", "skip", "accept"):
            page = client.get("/")
            number = int(str(page.url).rsplit("/", 1)[1])
            assert "Dr Ä. &#34;B&#34; &lt;i&gt;" in page.text
            page = client.post(f"/item/{number}", data={"verdict": verdict, "reason": "style"})
            if verdict == "skip":
                assert str(page.url).endswith(f"/item/{(number + 1) % 4}")
        page = client.post("/item/3", data={"verdict": "accept"})
        assert "All done" in page.text
    # Sent without its texts, a form changes nothing.
    assert review.decisions.counts('Dr Ä. "B" <i>') == {"accept": 3, "reject": 1}


def test_texts_are_shown_as_they_are_and_an_unchanged_form_is_no_edit(review):
    with served(review) as client:
        page = enter(client).text
        assert "<script>alert" not in page and "CT &lt;b&gt;scan" in page
        areas = re.findall(r'<textarea id="text-(\d)"[^>]*>\n(.*?)</textarea>', page, re.S)
        assert [int(number) for number, _ in areas] == [0, 1, 2, 3]
        import html

        row = review.folders.read(review.items[0].places[0])
        shown = [html.unescape(text) for _, text in areas]
        assert shown == [message_text(one) for one in row["messages"]]
        # Browsers send CR LF.
        form = {f"text-{number}": text.replace("\n", "\r\n") for number, text in enumerate(shown)}
        client.post("/item/0", data={**form, "verdict": "accept"})
        assert review.decisions.of(review.items[0].id, "Dr A").verdict == "accept"
        client.post("/item/0", data={**form, "text-3": "better", "verdict": "accept", "note": " why "})
        decided = review.decisions.of(review.items[0].id, "Dr A")
        assert decided.verdict == "edit" and decided.texts == {"3": "better"} and decided.note == "why"


def test_an_emptied_text_is_said_to_be_wrong_and_nothing_typed_is_lost(review):
    with served(review) as client:
        enter(client)
        page = client.post("/item/0", data={"text-1": " ", "text-3": "typed before", "verdict": "accept"})
        assert page.status_code == 400 and "is empty" in page.text and "typed before" in page.text
    assert not review.decisions.by_item()


def test_images_come_as_they_are_stored(review):
    with served(review) as client:
        enter(client)
        row = review.folders.read(review.items[1].places[0])
        answer = client.get("/image/1/0/0")
        assert answer.content == row["images"][0]["bytes"] and answer.headers["content-type"] == "image/png"
        assert [client.get(path).status_code for path in ("/image/9/0/0", "/image/1/3/0", "/item/77")] == [404] * 3


def test_pages_allow_no_foreign_content(review):
    with served(review) as client:
        policy = enter(client).headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy


def test_a_form_that_is_too_long_is_refused(review):
    with served(review) as client:
        enter(client)
        assert client.post("/item/0", data={"text-1": "x" * 2_000_000, "verdict": "accept"}).status_code == 413
    assert not review.decisions.by_item()


def test_two_answers_are_compared_blind(tmp_path):
    left = write_folder(tmp_path / "a", [record(n, "the left answer") for n in range(6)])
    right = write_folder(tmp_path / "b", [record(n, "the right answer") for n in range(6)])
    review = open_review(left, tmp_path / "out", against=right)
    with served(review) as client:
        page = enter(client).text
        assert "the left answer" in page and "the right answer" in page
        assert str(tmp_path) not in page and "a-model" not in page, "who wrote an answer must not show"
        client.post("/item/0", data={"verdict": "second"})
        assert client.post("/item/1", data={"verdict": "accept"}).status_code == 400
    item = review.items[0]
    assert review.decisions.of(item.id, "Dr A").records == item.records


def test_the_command_serves_and_what_was_decided_survives_a_kill(tmp_path):
    folder = write_folder(tmp_path / "data", [record(n, "text") for n in range(3)])
    # A shell's background job has Ctrl-C ignored.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from semihv_hf.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "review", str(folder), "--out", str(tmp_path / "out")]

    def start():
        process = subprocess.Popen(
            [*command, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        lines = []
        for line in process.stdout:
            lines.append(line)
            if found := re.search(r"Open (http://\S+)/\?token=(\S+) in", line):
                return process, found[1], found[2], lines
        raise AssertionError("".join(lines))

    process, address, token, _ = start()
    try:
        with httpx.Client(base_url=address, follow_redirects=True, trust_env=False) as client:
            enter(client, token=token)
            assert client.post("/item/0", data={"verdict": "accept"}).status_code == 200
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    process, _, other, lines = start()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert "3 items, 1 of them decided" in lines[0] and other != token
    out = subprocess.run([*command, "--export", str(tmp_path / "reviewed")], capture_output=True, text=True)
    assert out.returncode == 0 and "1 accepted, 2 not looked at" in out.stdout, out.stdout + out.stderr
