"""Rules for every template, those of coming languages too."""

import re
from importlib.resources import files
from pathlib import Path

import pytest

from watchword.mail.locales import available
from watchword.mail.rendering import KINDS, PARTS

TEMPLATES = Path(str(files("watchword.mail") / "templates"))
ALL = sorted(path for path in TEMPLATES.rglob("*") if path.is_file())


@pytest.mark.parametrize("locale", sorted(available()))
def test_every_language_has_every_mail(locale: str) -> None:
    """A language has subject, text and HTML of each kind of mail, and nothing else."""
    names = {path.name for path in (TEMPLATES / locale).iterdir()}
    assert names == {f"{kind}.{part}" for kind in KINDS for part in PARTS}


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.relative_to(TEMPLATES).as_posix())
def test_no_template_reaches_out_of_the_mail(path: Path) -> None:
    """No address, link, image, font, form or script: a mail loads and links to nothing."""
    source = path.read_text(encoding="utf-8").lower()
    for token in ("://", "src=", "href", "url(", "@import", "@font-face", "mailto:", "|safe"):
        assert token not in source
    assert not re.search(r"<(a|img|link|script|iframe|form|object|svg|video|base)\b", source)


@pytest.mark.parametrize("locale", sorted(available()))
def test_html_is_accessible(locale: str) -> None:
    """The layout names its language, and each table says that it is no table of data."""
    page = (TEMPLATES / "base.html").read_text(encoding="utf-8")
    assert 'lang="{{ locale }}"' in page
    for layout in ("base.html", "code.html"):
        page = (TEMPLATES / layout).read_text(encoding="utf-8")
        assert page.count("<table") == page.count('<table role="presentation"')
    extended = {
        kind: re.findall(r'{% extends "(.+)" %}', (TEMPLATES / locale / kind).read_text("utf-8"))
        for kind in ("otp.html", "email_change.html", "email_changed.html")
    }
    assert extended == {
        "otp.html": ["code.html"],
        "email_change.html": [f"{locale}/otp.html"],
        "email_changed.html": ["base.html"],
    }
    assert '{% extends "base.html" %}' in (TEMPLATES / "code.html").read_text("utf-8")
