"""The page in a real browser: drop, follow, compare, cancel, reload, download; nothing leaves its own origin."""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finescale.cli.main import run
from pictures import draw
from serving import Running

playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, server: Running) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 860}, accept_downloads=True)
    context.set_default_timeout(60_000)
    page = context.new_page()
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    for job in context.request.get(f"{server.address}/v1/jobs").json()["jobs"]:  # of other tests with this server
        context.request.delete(f"{server.address}/v1/jobs/{job['id']}")
    page.goto(server.address)
    page.locator("#scale input").first.wait_for(state="attached")
    yield page
    assert [url for url in requests if not url.startswith((server.address + "/", f"blob:{server.address}/"))] == []
    assert complaints == []
    context.close()


def transfer(page: Any, *pictures: Path) -> Any:
    """Files as the browser hands them over when they are dropped or pasted."""
    return page.evaluate_handle(
        """files => {
          const transfer = new DataTransfer();
          for (const { name, bytes } of files) {
            transfer.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
          }
          return transfer;
        }""",
        [{"name": path.name, "bytes": list(path.read_bytes())} for path in pictures],
    )


def drop(page: Any, *pictures: Path) -> None:
    """Let files fall onto the page, as a mouse would."""
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer(page, *pictures)})


def places(page: Any) -> list[dict[str, float]]:
    """Where both pictures of the comparison are on the screen."""
    return page.locator("#compare img").evaluate_all(  # type: ignore[no-any-return]
        "images => images.map(image => image.getBoundingClientRect().toJSON())"
    )


def screenshot(page: Any, name: str) -> None:
    """Keep a picture of the page where somebody wants to look at it."""
    if folder := os.environ.get("FINESCALE_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")


def test_pictures_are_dropped_enlarged_compared_and_downloaded(
    page: Any, tmp_path: Path, tiny_weights: Path, server: Running
) -> None:
    draw(tmp_path / "one.png", width=30, height=20)
    (tmp_path / "damaged.png").write_bytes((tmp_path / "one.png").read_bytes()[:-30])
    assert run(["upscale", str(tmp_path / "one.png"), "-n", str(tiny_weights)]) == 0
    drop(page, tmp_path / "one.png", tmp_path / "damaged.png")
    page.get_by_role("button", name="Enlarge 2 pictures").click()
    done = page.locator("#jobs li.done", has_text="one.png").first
    done.wait_for()
    failed = page.locator("#jobs li.failed", has_text="damaged.png").first
    failed.wait_for()
    assert "Truncated PNG" in failed.inner_text()
    assert "30 × 20 → 60 × 40" in done.inner_text()
    assert page.locator("#waiting").is_hidden()

    page.reload()
    done.wait_for()
    with page.expect_download() as download:
        done.get_by_role("link", name="Download").click()
    assert Path(download.value.path()).read_bytes() == (tmp_path / "one_x2.png").read_bytes()
    assert download.value.suggested_filename == "one_x2.png"

    done.get_by_role("button", name="Compare: one.png").last.click()
    handle = page.get_by_role("slider")
    assert handle.get_attribute("aria-valuenow") == "50"
    page.keyboard.press("PageUp")
    assert handle.get_attribute("aria-valuenow") == "60"
    frame = page.locator("#compare").bounding_box()
    middle = frame["y"] + frame["height"] / 2
    page.mouse.move(frame["x"] + 0.6 * frame["width"], middle)
    page.mouse.down()
    page.mouse.move(frame["x"] + 0.25 * frame["width"], middle, steps=3)
    page.mouse.up()
    assert handle.get_attribute("aria-valuenow") == "25"
    (whole, same) = places(page)
    assert whole == same
    assert (whole["width"], whole["height"]) == (60 * 4, 40 * 4), "small pictures are shown at four times their size"
    page.keyboard.press("1")
    assert page.locator("#zoom").inner_text() == "100 %"
    page.get_by_role("button", name="Zoom in").click(click_count=3, delay=10)
    assert page.locator("#zoom").inner_text() == "338 %"
    page.mouse.move(frame["x"] + 620, middle)
    for _ in range(4):
        page.mouse.wheel(0, -600)
    page.get_by_text("3200 %").wait_for()
    before, same = places(page)
    assert before == same, "both are shown at the same place"
    page.mouse.down()
    page.mouse.move(frame["x"] + 550, middle - 20, steps=2)
    page.mouse.up()
    after, same = places(page)
    assert after == same
    assert (after["x"] - before["x"], after["y"] - before["y"]) == (-70, -20)
    screenshot(page, "compare")
    page.get_by_role("button", name="Fit").click()
    assert places(page) == [whole, whole]
    page.keyboard.press("Escape")
    assert page.locator("#viewer").is_hidden()
    for row in (done, failed):
        row.get_by_role("button", name="Delete").click()
        row.wait_for(state="detached")


