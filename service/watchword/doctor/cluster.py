"""Whether a backup was restored, or a standby took over, and nobody has said so."""

from collections.abc import Sequence

from watchword.doctor.findings import Finding, ok, warning
from watchword.storage.inspection import Inspection


async def cluster(inspection: Inspection) -> Sequence[Finding]:
    """The database is where it was last confirmed to be."""
    present, confirmed = await inspection.cluster(), await inspection.confirmed_cluster()
    if present is None:
        return [ok("cannot be told: this role may not ask for `pg_control_system`")]
    if confirmed is None:
        return [ok("is not recorded yet; `watchword migrate` does it")]
    if present == confirmed.cluster:
        return [ok("is the one that was confirmed")]
    what = (
        f"timeline {present.timeline_id} instead of {confirmed.cluster.timeline_id}"
        if present.system_identifier == confirmed.cluster.system_identifier
        else "another cluster"
    )
    return [
        warning(
            "database was restored or failed over since "
            f"{confirmed.time:%Y-%m-%d %H:%M} UTC ({what})",
            "run `watchword restore-fence`; after a fail-over that lost nothing, with "
            "`--nothing-lost`",
        )
    ]
