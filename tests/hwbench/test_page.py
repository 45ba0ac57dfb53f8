"""A page escapes what it is given and never shows an unknown value as 0."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import escape

from hwbench.page import Fact, Figure, Page, Section, Table, Text

SVG = '<?xml version="1.0"?><svg viewBox="0 0 1 1"></svg>'


@given(st.builds("".join, st.tuples(st.text(max_size=20), st.sampled_from("<>&\"'"), st.text(max_size=20))))
def test_no_text_enters_the_page_unescaped(text: str) -> None:
    """Names of models, files and boards are data wherever they stand."""
    page = Page(
        title=text,
        subtitle=text,
        facts=[Fact(value=text, label=text, remark=text)],
        sections=[Section(title=text, blocks=[Text(text=text), Table(header=[text], rows=[[text]], caption=text)])],
    )
    html = page.html()
    assert str(escape(text)) in html
    assert f"<h1>{escape(text)}</h1>" in html


def test_a_script_in_a_name_stays_a_name() -> None:
    """The classic."""
    html = Page(title="<script>alert(1)</script>", subtitle="").html()
    assert "<script" not in html


def test_an_unknown_cell_is_a_dash() -> None:
    """None is not 0, nor the word None."""
    html = Page(
        title="t", subtitle="s", sections=[Section(title="x", blocks=[Table(header=["mJ"], rows=[[None]])])]
    ).html()
    assert "<td" in html
    assert "–</td>" in html
    assert "None" not in html


def test_a_figure_keeps_its_drawing_and_nothing_is_loaded_from_elsewhere() -> None:
    """The page is one file."""
    figure = Figure(svg=SVG, caption="c", alt="a")
    html = Page(title="t", subtitle="s", sections=[Section(title="x", blocks=[figure])]).html()
    assert '<svg viewBox="0 0 1 1">' in html
    assert "http" not in html
    assert "<?xml" not in html


def test_a_browser_shows_the_whole_page(tmp_path: Path) -> None:
    """Table and drawing stand on the page as a reader gets it: inside the window, not one over the other."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium here to show the page")
    drawing = '<svg xmlns="http://www.w3.org/2000/svg" width="400pt" height="200pt" viewBox="0 0 400 200"></svg>'
    table = Table(header=["design", "ms"], rows=[["a" * 60, "1.25"], ["b", None]])
    blocks = [Figure(svg=drawing, caption="c", alt="a"), table, Text(text="word " * 200)]
    # The page itself has no script; this one only reads where things are, and is added by the test.
    probe = (
        "<script>const box = e => document.querySelector(e).getBoundingClientRect();"
        "document.title = JSON.stringify({wide: document.documentElement.scrollWidth, window: innerWidth,"
        "figure: box('figure svg').bottom, table: box('table').top,"
        "unknown: document.querySelectorAll('td')[3].innerText});"
        "</script></body>"
    )
    page = Page(title="t", subtitle="s", sections=[Section(title="x", blocks=blocks)])
    (tmp_path / "page.html").write_text(page.html().replace("</body>", probe), encoding="utf-8")
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-sync",
    ]
    argv = [chromium, *flags, f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1000,800", "--dump-dom"]
    shown = subprocess.run([*argv, f"file://{tmp_path / 'page.html'}"], capture_output=True, timeout=120, check=True)
    title = unescape(re.search(r"<title>(.*?)</title>", shown.stdout.decode()).group(1))  # type: ignore[union-attr]
    seen = json.loads(title)
    assert seen["wide"] <= seen["window"]
    assert seen["figure"] <= seen["table"]
    assert seen["unknown"] == "–"
