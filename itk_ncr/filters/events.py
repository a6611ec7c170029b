"""Events, progress, abort and errors of the filter."""

from __future__ import annotations

import itertools
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any


class Observers:
    """Python observers of a C++ object.

    ITK counts the reference to an observer where Python's garbage collector cannot see it, so a
    callable that knows the filter it watches would keep both alive for ever. Here ITK only gets a
    :class:`_Relay` with a weak reference; the callables stay in a plain dictionary.
    """

    def __init__(self) -> None:
        self._callables: dict[int, Callable[[], Any]] = {}
        self._keys: dict[int, int] = {}  # tag of ITK -> key of the callable
        self._counter = itertools.count()
        self._error: BaseException | None = None

    def add(self, subject: Any, event: Any, command: Any) -> int:
        """Watch ``event`` of the ITK object ``subject``; returns ITK's tag."""
        import itk

        if isinstance(command, itk.Command) or not callable(command):
            return int(subject.AddObserver(event, command))
        key = next(self._counter)
        self._callables[key] = command
        tag = int(subject.AddObserver(event, _Relay(self, key)))
        self._keys[tag] = key
        return tag

    def remove(self, subject: Any, tag: int) -> None:
        """Stop one observer."""
        subject.RemoveObserver(tag)
        self._callables.pop(self._keys.pop(tag, -1), None)

    def clear(self, subject: Any) -> None:
        """Stop all observers."""
        subject.RemoveAllObservers()
        self._callables.clear()
        self._keys.clear()

    def call(self, key: int) -> None:
        """Run one callable; what it raises is kept for :meth:`reraise`, as ITK would lose it."""
        command = self._callables.get(key)
        if command is None:
            return
        try:
            command()
        except BaseException as error:  # SystemExit inside ITK would end the process
            if self._error is None:
                self._error = error

    def reraise(self) -> None:
        """Raise what an observer raised since the last time."""
        error, self._error = self._error, None
        if error is not None:
            raise error


class CoreEvents:
    """Events, progress and abort of a filter are those of its core: the stage that works."""

    @property
    def _core(self) -> Any:
        raise NotImplementedError

    @property
    def _observers(self) -> Observers:
        raise NotImplementedError

    def AddObserver(self, event: Any, command: Any) -> int:
        """Call ``command()`` at an event.

        Parameters
        ----------
        event : itk.EventObject
            ``itk.ProgressEvent()``, StartEvent, EndEvent or AbortEvent.
        command : callable or itk.Command
            An exception of a Python callable stops the registration and leaves :meth:`Update`.

        Returns
        -------
        int
            Tag for :meth:`RemoveObserver`.
        """
        return self._observers.add(self._core, event, command)

    def RemoveObserver(self, tag: int) -> None:
        """Remove an observer.

        Parameters
        ----------
        tag : int
            Return value of :meth:`AddObserver`.
        """
        self._observers.remove(self._core, tag)

    def RemoveAllObservers(self) -> None:
        """Stop all observers."""
        self._observers.clear(self._core)

    def HasObserver(self, event: Any) -> bool:
        """Whether an event has an observer.

        Parameters
        ----------
        event : itk.EventObject
            As for :meth:`AddObserver`.

        Returns
        -------
        bool
            True if an observer would be called.
        """
        return bool(self._core.HasObserver(event))

    def GetProgress(self) -> float:
        """Progress of the registration, in [0, 1]."""
        return float(self._core.GetProgress())

    def SetAbortGenerateData(self, abort: bool) -> None:
        """Ask the running registration to stop: its Update raises RegistrationAborted."""
        self._core.SetAbortGenerateData(abort)

    def AbortGenerateDataOn(self) -> None:
        """:meth:`SetAbortGenerateData` with True."""
        self.SetAbortGenerateData(True)

    def AbortGenerateDataOff(self) -> None:
        """:meth:`SetAbortGenerateData` with False."""
        self.SetAbortGenerateData(False)

    def GetAbortGenerateData(self) -> bool:
        """Whether the registration has been asked to stop."""
        return bool(self._core.GetAbortGenerateData())


class _Relay:
    """Command held by ITK in place of the caller's callable."""

    def __init__(self, observers: Observers, key: int) -> None:
        self._observers = weakref.ref(observers)
        self._key = key

    def __call__(self) -> None:
        observers = self._observers()
        if observers is not None:
            observers.call(self._key)


class StageFailed(Exception):
    """Tells ITK that a stage failed; the error itself is in the filter's ``last_exception``."""


_quiet_lock = threading.Lock()
_quiet_depth = 0
_usual_hook: Callable[..., Any] = sys.excepthook


def _hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> Any:
    if not issubclass(kind, StageFailed):
        return _usual_hook(kind, error, traceback)
    return None


@contextmanager
def unprinted() -> Iterator[None]:
    """Within, ITK does not print a :class:`StageFailed`: the caller is about to get the original.

    ITK prints the errors of its Python callables through ``sys.excepthook``, which is why that is
    exchanged, for all threads together and as long as one of them is inside.
    """
    global _quiet_depth, _usual_hook
    with _quiet_lock:
        if _quiet_depth == 0:
            _usual_hook, sys.excepthook = sys.excepthook, _hook
        _quiet_depth += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_depth -= 1
            if _quiet_depth == 0 and sys.excepthook is _hook:
                sys.excepthook = _usual_hook
