"""Fail-over: providers in order, until one takes the mail.

A provider that asked to be left alone (`retry_after`), or that hung, is passed over for that long,
so that mails go to the next one at once. The pauses are this process's and in memory: after a
restart one call finds out anew.

A mail whose answer was lost may leave a second time by the next provider: a person with two mails
that hold the same code is better off than one with none.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Final

import structlog

from watchword.mail.message import Message
from watchword.mail.ports import Sender, SendFailed, SendRefused

# More than the providers' own limits, which know better words for what was slow.
PROVIDER_TIMEOUT_SECONDS: Final = 10.0
HANG_PAUSE: Final = timedelta(seconds=10)

_log = structlog.get_logger(__name__)


class FailOver:
    """Several providers as one sender."""

    name: Final = "failover"

    def __init__(self, providers: Sequence[Sender]) -> None:
        """Takes at least one, the preferred one first."""
        assert providers, "a mail needs somebody to take it"
        self._providers = tuple(providers)
        # By the loop's clock, and by position: one provider may be there twice.
        self._paused_until = [0.0] * len(self._providers)

    async def close(self) -> None:
        """Closes every provider."""
        for provider in self._providers:
            await provider.close()

    @asynccontextmanager
    async def send(self, message: Message) -> AsyncIterator[None]:
        """Sends by the first that takes it; SendRefused only when every one has refused it.

        SendFailed has a `retry_after` when all that may still take the mail are paused: until the
        first of them is back.
        """
        async with AsyncExitStack() as taken:
            await self._hand_over(message, taken)
            yield

    async def _hand_over(self, message: Message, taken: AsyncExitStack) -> None:
        errors: list[SendFailed | SendRefused] = []
        for place, provider in enumerate(self._providers):
            error = await self._try(place, provider, message, taken)
            if error is None:
                return
            errors.append(error)
        words = "\n".join(
            f"{provider.name}: {error}"
            for provider, error in zip(self._providers, errors, strict=True)
        )
        failures = [error for error in errors if isinstance(error, SendFailed)]
        if not failures:
            raise SendRefused(words)
        pauses = [error.retry_after for error in failures if error.retry_after is not None]
        raise SendFailed(words, retry_after=min(pauses) if len(pauses) == len(failures) else None)

    async def _try(
        self, place: int, provider: Sender, message: Message, taken: AsyncExitStack
    ) -> SendFailed | SendRefused | None:
        """Returns why this provider did not take the mail, None if it did."""
        loop = asyncio.get_running_loop()
        pause = self._paused_until[place] - loop.time()
        if pause > 0:
            return SendFailed("paused", retry_after=timedelta(seconds=pause))
        error: SendFailed | SendRefused
        try:
            async with asyncio.timeout(PROVIDER_TIMEOUT_SECONDS):
                await taken.enter_async_context(provider.send(message))
            return None
        except TimeoutError:
            error = SendFailed("took too long", retry_after=HANG_PAUSE)
        except (SendFailed, SendRefused) as caught:
            error = caught
        if isinstance(error, SendFailed) and error.retry_after is not None:
            until = loop.time() + error.retry_after.total_seconds()
            self._paused_until[place] = max(self._paused_until[place], until)
        _log.warning("sender failed", sender=provider.name, outbox_id=message.id, error=str(error))
        return error
