"""What may be set for the audit."""

from datetime import timedelta

import pytest
from pydantic import ValidationError

from watchword.audit.model import AuditSettings


def test_events_are_kept_for_ninety_days() -> None:
    """The default."""
    assert AuditSettings().retention == timedelta(days=90)


@pytest.mark.parametrize("value", ["23h", "0s", "3651d"])
def test_less_than_a_day_is_no_audit(value: str) -> None:
    """Whoever comes in the morning has to find the night; ten years are the most."""
    with pytest.raises(ValidationError, match="retention"):
        AuditSettings.model_validate({"retention": value})
