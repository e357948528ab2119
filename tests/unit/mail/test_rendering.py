"""What a mail says, and what it can't be made to say."""

import inspect
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from uuid import UUID

import pytest

from watchword.crypto import parse_code
from watchword.mail.message import Message, MessageRejected, to_bytes
from watchword.mail.rendering import Renderer

ID = UUID("01890a5d-ac96-8774-bcce-b302099a8057")
CODES = ["012345", "0123456", "01234567", "012345678", "0123456789", "7K3MX9QPT2W4Z"]
BRANDS = [
    "Acme",
    "Acme, Inc. and Everybody Else Under One Roof, Really " * 2,
    "x" * 128,
    "漢字" * 50,
]


def otp_mail(
    brand: str = "Acme",
    *,
    code: str = "012345",
    lifetime: timedelta = timedelta(minutes=5),
    locale: str = "en",
    recipient: str = "ada@example.org",
    code_in_subject: bool = True,
) -> Message:
    """A code mail of a service with this name."""
    return Renderer(f"{brand} <no-reply@acme.example>", code_in_subject).code_mail(
        "otp",
        id=ID,
        recipient=recipient,
        code=code,
        lifetime=lifetime,
        locale=locale,
        date=datetime(2026, 1, 2, tzinfo=UTC),
    )


