"""What threads and processes must know of one another: turns, BLAS's threads, forks; and reading ahead."""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

_T = TypeVar("_T")
_lock = threading.Lock()
_turn = threading.RLock()
_inside = 0  # how many are in `one_blas_thread`
_limits: contextlib.ExitStack | None = None
_forked = False


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """BLAS works with one thread while any thread of this process is in here.

    The limit is the whole process's: the last to leave takes it back, whoever set it.
    """
    # Only what is loaded is limited, and SciPy has a BLAS of its own, which JAX loads at its first SVD.
    import scipy.linalg  # noqa: F401

    global _inside, _limits
    with _lock:
        if _inside == 0:
            _limits = contextlib.ExitStack()
            _limits.enter_context(_libraries(len(sys.modules)).limit(limits=1, user_api="blas"))
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0 and _limits is not None:
                _limits.close()


@functools.lru_cache(maxsize=1)
def _libraries(n_modules: int) -> ThreadpoolController:
    """The libraries of threads that are loaded: looked for anew where modules came since."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def in_turn(function: Callable) -> Callable:
    """The function, which threads of this process call one after another.

    Each may then plan with all memory and cores, and processes that joined do the same in the same order.
    """

    @functools.wraps(function)
    def called(*args, **kwargs):
        check_not_forked()
        with _turn:
            return function(*args, **kwargs)

    return called


def read_ahead(items: Iterable[_T], ahead: int = 1) -> Iterator[_T]:
    """The items, made in a thread of their own up to `ahead` before they are asked for.

    Raises what making an item raised, where that item is asked for.
    """
    ready: queue.Queue = queue.Queue(ahead)
    stop = threading.Event()

    def put(entry) -> bool:
        while not stop.is_set():
            try:
                ready.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((None, StopIteration()))
        except BaseException as error:  # handed on to whoever asks for the next item
            put((None, error))

    thread = threading.Thread(target=work, name="read ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        stop.set()
        if threading.current_thread() is not thread:  # garbage is collected in any thread
            thread.join()


def check_not_forked() -> None:
    """Raises: RuntimeError in a process that was forked after JAX had started, where JAX waits for ever."""
    if _forked:
        raise RuntimeError(
            "this process was forked from one in which JAX had started, whose threads it lacks: JAX would "
            "wait for them for ever. Start the pool with multiprocessing.get_context('spawn'), or before "
            "anything of JAX is called"
        )


def _after_fork() -> None:
    """In the child: whether JAX had its devices, and so its threads, in the parent."""
    global _forked, _inside, _lock, _turn
    _lock, _turn, _inside = threading.Lock(), threading.RLock(), 0
    bridge = sys.modules.get("jax._src.xla_bridge")
    # JAX has no public function that asks without starting them.
    started = getattr(bridge, "backends_are_initialized", lambda: bridge is not None)
    _forked = _forked or bool(started())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