def test_pictures_are_pasted_and_enlarged_by_the_keyboard_alone(page: Any, tmp_path: Path, server: Running) -> None:
    """Two pictures of one name, as browsers call all pasted ones, in one file at the end."""
    draw(tmp_path / "image.png", width=12, height=10)
    for _ in range(2):
        page.evaluate(
            "clipboardData => document.dispatchEvent(new ClipboardEvent('paste', { clipboardData }))",
            transfer(page, tmp_path / "image.png"),
        )
    page.get_by_text("about 2 kB").wait_for()
    page.locator("summary").click()
    page.get_by_label("Take eight times as long").check()
    page.locator("#scale input").first.focus()
    for _ in range(20):
        if page.evaluate("document.activeElement.id") == "go":
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.locator("#jobs li.done").nth(1).wait_for()
    page.locator("#jobs .thumb img").nth(1).wait_for()  # both have a small copy, a moment after they are done
    assert page.locator("#jobs .thumb img").count() == 2
    sent = page.request.get(f"{server.address}/v1/jobs").json()["jobs"]
    assert [job["ensemble"] for job in sent if job["name"] == "image.png"] == [True, True]
    with page.expect_download() as download:
        page.get_by_role("link", name="Download all").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.namelist() == ["image_x2.png", "image_x2 (2).png"]
    row = page.locator("#jobs li").first
    row.locator("button.thumb").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Home")
    assert page.get_by_role("slider").get_attribute("aria-valuenow") == "0"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.className") == "thumb", "focus goes back to where it was"
    for number in (1, 0):
        page.get_by_role("button", name="Delete").nth(number).click()
        page.locator("#jobs li").nth(number).wait_for(state="detached")


def test_a_file_that_is_no_picture_is_refused_at_once(page: Any, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("hello")
    page.set_input_files("#files", tmp_path / "letter.txt")
    assert "This is not a picture" in page.locator("#jobs li.failed", has_text="letter.txt").inner_text()
    assert page.locator("#waiting").is_hidden()


PART_MS = 140_000
"""Limit for the part at work, which ends before a picture is cancelled; 10 to 60 s here, by what else the cores do."""


def test_a_picture_at_work_is_cancelled_and_tried_again(page: Any, tmp_path: Path) -> None:
    draw(tmp_path / "large.png", width=900, height=380)
    page.locator("summary").click()
    page.get_by_label("Take eight times as long").check()
    page.set_input_files("#files", tmp_path / "large.png")
    page.get_by_role("button", name="Enlarge", exact=True).click()
    row = page.locator("#jobs li", has_text="large.png")
    row.get_by_text(re.compile(r"Part \d+ of \d+")).wait_for()
    assert int(row.get_by_role("progressbar").get_attribute("max")) > 1
    row.get_by_role("button", name="Cancel").click()
    row.get_by_text("Cancelled").wait_for(timeout=PART_MS)
    row.get_by_role("button", name="Try again").click()
    row.get_by_role("button", name="Cancel").click()
    row.get_by_text("Cancelled").wait_for(timeout=PART_MS)
    row.get_by_role("button", name="Delete").click()
    row.wait_for(state="detached")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")])
def test_the_page_fits_its_window(browser: Any, server: Running, width: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    page.goto(server.address)
    page.get_by_text("Drop pictures here").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(22, 24, 26)" if scheme == "dark" else "rgb(246, 245, 242)")
    unnamed = page.locator("button:visible, select:visible, input:visible").evaluate_all(
        "all => all.filter(one => !one.innerText && !one.ariaLabel && !one.labels?.length).map(one => one.outerHTML)"
    )
    assert unnamed == []
    screenshot(page, f"{scheme}-{width}")
    context.close()
