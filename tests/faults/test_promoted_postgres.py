"""What `watchword doctor` says of a promoted PostgreSQL: after a recovery, or a fail-over."""

from pathlib import Path

from tests.faults.killable_postgres import KillablePostgres, killable_postgres
from tests.support.postgres import fetch
from tests.support.processes import run
from watchword.doctor.database import examine_database
from watchword.doctor.findings import Level
from watchword.storage.pool import DatabaseSettings


async def _level(postgres: KillablePostgres) -> Level:
    settings = DatabaseSettings.model_validate({"url": postgres.url("watchword")})
    found = await examine_database(settings)
    (finding,) = (finding for finding in found if finding.check == "cluster")
    return finding.level


async def test_a_promoted_server_is_noticed_until_the_fence(folder: Path) -> None:
    """A crash and a restart are nothing to speak of; a promotion is, until `restore-fence`."""
    async with killable_postgres(folder) as postgres:
        assert await _level(postgres) is Level.OK
        postgres.kill()
        await postgres.stop()
        await postgres.start()
        assert await _level(postgres) is Level.OK
        await postgres.stop()
        (folder / "data/standby.signal").touch()
        await postgres.start()
        await fetch(postgres.url(), "SELECT pg_promote()")
        await fetch(postgres.url(), "CHECKPOINT")
        assert await _level(postgres) is Level.WARNING
        env = {"WATCHWORD_DATABASE__URL": postgres.url("watchword")}
        assert (await run("restore-fence", "--yes", env=env)).exit_code == 0
        assert await _level(postgres) is Level.OK
