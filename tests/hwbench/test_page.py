"""A page escapes what it is given and never shows an unknown value as 0."""

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