class Text(HTMLParser):
    """The texts of an HTML page, each as it is copied, and the tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)


@pytest.mark.parametrize("brand", BRANDS)
@pytest.mark.parametrize("code", CODES)
def test_the_code_stands_unbroken_everywhere(brand: str, code: str) -> None:
    """Subject, first line of the text and the HTML each hold the whole code in one piece."""
    message = otp_mail(brand, code=code)
    assert message.subject.startswith(f"{code} is your ")
    assert message.text.splitlines()[0].startswith(f"{code} is your ")
    assert code in Text(message.html).texts
    raw = to_bytes(message)
    assert f"\r\nSubject: {code} ".encode() in raw
    assert f"\r\n\r\n{code} is your ".encode() in raw


@pytest.mark.parametrize(
    ("locale", "said"), [("en", "Easier to type: "), ("de", "Leichter zu tippen: ")]
)
@pytest.mark.parametrize("code", CODES)
def test_a_long_code_also_stands_in_groups(code: str, locale: str, said: str) -> None:
    """Text and HTML repeat 13 characters in groups, which read back as the code; no digits."""
    message = otp_mail(code=code, locale=locale)
    in_html = "7K3M-X9QP-T2W4Z" in Text(message.html).texts
    in_text = f"{said}7K3M-X9QP-T2W4Z\n" in message.text
    assert in_html == in_text == (said in message.html) == (len(code) == 13)
    assert "7K3M-" not in message.subject
    grouped, plain = parse_code("7k3m-x9qp-t2w4z"), parse_code("7K3MX9QPT2W4Z")
    assert grouped == plain
    assert plain is not None


def test_the_code_can_stay_out_of_the_subject() -> None:
    """Then no notification shows it: neither the subject nor the preview line of the HTML."""
    message = otp_mail(code_in_subject=False)
    assert message.subject == "Your Acme sign-in code"
    assert "012345" in message.text.splitlines()[0]
    page = message.html
    preview = page[page.index("<body") : page.index("<table")]
    assert "It works once" in preview
    assert "012345" not in preview
    assert "012345" not in page[: page.index("<body")]


def test_the_mail_says_what_people_need() -> None:
    """What it is, how long it is valid, that it is a secret, what to do if it is a surprise."""
    message = otp_mail()
    for body in (message.text, " ".join(Text(message.html).texts)):
        said = " ".join(body.replace("\u00a0", " ").split())
        assert "sign-in code" in said
        assert "5 minutes" in said
        assert "Never share this code" in said
        assert "Nobody from Acme will ever ask you for it" in said
        assert "You did not ask for it? Then ignore this mail" in said


@pytest.mark.parametrize(
    ("lifetime", "said"),
    [
        (timedelta(minutes=1), "1 minute "),
        (timedelta(minutes=10), "10 minutes "),
        (timedelta(seconds=1), "1 second "),
        (timedelta(seconds=90), "90 seconds "),
        (timedelta(seconds=90, milliseconds=999), "90 seconds "),
    ],
)
def test_lifetimes_are_said_as_people_do(lifetime: timedelta, said: str) -> None:
    """Whole minutes as minutes, everything else as seconds, one of them in the singular."""
    message = otp_mail(lifetime=lifetime)
    assert said in message.text
    assert said.strip() in message.html


@pytest.mark.parametrize("locale", ["de", "de-CH", "DE", "de-Latn-AT-1996"])
@pytest.mark.parametrize("brand", BRANDS)
@pytest.mark.parametrize("code", CODES)
def test_a_german_mail(code: str, brand: str, locale: str) -> None:
    """The same in German: the code unbroken in front, and everything that people need."""
    message = otp_mail(brand, code=code, locale=locale)
    assert message.locale == "de"
    assert message.subject.startswith(f"{code} ist Ihr ")
    assert message.text.splitlines()[0].startswith(f"{code} ist Ihr Anmeldecode für ")
    assert code in Text(message.html).texts
    assert f"\r\nSubject: {code} ".encode() in to_bytes(message)
    assert b"\r\nContent-Language: de\r\n" in to_bytes(message)
    assert '<html lang="de"' in message.html
    for body in (message.text, " ".join(Text(message.html).texts)):
        said = " ".join(body.replace("\u00a0", " ").split())
        assert "5 Minuten" in said
        assert "Geben Sie diesen Code an niemanden weiter" in said
        assert "wird Sie je danach fragen" in said
        assert "Sie haben keinen Code angefordert? Dann beachten Sie diese E-Mail nicht" in said


def test_a_german_subject_without_the_code() -> None:
    """The setting holds in every language: neither the subject nor the preview line shows it."""
    message = otp_mail(locale="de", code_in_subject=False)
    assert message.subject == "Ihr Anmeldecode für Acme"
    page = message.html
    assert "012345" not in page[: page.index("<table")]


@pytest.mark.parametrize(
    ("lifetime", "said"),
    [
        (timedelta(minutes=1), " 1 Minute "),
        (timedelta(minutes=10), " 10 Minuten "),
        (timedelta(seconds=1), " 1 Sekunde "),
        (timedelta(seconds=90), " 90 Sekunden "),
    ],
)
def test_german_lifetimes(lifetime: timedelta, said: str) -> None:
    """Singular and plural."""
    message = otp_mail(lifetime=lifetime, locale="de")
    assert said in message.text
    assert said.strip() in message.html


def test_equal_inputs_give_equal_bytes() -> None:
    """Two renderers with one configuration, as on two replicas, write the same mail."""
    assert to_bytes(otp_mail()) == to_bytes(otp_mail())


def test_nothing_of_a_request_can_reach_a_mail() -> None:
    """A mail is made of these values alone: there is no way in for a header, a name or a link."""
    taken = set(inspect.signature(Renderer.code_mail).parameters) - {"self"}
    assert taken == {"kind", "id", "recipient", "code", "lifetime", "locale", "date"}
    other = otp_mail(recipient="eve@evil.example")
    assert (other.subject, other.text, other.html) == (
        otp_mail().subject,
        otp_mail().text,
        otp_mail().html,
    )


HOSTILE = "\"><script>alert(1)</script>&{{ code }}{% raw %}' onload=x"


def test_a_hostile_name_stays_text_in_html() -> None:
    """Markup and template syntax in the service's name are shown as they are written."""
    quoted = HOSTILE.replace('"', '\\"')
    message = Renderer("Acme <a@acme.example>").code_mail(
        "otp",
        id=ID,
        recipient="ada@example.org",
        code="012345",
        lifetime=timedelta(minutes=5),
        locale="en",
        date=datetime(2026, 1, 2, tzinfo=UTC),
    )
    with pytest.raises(MessageRejected):
        Renderer(f'"{quoted}" <a@acme.example>')
    # Angle brackets don't get through the setting; what does is escaped all the same.
    hostile = otp_mail('"&{{ code }}{% raw %}\' onload=x"')
    assert Text(hostile.html).tags == Text(message.html).tags
    assert "&amp;{{ code }}{% raw %}&#39; onload=x" in hostile.html
    assert hostile.subject == "012345 is your &{{ code }}{% raw %}' onload=x code"


