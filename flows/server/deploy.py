"""Creates the deployments of prefect.yaml, and keeps which of their schedules are active."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import DeploymentSchedule

from features.errors import InputError

DEPLOYMENTS = Path("prefect.yaml")


def deploy_all(client: SyncPrefectClient, env: Mapping[str, str]) -> None:
    """Create or update all deployments; raises `InputError` if prefect.yaml is wrong.

    Prefect sets each schedule to what the file says. One that exists stays active or not, as it is
    on the server: a schedule that was resumed runs on after a restart.
    """
    before = {key: schedule.active for key, schedule in _schedules(client)}
    words = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(
        words, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        lines = done.stdout.rstrip().splitlines()
        raise InputError(f"{DEPLOYMENTS} cannot be deployed:", *lines)
    for key, schedule in _schedules(client):
        active = before.get(key, schedule.active)
        if active != schedule.active:
            client.update_deployment_schedule(key[0], schedule.id, active=active)


def _schedules(
    client: SyncPrefectClient,
) -> Iterator[tuple[tuple[UUID, str], DeploymentSchedule]]:
    """Yield each schedule of each deployment, with what stays the same when it is deployed again.

    That is its slug or, without one, its times.
    """
    for deployment in client.read_deployments():
        for schedule in deployment.schedules:
            name = schedule.slug or schedule.schedule.model_dump_json()
            yield (deployment.id, name), schedule
