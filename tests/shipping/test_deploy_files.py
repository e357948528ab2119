"""What deploys Watchword says the same as the program: names, times, users and paths.

`make lint-deploy` checks the form of these files; here is what no schema knows.
"""

import re
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from watchword.config import Config, load_config
from watchword.jobs.mail_dispatcher import DRAIN_SECONDS
from watchword.keyring import generate_secrets
from watchword.settings import parse_duration
from watchword.storage.pool import CLOSE_SECONDS

ROOT = Path(__file__).parents[2]
UNITS = ("watchword.service", "watchword-migrate.service")
# Where nobody but an operator on the machine, in the container or in the pod comes.
ADMIN = "127.0.0.1:50052"
# What comes after the calls: mails under way (jobs/mail_dispatcher.py), the pool (storage/pool.py).
CLOSING = timedelta(seconds=DRAIN_SECONDS + CLOSE_SECONDS)
SECRETS = {
    "database-url": "postgresql://watchword:x@db.example.com/watchword?sslmode=verify-full",
    "smtp-url": "smtp://watchword:x@smtp.example.com",
}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The services of the compose file, `.env` filled in."""
    text = (ROOT / "docker-compose.yml").read_text()
    return yaml.safe_load(text.replace("${POSTGRES_PASSWORD:-}", "from-env"))["services"]


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    """The objects of the Kubernetes manifest, by kind."""
    objects = yaml.safe_load_all((ROOT / "deploy/kubernetes.yaml").read_text())
    return {found["kind"]: found for found in objects}


@pytest.fixture(scope="module")
def pod(manifest: dict[str, Any]) -> dict[str, Any]:
    """What the Deployment runs."""
    return manifest["Deployment"]["spec"]["template"]["spec"]


@pytest.fixture
def secret_files(tmp_path: Path) -> Path:
    """A folder with a file for each secret, as docs/deployment.md makes it."""
    made = generate_secrets()
    contents = SECRETS | {
        "keys": made["WATCHWORD_SECRETS__KEYS"],
        "index-key": made["WATCHWORD_SECRETS__INDEX_KEY"],
        "callers": made["WATCHWORD_CALLERS__KEYS"],
    }
    for name, text in contents.items():
        (tmp_path / name).write_text(text + "\n")
    return tmp_path


def configured(environ: dict[str, str]) -> Config:
    """Reads an environment as `serve` does: a name or a value that it would refuse raises."""
    return load_config(environ, required=["MAIL__SENDERS"])


def stages() -> list[str]:
    """The Dockerfile's stages, comments and line breaks out."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    return re.split(r"^(?=FROM )", text.replace("\\\n", " "), flags=re.MULTILINE)[1:]


def unit(name: str) -> list[tuple[str, str]]:
    """The settings of a systemd unit, in order."""
    text = (ROOT / "deploy" / name).read_text()
    return [(line[0], line[1]) for line in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)]


def test_compose_starts_a_server_that_accepts_its_environment(compose: dict[str, Any]) -> None:
    """With the lines of `secrets generate` the server's variables are known and complete."""
    config = configured(generate_secrets() | compose["watchword"]["environment"])
    assert (config.api.address, config.admin.address) == ("0.0.0.0:50051", ADMIN)
    assert compose["migrate"]["environment"].items() <= compose["watchword"]["environment"].items()


def test_compose_publishes_on_loopback_alone(compose: dict[str, Any]) -> None:
    """The API speaks plain text and the mail page shows codes: neither leaves the machine."""
    published = [port for service in compose.values() for port in service.get("ports", ())]
    assert len(published) == 2
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_compose_migrates_before_it_serves(compose: dict[str, Any]) -> None:
    """The server waits for a healthy database and for migrations that ended well."""
    conditions = {
        name: wait["condition"] for name, wait in compose["watchword"]["depends_on"].items()
    }
    assert conditions["postgres"] == "service_healthy"
    assert conditions["migrate"] == "service_completed_successfully"
    assert compose["migrate"]["command"] == ["migrate"]


def test_compose_has_no_secret_and_no_default_for_one(compose: dict[str, Any]) -> None:
    """Keys come from `.env`, which neither git nor the image build sees."""
    for service in compose.values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|KEY|URL", name):
                assert "from-env" in value or value == "smtp://mailpit:1025"
    assert "*.env" in (ROOT / ".gitignore").read_text().splitlines()
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = [rule for rule in rules if rule.startswith("!")]
    assert rules[1] == "*"
    assert not [rule for rule in allowed if re.search(r"!\.|\*|env|dist|target", rule)]


def test_the_image_runs_as_a_number_that_is_not_root(pod: dict[str, Any]) -> None:
    """The last stage sets the user by number, the same as the manifest does."""
    (user,) = re.findall(r"^USER (\d+):\1$", stages()[-1], re.MULTILINE)
    assert int(user) == pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["runAsNonRoot"] is True