def test_angle_brackets_are_escaped() -> None:
    """The HTML template escapes even what the setting would refuse."""
    renderer = Renderer("Acme <a@acme.example>")
    renderer._brand = HOSTILE  # no public way leads there, which is the other half of the defence
    page = renderer.code_mail(
        "otp",
        id=ID,
        recipient="ada@example.org",
        code="012345",
        lifetime=timedelta(minutes=5),
        locale="en",
        date=datetime(2026, 1, 2, tzinfo=UTC),
    ).html
    assert "script" not in Text(page).tags
    assert "&lt;script&gt;" in page


def test_without_a_name_the_domain_speaks() -> None:
    """A bare address as sender calls the service by its domain."""
    message = Renderer("no-reply@acme.example").code_mail(
        "otp",
        id=ID,
        recipient="ada@example.org",
        code="012345",
        lifetime=timedelta(minutes=5),
        locale="en",
        date=datetime(2026, 1, 2, tzinfo=UTC),
    )
    assert message.subject == "012345 is your acme.example code"


@pytest.mark.parametrize("locale", ["en-GB", "xx", "not a tag", "", "../en"])
def test_a_language_without_templates_falls_back(locale: str) -> None:
    """A row that a newer replica wrote, or a damaged one, is mailed in English."""
    assert otp_mail(locale=locale).locale == "en"


@pytest.mark.parametrize(
    "code", ["", "12345", "123 456", "12345678901", "012345\n", "\uff17" * 6, "7k3mx9qpt2w4z"]
)
def test_a_code_of_no_accepted_form_is_refused(code: str) -> None:
    """A code that could break a line or a copy is refused, and not repeated."""
    with pytest.raises(ValueError, match="`code`") as caught:
        otp_mail(code=code)
    assert not code or code not in str(caught.value)


def test_a_lifetime_has_to_be_one() -> None:
    """A mail that has no time left is a mistake of the one who sends it."""
    with pytest.raises(ValueError, match="`lifetime`"):
        otp_mail(lifetime=timedelta(0))


NEW_KINDS = {
    "en": ("123456 confirms your new address for Acme", "Your Acme address was changed"),
    "de": (
        "123456 bestätigt Ihre neue Adresse für Acme",
        "Ihre Adresse für Acme wurde geändert",
    ),
}


@pytest.mark.parametrize("locale", NEW_KINDS)
def test_a_change_of_address_has_words_of_its_own(locale: str) -> None:
    """The code unbroken in the subject and in the first line; the notice has neither a code nor an
    address, a link nor an image.
    """
    renderer = Renderer("Acme <a@acme.example>")
    date = datetime(2026, 1, 2, tzinfo=UTC)
    code = renderer.code_mail(
        "email_change",
        id=ID,
        recipient="ada@example.org",
        code="123456",
        lifetime=timedelta(minutes=5),
        locale=locale,
        date=date,
    )
    notice = renderer.email_changed_mail(
        id=ID, recipient="ada@example.org", locale=locale, date=date
    )
    assert (code.subject, notice.subject) == NEW_KINDS[locale]
    assert code.text.startswith("123456 ")
    assert "123456" in Text(code.html).texts
    assert "sign-in" not in code.html + code.text
    assert "Anmeldecode" not in code.html + code.text
    for message in (code, notice):
        assert message.locale == locale
        assert not {"a", "img", "link", "script"} & set(Text(message.html).tags)
    assert not re.search(r"\d{6}|@", notice.text)
    assert 'class="code"' not in notice.html
