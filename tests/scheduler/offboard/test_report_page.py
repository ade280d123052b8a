"""The report's page in a real browser: nothing leaves, nothing overflows on a phone or paper, all of it is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from rules.loader import builtin, load
from scheduler.cli.batches import report_on
from scheduler.offboard.report_forms import Form, rows, write
from tests.scheduler.offboard.batch import mixed
from tests.scheduler.offboard.test_report import with_names
from tests.servers.browser import running_browser
from tests.servers.tables import make_tables
from worker.ledger.database import Database

MM = 96 / 25.4
MARGIN = 8
"""Millimetres that the page's own style leaves free on each side of a sheet."""
WIDTHS = [
    pytest.param(375, "screen", id="phone"),
    pytest.param(1280, "screen", id="desk"),
    pytest.param(int((210 - 2 * MARGIN) * MM), "print", id="A4"),
    pytest.param(int((80 - 2 * MARGIN) * MM), "print", id="80 mm"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for these tests."""
    with running_browser() as running:
        yield running


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The page on a batch of every kind of ending, and the texts that have to be on it."""
    folder = tmp_path_factory.mktemp("page")
    db = Database(f"sqlite:///{folder / 'ledger.db'}")
    make_tables(db.url)
    made = report_on(db, mixed(db), load([builtin()]))
    db.dispose()
    file = folder / "report.html"
    file.write_bytes(write(made, Form.HTML))
    told = rows(made)
    texts = [item["job"] for item in told["credentials"]]
    texts += [each["says"][1:] for name in ("todo", "exposures", "limits", "died_along") for each in told[name]]
    return file, [*texts, *told["missing"], told["audit"]["head"], "req-403", "sam@example.com", "ada"]


def opened(browser: Browser, file: Path, width: int, media: str) -> Iterator[tuple[Page, list[str], list[str]]]:
    """The page at this width, with all that it asked for beside itself, and all that the browser complained of."""
    context = browser.new_context(viewport={"width": width, "height": 900})
    page = context.new_page()
    asked: list[str] = []
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))

    def refuse(url: str) -> bool:
        if url != file.as_uri():
            asked.append(url)
        return url != file.as_uri()

    page.route(refuse, lambda route: route.abort())
    page.emulate_media(media="print" if media == "print" else "screen")
    page.goto(file.as_uri())
    yield page, asked, said
    context.close()


@pytest.mark.parametrize(("width", "media"), WIDTHS)
def test_it_is_readable(
    browser: Browser, found: tuple[Path, list[str]], width: int, media: str, tmp_path: Path
) -> None:
    """Every text is seen, nothing is wider than the window, and the style is the page's own."""
    file, texts = found
    for page, asked, said in opened(browser, file, width, media):
        seen = page.locator("body").inner_text()
        assert [text for text in texts if text not in seen] == []
        edges = "() => [...document.querySelectorAll('body, body *')].map(e => e.getBoundingClientRect().right)"
        widest = max(page.evaluate(edges))
        assert widest <= width + 0.5
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
        assert page.locator("h1").evaluate("e => getComputedStyle(e).fontFamily").startswith("system-ui")
        assert page.locator("body").evaluate("e => getComputedStyle(e).backgroundColor") == "rgb(255, 255, 255)"
        assert page.screenshot(full_page=True, path=tmp_path / "page.png").startswith(b"\x89PNG")
        assert (asked, said) == ([], [])


def test_a_narrow_page_has_no_table(browser: Browser, found: tuple[Path, list[str]]) -> None:
    """On a phone each row is a card that names its fields; at a desk the head of the table does."""
    file, _ = found
    for width, shown in ((375, False), (1280, True)):
        for page, _asked, _said in opened(browser, file, width, "screen"):
            assert page.locator("#credentials thead").is_visible() is shown
            label = page.locator("#credentials td").nth(1).evaluate("e => getComputedStyle(e, '::before').content")
            assert (label == '"How it stands"') is not shown


@pytest.mark.parametrize("paper", ["210mm", "80mm"])
def test_it_prints(browser: Browser, found: tuple[Path, list[str]], paper: str) -> None:
    """On paper it breaks over sheets, and every one has the head of the table where there is one."""
    file, _ = found
    for page, asked, _said in opened(browser, file, 800, "print"):
        sheets = page.pdf(width=paper, height="150mm")
        assert sheets.startswith(b"%PDF")
        assert sheets.count(b"/Type /Page\n") > 1
        head = page.locator("#credentials thead").evaluate("e => getComputedStyle(e).display")
        assert head == "table-header-group"
        assert asked == []


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=http://127.0.0.1:9/x onerror=alert(1)>",
        "</style><style>@import 'http://127.0.0.1:9/x'</style>",
        "<meta http-equiv=refresh content='0;url=http://127.0.0.1:9/'>",
        "\u202e" + "x" * 500,
    ],
)
def test_a_hostile_name_is_only_text(browser: Browser, text: str, tmp_path: Path) -> None:
    """It is shown as it is written; nothing runs, nothing is asked for, and a long one is broken."""
    file = tmp_path / "report.html"
    file.write_bytes(write(with_names(text), Form.HTML))
    for page, asked, said in opened(browser, file, 375, "screen"):
        assert text.replace("\u202e", "\N{REPLACEMENT CHARACTER}") in page.locator("h1").inner_text()
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 375
        assert page.locator("script, img, link").count() == 0
        assert (asked, said) == ([], [])


def test_the_policy_holds(browser: Browser, tmp_path: Path) -> None:
    """Were a script or an image to come in all the same, the browser would refuse it."""
    file = tmp_path / "report.html"
    smuggled = (
        b"<script>document.title = 'ran'</script><img src='http://127.0.0.1:9/x'><p style='color: red'>p</p></main>"
    )
    file.write_bytes(write(with_names("x"), Form.HTML).replace(b"</main>", smuggled))
    for page, asked, said in opened(browser, file, 375, "screen"):
        assert page.title() != "ran"
        assert asked == []
        assert len([line for line in said if "Content Security Policy" in line]) == 3
