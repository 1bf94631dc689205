"""Autotuner: chooses the length and thread count of each compiled call from timings."""

from collections import deque

__all__ = ["Pace"]


class Pace:
    """Plans compiled calls: how long each may be, and on how many threads.

    A call lasts a tenth of a second, so that Ctrl-C is handled between two calls. Threads wait for
    one another twice per mini-batch: if another process occupies one of the cores, that can cost
    far more than the work. The results have the same bits either way, so one thread and several are
    both timed, and the slower choice is retried from time to time, in short calls. Several threads
    must be faster by a tenth. Work shorter than `LEAST_SECONDS` is done on one thread and not
    recorded, because a sleeping thread takes some 50 microseconds to wake.

    Parameters
    ----------
    n_threads : int
        Maximum number of threads.
    patience : float
        Seconds on one thread before others are started.
    unit_seconds : float
        The assumed time of a unit of work, until one is timed.
    """

    CALL_SECONDS = 0.1
    LEAST_SECONDS = 0.0002  # the shortest work for which other threads are started
    TELLING_SECONDS = 0.002  # shorter calls do not count if slower: a parallel region has a cost
    TRIAL_SECONDS = 0.0025
    WORTHWHILE = 0.9  # several threads must take less than this part of the time on one
    TRIAL_CALLS = 3  # each sized by the timing of the one before; the best counts
    # The slower choice is retried after this many times the cost of a trial: soon at first, and
    # after the ranking has changed, which may be a disturbance; ever less often while it stays.
    LEAST_RETRY, MOST_RETRY = 2.0, 20.0

    def __init__(self, n_threads: int, patience: float, unit_seconds: float) -> None:
        self.n_threads = n_threads
        self.patience = patience
        self._guess = unit_seconds
        # Seconds per unit in the last calls, by number of threads.
        self._timed: dict[int, deque[float]] = {n: deque(maxlen=3) for n in (1, n_threads)}
        self._since_trial = 0.0
        self._retry = self.LEAST_RETRY
        self._trials: list[int] = []  # thread counts of the trial calls to come

    def plan(self, remaining: int) -> tuple[int, int]:
        """Return the number of threads and the number of units for the next call."""
        if self.n_threads == 1:
            return 1, max(1, min(remaining, int(self.CALL_SECONDS / self._expected(1))))
        if self._is_short(remaining):
            return 1, remaining
        if remaining * self._expected(1) < self.TRIAL_SECONDS:
            self._trials = []  # too little work is left to time
        elif not self._trials and self._since_trial > self._patience():
            slower = self._ranked()[1]
            self._trials = [slower] * self.TRIAL_CALLS
        if self._trials:
            n_threads, seconds = self._trials[0], self.TRIAL_SECONDS
        else:
            n_threads, seconds = self._ranked()[0], self.CALL_SECONDS
            if not self._timed[self.n_threads]:
                left = self.patience - self._since_trial
                seconds = min(seconds, max(left, self.TRIAL_SECONDS))
        return n_threads, max(1, min(remaining, int(seconds / self._expected(n_threads))))

    def record(self, n_threads: int, units: int, seconds: float) -> None:
        """Record how long a call took."""
        timed, fastest = self._timed[n_threads], self._ranked()[0]
        if n_threads == 1 and self._is_short(units):
            return
        is_slower = bool(timed) and seconds / units >= self._expected(n_threads)
        if seconds < self.TELLING_SECONDS and is_slower and not self._trials:
            return  # it may be the cost of the parallel region
        if len(self._trials) == self.TRIAL_CALLS:
            timed.clear()
        timed.append(seconds / units)
        if self._trials:
            tried = self._trials.pop()
            self._since_trial = 0.0
            if not self._trials:
                best = min(timed)
                timed.clear()
                timed.append(best)
                is_faster = self._ranked()[0] == tried
                self._retry = (
                    self.MOST_RETRY if is_faster else min(2 * self._retry, self.MOST_RETRY)
                )
        else:
            self._since_trial += seconds
            if self._ranked()[0] != fastest:
                self._retry, self._since_trial = self.LEAST_RETRY, 0.0

    def _is_short(self, units: int) -> bool:
        return self.n_threads > 1 and units * self._expected(1) < self.LEAST_SECONDS

    def _patience(self) -> float:
        """Seconds until the slower choice is tried, for the first time or again."""
        slower = self._ranked()[1]
        if not self._timed[slower]:
            return self.patience
        trial = self.TRIAL_CALLS * max(self.TRIAL_SECONDS, self._expected(slower))
        return self._retry * trial

    def _ranked(self) -> tuple[int, int]:
        """The two thread counts to choose from, the faster first as far as is known."""
        if self._timed[self.n_threads] and (
            not self._timed[1]
            or self._expected(self.n_threads) < self.WORTHWHILE * self._expected(1)
        ):
            return self.n_threads, 1
        return 1, self.n_threads

    def _expected(self, n_threads: int) -> float:
        """Seconds per unit: as timed, else for several threads 100 times that of one."""
        timed = sorted(self._timed[n_threads])
        if timed:
            return timed[(len(timed) - 1) // 2]  # of two the better, of three the median
        return 100 * self._expected(1) if n_threads > 1 and self._timed[1] else self._guess
