"""Where jobs run: threads or processes of this machine, or a Dask or Ray cluster, through joblib and by name."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from router_gateway.core.errors import ConfigError

Backend = Literal["threads", "processes", "dask", "ray"]
BACKENDS: tuple[str, ...] = get_args(Backend)

_RAY_JOBS_A_WORKER = 8
_JOBLIB = {"threads": "threading", "processes": "loky", "dask": "dask", "ray": "ray"}

Job = TypeVar("Job")
Shared = TypeVar("Shared")

_HELD = 2  # shared objects that a process holds at a time: jobs come set by set


def run_sharing(
    work: Callable[[Job, Shared], Any],
    jobs: Sequence[tuple[str, Job]],
    shared: Mapping[str, Shared],
    *,
    backend: Backend = "processes",
    workers: int = 2,
    scheduler: str | None = None,
) -> Iterator[tuple[int, Any]]:
    """`run_all` of `work(job, shared[name])` for jobs (name, job).

    Processes read what is shared from a file, once, its arrays mapped read-only; a cluster gets it once. To send it
    with every job takes longer than many a job.
    """
    if not jobs:
        return
    with ExitStack() as stack:
        calls: list[tuple[Any, ...]]
        if backend == "processes":
            import joblib

            folder = stack.enter_context(tempfile.TemporaryDirectory())
            files = {name: str(Path(folder) / f"{number}.joblib") for number, name in enumerate(shared)}
            for name, file in files.items():
                joblib.dump(shared[name], file)
            calls = [(_with_file, work, job, files[name]) for name, job in jobs]
        else:
            calls = [(work, job, shared[name]) for name, job in jobs]
        yield from _run(calls, backend=backend, workers=workers, scheduler=scheduler, shared=list(shared.values()))


def _with_file(work: Callable[[Any, Any], Any], job: object, file: str) -> Any:
    return work(job, _held(file))


@lru_cache(maxsize=_HELD)
def _held(file: str) -> Any:
    import joblib

    return joblib.load(file, mmap_mode="r")


def run_all(
    work: Callable[[Job], Any],
    jobs: Sequence[Job],
    *,
    backend: Backend = "processes",
    workers: int = 2,
    scheduler: str | None = None,
) -> Iterator[tuple[int, Any]]:
    """(position in `jobs`, `work(job)`) as they finish.

    scheduler : address of a Dask or Ray cluster that runs already; None starts one here, of `workers` processes
    Raises ConfigError where the backend's library is not installed.
    """
    calls = [(work, job) for job in jobs]
    yield from _run(calls, backend=backend, workers=workers, scheduler=scheduler, shared=())


def _run(
    calls: Sequence[tuple[Any, ...]], *, backend: Backend, workers: int, scheduler: str | None, shared: Sequence[object]
) -> Iterator[tuple[int, Any]]:
    """(position, result) of calls (function, *arguments)."""
    if not calls:
        return  # no cluster for nothing
    from joblib import Parallel, delayed

    with _configured(backend, workers, scheduler, shared), warnings.catch_warnings():
        # loky replaces a worker that has grown by 300 MB, which a policy's memory may well do, and says so
        warnings.filterwarnings("ignore", message="A worker stopped", category=UserWarning)
        ready = [delayed(_numbered)(at, *call) for at, call in enumerate(calls)]
        if (
            backend == "ray"
        ):  # its backend gives results as lists only: by a few jobs a worker, so that they can be kept
            for start in range(0, len(ready), few := _RAY_JOBS_A_WORKER * workers):
                yield from Parallel(batch_size=1)(ready[start : start + few])
            return
        yield from Parallel(return_as="generator_unordered", pre_dispatch="2*n_jobs", batch_size=1)(ready)


def _numbered(at: int, work: Callable[..., Any], *arguments: Any) -> tuple[int, Any]:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # as many jobs as cores: a job that also used all cores would only wait
        return at, work(*arguments)


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