def test_the_image_starts_the_server_and_watches_it() -> None:
    """`watchword serve` is process 1, gets SIGTERM, and its own command says whether it is well."""
    last = stages()[-1]
    for line in (
        'ENTRYPOINT ["watchword"]',
        'CMD ["serve"]',
        "STOPSIGNAL SIGTERM",
    ):
        assert line in last.splitlines()
    assert re.search(r'^HEALTHCHECK .*CMD \["watchword", "healthcheck"\]$', last, re.MULTILINE)


def test_images_are_named_by_version(compose: dict[str, Any]) -> None:
    """No image is `latest`, said or unsaid, but the one that is built here."""
    names = re.findall(r"^FROM (\S+)", "\n".join(stages()), re.MULTILINE)
    names += [service["image"] for service in compose.values() if "build" not in service]
    assert len(names) == 5
    assert all(re.search(r":v?\d+[\w.-]*$", name) for name in names)


def test_the_image_installs_what_is_locked() -> None:
    """Each `pip install` checks hashes, or takes our own wheels and looks for nothing else."""
    installs = re.findall(r"pip\S*(?: --python \S+)? install .*", "\n".join(stages()))
    assert len(installs) == 3
    for line in installs:
        assert "--require-hashes -r requirements/" in line or "--no-index --no-deps" in line
    assert "cargo install" not in "\n".join(stages())


@pytest.mark.parametrize("name", ["runtime", "build"])
def test_the_images_locks_are_part_of_the_developers(name: str) -> None:
    """What an image gets is what the tests ran with."""
    pin = re.compile(r"^[\w.-]+==[^\s;]+", re.MULTILINE)
    locked = set(pin.findall((ROOT / f"requirements/{name}.txt").read_text()))
    assert locked
    assert locked <= set(pin.findall((ROOT / "requirements/dev.txt").read_text()))


def test_kubernetes_starts_a_server_that_accepts_its_environment(
    pod: dict[str, Any], secret_files: Path
) -> None:
    """Every variable is known, every secret is a file, and pods get the time that they may take."""
    (container,), (migrate,) = pod["containers"], pod["initContainers"]
    (mount,) = (found for found in container["volumeMounts"] if found["name"] == "secrets")
    environ = {
        variable["name"]: variable["value"].replace(mount["mountPath"], str(secret_files))
        for variable in container["env"]
    }
    config = configured(environ)
    assert config.admin.address == ADMIN
    needed = config.api.shutdown_delay + config.api.drain_timeout + CLOSING
    assert timedelta(seconds=pod["terminationGracePeriodSeconds"]) > needed
    port = int(config.api.address.rpartition(":")[2])
    assert container["readinessProbe"]["grpc"]["port"] == port
    assert container["ports"] == [{"name": "grpc", "containerPort": port}]
    assert migrate["args"] == ["migrate"]
    assert (migrate["image"], migrate["env"]) == (container["image"], container["env"][:1])


def test_kubernetes_gives_its_containers_no_rights(
    manifest: dict[str, Any], pod: dict[str, Any]
) -> None:
    """No capability, no way to gain one, nothing writable, no token of the cluster."""
    assert manifest["Deployment"]["spec"]["replicas"] == 2
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"] + pod["initContainers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }


def test_the_unit_starts_a_server_that_accepts_its_environment(secret_files: Path) -> None:
    """Every variable is known, every `%d/NAME` is a loaded credential, and stopping has time."""
    settings = unit("watchword.service")
    loaded = {value.partition(":")[0] for name, value in settings if name == "LoadCredential"}
    assert loaded == {path.name for path in secret_files.iterdir()}
    environ = dict(
        value.replace("%d", str(secret_files)).split("=", 1)
        for name, value in settings
        if name == "Environment"
    )
    example = (ROOT / "deploy/watchword.env").read_text()
    environ |= dict(re.findall(r'^(\w+)="?(.*?)"?$', example, re.MULTILINE))
    config = configured(environ)
    assert config.admin.address == ADMIN
    stopping = parse_duration(dict(settings)["TimeoutStopSec"] + "s")
    assert stopping > config.api.shutdown_delay + config.api.drain_timeout + CLOSING


def test_the_unit_lets_the_gate_be_courteous() -> None:
    """gate/src/courtesy.rs needs a call of `@resources`, allowed after those are taken out."""
    filters = [value for name, value in unit("watchword.service") if name == "SystemCallFilter"]
    assert filters.index("sched_setscheduler") > filters.index("~@privileged @resources")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="hint: needs systemd-analyze")
@pytest.mark.parametrize("name", UNITS)
def test_systemd_understands_the_unit(name: str, tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say of it."""
    text = (ROOT / "deploy" / name).read_text()
    # The program has to be there.
    copy = tmp_path / name
    copy.write_text(text.replace("/opt/watchword/bin/watchword", "/bin/true"))
    command = ["systemd-analyze", "verify", "--recursive-errors=no", copy]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
