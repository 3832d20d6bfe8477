"""Where jobs run: threads or processes of this machine, or a Dask or Ray cluster, through joblib and by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, TypeVar, get_args

from router_gateway.core.errors import ConfigError

Backend = Literal["threads", "processes", "dask", "ray"]
BACKENDS: tuple[str, ...] = get_args(Backend)

_JOBLIB = {"threads": "threading", "processes": "loky", "dask": "dask", "ray": "ray"}

Job = TypeVar("Job")


def run_all(
    work: Callable[[Job], Any],
    jobs: Sequence[Job],
    *,
    backend: Backend = "processes",
    workers: int = 2,
    scheduler: str | None = None,
    shared: Sequence[object] = (),
) -> Iterator[tuple[int, Any]]:
    """(position in `jobs`, `work(job)`) as they finish.

    scheduler : address of a Dask or Ray cluster that runs already; None starts one here, of `workers` processes
    shared : large objects that many jobs refer to; a Dask cluster gets them once
    Raises ConfigError where the backend's library is not installed.
    """
    if not jobs:
        return  # no cluster for nothing
    from joblib import Parallel, delayed

    with _configured(backend, workers, scheduler, shared), warnings.catch_warnings():
        # loky replaces a worker that has grown by 300 MB, which a policy's memory may well do, and says so
        warnings.filterwarnings("ignore", message="A worker stopped", category=UserWarning)
        pool = Parallel(return_as="generator_unordered", pre_dispatch="2*n_jobs", batch_size=1)
        yield from pool(delayed(_numbered)(work, at, job) for at, job in enumerate(jobs))


def _numbered(work: Callable[[Job], Any], at: int, job: Job) -> tuple[int, Any]:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # as many jobs as cores: a job that also used all cores would only wait
        return at, work(job)


@contextmanager
def _configured(backend: Backend, workers: int, scheduler: str | None, shared: Sequence[object]) -> Iterator[None]:
    from joblib import parallel_config

    options: dict[str, Any] = {"n_jobs": workers}
    with ExitStack() as stack:
        if backend == "dask":
            stack.enter_context(_dask(workers, scheduler))
            options |= {"n_jobs": -1, "scatter": list(shared)}
        elif backend == "ray":
            _ray(workers, scheduler)
            options |= {"n_jobs": -1}
        stack.enter_context(parallel_config(_JOBLIB[backend], **options))
        yield


@contextmanager
def _dask(workers: int, scheduler: str | None) -> Iterator[None]:
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise ConfigError(
            ["--backend dask needs dask.distributed"], hint="pip install 'router-gateway[evaluation]'"
        ) from None
    with ExitStack() as stack:
        address: Any = scheduler
        if address is None:
            address = stack.enter_context(
                LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None)
            )
        stack.enter_context(Client(address))
        yield


def _ray(workers: int, scheduler: str | None) -> None:
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError:
        raise ConfigError(["--backend ray needs Ray"], hint="pip install ray") from None
    if not ray.is_initialized():
        ray.init(address=scheduler) if scheduler else ray.init(num_cpus=workers, include_dashboard=False)
    register_ray()
