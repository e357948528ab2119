"""Fail-over: which provider is asked, which is passed over, and what the dispatcher hears."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from tests.support.mails import MESSAGE, hand_over
from tests.support.resend_server import API_KEY, Answer, resend_server
from tests.support.smtp_server import smtp_server
from watchword.mail.message import Message
from watchword.mail.ports import SendFailed, SendRefused
from watchword.senders import failover
from watchword.senders.failover import FailOver
from watchword.senders.resend import ResendSender
from watchword.senders.smtp import SmtpSender, SmtpServer


class Provider:
    """A provider that does as it is told: takes a mail, raises, or hangs."""

    def __init__(self, name: str = "one", does: Exception | str = "takes") -> None:
        self.name = name
        self.does = does
        self.calls = 0
        self.closed = False

    @asynccontextmanager
    async def send(self, message: Message) -> AsyncIterator[None]:
        self.calls += 1
        if isinstance(self.does, Exception):
            raise self.does
        if self.does == "hangs":
            await asyncio.Event().wait()
        yield

    async def close(self) -> None:
        self.closed = True


def pause(seconds: float) -> SendFailed:
    """The failure of a provider that wants to be left alone."""
    return SendFailed("429", retry_after=timedelta(seconds=seconds))


async def test_the_first_that_takes_it_is_the_only_one() -> None:
    """The order of WATCHWORD_MAIL__SENDERS holds."""
    one, two = Provider(), Provider("two")
    await hand_over(FailOver([one, two]), MESSAGE)
    assert (one.calls, two.calls) == (1, 0)


@pytest.mark.parametrize("error", [SendFailed("down"), SendRefused("550"), pause(60)])
async def test_whatever_the_first_says_the_next_is_tried(error: Exception) -> None:
    """Also when the first refused: providers have lists of their own."""
    one, two = Provider(does=error), Provider("two")
    await hand_over(FailOver([one, two]), MESSAGE)
    assert (one.calls, two.calls) == (1, 1)


async def test_refused_by_all_is_refused() -> None:
    """Then, and only then, the mail is given up; the words of both are kept."""
    both = FailOver([Provider(does=SendRefused("550")), Provider("two", SendRefused("422"))])
    with pytest.raises(SendRefused, match=r"one: 550\ntwo: 422"):
        await hand_over(both, MESSAGE)


@pytest.mark.parametrize("order", [1, -1])
async def test_refused_by_one_and_failed_by_the_other_is_for_later(order: int) -> None:
    """One may still take it."""
    providers = [Provider(does=SendRefused("550")), Provider("two", SendFailed("down"))][::order]
    with pytest.raises(SendFailed) as caught:
        await hand_over(FailOver(providers), MESSAGE)
    assert caught.value.retry_after is None


async def test_a_paused_provider_is_passed_over() -> None:
    """It said how long: until then mails go to the next one at once, then to it again."""
    one, two = Provider(does=pause(0.5)), Provider("two")
    both = FailOver([one, two])
    for _ in range(3):
        await hand_over(both, MESSAGE)
    assert (one.calls, two.calls) == (1, 3)
    one.does = "takes"
    await asyncio.sleep(0.55)
    await hand_over(both, MESSAGE)
    assert (one.calls, two.calls) == (2, 3)


async def test_when_all_are_paused_the_soonest_counts() -> None:
    """The dispatcher hears how long to wait, and nobody is called meanwhile."""
    one, two = Provider(does=pause(60)), Provider("two", pause(20))
    both = FailOver([one, two])
    for _ in range(2):
        with pytest.raises(SendFailed) as caught:
            await hand_over(both, MESSAGE)
        assert caught.value.retry_after is not None
        assert 19 < caught.value.retry_after.total_seconds() <= 20
    assert (one.calls, two.calls) == (1, 1)


async def test_a_failure_without_a_pause_leaves_the_wait_to_the_dispatcher() -> None:
    """One is paused for long, the other may be back at any time."""
    both = FailOver([Provider(does=pause(60)), Provider("two", SendFailed("down"))])
    with pytest.raises(SendFailed) as caught:
        await hand_over(both, MESSAGE)
    assert caught.value.retry_after is None


async def test_a_shorter_pause_does_not_end_a_longer_one() -> None:
    """Two calls at once, answered in the other order."""
    one = Provider(does=pause(60))
    both = FailOver([one])
    answers = [pause(60), pause(0)]

    @asynccontextmanager
    async def send(message: Message) -> AsyncIterator[None]:
        one.calls += 1
        error = answers.pop()
        await asyncio.sleep(0.01 * len(answers))
        raise error
        yield

    one.send = send  # type: ignore[method-assign]  # a script in place of one answer
    await asyncio.gather(*(hand_over(both, MESSAGE) for _ in range(2)), return_exceptions=True)
    with pytest.raises(SendFailed, match="paused"):
        await hand_over(both, MESSAGE)
    assert one.calls == 2


async def test_one_that_hangs_costs_one_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mail goes to the next one, and the following mails do not wait again."""
    monkeypatch.setattr(failover, "PROVIDER_TIMEOUT_SECONDS", 0.05)
    one, two = Provider(does="hangs"), Provider("two")
    both = FailOver([one, two])
    for _ in range(3):
        await hand_over(both, MESSAGE)
    assert (one.calls, two.calls) == (1, 3)


async def test_a_cancelled_send_is_no_failure_of_a_provider() -> None:
    """A process that stops does not go on with the next provider."""
    one, two = Provider(does="hangs"), Provider("two")
    task = asyncio.create_task(hand_over(FailOver([one, two]), MESSAGE))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert two.calls == 0


async def test_closing_closes_all() -> None:
    """Whatever each has open."""
    one, two = Provider(), Provider("two")
    await FailOver([one, two]).close()
    assert one.closed
    assert two.closed


async def test_a_quota_at_resend_makes_smtp_take_over() -> None:
    """With the real ones: one call to Resend finds out, then every mail leaves by SMTP."""
    async with resend_server() as http, smtp_server() as mail:
        both = FailOver(
            [
                ResendSender(API_KEY, base_url=http.base_url),
                SmtpSender(SmtpServer.parse(f"smtp://127.0.0.1:{mail.port}")),
            ]
        )
        http.errors.append(Answer(429, "daily_quota_exceeded"))
        for _ in range(3):
            await hand_over(both, MESSAGE)
        await both.close()
    assert http.errors == []
    assert http.keys == []
    assert len(mail.taken) == 3
